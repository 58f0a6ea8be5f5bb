"""A run that changes its layout and its number of processes at every checkpoint has the losses of the undisturbed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.parity.ranks import alone, go_on
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
def test_a_run_that_changes_its_layout_at_every_checkpoint_has_the_losses_of_the_undisturbed_one(
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
