"""Scores before an ad runs: clicks by past results, layout, legibility, landing page."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
from PIL import Image, ImageDraw

from agora.ads.scoring.clicks import ClickConfig, ClickModel, click_rate_order, cross_validate, smoothed_rates, train_clicks
from agora.ads.scoring.landing import page_text, score_landing
from agora.ads.scoring.layout import layout_record, score_layout
from agora.ads.scoring.legibility import contrast_within, score_legibility
from agora.ads.scoring.likeness import TARGETING_WAYS, TEXT_WAYS, Describer, likeness
from agora.ads.scoring.pairs import folds_by, pairs_of
from agora.ads.scoring.past_ads import PastAd, read_new_ads, read_past_ads
from agora.errors import DataError, ModelError, UsageError

QUICK = ClickConfig(factors=(0.0,), smoothings=(0.5,), penalties=(0.03,), num_folds=3, max_steps=20)
GOOD, BAD = ("free", "today", "trail", "summit"), ("invoice", "form", "office", "memo")


def past_ads(num: int, seed: int = 0) -> list[PastAd]:
    """Ads whose click rate follows from words and from one interest."""
    random = np.random.default_rng(seed)
    ads = []
    for number in range(num):
        good = bool(random.integers(2))
        words = [*random.choice(GOOD if good else BAD, 2), *random.choice(["shoes", "boots", "socks", "maps", "tent"], 3), f"n{number % 9}"]
        fits = bool(random.integers(2))
        rate = 0.02 * (2.5 if good else 1.0) * (2.0 if fits else 1.0)
        targeting = ("placements:Feed", f"interests:{'Hiking' if fits else 'Banking'}", "age:18 - 65+")
        created = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=int(random.integers(90)))
        shown = int(random.integers(1000, 5000))
        ads.append(
            PastAd(
                text=" ".join(words), targeting=targeting, created=created, impressions=shown, clicks=int(random.binomial(shown, rate)),
                landing_page=f"https://shop{number % 12}.example.com/x",
            )
        )  # fmt: skip
    return ads


@pytest.fixture(scope="module")
def trained() -> ClickModel:
    return train_clicks(past_ads(120), QUICK)


def test_model_orders_unseen_ads(trained: ClickModel) -> None:
    assert click_rate_order(trained, past_ads(60, seed=9)) > 0.85
    good = PastAd(text="free trail shoes", targeting=("placements:Feed", "interests:Hiking"))
    bad = PastAd(text="office memo shoes", targeting=("placements:Feed", "interests:Banking"))
    assert trained.beats(good, bad) > 0.9 and trained.beats(good, bad) == pytest.approx(1 - trained.beats(bad, good))


def test_saved_model_scores_the_same_and_holds_no_pickle(trained: ClickModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == [".json", ".safetensors"]
    new = past_ads(20, seed=3)
    np.testing.assert_allclose(ClickModel.load(tmp_path / "model").score(new), trained.score(new), atol=1e-9)
    assert len(trained.score([])) == 0


def test_damaged_and_missing_models_are_refused(trained: ClickModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no click model"):
        ClickModel.load(tmp_path / "none")
    trained.save(tmp_path / "model")
    file = tmp_path / "model" / "click_model.json"
    text = file.read_text(encoding="utf-8")
    for broken in (text[:200], text.replace("agora-clicks-1", "agora-clicks-9"), json.dumps(json.loads(text) | {"pages": []})):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(ModelError, match="train"):
            ClickModel.load(tmp_path / "model")


def test_cross_validation_counts_pairs_of_unseen_texts_only() -> None:
    ads = past_ads(90)
    found = cross_validate(ads, QUICK, num_folds=3)
    folds = folds_by([ad.text for ad in ads], 3, 0)
    assert found.num_pairs == sum(len(pairs_of([ad for ad, fold in zip(ads, folds, strict=True) if fold == number])) for number in range(3))
    assert 0.7 < found.accuracy <= 1 and len(found.weights) == 3


def test_random_clicks_cannot_be_predicted() -> None:
    random = np.random.default_rng(4)
    ads = [PastAd(text=ad.text, impressions=1000, clicks=int(random.integers(10, 90))) for ad in past_ads(100)]
    assert 0.3 < cross_validate(ads, QUICK, num_folds=3).accuracy < 0.7


def test_every_way_of_being_alike_is_symmetric_and_positive() -> None:
    ads = past_ads(40)
    described = Describer.learn(ads).describe(ads)
    for name, matrix in likeness(described, described, TEXT_WAYS | TARGETING_WAYS).items():
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-9, err_msg=name)
        assert np.linalg.eigvalsh(matrix).min() > -1e-7, name


def test_pairs_are_of_one_placement_and_clearly_apart() -> None:
    feed, story = ("placements:Feed",), ("placements:Story",)
    ads = [
        PastAd(text=str(n), targeting=place, impressions=1000, clicks=n) for place, n in ((feed, 10), (feed, 14), (feed, 15), (story, 90))
    ]
    pairs = pairs_of(ads)
    assert list(zip(pairs.more, pairs.less, strict=True)) == [(2, 0)]
    assert pairs.accuracy(np.array([0.0, 0.0, 1.0, 0.0])) == 1.0 and pairs.accuracy(np.zeros(4)) == 0.5


def test_few_impressions_draw_a_rate_to_the_mean() -> None:
    ads = [*past_ads(60), PastAd(text="x", impressions=10, clicks=9)]
    assert smoothed_rates(ads)[-1] < 0.5


def test_too_few_ads_are_refused() -> None:
    with pytest.raises(DataError, match="too few to learn from"):
        train_clicks(past_ads(10), QUICK)


def test_tables_are_read_and_faults_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text("text,impressions,clicks,targeting\nA,1000,20,placements:Feed; age:18 - 24\nB,600,700,\nC,10,1,\n", encoding="utf-8")
    (only,) = read_past_ads(path)
    assert only.targeting == ("placements:Feed", "age:18 - 24") and only.ages == (18, 24) and only.placement == "placements:feed"
    assert [ad.text for ad in read_new_ads(path)] == ["A", "B", "C"]
    lines = tmp_path / "ads.jsonl"
    for text, message in (
        ("{", ":1: no JSON"),
        ('{"text": "a", "impressions": "x", "clicks": 1}', ":1: impressions 'x'"),
        ('{"text": "a"}', "no column"),
    ):
        lines.write_text(text + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_past_ads(lines)
    with pytest.raises(UsageError, match=r"none of \.parquet"):
        read_past_ads(Path(__file__))


def record(**boxes: tuple[float, float, float, float]) -> dict[str, object]:
    return {"width": 1200, "height": 628, "boxes": boxes, "text_px": {"headline": 72, "description": 32}}


def test_tidy_layout_scores_above_a_crowded_crooked_one() -> None:
    tidy = score_layout(
        layout_record(record(headline=(80, 100, 640, 260), description=(80, 290, 600, 380), call_to_action=(80, 430, 300, 500)))
    )
    crooked = score_layout(
        layout_record(record(headline=(3, 2, 1100, 400), description=(290, 300, 1190, 620), call_to_action=(777, 11, 1183, 222)))
    )
    assert (
        tidy.score > crooked.score + 0.2
        and tidy.alignment == 1.0
        and crooked.overlap > 0.1
        and "texts or buttons overlap" in crooked.reasons
    )


def test_layout_parts_say_what_they_are_named_for() -> None:
    middle, corner = (layout_record(record(headline=box)) for box in ((400, 214, 800, 414), (0, 0, 400, 200)))
    assert score_layout(middle).balance == pytest.approx(1) and score_layout(corner).balance < 0.3
    flat = layout_record({**record(headline=(0, 0, 9, 9), description=(20, 20, 40, 40)), "text_px": {"headline": 30, "description": 30}})
    assert score_layout(flat).hierarchy == 0.0
    with pytest.raises(DataError, match="no 'boxes'"):
        layout_record({"width": 1})


def drawn(ink: str, size: int) -> bytes:
    image = Image.new("RGB", (1200, 628), "#ffffff")
    draw = ImageDraw.Draw(image)
    for place in range(100, 900, size):
        draw.rectangle((place, 200, place + size // 3, 200 + size), fill=ink)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(("ink", "size", "low", "high"), [("#111111", 96, 0.9, 1.0), ("#dddddd", 96, 0.0, 0.1), ("#111111", 14, 0.0, 0.1)])
def test_large_dark_text_stays_legible_and_small_or_pale_text_does_not(ink: str, size: int, low: float, high: float) -> None:
    layout = layout_record(
        {"width": 1200, "height": 628, "boxes": {"headline": [100, 200, 900, 200 + size]}, "text_px": {"headline": size}}
    )
    assert low <= score_legibility(drawn(ink, size), layout).score <= high


def test_contrast_of_black_on_white_is_21() -> None:
    pixels = np.array([[255.0, 255, 255]] * 80 + [[0.0, 0, 0]] * 20)
    assert contrast_within(pixels) == pytest.approx(21)


PAGE = """<html><head><title>Alpine boots</title><meta name="description" content="Boots by Rivella">
<script>var hidden = 'secret 99';</script>
<script type="application/ld+json">{"price": "1299.00"}</script></head><body>
<p>Waterproof boots, 2-year warranty. Now $1,299.00.</p></body></html>"""


def test_page_that_keeps_the_promise_scores_full() -> None:
    kept = score_landing(["Waterproof boots for $1299", "Warranty by Rivella"], PAGE)
    assert kept.score > 0.95 and kept.missing_numbers == () and kept.missing_names == ()


def test_numbers_names_and_words_that_the_page_lacks_are_named() -> None:
    found = score_landing(["Waterproof boots now 50% off", "Loved by Messner"], PAGE)
    assert found.missing_numbers == ("50%",) and found.missing_names == ("Messner",) and "loved" in found.missing_words
    assert found.score < 0.6


def test_scripts_are_no_text_of_a_page() -> None:
    assert "secret" not in page_text(PAGE) and "1299.00" in page_text(PAGE)
