"""Checkpoints: exact round trip, whole or absent, damaged ones refused by name, the last good one never deleted."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import CheckpointError
from agora.files import file_sha256
from agora.training.checkpoint import (
    CheckpointWriter,
    clean,
    list_checkpoints,
    load_checkpoint,
    load_latest_checkpoint,
    save_checkpoint,
)  # fmt: skip
from agora.training.nested_state import flatten, unflatten

Usage = namedtuple("Usage", "total used free")


def state(value: float = 1.0) -> dict[str, Any]:
    return {
        "step": {"weight.a": torch.full((3, 2), value), "half": torch.tensor([value], dtype=torch.bfloat16), "scalar": torch.tensor(value)},
        "data": {"position": 12345678901, "rate": 0.1, "none": None, "names": ["x", ("y", 1)]},
        "numbers": {0: torch.arange(3), 1: float("inf")},
    }


FILES = ["tensors-00000.safetensors", "index.json", "state.json", "manifest.json"]


def names(folder: Path) -> list[str]:
    return list_checkpoints(folder)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = state(0.1)
    save_checkpoint(tmp_path, 5, before)
    loaded = load_latest_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 5
    assert loaded.state["data"] == before["data"]
    for name, tensor in before["step"].items():
        assert loaded.state["step"][name].dtype == tensor.dtype
        assert loaded.state["step"][name].equal(tensor)
    assert loaded.state["numbers"][0].tolist() == [0, 1, 2] and loaded.state["numbers"][1] == float("inf")


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), plain_values))
def test_any_plain_state_round_trips(value: dict[str, Any]) -> None:
    assert unflatten(*flatten(value)) == value


def test_a_value_that_cannot_be_saved_is_refused() -> None:
    with pytest.raises(CheckpointError, match="set at /data/x"):
        flatten({"data": {"x": {1, 2}}})


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest_checkpoint(tmp_path / "absent") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30, 200):
        save_checkpoint(tmp_path, step, state(), keep=2)
    assert names(tmp_path) == ["step-00000030", "step-00000200"]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(tmp_path, 1, state(1.0))
    flip_a_bit(tmp_path / save_checkpoint(tmp_path, 2, state(2.0)) / file)
    loaded = load_latest_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 1
    assert "step-00000002" in caplog.text and "corrupt" in caplog.text


@pytest.mark.parametrize("file", FILES)
def test_a_checkpoint_with_a_missing_or_cut_file_is_refused(tmp_path: Path, file: str) -> None:
    name = save_checkpoint(tmp_path, 1, state())
    path = tmp_path / name / file
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="step-00000001 is corrupt"):
        load_checkpoint(tmp_path, name)
    path.unlink()
    with pytest.raises(CheckpointError, match="step-00000001 is corrupt"):
        load_checkpoint(tmp_path, name)


def test_when_every_checkpoint_is_damaged_training_does_not_start_over_in_silence(tmp_path: Path) -> None:
    for step in (1, 2):
        flip_a_bit(tmp_path / save_checkpoint(tmp_path, step, state()) / "state.json")
    with pytest.raises(CheckpointError, match=r"every checkpoint .*step-00000002, step-00000001"):
        load_latest_checkpoint(tmp_path)


def test_the_last_good_checkpoint_outlives_damaged_newer_ones(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(), keep=2)
    flip_a_bit(tmp_path / save_checkpoint(tmp_path, 2, state(), keep=2) / "state.json")
    flip_a_bit(tmp_path / save_checkpoint(tmp_path, 3, state(), keep=2) / "state.json")
    save_checkpoint(tmp_path, 4, state(), keep=2)
    assert "step-00000001" in names(tmp_path)


def test_cleaning_moves_damaged_ones_aside_and_removes_half_written_ones(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state())
    flip_a_bit(tmp_path / save_checkpoint(tmp_path, 2, state()) / "state.json")
    (tmp_path / ".writing-step-00000003").mkdir()
    loaded = load_latest_checkpoint(tmp_path)
    clean(tmp_path, loaded.name if loaded else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002.corrupt"]


def test_a_full_disk_is_a_clear_error_and_leaves_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, state())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 100, 0))
    with pytest.raises(CheckpointError, match=r"step-00000002 could not be written.*free.*older checkpoints are untouched"):
        save_checkpoint(tmp_path, 2, state())
    assert names(tmp_path) == ["step-00000001"] and load_checkpoint(tmp_path, "step-00000001").step == 1


def test_a_disk_that_fills_while_writing_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, state())

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agora.training.sharded_checkpoint.write_tensors", fail)
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.save(2, state())
    with pytest.raises(CheckpointError, match="No space left"):
        writer.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_what_changes_after_a_save_in_the_background_is_not_saved(tmp_path: Path) -> None:
    value = state(1.0)
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.save(1, value)
    value["step"]["weight.a"].fill_(9.0)
    writer.wait()
    loaded = load_latest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state["step"]["weight.a"].eq(1.0).all()


def test_a_checkpoint_of_an_older_form_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state())
    manifest = tmp_path / "step-00000002" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 1}))
    with pytest.raises(CheckpointError, match="step-00000002 has format 1, this Agora reads 2; end the run with the Agora that began it"):
        load_latest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda index: index["tensors"]["/step/half"]["blocks"].clear(),
        lambda index: index["tensors"]["/step/half"].update(shape=[9]),
        lambda index: index["tensors"]["/step/weight.a"]["blocks"][0].update(file="../elsewhere.safetensors"),
        lambda index: index["tensors"]["/step/weight.a"]["blocks"][0].update(key="/step/half"),
        lambda index: index.pop("tensors"),
    ],
)
def test_an_index_that_lies_is_refused_although_its_sum_holds(tmp_path: Path, edit: Any) -> None:
    path = tmp_path / save_checkpoint(tmp_path, 1, state())
    index, manifest = (json.loads((path / name).read_text()) for name in ("index.json", "manifest.json"))
    edit(index)
    (path / "index.json").write_text(json.dumps(index))
    facts = {"size_bytes": (path / "index.json").stat().st_size, "sha256": file_sha256(path / "index.json")}
    (path / "manifest.json").write_text(json.dumps({**manifest, "files": {**manifest["files"], "index.json": facts}}))
    with pytest.raises(CheckpointError, match="step-00000001 cannot be read"):
        load_checkpoint(tmp_path, "step-00000001")
