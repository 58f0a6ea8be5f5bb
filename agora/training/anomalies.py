"""Steps that went wrong. Goes in: loss and gradient norm of each step, the same on every process. Comes out: whether the weights may
follow, and which batches a run leaves out; all of it is kept, so that a killed and resumed run leaves out the same.

A step is not a number when loss or gradient norm is not finite. It is a spike when one of them is more than `spike_deviations` robust
standard deviations (1.4826 x median absolute deviation) above the median of the last WINDOW steps that the weights followed; gradient
norms are compared by their logarithm, because they scatter by factors. OLMo 2 (arXiv:2501.00656, section 3) counts as spikes what is 7
standard deviations from a rolling mean; median and absolute deviation are used here because a spike must not hide the next one. Going back
and leaving out the batches around a spike is what PaLM did (arXiv:2204.02311, section 5.1); that the batches alone were not to blame there
is why both are offered.

RUN/skipped.json holds every step whose batch is left out, and how often the run went back: written before the decision takes effect.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from agora.errors import TrainingError
from agora.files import write_atomically

WINDOW: Final = 128  # steps: long enough for a steady median, short enough to follow a falling loss
FEWEST: Final = 32  # steps before anything is judged
MOST_IN_A_ROW: Final = 5  # skipped batches: after as many the batches are not to blame
_TO_DEVIATION: Final = 1.4826  # of a normal distribution: standard deviation / median absolute deviation
_LEAST_LOSS: Final = 0.002  # of the median: less scatter than this is taken for this much, or a smooth curve would spike by nothing
_LEAST_LOG_NORM: Final = 0.02  # a fiftieth
FILE: Final = "skipped.json"

Action = Literal["warn", "stop", "skip", "roll_back"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Anomaly:
    """A step that went wrong. `reason` is for a person."""

    kind: Literal["not a number", "spike"]
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """A step whose batch the weights do not follow. `loss` and `grad_norm` are what it gave, None where that is no number or not known."""

    why: Literal["not a number", "spike", "roll back"]
    loss: float | None = None
    grad_norm: float | None = None


class RollBack(Exception):
    """The run goes back to its last checkpoint and leaves out the batches up to `step`."""

    def __init__(self, step: int, anomaly: Anomaly) -> None:
        super().__init__(f"step {step}: {anomaly.reason}")
        self.step, self.anomaly = step, anomaly


class SpikeRule:
    """Judges each step by those before it."""

    def __init__(self, deviations: float) -> None:
        self._deviations = deviations
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._log_norms: deque[float] = deque(maxlen=WINDOW)

    def judge(self, loss: float, grad_norm: float) -> Anomaly | None:
        """What is wrong with a step, or None."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return Anomaly(kind="not a number", reason=f"loss {loss}, gradient norm {grad_norm}")
        if len(self._losses) < FEWEST:
            return None
        usual = median(self._losses)
        above = _deviations_above(loss, self._losses, _LEAST_LOSS * abs(usual))
        if above > self._deviations:
            return Anomaly(kind="spike", reason=f"loss {loss:.4g} is {above:.1f} deviations above {usual:.4g}, the usual one")
        usual = median(self._log_norms)
        above = _deviations_above(_log(grad_norm), self._log_norms, _LEAST_LOG_NORM)
        if above > self._deviations:
            reason = f"gradient norm {grad_norm:.4g} is {above:.1f} deviations above {math.exp(usual):.4g}, the usual one"
            return Anomaly(kind="spike", reason=reason)
        return None

    def learn(self, loss: float, grad_norm: float) -> None:
        """Take a step that the weights followed into account."""
        self._losses.append(loss)
        self._log_norms.append(_log(grad_norm))

    def state_dict(self) -> dict[str, Any]:
        """What `judge` remembers."""
        return {"losses": list(self._losses), "log_norms": list(self._log_norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what a checkpoint says, or nothing."""
        self._losses = deque(state.get("losses", []), maxlen=WINDOW)
        self._log_norms = deque(state.get("log_norms", []), maxlen=WINDOW)


def _deviations_above(value: float, before: deque[float], least: float) -> float:
    middle = median(before)
    return (value - middle) / max(_TO_DEVIATION * median(abs(one - middle) for one in before), least, 1e-12)


def _log(norm: float) -> float:
    return math.log(max(norm, 1e-30))


class Skips:
    """The steps whose batches a run leaves out. The first process keeps the file; all are told what is in it."""

    def __init__(self) -> None:
        self.by_step: dict[int, Skip] = {}
        self.num_roll_backs = 0

    def add(self, step: int, skip: Skip) -> None:
        """Leave out the batch of a step. Raises TrainingError after too many in a row."""
        self.by_step[step] = skip
        in_a_row = range(step - MOST_IN_A_ROW + 1, step + 1)
        if skip.why != "roll back" and all(self.by_step.get(one, _NONE).why == skip.why for one in in_a_row):
            raise TrainingError(
                f"the batches of steps {in_a_row[0]} to {step} were skipped one after the other ({skip.why}): it is not the batches. "
                "Train under another --name with a lower rate, or with training.on_nan=roll_back training.on_spike=roll_back"
            )

    def go_back(self, first: int, last: int, most: int) -> None:
        """Leave out the batches of steps `first` to `last`. Raises TrainingError when the run has gone back `most` times."""
        if self.num_roll_backs >= most:
            raise TrainingError(
                f"step {last} went wrong and the run has gone back {self.num_roll_backs} times already (training.max_roll_backs); "
                "train under another --name with a lower rate"
            )
        self.num_roll_backs += 1
        for step in range(first, last + 1):
            self.by_step.setdefault(step, Skip(why="roll back"))

    def to_dict(self) -> dict[str, Any]:
        """As kept in the file and in checkpoints."""
        return {"num_roll_backs": self.num_roll_backs, "steps": {str(step): asdict(skip) for step, skip in sorted(self.by_step.items())}}

    def merge(self, table: Mapping[str, Any]) -> None:
        """Take in what a file or a checkpoint says. Raises TrainingError when it is no such thing."""
        try:
            self.by_step |= {int(step): Skip(**skip) for step, skip in table.get("steps", {}).items()}
            self.num_roll_backs = max(self.num_roll_backs, int(table.get("num_roll_backs", 0)))
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"the record of skipped batches ({FILE}) is damaged: {error!r}; start again with --fresh") from error

    def write(self, folder: Path) -> None:
        """Keep the record."""
        write_atomically(folder / FILE, json.dumps(self.to_dict(), indent=1) + "\n")


_NONE: Final = Skip(why="roll back")
