"""The simulated square: reproducible, exact in number, ordered, coherent, with the statistics and the truth it promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from agora.config import apply_overrides, parse_assignments
from agora.errors import ConfigError
from agora.posts.schema import POST_SCHEMA
from agora.posts.simulate import Campaign, SquareConfig, dialogues, follow_graph, ground_truth, simulate

SMALL = SquareConfig(num_posts=30_000, num_accounts=2_000, days=7, seed=3)


@cache
def square(config: SquareConfig = SMALL) -> pa.Table:
    return pa.concat_tables(simulate(config))


@cache
def rows(config: SquareConfig = SMALL) -> list[dict[str, Any]]:
    return square(config).to_pylist()


def test_batch_size_changes_nothing_but_the_cuts() -> None:
    sizes = [table.num_rows for table in simulate(SMALL, batch_rows=7_000)]
    assert sizes == [7_000, 7_000, 7_000, 7_000, 2_000]
    assert pa.concat_tables(simulate(SMALL, batch_rows=7_000)).equals(square())


def test_another_seed_gives_another_square() -> None:
    other = square(replace(SMALL, seed=4))
    assert len(set(other["text"].to_pylist()) & set(square()["text"].to_pylist())) < 0.3 * other.num_rows
    assert not set(other["id"].to_pylist()) & set(square()["id"].to_pylist())


@pytest.mark.parametrize("num_posts", [1, 2_000, 20_011])
def test_number_of_posts_is_exact(num_posts: int) -> None:
    config = SquareConfig(num_posts=num_posts, num_accounts=300, days=2, campaigns=(), seed=num_posts)
    assert sum(table.num_rows for table in simulate(config)) == num_posts


def test_posts_fit_the_schema_and_come_in_order_of_time() -> None:
    table = square()
    table.validate(full=True)
    assert table.schema.equals(POST_SCHEMA, check_metadata=True)
    times = np.asarray(table["created_at"].cast(pa.int64()))
    assert (np.diff(times) >= 0).all()
    assert SMALL.start_us() <= times[0] <= times[-1] < SMALL.start_us() + 7 * 86_400_000_000
    assert table["id"].to_pylist() == sorted(set(table["id"].to_pylist()))
    for field in POST_SCHEMA:
        assert field.nullable or table[field.name].null_count == 0


def test_references_point_to_earlier_posts_and_name_their_author() -> None:
    author = {row["id"]: row["author"] for row in rows()}
    for row in rows():
        if row["kind"] == "post":
            assert row["ref_id"] is None and row["ref_author"] is None
        else:
            assert row["ref_id"] < row["id"]
            assert author[row["ref_id"]] == row["ref_author"]


def test_repost_repeats_the_original() -> None:
    original = {row["id"]: row for row in rows()}
    reposts = [row for row in rows() if row["kind"] == "repost"]
    assert len(reposts) > 5_000
    for row in reposts:
        for name in ("text", "hashtags", "urls", "mentions", "media"):
            assert row[name] == original[row["ref_id"]][name]
        assert row["author"] != row["ref_author"]


def test_entities_are_those_of_the_text() -> None:
    for row in rows():
        assert all(f"#{tag}" in row["text"] for tag in row["hashtags"])
        assert all(url in row["text"] for url in row["urls"])
        assert all(row["text"].startswith(f"@{name} ") for name in row["mentions"])
        assert "{" not in row["text"] and row["text"].strip()


def test_threads_go_deep_and_stay_on_their_language() -> None:
    depth: dict[str, int] = {}
    same = total = 0
    by_id = {row["id"]: row for row in rows()}
    for row in rows():
        if row["kind"] == "reply":
            depth[row["id"]] = depth.get(row["ref_id"], 0) + 1
            parent = by_id[row["ref_id"]]
            if row["lang"] and parent["lang"]:
                total += 1
                same += row["lang"] == parent["lang"]
    assert max(depth.values()) >= 5
    assert same == total


def test_texts_are_varied() -> None:
    posts = [row["text"] for row in rows() if row["kind"] == "post"]
    assert len(set(posts)) > 0.85 * len(posts)
    assert len({word for text in posts for word in text.lower().split()}) > 3_000
    langs = Counter(row["lang"] for row in rows())
    assert langs["en"] > 0.7 * len(rows())
    assert min(langs[lang] for lang in ("de", "es", "fr", "pt")) > 100


def test_most_accounts_post_little_and_few_post_much() -> None:
    counts = np.sort(list(Counter(row["author"] for row in rows()).values()))[::-1]
    assert np.median(counts) < 0.75 * counts.mean()
    assert counts[: len(counts) // 10].sum() > 0.35 * counts.sum()


def test_nights_are_quieter_than_evenings() -> None:
    german = [row["created_at"].hour for row in rows() if row["lang"] == "de"]
    per_hour = np.bincount(german, minlength=24)
    assert per_hour[[1, 2, 3]].mean() < 0.35 * per_hour[[18, 19, 20]].mean()


def test_breaking_news_rises_in_seconds_and_decays_over_hours() -> None:
    config = replace(SMALL, campaigns=(), fandoms=False, sports_final=False, protest=False, fan_club=False, syndication=False)
    tags = ("breaking", "breakingnews", "staysafe", "live")
    times = [row["created_at"].timestamp() for row in rows(config) if set(row["hashtags"]) & set(tags)]
    first_day, _ = np.histogram(times, bins=np.arange(times[0], times[-1] + 1800, 1800))
    peak = int(first_day.argmax())
    assert first_day[peak] > 4 * np.median(first_day[first_day > 0])


def test_reposts_travel_along_the_follow_graph() -> None:
    graph = follow_graph(SMALL).to_pydict()
    follows = set(zip(graph["follower"], graph["followed"], strict=True))
    seen: dict[str, list[str]] = {}
    along = total = 0
    for row in rows():
        if row["kind"] == "repost":
            sources = [row["ref_author"], *seen.get(row["ref_id"], [])]
            along += any((row["author"], source) in follows for source in sources)
            total += 1
            seen.setdefault(row["ref_id"], []).append(row["author"])
    assert along > 0.8 * total


def test_ground_truth_names_every_account_once() -> None:
    truth = ground_truth(SMALL)
    assert truth.num_rows == SMALL.num_accounts == len(pc.unique(truth["author"]))
    assert set(square()["author"].to_pylist()) <= set(truth["author"].to_pylist())
    table = truth.to_pylist()
    assert {row["group_kind"] for row in table if row["is_coordinated"]} == {"campaign"}
    sizes = Counter(row["group"] for row in table)
    assert all(sizes[campaign.name] == campaign.num_accounts for campaign in SMALL.campaigns)
    assert {row["group_kind"] for row in table} == {"ordinary", "fandom", "fan_club", "news", "syndication", "protest", "campaign"}


def members(config: SquareConfig, group: str) -> set[str]:
    truth = ground_truth(config)
    return set(truth.filter(pc.equal(truth["group"], group))["author"].to_pylist())


def campaign_square(**settings: Any) -> tuple[SquareConfig, list[dict[str, Any]]]:
    campaign = Campaign(name="x", num_accounts=40, num_waves=20, **settings)
    config = SquareConfig(num_posts=12_000, num_accounts=1_000, days=7, seed=1, campaigns=(campaign,))
    inside = members(config, "x")
    return config, [row for row in rows(config) if row["author"] in inside]


@pytest.mark.parametrize("jitter_s", [5.0, 3600.0])
def test_repost_campaign_keeps_its_jitter_and_participation(jitter_s: float) -> None:
    config, posts = campaign_square(channel="repost", jitter_s=jitter_s, participation=0.6, camouflage=0.0)
    lead = next(row["author"] for row in ground_truth(config).to_pylist() if row["group"] == "x" and row["is_lead"])
    starts = {row["id"]: row["created_at"] for row in posts if row["author"] == lead and row["kind"] == "post"}
    waves: dict[str, list[float]] = {}
    for row in posts:
        if row["kind"] == "repost" and row["ref_id"] in starts:
            waves.setdefault(row["ref_id"], []).append((row["created_at"] - starts[row["ref_id"]]).total_seconds())
    assert len(waves) == 20
    prompt = [sum(delay <= jitter_s for delay in delays) for delays in waves.values()]
    assert 0.5 * 39 < np.mean(prompt) < 0.7 * 39
    assert sum(prompt) > 0.9 * sum(map(len, waves.values()))


def test_leads_take_turns() -> None:
    config, posts = campaign_square(channel="repost", num_leads=4, participation=0.6, camouflage=0.0)
    leads = {row["author"] for row in ground_truth(config).to_pylist() if row["group"] == "x" and row["is_lead"]}
    slogans = {row["id"]: row["author"] for row in posts if row["kind"] == "post"}
    waves = Counter(row["ref_id"] for row in posts if row["kind"] == "repost" and row["ref_id"] in slogans)
    assert len(leads) == 4
    assert Counter(slogans[post] for post, reposts in waves.items() if reposts > 12) == dict.fromkeys(leads, 5)
    assert all(row["author"] != slogans.get(row["ref_id"]) for row in posts if row["kind"] == "repost")


def test_number_of_leads_is_another_square_and_one_is_the_default() -> None:
    one, _ = campaign_square(channel="repost")
    same, _ = campaign_square(channel="repost", num_leads=1)
    assert (one, one.fingerprint()) == (same, same.fingerprint())
    assert one.fingerprint() != campaign_square(channel="repost", num_leads=2)[0].fingerprint()


def test_text_modes_differ_in_how_alike_the_posts_are() -> None:
    distinct = {}
    for text in ("verbatim", "templated", "paraphrased"):
        _, posts = campaign_square(channel="text", text=text, camouflage=0.0, jitter_s=600)
        texts = [row["text"] for row in posts if row["kind"] == "post"]
        distinct[text] = len(set(texts)) / len(texts)
    assert distinct["verbatim"] < 0.15 < distinct["templated"] < distinct["paraphrased"]


@pytest.mark.parametrize(("channel", "column"), [("link", "urls"), ("hashtag", "hashtags")])
def test_campaign_shares_what_its_channel_says(channel: Any, column: str) -> None:
    _, posts = campaign_square(channel=channel, camouflage=0.0, jitter_s=60)
    common = Counter(item for row in posts for item in row[column]).most_common(1)[0][1]
    assert common > 0.75 * len(posts)


def test_camouflage_is_the_share_of_ordinary_posts() -> None:
    for camouflage in (0.2, 0.8):
        _, posts = campaign_square(channel="link", camouflage=camouflage, jitter_s=60)
        link, in_waves = Counter(url for row in posts for url in row["urls"]).most_common(1)[0]
        assert abs(1 - in_waves / len(posts) - camouflage) < 0.15, link


def test_switched_off_events_do_not_happen() -> None:
    quiet = replace(SMALL, campaigns=(), fandoms=False, fan_club=False, syndication=False, protest=False)
    assert {row["group_kind"] for row in ground_truth(quiet).to_pylist()} == {"ordinary", "news"}


def test_settings_are_read_from_words() -> None:
    words = parse_assignments(["num_posts=5", 'campaigns=[{name="a", num_accounts=9, channel="link"}]'])
    config = apply_overrides(SquareConfig(), words, "command line")
    assert config.campaigns == (Campaign(name="a", num_accounts=9, channel="link"),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_posts": 0}, "num_posts=0"),
        ({"start": "yesterday"}, "ISO 8601"),
        ({"num_accounts": 150}, "more than half"),
        ({"num_posts": 500}, "num_posts="),
        ({"campaigns": (Campaign(name="a"), Campaign(name="a"))}, "must differ"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(simulate(replace(SquareConfig(), **settings)))


@pytest.mark.parametrize(
    ("field", "value"), [("jitter_s", 0.0), ("participation", 1.5), ("camouflage", 1.0), ("num_accounts", 1), ("num_leads", 30)]
)
def test_impossible_campaigns_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        Campaign(name="a", **{field: value})


def test_dialogues_alternate_and_repeat_for_the_same_seed() -> None:
    talks = list(dialogues(SMALL, 600))
    assert talks[:50] == list(dialogues(SMALL, 50))
    assert len({str(talk) for talk in talks}) > 590
    for talk in talks:
        assert [message["role"] for message in talk] == ["user", "assistant"] * (len(talk) // 2)
        assert all(message["content"].strip() and "{" not in message["content"] for message in talk)
    assert len({len(talk) for talk in talks}) >= 3
