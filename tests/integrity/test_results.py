"""A saved scan reads back as it was, or the error says what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import DataError
from agora.integrity.config import IntegrityConfig
from agora.integrity.records import Action, Artefact, Campaign, Evidence, Explanation, Member, ScanResult
from agora.integrity.results import CAMPAIGNS_FILE, SCAN_FILE, Origin, load_origin, load_scan, save_scan, utc

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(0, 2**40)
ARTEFACT = st.builds(Artefact, actions=st.lists(st.builds(Action), max_size=2).map(tuple))
CAMPAIGN = st.builds(
    Campaign,
    members=st.lists(st.builds(Member, q_value=NUMBER), max_size=3).map(tuple),
    evidence=st.lists(st.builds(Evidence, observed=NUMBER, expected=NUMBER, p_value=NUMBER, q_value=NUMBER), max_size=2).map(tuple),
    explanations=st.lists(st.builds(Explanation), max_size=2).map(tuple),
    artefacts=st.lists(ARTEFACT, max_size=2).map(tuple),
)
CONFIG = st.builds(lambda seed, windows: IntegrityConfig(seed=seed, windows_s=windows), COUNT, st.just((60, 3600)))
RESULT = st.builds(ScanResult, config=CONFIG, campaigns=st.lists(CAMPAIGN, max_size=3).map(tuple))


@settings(max_examples=40)
@given(RESULT)
def test_any_scan_reads_back_as_it_was(result: ScanResult) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_scan(result, Path(folder) / "scan")
        assert load_scan(Path(folder) / "scan") == result


def test_origin_is_kept(result: Callable[..., ScanResult], tmp_path: Path, now: datetime) -> None:
    origin = Origin(scanned_at=utc(now), store_version=7, num_deletions=2, signals={"text": 1})
    save_scan(result(), tmp_path / "scan", origin=origin)
    assert load_origin(tmp_path / "scan") == origin


def test_a_new_scan_replaces_the_old_one(result: Callable[..., ScanResult], campaign: Callable[..., Campaign], tmp_path: Path) -> None:
    save_scan(result(campaign("c-1", ["a", "b"])), tmp_path / "scan")
    save_scan(result(campaign("c-2", ["c", "d"])), tmp_path / "scan")
    assert [one.id for one in load_scan(tmp_path / "scan").campaigns] == ["c-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_numbers_that_json_cannot_hold_leave_the_old_scan(result: Callable[..., ScanResult], tmp_path: Path) -> None:
    save_scan(result(), tmp_path / "scan")
    bad = Campaign(
        id="c", state="synchronised", members=(), explanations=(), artefacts=(), first_at="", last_at="", sentences=("", ""),
        evidence=(
            Evidence(
                test="timing", signal="s", window_s=1, num_occasions=1, observed=float("nan"), expected=0.0, p_value=0.0, q_value=0.0
            ),
        ),
    )  # fmt: skip
    with pytest.raises(ValueError):
        save_scan(dataclasses.replace(result(), campaigns=(bad,)), tmp_path / "scan")
    assert load_scan(tmp_path / "scan") == result()


def test_damage_is_named(result: Callable[..., ScanResult], campaign: Callable[..., Campaign], tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    with pytest.raises(DataError, match=r"no scan at .*agora integrity scan"):
        load_scan(folder)
    save_scan(result(campaign("c-1", ["a", "b"])), folder)
    whole = (folder / CAMPAIGNS_FILE).read_bytes()
    (folder / CAMPAIGNS_FILE).write_bytes(whole.replace(b"synchronised", b"synchronisex"))
    with pytest.raises(DataError, match="SHA-256"):
        load_scan(folder)
    (folder / CAMPAIGNS_FILE).unlink()
    with pytest.raises(DataError, match=f"has no {CAMPAIGNS_FILE}"):
        load_scan(folder)
    (folder / CAMPAIGNS_FILE).write_bytes(whole)
    summary = json.loads((folder / SCAN_FILE).read_text())
    for text, message in (("{", "damaged"), ("[]", "format 'list'"), (json.dumps({**summary, "format": 99}), "format 99")):
        (folder / SCAN_FILE).write_text(text)
        with pytest.raises(DataError, match=message):
            load_scan(folder)
    del summary["num_posts"]
    (folder / SCAN_FILE).write_text(json.dumps(summary))
    with pytest.raises(DataError, match="num_posts"):
        load_scan(folder)
