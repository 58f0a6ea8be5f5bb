"""What a run tells while it learns: one JSON line per step, TensorBoard where wanted, a picture of the loss at the end.

Goes in: `StepMetrics`. Comes out: RUN/metrics.jsonl (every step once, also after a resume), RUN/tensorboard/, RUN/loss.png and loss.svg.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agora.errors import MissingExtraError
from agora.files import LineFile, naming, replacing, write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMetrics:
    """One optimizer step. `loss` and `heldout_loss` are nats per token; `tokens` and `elapsed_s` count from the start of the run.

    `lr` is AdamW's rate in this step, `muon_lr` that of Muon where it steps the matrices. `limit_share` is the share of the machine's
    measured matmul limit; `joules_per_token` covers the run so far and is an estimate unless `energy_measured`.
    `imbalance`: visits of the busiest expert over the mean, in the worst layer. `skipped` says why the weights did not follow the step
    (anomalies.py; loss and norm are then None where they were no numbers); `slow_rank` is a process that others wait for, `lost_share`
    the part of their time (stragglers.py), where it was looked at.
    """

    step: int
    loss: float | None
    grad_norm: float | None
    lr_scale: float
    lr: float
    tokens: int
    tokens_per_s: float
    limit_share: float | None
    elapsed_s: float
    eta_s: float
    joules_per_token: float
    energy_measured: bool
    heldout_loss: float | None = None
    muon_lr: float | None = None
    imbalance: float | None = None
    skipped: str | None = None
    slow_rank: int | None = None
    lost_share: float | None = None


_SHOWN: Final = (
    "loss", "heldout_loss", "grad_norm", "lr", "muon_lr", "lr_scale", "tokens_per_s", "joules_per_token", "imbalance", "lost_share",
)  # fmt: skip
DETERMINISTIC: Final = ("step", "loss", "grad_norm", "lr_scale", "tokens", "heldout_loss")  # equal bit for bit after a resume


class MetricsLog:
    """Appends to `path`; with `tensorboard` also writes event files into that folder, hiding what older ones say of `first_step` on.
    These are a view of `path`: where they cannot be written the run goes on without them."""

    def __init__(self, path: Path, *, tensorboard: Path | None = None, first_step: int = 1) -> None:
        self._place = tensorboard
        self._board = _open_tensorboard(tensorboard, first_step) if tensorboard else None
        self._file = LineFile(path)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        with self._without_board():
            if self._board is not None:
                self._board.close()

    def write(self, metrics: StepMetrics) -> None:
        """One line, handed to the system at once. Raises OSError that names the file."""
        self._file.write(json.dumps(dataclasses.asdict(metrics)))
        with self._without_board():
            if (board := self._board) is not None:
                for name in _SHOWN:
                    if (value := getattr(metrics, name)) is not None:
                        board.add_scalar(name, value, metrics.step)

    @contextmanager
    def _without_board(self) -> Iterator[None]:
        """From the first failure on."""
        try:
            yield
        except OSError as error:
            self._board = None
            logger.warning(
                "%s: %s; the run goes on without TensorBoard, and %s has every step", self._place, error.strerror or error, self._file.path
            )

    def sync(self) -> None:
        """Until the lines written so far are on disk: called before the checkpoint that stands for them."""
        self._file.sync()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file, which another process may be writing; empty when there is none."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the line being written, or cut by a kill
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def rewind_metrics(path: Path, step: int) -> int:
    """Keep the lines up to `step`, so that a resumed run writes each step once. Returns how many lines were taken away."""
    lines = read_metrics(path)
    kept = [line for line in lines if line["step"] <= step]
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
    return len(lines) - len(kept)


def draw_loss(metrics: list[dict[str, Any]], folder: Path, title: str, *, unit: str = "token") -> list[Path]:
    """loss.png and loss.svg in `folder`: every step, a running mean, the held-out loss. Raises MissingExtraError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "reports", "the picture of the loss") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    with_loss = [line for line in metrics if line["loss"] is not None]  # a skipped step may have none
    tokens = [line["tokens"] / 1e6 for line in with_loss]
    losses = [line["loss"] for line in with_loss]
    axes.plot(tokens, losses, color="#9db8d2", linewidth=0.8, label="training, each step")
    axes.plot(tokens, _running_mean(losses), color="#1f4e79", linewidth=1.6, label="training, running mean")
    heldout = [(line["tokens"] / 1e6, line["heldout_loss"]) for line in metrics if line.get("heldout_loss") is not None]
    if heldout:
        axes.plot(*zip(*heldout, strict=True), color="#c0504d", marker="o", markersize=3, linewidth=1.2, label="held out")
    axes.set(xlabel="million tokens", ylabel=f"loss (nats per {unit})", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    paths = [folder / "loss.png", folder / "loss.svg"]
    for path in paths:
        with naming(path), replacing(path) as part:
            figure.savefig(part, format=path.suffix[1:], dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _running_mean(values: list[float]) -> list[float]:
    """Mean over a window centred on each step, a fiftieth of the run wide: smooth, and not behind the curve it shows."""
    half = max(1, len(values) // 100)
    windows = (values[max(0, step - half) : step + half + 1] for step in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _open_tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "reports", "training.tensorboard=true") from error
    return SummaryWriter(str(folder), purge_step=first_step)


def describe_last(metrics: list[Mapping[str, Any]], window: int = 20) -> dict[str, Any]:
    """The last step with the speed over the last `window` steps and the newest held-out loss."""
    if not metrics:
        return {}
    last, recent = dict(metrics[-1]), [line["tokens_per_s"] for line in metrics[-window:]]
    last["tokens_per_s"] = sorted(recent)[len(recent) // 2]
    last["loss"] = next((line["loss"] for line in reversed(metrics) if line.get("loss") is not None), None)
    last["heldout_loss"] = next((line["heldout_loss"] for line in reversed(metrics) if line.get("heldout_loss") is not None), None)
    return last
