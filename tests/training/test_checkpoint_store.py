"""Every place for checkpoints keeps the same promises: a folder, memory behind fsspec, a server that speaks S3."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agora.errors import CheckpointError, ConfigError, OtherRunError
from agora.training.checkpoint import CheckpointWriter, clean, list_checkpoints, load_latest_checkpoint, resume_latest, save_checkpoint
from agora.training.checkpoint_store import MANIFEST, FolderStore, Store, UrlStore, open_store
from agora.training.loop import train
from agora.training.metrics import DETERMINISTIC, read_metrics
from agora.training.run_folder import RunFolder
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder
from tests.training.object_server import object_server


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with object_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    if request.param == "s3":
        request.getfixturevalue("server")
        return f"s3://bucket/{tmp_path.name}"
    return f"memory://{tmp_path.name}"


def state(value: float) -> dict[str, Any]:
    return {"step": {"weight.a": torch.full((3, 2), value), "half": torch.tensor([value], dtype=torch.bfloat16)}, "data": {"position": 7}}


def change(store: Store, name: str, file: str, edit: Any) -> None:
    """Damage a file of a committed checkpoint, past the store."""
    with store.reading(name, file) as stream:
        data = stream.read()
    if isinstance(store, FolderStore):
        (store.folder / name / file).write_bytes(edit(data))
    else:
        with store.writing(name, file) as stream:
            stream.write(edit(data))


def test_what_is_written_comes_back_in_place_and_whole(place: str) -> None:
    save_checkpoint(place, 3, state(0.5))
    found = load_latest_checkpoint(place)
    assert found is not None and found.step == 3 and found.state["data"] == {"position": 7}
    live = state(0.0)
    again = resume_latest(place, live)
    assert again is not None and again.state["data"] == {"position": 7}
    for name, tensor in state(0.5)["step"].items():
        assert found.state["step"][name].equal(tensor) and live["step"][name].equal(tensor)


def test_the_newest_are_kept_and_those_of_every_n_steps_for_good(place: str) -> None:
    writer = CheckpointWriter(place, keep=2, keep_every=20)
    for step in (5, 20, 30, 40, 45, 50):
        writer.save(step, state(1.0))
    writer.wait()
    assert list_checkpoints(place) == ["step-00000020", "step-00000040", "step-00000045", "step-00000050"]


@pytest.mark.parametrize("edit", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])], ids=["cut", "changed"])
def test_a_damaged_file_is_named_and_the_checkpoint_before_taken(place: str, edit: Any, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save_checkpoint(place, step, state(float(step)))
    change(open_store(place), "step-00000002", "tensors-00000.safetensors", edit)
    live = state(0.0)
    found = resume_latest(place, live)
    assert found is not None and found.step == 1 and live["step"]["weight.a"].eq(1.0).all()
    assert "step-00000002 is corrupt" in caplog.text and "tensors-00000.safetensors" in caplog.text
    clean(place, found.name)
    assert list_checkpoints(place) == ["step-00000001"]


def test_without_a_manifest_a_checkpoint_does_not_count_and_is_cleaned_away(place: str) -> None:
    save_checkpoint(place, 1, state(1.0))
    store = open_store(place)
    store.begin("step-00000002", 10)
    with store.writing("step-00000002", "tensors-00000.safetensors") as stream:
        stream.write(b"half")
    assert list_checkpoints(place) == ["step-00000001"]
    clean(place, "step-00000001")
    with pytest.raises(OSError), store.reading("step-00000002", "tensors-00000.safetensors"):
        pass


def test_a_deletion_that_is_cut_short_leaves_nothing_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://cut")
    assert isinstance(store, UrlStore)
    save_checkpoint(store, 1, state(1.0))
    deleted: list[str] = []
    remove = store._files.rm_file

    def once(path: str) -> None:
        if deleted:
            raise OSError("killed")
        deleted.append(path)
        remove(path)

    monkeypatch.setattr(store._files, "rm_file", once)
    with pytest.raises(OSError):
        store.remove("step-00000001")
    assert deleted[0].endswith(MANIFEST) and list_checkpoints(store) == []


def test_a_place_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="checkpoint_url=nowhere://x cannot be used"):
        open_store("nowhere://x")
    store = open_store("memory://broken")
    monkeypatch.setattr(UrlStore, "begin", lambda *arguments: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(CheckpointError, match="memory://broken/step-00000001 could not be written: no route"):
        save_checkpoint(store, 1, state(1.0))


def test_a_run_whose_checkpoints_lie_elsewhere_goes_on_to_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)

    def run(name: str, url: str | None, action: Any = lambda done: None, **more: Any) -> Path:
        train(
            tmp_path / name, model_config=TINY_MODEL, training_config=dataclasses.replace(TINY_TRAINING, checkpoint_url=url),
            shards=some_shards(tmp_path), tokenizer_dir=tokenizer_folder(tmp_path / "tokenizer"), progress=EachStep(action), **more,
        )  # fmt: skip
        return tmp_path / name

    url = f"memory://runs-{tmp_path.name}"
    run("run", url, lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 5 else None)
    assert not (tmp_path / "run" / "checkpoints").exists() and list_checkpoints(f"{url}/run")[-1] == "step-00000005"
    folders = run("run", url), run("whole", None)
    one, other = ([[line[key] for key in DETERMINISTIC] for line in read_metrics(folder / "metrics.jsonl")] for folder in folders)
    assert one == other and len(one) == TINY_TRAINING.steps
    run("run", url, lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 1 else None, resume=False)
    assert list_checkpoints(f"{url}/run") == ["step-00000001"]  # the old ones are not gone on from


def test_a_place_is_only_used_by_the_run_whose_checkpoints_lie_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("agora.training.lease._SETTLE_S", 0.0)
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)
    place = place if "://" in place else f"file://{place}"

    def run(workspace: str, *, resume: bool = True, last: int = 12, **changes: Any) -> int:
        return train(
            tmp_path / workspace / "run", shards=some_shards(tmp_path), resume=resume,
            tokenizer_dir=tokenizer_folder(tmp_path / "tokenizer"), model_config=TINY_MODEL,
            training_config=dataclasses.replace(TINY_TRAINING, checkpoint_url=place, **changes),
            progress=EachStep(lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == last else None),
        ).step  # fmt: skip

    assert run("one", last=5) == 5
    mine = list_checkpoints(f"{place}/run")
    with pytest.raises(OtherRunError, match=r"training\.seed is 7 there and 8 here.*training\.checkpoint_url=.*--name"):
        run("two", seed=8)
    with pytest.raises(OtherRunError, match=r"--fresh would delete them.*training\.checkpoint_url=.*--name"):
        run("two", seed=8, resume=False)
    assert list_checkpoints(f"{place}/run") == mine and not (tmp_path / "two" / "run").exists()
    assert run("fresh machine", last=7) == 7 and run("one", last=9) == 9  # the same run, from a folder that was empty
    record = tmp_path / "one" / "run" / "run.json"
    record.write_text(record.read_text().replace(open_store(f"{place}/run").read_record()["id"], "another"))
    with pytest.raises(OtherRunError, match="and this is run another"):
        run("one")
    with pytest.raises(OtherRunError, match="and this is run another"):
        run("one", resume=False)
    assert run("fresh machine", resume=False, last=1) == 1 and list_checkpoints(f"{place}/run") == ["step-00000001"]


def test_what_replicas_agreed_on_is_kept_and_a_run_with_nothing_but_doubt_does_not_begin_again(place: str) -> None:
    writer, store = CheckpointWriter(place, keep=2), open_store(place)
    for step in (6, 8, 10, 12, 14, 16):
        writer.save(step, state(float(step)), verified=0 if step < 9 else 9)
    writer.wait()
    assert list_checkpoints(place) == ["step-00000008", "step-00000014", "step-00000016"]
    for name in ("step-00000014", "step-00000016"):
        store.set_aside(name)
    found = resume_latest(place, state(0.0))
    assert found is not None and found.step == 8
    store.set_aside("step-00000008")
    with pytest.raises(CheckpointError, match=r"put aside .*step-00000008, step-00000014.* begin again at step 0 .*--fresh"):
        resume_latest(place, state(0.0))
    store.clear()
    assert resume_latest(place, state(0.0)) is None


@pytest.mark.parametrize("url", ["s3://KEY:hidden@bucket/x", "s3://KEY:hid/den@bucket/x", "s3://hidden@bucket", "cache::s3://a:hidden@b/c"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as caught:
        dataclasses.replace(TINY_TRAINING, checkpoint_url=url)
    assert "hid" not in str(caught.value) and "KEY:" not in str(caught.value)


def test_a_query_stays_behind_the_name_of_the_run_and_a_url_with_one_slash_is_no_folder(server: None, tmp_path: Path) -> None:
    url = RunFolder(Path("runs/main")).checkpoint_place(f"s3://bucket/{tmp_path.name}/?region=us-east-1")
    assert url == f"s3://bucket/{tmp_path.name}/main?region=us-east-1"
    save_checkpoint(url, 1, state(1.0))
    assert list_checkpoints(f"s3://bucket/{tmp_path.name}/main") == ["step-00000001"]
    assert open_store(url).place("step-00000001") == f"s3://bucket/{tmp_path.name}/main/step-00000001"
    for wrong in ("s3:/bucket/x", "s3:bucket/x"):
        with pytest.raises(ConfigError, match=r"is no URL and no folder; write s3://bucket/x"):
            dataclasses.replace(TINY_TRAINING, checkpoint_url=wrong)
    for right in ("http://host:80/a@b", "cache::s3://bucket/x", "/mnt/disk", "C:/disk", "memory://x"):
        dataclasses.replace(TINY_TRAINING, checkpoint_url=right)


def test_every_piece_that_is_written_or_read_counts_as_movement(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, also where a file would take more at once; what was written long ago is waited for, so that it does not pile up."""
    monkeypatch.setattr("agora.training.movement._AT_ONCE_BYTES", 1 << 10)
    monkeypatch.setattr("agora.training.movement._WAITING_BYTES", 1 << 10)
    monkeypatch.setattr("agora.model.tensor_files._PIECE_BYTES", 1 << 10)
    store = open_store(place)
    large = {"a": torch.arange(4096.0)}
    save_checkpoint(store, 1, large)
    written = store.movement.count
    assert written > 32 and store.movement.doing == ""  # 16 pieces, each waited for
    live = {"a": torch.zeros(4096)}
    assert resume_latest(store, live) is not None and live["a"].equal(large["a"])
    assert store.movement.count - written >= 30  # for the sum, and for the numbers
    with store.reading("step-00000001", MANIFEST):
        assert store.movement.doing == f"reading {store.place('step-00000001')}/{MANIFEST}"
