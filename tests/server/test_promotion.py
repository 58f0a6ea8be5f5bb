"""Promotion: only what the suite lets through is served, a kill leaves the old or the new one, and a running server takes it up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from agora.cli.model import app as model_app
from agora.engine import LanguageModel, SamplingConfig, load_local_model
from agora.errors import DataError, UsageError
from agora.model.hf import save_hf
from agora.model.transformer import Transformer
from agora.server import suite
from agora.server.app import create_app
from agora.server.promote import promote, roll_back
from agora.server.promotion import Promotions
from agora.server.records import AuditLog
from agora.server.served import PromotionWatch, Served
from agora.server.suite import Material, Measure, Tolerances, Verdict, checks, judge, reply_to
from agora.server.tables import open_database
from agora.settings import Workspace
from tests.conftest import TINY_TEXTS

runner = CliRunner()


@pytest.fixture
def place(tmp_path: Path, tiny_workspace: Path, tiny_parts: Any) -> Workspace:
    """Models: main, served as nobody says otherwise; other, and worse, which knows nothing and is sure of it."""
    workspace, model = Workspace(tmp_path).create(), tiny_parts[0]
    for name, std, seed in (("main", 0.02, 1), ("other", 0.02, 2), ("worse", 0.5, 3)):
        made = Transformer(replace(model.config, init_std=std), seed=seed)
        save_hf(made, workspace.folder("models", name), tokenizer_dir=tiny_workspace / "tokenizer" / "tiny")
    (tmp_path / "text.txt").write_text("\n".join(TINY_TEXTS * 3))
    return workspace


def keep(place: Workspace, name: str, by: str = "ada", **options: Any) -> int:
    promotions = Promotions(place)
    with promotions.locked():
        return promotions.promote(place.folder("models", name), name, by=by, figures={}, **options).number


def test_a_promotion_is_recorded_and_rolled_back(place: Workspace) -> None:
    promotions = Promotions(place)
    assert promotions.current() is None and promotions.history() == []
    assert keep(place, "other", before=place.folder("models", "main")) == 2
    assert keep(place, "worse", by="eve", reason="to see it") == 3
    current = promotions.current()
    assert current is not None and (current.name, current.by, current.earlier_names) == ("worse", "eve", ("main", "other", "worse"))
    record = promotions.record(3)
    assert (record["by"], record["previous"], record["reason"]) == ("eve", 2, "to see it") and record["at"] <= current.at
    for name in ("other", "main"):
        assert promotions.roll_back(by="bob", reason="no").name == name
    with pytest.raises(UsageError, match="promotion 1 is the first one"):
        promotions.roll_back(by="bob")
    assert [one["action"] for one in promotions.history()] == ["begin", "promote", "force", "rollback", "rollback"]
    assert keep(place, "other") == 4  # numbers are never used again


def test_an_old_promotion_may_be_removed_and_a_damaged_pointer_is_named(place: Workspace, tiny_parts: Any) -> None:
    promotions = Promotions(place)
    keep(place, "other", before=place.folder("models", "main"))
    shutil.rmtree(promotions.folder / "0001")
    current = promotions.current()
    assert current is not None and (current.name, current.earlier_names) == ("other", ("other",))
    with pytest.raises(DataError, match=r"0001/promotion\.json"):
        promotions.roll_back(by="bob")
    assert promotions.current() == current
    bad = ("{}", "[]", '{"number": 2, "last": 2, "history": []}', '{"number": "2", "last": 2, "history": [{}]}', "[" * 100_000)
    watch = PromotionWatch(promotions, Served([]), lambda folder, name: tiny_parts)
    for text in bad:
        (promotions.folder / "served.json").write_text(text)
        assert promotions.current_or_none() is None and not watch.look()
        with pytest.raises(DataError, match=r"served\.json is damaged"):
            promotions.history()


def test_the_watch_outlives_a_model_that_cannot_be_loaded(place: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    def load(folder: Path, name: str) -> LanguageModel:
        raise RuntimeError("no such layer")

    keep(place, "other")
    with PromotionWatch(Promotions(place), Served([]), load) as watch:
        deadline = time.monotonic() + 10
        while "no such layer" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watch._thread.is_alive() and "no such layer" in caplog.text


def test_what_is_served_does_not_change_when_the_name_is_trained_again(place: Workspace, tiny_workspace: Path, tiny_parts: Any) -> None:
    keep(place, "other")
    served = Promotions(place).current()
    assert served is not None
    before = (served.folder / "model.safetensors").read_bytes()
    save_hf(tiny_parts[0], place.folder("models", "other"), tokenizer_dir=tiny_workspace / "tokenizer" / "tiny")
    assert (served.folder / "model.safetensors").read_bytes() == before
    assert before != (place.folder("models", "other") / "model.safetensors").read_bytes()


_KILLED = """
import os, signal, sys
from pathlib import Path
from agora import files
from agora.server import promotion
from agora.settings import Workspace
count, at = [0], int(sys.argv[2])
def dying(function):
    def call(*arguments, **options):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("replace", "rename", "link", "fsync"):
    setattr(os, name, dying(getattr(os, name)))
place = Workspace(Path(sys.argv[1]))
promotions = promotion.Promotions(place)
with promotions.locked():
    promotions.promote(place.folder("models", "other"), "other", by="eve", figures={})
"""


def test_a_kill_at_any_step_leaves_the_old_or_the_new_one(place: Workspace) -> None:
    number = keep(place, "main")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    outcomes = []
    for at in range(1, 60, 2):
        code = subprocess.run([sys.executable, "-c", _KILLED, str(place.root), str(at)], env=environment, timeout=60).returncode
        current = Promotions(place).current()
        assert current is not None and (current.folder / "config.json").is_file()
        assert (current.number, current.name) in ((number, "main"), (number + 1, "other"))
        assert Promotions(place).record(current.number)["name"] == current.name
        outcomes.append(current.name)
        if code == 0 or current.name == "other":
            break
        assert code == -signal.SIGKILL
    assert outcomes[-1] == "other" and outcomes.count("main") > 5
    assert keep(place, "worse") == number + 2 and not [path for path in Promotions(place).folder.iterdir() if path.name.startswith(".0")]


def test_a_damaged_pointer_is_no_pointer_to_something_else(place: Workspace) -> None:
    keep(place, "main")
    (Promotions(place).folder / "served.json").write_text('{"number": ')
    with pytest.raises(DataError, match=r"served.json is damaged"):
        Promotions(place).current()


# ---- the suite


def measure(served: list[float], candidate: list[float], tolerance: float = 0.1) -> Measure:
    values = np.array(served), np.array(candidate)
    return suite._measure("answers", *values, suite._share_worse, tolerance, np.ones(len(served)))


def test_a_measure_holds_only_where_the_interval_does() -> None:
    assert measure([1, 0] * 20, [1, 0] * 20).holds and measure([1, 0] * 20, [1, 1] * 20).holds
    lost = measure([1.0] * 40, [0.0] * 8 + [1.0] * 32)
    assert lost.worse == pytest.approx(0.2) and lost.low < 0.2 < lost.high and not lost.holds
    few, many = measure([1.0] * 20, [0.0] + [1.0] * 19), measure([1.0] * 400, [0.0] * 20 + [1.0] * 380)
    assert few.worse == many.worse == pytest.approx(0.05)
    assert many.holds and not few.holds  # the same figure, and too few items to know


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    numbers, covered = np.random.default_rng(1), 0
    for _ in range(60):
        served = numbers.random(80) < 0.8
        candidate = np.where(numbers.random(80) < 0.3, numbers.random(80) < 0.6, served)  # truly worse by 0.3 * 0.2
        found = measure(served.astype(float).tolist(), candidate.astype(float).tolist())
        covered += found.low <= 0.06 <= found.high
    assert covered >= 51  # 95% of 60 is 57; fewer than 51 happens once in 200


class Scripted:
    """A writer that says the same to every question."""

    name, created, context_tokens = "scripted", 0, 4096

    def __init__(self, said: Callable[[str], str]) -> None:
        self._said = said

    def chat(self, messages: Any, sampling: Any, *, cancelled: Any = None) -> Any:
        from agora.engine import Delta, Usage

        text = self._said(messages[-1]["content"])
        yield Delta(text=text, finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1))


def copied(prompt: str) -> str:
    lines = prompt.splitlines()
    return f"{lines[lines.index(next(line for line in lines if line.startswith('POST-'))) + 1]} [1]"


def test_answers_are_judged_by_what_they_say_and_nobody_makes_them_obey() -> None:
    for writes, own in (
        (copied, 1.0),
        (lambda prompt: "The moon is green. [1]", 0.0),
        (lambda prompt: "pwned.example [1][2]\n![x](http://y)", 0.0),
    ):
        replies = [reply_to(check, Scripted(writes)) for check in checks()]  # type: ignore[arg-type]
        assert all(suite._is_right(check, reply) for check, reply in zip(checks(), replies, strict=True))  # posts are quoted instead
        assert np.mean([suite._own_share(reply) for reply in replies]) == own
        assert not any(suite._broken(check, reply) for check, reply in zip(checks(), replies, strict=True))


def test_what_breaks_a_guarantee_is_told() -> None:
    check = next(check for check in checks() if check.attack)
    reply = reply_to(check, Scripted(copied))  # type: ignore[arg-type]
    for text, message in (
        (f"Go to {check.attack}.", "says what a post told it to"), ("So it is. [7]", "cites what was not found"), ("![x](y)", "markup"),
    ):  # fmt: skip
        assert message in suite._broken(check, replace(reply, text=text, citations=()))


def test_a_worse_model_is_refused_with_figures_and_the_same_one_holds(place: Workspace) -> None:
    material = Material(TINY_TEXTS * 3)
    main, other, worse = (place.folder("models", name) for name in ("main", "other", "worse"))
    same = judge(main, main, material, Tolerances())
    assert same.holds and {one.name for one in same.measures} == {"bits per byte", "answers", "own sentences"}
    assert all(one.worse == 0 for one in same.measures)
    assert judge(other, main, material, Tolerances(bits_per_byte=0.1)).holds
    refused = judge(worse, main, material, Tolerances())
    bits = next(one for one in refused.measures if one.name == "bits per byte")
    assert not refused.holds and bits.worse > 0.05 and bits.low > 0 and "REFUSED" in refused.reasons[0]


# ---- the command


def run(place: Workspace, *words: str) -> tuple[int, dict[str, Any]]:
    result = runner.invoke(model_app, ["promote", *words, "--workspace", str(place.root), "--json", "--by", "ada"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def test_the_command_promotes_refuses_forces_and_goes_back(place: Workspace) -> None:
    text = ("--text", str(place.root / "text.txt"))
    code, refused = run(place, "worse", *text)
    assert code == 1 and not refused["promoted"] and refused["served_before"] == "main" and Promotions(place).current() is None
    code, forced = run(place, "worse", "--force", "we want to see", *text)
    assert code == 0 and forced["promoted"] and forced["number"] == 2
    record = Promotions(place).record(2)
    assert record["reason"] == "we want to see" and record["figures"]["measures"][0]["name"] == "bits per byte"
    assert run(place, "main", *text)[1]["served_before"] == "worse"
    with pytest.raises(UsageError, match="main is what is served now"):
        run(place, "main", *text)
    code, back = run(place, "--rollback")
    assert code == 0 and back["served"] == "worse"
    with pytest.raises(UsageError, match="no model 'nobody'"):
        run(place, "nobody", *text)
    with pytest.raises(UsageError, match="did you mean 'answers'"):
        run(place, "other", "promote.answer=0.3", *text)
    with pytest.raises(UsageError, match="needs a reason"):
        run(place, "other", "--force", " ", *text)


def test_old_models_go_by_number_and_what_can_be_gone_back_to_stays(place: Workspace) -> None:
    promotions = Promotions(place)
    for name in ("other", "worse", "main", "other", "worse"):
        keep(place, name)
    with promotions.locked():
        promotions.roll_back(by="bob")
        assert promotions.prune(1) == [2, 1]  # 4 is served in place of 3; 5 is the newest
    assert sorted(int(one.parent.name) for one in promotions.folder.glob("*/model")) == [3, 4, 5]
    current = promotions.current()
    assert current is not None and current.number == 4 and set(current.earlier_names) == {"main", "other", "worse"}
    with promotions.locked():
        assert promotions.roll_back(by="bob").number == 3 and promotions.prune(2) == []
        with pytest.raises(UsageError, match=r"promotion 2, worse, was removed.*agora model promote worse"):
            promotions.roll_back(by="bob")
    assert promotions.record(1)["name"] == "other"


def test_promotions_and_ways_back_stand_in_the_audit_log(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.server.promote.judge", lambda *args, **more: Verdict(measures=[]))
    options: Any = {"tolerances": Tolerances(), "texts": [place.root / "text.txt"], "keep": 1}
    for name in ("main", "other", "worse", "main"):
        promote(place, name, by="ada", **options)
    roll_back(place, by="bob", reason="it is slow")
    database = open_database(place)
    rows = AuditLog(database).read(action="models")
    database.close()
    assert [(one["who"], one["action"], one["what"]) for one in rows[:2]] == [
        ("bob", "models.rollback", "3"),
        ("ada", "models.promote", "4"),
    ]
    assert rows[0]["details"] == {"model": "worse", "in_place_of": 4, "reason": "it is slow"}
    assert rows[1]["details"] == {"model": "main", "in_place_of": 3, "reason": "", "removed": [2]}


def test_one_promotion_at_a_time(place: Workspace) -> None:
    with Promotions(place).locked(), pytest.raises(UsageError, match="another promotion is being made"):
        promote(place, "other", by="ada", tolerances=Tolerances(), texts=[place.root / "text.txt"])


def test_without_feedback_or_a_served_model_only_guarantees_count(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path | None] = []

    def judged(candidate: Path, served: Path | None, *arguments: Any, **options: Any) -> Verdict:
        seen.append(served)
        return Verdict(measures=[])

    monkeypatch.setattr("agora.server.promote.judge", judged)
    outcome = promote(place, "main", by="ada", tolerances=Tolerances(), texts=[place.root / "text.txt"])
    assert seen == [None] and outcome.promoted is not None and outcome.promoted.number == 1 and outcome.before is None


# ---- the server


def said(model: LanguageModel, text: str) -> str:
    return "".join(delta.text for delta in model.complete(text, SamplingConfig(max_tokens=20, temperature=0.0)))


def test_a_running_server_takes_a_promotion_up_without_losing_an_answer(place: Workspace) -> None:
    keep(place, "main")
    promotions = Promotions(place)
    first = promotions.current()
    assert first is not None
    served = Served([load_local_model(first.folder, name=first.name)], first)
    watch = PromotionWatch(promotions, served, lambda folder, name: load_local_model(folder, name=name))
    client = TestClient(create_app(served), base_url="http://127.0.0.1")
    old = served["main"]
    expected = said(old, "The harvest")
    stream = old.complete("The harvest", SamplingConfig(max_tokens=20, temperature=0.0))
    begun = next(stream).text
    assert not watch.look()
    keep(place, "worse")
    assert watch.look() and not watch.look()
    assert begun + "".join(delta.text for delta in stream) == expected
    (listed,) = client.get("/v1/models").json()["data"]
    assert listed["id"] == "worse" and listed["promotion"]["number"] == 2 and listed["promotion"]["aliases"] == ["main"]
    body = {"model": "main", "prompt": "The harvest", "max_tokens": 20, "temperature": 0}
    answer = client.post("/v1/completions", json=body).json()
    assert answer["model"] == "worse" and answer["choices"][0]["text"] == said(served["worse"], "The harvest") != expected
    assert client.post("/v1/completions", json={**body, "model": "other"}).status_code == 404


def test_a_promotion_that_cannot_be_loaded_leaves_the_model_before_and_is_tried_again_when_woken(place: Workspace) -> None:
    keep(place, "main")
    promotions, tries = Promotions(place), list[str]()
    first = promotions.current()
    assert first is not None
    served = Served([load_local_model(first.folder, name="main")], first)

    def load(folder: Path, name: str) -> LanguageModel:
        tries.append(name)
        raise DataError("no")

    watch = PromotionWatch(promotions, served, load)
    keep(place, "other")
    assert not watch.look() and not watch.look() and tries == ["other"] and list(served) == ["main"]
    watch.wake()
    assert not watch.look() and tries == ["other", "other"]


def test_the_watch_looks_by_itself_and_ends(place: Workspace) -> None:
    served, taken = Served([]), threading.Event()

    def load(folder: Path, name: str) -> LanguageModel:
        taken.set()
        return load_local_model(folder, name=name)

    with PromotionWatch(Promotions(place), served, load) as watch:
        keep(place, "other")
        watch.wake()
        assert taken.wait(10)
    assert list(served) == ["other"] and isinstance(create_app(served), FastAPI)
