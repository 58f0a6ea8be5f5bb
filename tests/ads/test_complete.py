"""The whole flow in one command: signed pictures, scores, sheets, and going on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import ConfigError, UsageError

pytest.importorskip("skia")
pytest.importorskip("c2pa")


def brief_at(tmp_path: Path, *, more: str = "") -> Path:
    path = tmp_path / "brief.toml"
    path.write_text(
        'product = "Lamp 3"\nlanding_page = "https://osk.example/lamp"\nfacts = ["for late readers", "dims to 2 watts"]\n'
        f'placements = ["mobile-banner", "medium-rectangle"]\n{more}[brand]\nname = "Osk"\ncolours = ["#123456"]\n'
    )
    return path


def run(tmp_path: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["ads", "make", *words, "--workspace", str(tmp_path / "w"), "--variants", "3", "--json"])


def test_one_command_makes_signs_scores_and_exports_and_goes_on(tmp_path: Path) -> None:
    from agora.ads.provenance import verify_file

    page = tmp_path / "page.html"
    page.write_text("<title>Lamp 3</title><p>For late readers. It dims to 2 watts.</p>")
    words = (str(brief_at(tmp_path)), "--out", str(tmp_path / "out"), "--self-signed", "--page", str(page))
    made = run(tmp_path, *words)
    assert made.exit_code == 0, made.output
    result, out = json.loads(made.stdout.splitlines()[0]), tmp_path / "out"
    assert "untrusted issuer" in result["content_credentials"] and result["sheets"] == ["google", "meta", "x"]
    assert "--pictures URL" in result["sheets_not_written"]["openai"]  # it takes pictures by link alone
    folder = out / "everybody" / "en-1"
    for name in ("mobile-banner.png", "mobile-banner.svg", "medium-rectangle.png", "medium-rectangle.svg"):
        found = verify_file(folder / name)
        assert found.is_valid and found.source_type.endswith("/composite")  # no model wrote or painted
        assert not name.endswith(".png") or (folder / name).stat().st_size <= 150_000
    scores = json.loads((folder / "scores.json").read_text())
    assert 0 < scores["score"] <= 1 and set(scores["pictures"]) == {"mobile-banner", "medium-rectangle"}
    assert not scores["landing_page"]["missing_numbers"]
    assert {"copy.json", "policy.json", "contact_sheet.html", "google.csv", "meta.csv"} <= {path.name for path in folder.iterdir()}
    assert (
        len(list(csv.reader((out / "exports" / "google.csv").read_text(encoding="utf-8-sig").splitlines()))) == 2
    )  # the same assets: one ad
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert run(tmp_path, *words).exit_code == 0
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_what_is_held_is_in_no_sheet_until_it_is_released(tmp_path: Path) -> None:
    brief, out = brief_at(tmp_path, more='special_category = "credit"\n'), tmp_path / "out"
    assert run(tmp_path, str(brief), "--out", str(out), "--texts-only").exit_code == 0
    assert not (out / "exports").exists() or not list((out / "exports").iterdir())
    assert CliRunner().invoke(app, ["ads", "release", str(out), "--by", "Ada Fernwood"]).exit_code == 0
    assert CliRunner().invoke(app, ["ads", "check", str(brief), str(out)]).exit_code == 0
    assert (out / "exports" / "google.csv").is_file() and (out / "everybody" / "en-1" / "google.csv").is_file()


def test_wrong_briefs_and_halves_of_a_signature_are_named(tmp_path: Path) -> None:
    brief = brief_at(tmp_path)
    half = run(tmp_path, str(brief), "--out", str(tmp_path / "o"), "--key", str(brief))
    assert isinstance(half.exception, UsageError) and "--certificate and --key" in str(half.exception)
    lost = run(tmp_path, str(brief), "--out", str(tmp_path / "o"), "--page", str(tmp_path / "none.html"))
    assert isinstance(lost.exception, UsageError) and "none.html" in str(lost.exception)
    brief.write_text(brief.read_text().replace('colours = ["#123456"]', 'colours = ["blue"]'))
    wrong = run(tmp_path, str(brief), "--out", str(tmp_path / "o"))
    assert isinstance(wrong.exception, ConfigError) and "brief.toml:7" in str(wrong.exception) and "blue" in str(wrong.exception)
    assert not (tmp_path / "o").exists()
