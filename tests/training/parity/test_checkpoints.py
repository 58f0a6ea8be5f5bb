"""A run that changes its layout and its number of processes at every checkpoint has the losses of the undisturbed one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from agora.config import to_dict
from agora.model.hf import load_hf
from agora.training.checkpoint import list_checkpoints, load_latest_checkpoint
from agora.training.export_checkpoint import export_checkpoint
from agora.training.metrics import read_metrics
from agora.training.run_folder import RunFolder
from agora.training.sharded_checkpoint import INDEX
from tests.training.object_server import object_server
from tests.training.parity.ranks import Ranks, alone, batches, go_on, model_of
from tests.training.parity.test_parity import EXPERTS, FIRST, LATER

pytestmark = pytest.mark.parity

STEPS = 3
TENSOR = {"tensor": 2, "micro_batch": 4}
# None is one process without a wrapper; 4 -> 2 -> 8 ranks, tensor 2 -> 1, stages, and back
ROADS: dict[str, tuple[str, dict[str, Any], list[tuple[int, dict[str, Any] | None]]]] = {
    "adamw": ("adamw", {}, [
        (4, {"shard": 2, **TENSOR}), (2, {"pipeline": 2, "schedule": "interleaved", "virtual": 2}),
        (8, {"replicate": 2, "shard": 2, **TENSOR}), (1, None), (2, TENSOR), (1, None),
    ]),
    "muon": ("muon", {"tie_embeddings": True}, [(1, None), (4, {"pipeline": 2, **TENSOR}), (2, {"shard": 2}), (1, None)]),
    "experts": ("muon", {**EXPERTS, "balance_bias_rate": 0.01}, [
        (4, {"shard": 4, "expert": 2, "micro_batch": 2}), (2, {"pipeline": 2}), (1, None), (2, {"shard": 2, "expert": 2}),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
def test_a_run_that_changes_its_layout_has_the_losses_of_the_undisturbed_one(
    road: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    optimizer, model, stations = ROADS[road]
    case: dict[str, Any] = {"optimizer": optimizer, "model": model}
    expected = alone({**case, "steps": STEPS * len(stations)})
    for number, (size, layout) in enumerate(stations):
        here = {**case, "task": "go_on", "layout": layout, "steps": STEPS, "folder": str(tmp_path)}
        fixture = {2: "two_ranks", 4: "four_ranks", 8: "eight_ranks"}.get(size)
        answers = [go_on(here)] if fixture is None else request.getfixturevalue(fixture).run(here)
        for answer in answers:
            assert answer["resumed"] == ({"position": number * STEPS} if number else None)
            for key in ("losses", "grad_norms"):
                tolerance = FIRST if number == 0 else LATER[optimizer][key]
                assert answer[key][0] == pytest.approx(expected[key][number * STEPS], rel=tolerance), (number, key)
                wanted = expected[key][number * STEPS : (number + 1) * STEPS]
                assert answer[key] == pytest.approx(wanted, rel=LATER[optimizer][key]), (number, key)


def test_a_run_goes_on_with_more_ranks_than_its_step_had_passes(
    tmp_path: Path, four_ranks: Ranks, eight_ranks: Ranks, two_ranks: Ranks
) -> None:
    """8 rows a step: four ranks take two at once, so eight find half a pass each; one row at once, and later four, is the same run."""
    roads: list[tuple[Ranks, dict[str, int], int, int]] = [
        (four_ranks, {"shard": 4}, 2, 4), (eight_ranks, {"replicate": 2, "shard": 4}, 1, 8), (two_ranks, {"pipeline": 2}, 4, 12),
    ]  # fmt: skip
    folder = str(tmp_path / "cut")
    task = "tests.training.parity.survival_ranks:train_on"
    for ranks, layout, micro_batch, stop in roads:
        case = {"task": task, "folder": folder, "layout": layout, "settings": {"micro_batch": micro_batch}, "stop": stop, "steady": True}
        assert {answer["step"] for answer in ranks.run(case)} == {stop}
    two_ranks.run({"task": task, "folder": str(tmp_path / "whole"), "layout": {"shard": 2}, "settings": {"micro_batch": 4}, "steady": True})
    expected, found = (read_metrics(tmp_path / name / "run" / "metrics.jsonl") for name in ("whole", "cut"))
    assert [line["step"] for line in found] == list(range(1, 13)) and [line["tokens"] for line in found] == [128 * n for n in range(1, 13)]
    for key in ("loss", "grad_norm", "heldout_loss"):
        theirs, mine = ([line[key] for line in lines if line[key] is not None] for lines in (expected, found))
        assert mine == pytest.approx(theirs, rel=LATER["adamw"]["grad_norms" if key == "grad_norm" else "losses"]), key
    places = [load_latest_checkpoint(tmp_path / name / "run" / "checkpoints") for name in ("whole", "cut")]
    assert places[0] is not None and places[1] is not None and places[0].state["data"] == places[1].state["data"]


def test_ranks_agree_on_the_newest_whole_checkpoint_and_its_model_leaves_without_being_gathered(tmp_path: Path, two_ranks: Ranks) -> None:
    """Full disk on one rank, death of the first, a truncated shard; then the export. One story, as a world takes seconds to start."""
    case = {"task": "go_on", "layout": TENSOR, "steps": 2, "folder": str(tmp_path / "run" / "checkpoints")}
    two_ranks.run(case)
    for answer in two_ranks.run({**case, "trouble": "full disk"}):
        assert answer["resumed"] == {"position": 2} and "rank 1: [Errno 28] No space left on device; older" in answer["problem"]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    with pytest.raises(AssertionError):
        two_ranks.run({**case, "trouble": "death"})
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == ["step-00000002"]
    two_ranks.run(case)
    first, other = (answer["read"] for answer in two_ranks.run({**case, "steps": 0}))
    files = {f"tensors-0000{rank}.safetensors" for rank in (0, 1)}
    assert {"manifest.json", INDEX, "state.json"} <= set(first) and set(other) <= files  # what is where, one reads for all
    shard = tmp_path / "run" / "checkpoints" / "step-00000004" / "tensors-00001.safetensors"
    os.truncate(shard, shard.stat().st_size - 8)
    for answer in two_ranks.run(case):
        assert answer["resumed"] == {"position": 2} and answer["problem"] == ""
        assert "step-00000004 is corrupt: tensors-00001.safetensors has" in answer["warnings"][0]

    RunFolder(tmp_path / "run").write("run.json", {"model": to_dict(model_of({}).config)})
    export_checkpoint(tmp_path / "run", tmp_path / "model")
    whole = load_latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert whole is not None and whole.step == 4
    index = json.loads((tmp_path / "run" / "checkpoints" / whole.name / INDEX).read_text())["tensors"]
    assert len(index["/step/weight.layers.0.attention.qkv.weight"]["blocks"]) == 6  # three maps on two ranks
    model = load_hf(tmp_path / "model")
    for name, parameter in model.named_parameters():
        assert parameter.equal(whole.state["step"][f"weight.{name}"]), name
    tokens_BT = batches(0)[0].tokens_BT
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(tokens_BT)), theirs(tokens_BT).logits, rtol=1e-5, atol=1e-5)


def test_ranks_write_to_an_object_store_and_one_process_goes_on_from_it(two_ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_server() as server:
        environment = {
            "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        case = {"task": "go_on", "layout": {"shard": 2}, "steps": 1, "folder": "s3://bucket/run", "environment": environment}
        assert all(answer["problem"] == "" for answer in two_ranks.run(case))
        assert {key.rpartition("/")[2] for key in server.objects} > {"tensors-00000.safetensors", "tensors-00001.safetensors"}
        found = go_on({**case, "layout": None})
    expected = alone({"steps": 2})
    assert found["resumed"] == {"position": 1} and found["losses"] == pytest.approx(expected["losses"][1:], rel=LATER["adamw"]["losses"])
