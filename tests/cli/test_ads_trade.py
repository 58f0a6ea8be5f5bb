"""agora ads score, experiment, export, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import DataError, UsageError

run = CliRunner()


def test_export_writes_a_sheet_and_checks_it(tmp_path: Path) -> None:
    ad = {
        "name": "a", "campaign": "c", "ad_group": "g", "landing_page": "https://example.com", "headline": "One",
        "headlines": ["Two", "Three"],
        "description": "First.", "descriptions": ["Second."],
    }  # fmt: skip
    ads = tmp_path / "ads.json"
    ads.write_text(json.dumps([ad]), encoding="utf-8")
    done = run.invoke(app, ["ads", "export", str(ads), "google", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[0])["ads"] == 1
    sheet = tmp_path / "ads.google.csv"
    assert run.invoke(app, ["ads", "export", str(sheet), "google", "--check"]).exit_code == 0
    sheet.write_text(sheet.read_text(encoding="utf-8").replace("One", "=One"), encoding="utf-8")
    checked = run.invoke(app, ["ads", "export", str(sheet), "google", "--check"])
    assert isinstance(checked.exception, DataError) and "formula" in checked.stdout


def test_experiment_reports_as_text_json_and_page(tmp_path: Path) -> None:
    results = tmp_path / "r.csv"
    results.write_text("ad name,impressions,clicks\nA,20000,600\nB,20000,200\n", encoding="utf-8")
    shown = run.invoke(app, ["ads", "experiment", str(results)])
    assert shown.exit_code == 0 and "all: keep A" in shown.stdout
    found = json.loads(run.invoke(app, ["ads", "experiment", str(results), "--json"]).stdout.splitlines()[0])
    assert found["decisions"]["all"]["best"] == "A" and found["columns"]["views"] == "impressions"
    page = tmp_path / "report.html"
    assert run.invoke(app, ["ads", "experiment", str(results), "--format", "html", "--out", str(page)]).exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert isinstance(run.invoke(app, ["ads", "experiment", str(results), "--format", "pdf"]).exception, UsageError)


def test_pictures_are_signed_and_verified(tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    picture = tmp_path / "a.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="5" height="5"/></svg>', encoding="utf-8")
    assert isinstance(run.invoke(app, ["ads", "verify", str(picture)]).exception, DataError)
    keys = ["--keep", str(tmp_path / "keys")]
    for asked, what in (
        (keys, "is not known"),
        (["--source-type", "print"], "who signs"),
        ([*keys, "--source-type", "prin"], "did you mean"),
    ):
        refused = run.invoke(app, ["ads", "sign", str(picture), *asked]).exception
        assert isinstance(refused, UsageError) and what in str(refused)
    done = run.invoke(app, ["ads", "sign", str(picture), *keys, "--source-type", "digitalCreation"])
    assert done.exit_code == 0 and "untrusted issuer" in done.stdout and "digitalCreation" in done.stdout
    assert run.invoke(app, ["ads", "verify", str(picture)]).exit_code == 0


def test_score_trains_saves_and_orders(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    past, new = tmp_path / "past.jsonl", tmp_path / "new.jsonl"
    rows = [
        {"text": f"{('free trail', 'office memo')[n % 2]} item {n % 7} w{n}", "impressions": 1000, "clicks": (60, 20)[n % 2] + n % 5}
        for n in range(40)
    ]
    past.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    new.write_text('{"text": "office memo new"}\n{"text": "free trail new"}\n', encoding="utf-8")
    done = run.invoke(app, ["ads", "score", str(past), str(new), "--out", str(tmp_path / "model"), "--text-alone", "--json"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    assert next(iter(json.loads(line)["order"])) == "1. free trail new"
    assert run.invoke(app, ["ads", "score", str(tmp_path / "model"), str(new)]).exit_code == 0
    assert isinstance(run.invoke(app, ["ads", "score", str(past)]).exception, UsageError)
