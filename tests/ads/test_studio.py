"""The studio as a whole: what stands in the folder, going on, releases."""

from __future__ import annotations

import copy
import json
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from agora.ads import studio
from agora.ads.brief import read_brief
from agora.ads.policy import Targeting, likeness
from agora.ads.studio import BLOCKED, HELD, READY, StudioConfig, make_ads, read_releases, recheck, release
from agora.cli import app
from agora.errors import DataError, MissingExtraError, OtherRunError, QuerySyntaxError, UsageError

TEXTS = StudioConfig(num_variants=2, with_pictures=False)


def brief_at(tmp_path: Path, fact: str = "for late readers", *, category: str = "") -> Path:
    path = tmp_path / "brief.toml"
    special = f'special_category = "{category}"\n' if category else ""
    path.write_text(
        f'product = "Lamp 3"\nlanding_page = "https://osk.example/lamp"\nfacts = ["{fact}", "dims to 2 watts"]\n'
        f'placements = ["square", "mobile-banner"]\n{special}[brand]\nname = "Osk"\ncolours = ["#123456"]\n'
    )
    return path


def test_a_folder_holds_texts_policy_and_what_may_be_exported(tmp_path: Path) -> None:
    made = make_ads(read_brief(brief_at(tmp_path)), tmp_path / "out", audiences=[], config=TEXTS)
    assert [one.state for one in made.variants] == [READY, READY]
    ads = json.loads((tmp_path / "out" / "ads.json").read_text())
    assert [ad["name"] for ad in ads] == ["everybody/en-1", "everybody/en-2"] and all(ad["landing_page"] for ad in ads)
    copy = json.loads((tmp_path / "out" / "everybody" / "en-1" / "copy.json").read_text())
    assert {claim["source"] for claim in copy["claims"]} <= {f"brief.toml:{line}" for line in range(1, 9)}


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = read_brief(brief_at(tmp_path))
    make_ads(brief, tmp_path / "whole", audiences=[], config=TEXTS)
    real, calls = studio._make, []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(studio, "_make", dies)
    with pytest.raises(KeyboardInterrupt):
        make_ads(brief, tmp_path / "out", audiences=[], config=TEXTS)
    monkeypatch.setattr(studio, "_make", real)
    make_ads(brief, tmp_path / "out", audiences=[], config=TEXTS)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_processes_make_the_same_ads_as_one_and_an_interrupt_leaves_no_half_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = brief_at(tmp_path)
    path.write_text(path.read_text().replace('"square", "mobile-banner"', '"medium-rectangle", "mobile-banner", "leaderboard"'))
    brief, config = read_brief(path), StudioConfig(num_variants=4)
    make_ads(brief, tmp_path / "one", audiences=[], config=config)
    monkeypatch.setattr(studio, "read_picture", lambda *_: pytest.fail("nothing was made before"))
    real, taken = studio.replacing_folder, []

    def interrupted(folder: Path) -> Any:
        taken.append(folder)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return real(folder)

    monkeypatch.setattr(studio, "replacing_folder", interrupted)
    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        make_ads(brief, tmp_path / "two", audiences=[], config=config, processes=2)
    assert set(multiprocessing.active_children()) <= before
    made = sorted(one.name for one in (tmp_path / "two" / "everybody").iterdir() if one.is_dir())
    assert made == ["en-1", "en-2"]
    monkeypatch.undo()
    make_ads(brief, tmp_path / "two", audiences=[], config=config, processes=2)
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_a_folder_of_another_job_or_of_somebody_else_is_refused(tmp_path: Path) -> None:
    brief = read_brief(brief_at(tmp_path))
    make_ads(brief, tmp_path / "out", audiences=[], config=TEXTS)
    with pytest.raises(OtherRunError, match="another"):
        make_ads(brief, tmp_path / "out", audiences=[], config=StudioConfig(num_variants=2, seed=9, with_pictures=False))
    with pytest.raises(UsageError, match="did you mean 'google'"):
        make_ads(replace(brief, platforms=("gogle",)), tmp_path / "new", audiences=[], config=TEXTS)
    assert not (tmp_path / "new").exists(), "the mended brief may use that folder"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        make_ads(brief, tmp_path / "mine", audiences=[], config=TEXTS)


def test_a_special_category_is_held_until_a_person_releases_these_texts(tmp_path: Path) -> None:
    brief, out = read_brief(brief_at(tmp_path, category="housing")), tmp_path / "out"
    assert {one.state for one in make_ads(brief, out, audiences=[], config=TEXTS).variants} == {HELD}
    assert json.loads((out / "ads.json").read_text()) == []
    assert release(out, by="Ada Fernwood", variants=["everybody/en-1"]) == ["everybody/en-1"]
    assert [one.state for one in recheck(brief, out)] == [READY, HELD] and len(read_releases(out)) == 1
    assert [one["name"] for one in json.loads((out / "ads.json").read_text())] == ["everybody/en-1"]
    path = out / "everybody" / "en-1" / "copy.json"
    path.write_text(re.sub('"headline": "[^"]*"', '"headline": "Osk"', path.read_text()))
    assert recheck(brief, out)[0].state == HELD  # other texts need another release


def test_forbidden_targeting_blocks_and_cannot_be_released(tmp_path: Path) -> None:
    brief, out = read_brief(brief_at(tmp_path, category="jobs")), tmp_path / "out"
    made = make_ads(brief, out, audiences=[], config=TEXTS, targeting=Targeting(ages=(20, 30)))
    assert {one.state for one in made.variants} == {BLOCKED}
    with pytest.raises(UsageError, match="cannot be released"):
        release(out, by="Ada Fernwood", variants=["everybody/en-1"])


def test_a_text_that_is_edited_into_a_lie_is_blocked(tmp_path: Path) -> None:
    brief, out = read_brief(brief_at(tmp_path)), tmp_path / "out"
    make_ads(brief, out, audiences=[], config=TEXTS)
    path = out / "everybody" / "en-1" / "copy.json"
    path.write_text(re.sub('"headline": "[^"]*"', '"headline": "The best lamp, 7 watts"', path.read_text()))
    found = recheck(brief, out)
    assert [one.state for one in found] == [BLOCKED, READY]
    assert {"claim", "superlative", "number"} <= {finding.rule for finding in found[0].findings}


def test_pictures_are_made_kept_and_shown_on_one_sheet(tmp_path: Path) -> None:
    pytest.importorskip("skia")
    brief, out = read_brief(brief_at(tmp_path)), tmp_path / "out"
    config = StudioConfig(num_variants=1)
    made = make_ads(brief, out, audiences=[], config=config)
    assert made.num_pictures == 2 and made.num_failed_checks == 0
    before = {path.name: path.stat().st_mtime_ns for path in (out / "everybody" / "en-1").iterdir()}
    sheet = (out / "contact_sheet.html").read_text()
    assert make_ads(brief, out, audiences=[], config=config).num_pictures == 2
    assert before == {path.name: path.stat().st_mtime_ns for path in (out / "everybody" / "en-1").iterdir()}
    assert (out / "contact_sheet.html").read_text() == sheet and sheet.count("<img") == 2
    picture = next((out / "everybody" / "en-1").glob("*.png"))
    drawn = picture.read_bytes()
    picture.unlink()
    assert [one.rule for one in recheck(brief, out)[0].findings] == ["picture"]
    make_ads(brief, out, audiences=[], config=config)
    assert picture.read_bytes() == drawn and recheck(brief, out)[0].findings == ()


def test_a_changed_picture_waits_for_a_person_and_credentials_change_nothing(tmp_path: Path) -> None:
    brief, out = read_brief(brief_at(tmp_path)), tmp_path / "out"
    make_ads(brief, out, audiences=[], config=StudioConfig(num_variants=1))
    path = out / "everybody" / "en-1" / "square.png"
    with Image.open(path) as image:
        same, changed = image.copy(), image.convert("RGB")
    note = PngInfo()
    note.add_text("c2pa", "signed")
    same.save(path, pnginfo=note)
    assert recheck(brief, out)[0].state == READY
    changed.putpixel((0, 0), (1, 2, 3))
    changed.save(path)
    found = recheck(brief, out)[0]
    assert found.state == HELD and "square.png was changed after it was drawn" in found.findings[0].reason
    assert make_ads(brief, out, audiences=[], config=StudioConfig(num_variants=1)).count(HELD) == 1
    assert json.loads((out / "ads.json").read_text()) == []
    assert release(out, by="Ada Fernwood") == ["everybody/en-1"] and recheck(brief, out)[0].state == READY
    changed.putpixel((0, 0), (3, 2, 1))
    changed.save(path)
    assert recheck(brief, out)[0].state == HELD  # not what she saw
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"square\.png cannot be read"):
        recheck(brief, out)


def test_commands_make_check_and_release(tmp_path: Path) -> None:
    runner, brief, out = CliRunner(), brief_at(tmp_path, category="credit"), tmp_path / "out"

    def run(*words: str) -> Any:
        return runner.invoke(app, ["ads", *words])

    made = run("make", str(brief), "--out", str(out), "--texts-only", "--workspace", str(tmp_path / "w"), "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout.splitlines()[0])["held_for_a_person"] == 3
    assert run("release", str(out), "--by", "Ada Fernwood").exit_code == 0
    checked = run("check", str(brief), str(out), "--json")
    assert checked.exit_code == 0 and len(json.loads(checked.stdout.splitlines()[0])["ready"]) == 3
    assert run("check", str(brief), str(out), "--target", "ages=20-30").exit_code == 1
    wrong = run("make", str(brief), "--out", str(out), "--target", "shoe=40")
    assert isinstance(wrong.exception, UsageError) and "shoe=40" in str(wrong.exception)


@pytest.mark.parametrize("name", ["policy.json", "releases.json", "job.json"])
@pytest.mark.parametrize("text", ["[1]", "{}", "1", '{"variants": [1], "not_written": []}', '{"targeting": {"shoe": 40}}', "{"])
def test_files_of_a_folder_that_hold_something_else_are_named(tmp_path: Path, name: str, text: str) -> None:
    brief, out = read_brief(brief_at(tmp_path)), tmp_path / "out"
    make_ads(brief, out, audiences=[], config=StudioConfig(num_variants=1, with_pictures=False))
    (out / name).write_text(text)
    if (name, text) == ("releases.json", "{}"):
        assert read_releases(out) == {}
        return
    with pytest.raises(DataError, match=name):
        recheck(brief, out)


def test_a_brief_without_its_special_category_does_not_set_ads_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_ads(read_brief(brief_at(tmp_path, category="housing")), out, audiences=[], config=TEXTS)
    plain = read_brief(brief_at(tmp_path))
    assert plain.special_category is None
    assert {one.state for one in recheck(plain, out)} == {HELD} and json.loads((out / "ads.json").read_text()) == []
    assert {one.state for one in recheck(plain, out, targeting=Targeting(ages=(20, 30)))} == {BLOCKED}
    release(out, by="Ada Fernwood")
    recheck(plain, out)
    release(out, by="Ada Fernwood")
    assert {one.state for one in recheck(plain, out)} == {READY}


def test_a_brief_that_is_near_a_special_category_in_meaning_is_held_where_meaning_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = read_brief(brief_at(tmp_path))
    asked: list[str] = []

    def meaning(text: str) -> dict[str, float]:
        asked.append(text)
        return {"-": 0.3, "special:credit": 0.5, "special:jobs": 0.2}

    monkeypatch.setattr(likeness, "is_available", lambda language: language == "en")
    monkeypatch.setattr(likeness, "meaning_of", meaning)
    made = make_ads(brief, tmp_path / "out", audiences=[], config=TEXTS)
    assert {one.state for one in made.variants} == {HELD}
    assert {(finding.rule, finding.field) for one in made.variants for finding in one.findings} == {("special:credit", "campaign")}
    assert asked == [". ".join([brief.product, *(one.text for one in (*brief.offers, *brief.facts))])] and likeness.said_of(["en"]) == "on"
    monkeypatch.setattr(likeness, "is_available", lambda language: False)
    assert make_ads(brief, tmp_path / "rules", audiences=[], config=TEXTS).count(READY) == 2
    assert "agora[minilm]" in likeness.said_of(["de", "en"]) and "English only" in likeness.said_of(["de"])


def test_one_ad_of_a_special_category_holds_the_whole_campaign(tmp_path: Path) -> None:
    brief, out = read_brief(brief_at(tmp_path)), tmp_path / "out"
    make_ads(brief, out, audiences=[], config=TEXTS)
    path = out / "everybody" / "en-1" / "copy.json"
    path.write_text(re.sub('"headline": "[^"]*"', '"headline": "Apartments for rent"', path.read_text()))
    assert recheck(brief, out)[1].state == HELD
    assert "special:housing" in {finding.rule for finding in recheck(brief, out)[1].findings}


def test_an_error_of_a_drawing_process_arrives_as_it_is() -> None:
    for error in (MissingExtraError("noto", "ads-cjk", "a letter"), QuerySyntaxError("a bracket is open", 3)):
        again = copy.copy(error)  # as pickle does
        assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
