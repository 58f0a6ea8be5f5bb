"""Training runs and models of the workspace.

GET /api/v1/runs, /runs/{name}, /runs/{name}/metrics, /models
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from agora.errors import UsageError
from agora.server.access import needs
from agora.server.api.forms import finite
from agora.server.services import Services, found_or_404
from agora.training.metrics import read_metrics
from agora.training.run_folder import RunFolder, list_runs, run_status

MAX_POINTS: Final = 2_000
_SERIES: Final = (
    "step", "loss", "heldout_loss", "grad_norm", "lr", "tokens", "tokens_per_s", "limit_share", "elapsed_s", "joules_per_token",
)  # fmt: skip

RunName = Annotated[str, Path(max_length=128)]


class Run(BaseModel):
    """`state`: running, finished, stopped, failed, dead (killed) or damaged."""

    name: str
    kind: str
    state: str
    step: int
    steps: int
    loss: float | None
    heldout_loss: float | None
    tokens_per_s: float | None
    limit_share: float | None
    eta_s: float | None
    joules_per_token: float | None
    message: str
    command: str


class WholeRun(Run):
    """`config`: what it was started with."""

    config: dict[str, Any]


class RunMetrics(BaseModel):
    """Steps after the one asked for; of many, evenly chosen ones and always the last. `next_after` goes on from there."""

    num_steps: int
    next_after: int
    points: list[dict[str, float | None]]


class ModelRow(BaseModel):
    """`is_served`: this server answers with it."""

    name: str
    is_served: bool
    architecture: str
    parameters: int | None
    context_tokens: int | None
    bytes: int


class RunArea:
    """What the routes and the pages call."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def all(self) -> list[Run]:
        """Every run, by name."""
        return [Run(**asdict(one)) for one in list_runs(self._services.place.folder("runs"))]

    def show(self, name: str) -> WholeRun:
        """One run. Raises ApiError 404."""
        folder = self._folder(name)
        config = {key: value for key, value in folder.read("run.json").items() if key in ("model", "training", "kind", "machine")}
        return WholeRun(**asdict(run_status(folder.path)), config=finite(config))

    def metrics(self, name: str, *, after: int = 0, points: int = 400) -> RunMetrics:
        """What a run tells of its steps."""
        lines = [line for line in read_metrics(self._folder(name).metrics) if isinstance(line, dict) and line.get("step", 0) > after]
        every = max(1, math.ceil(len(lines) / points))
        chosen = [line for place, line in enumerate(lines) if (len(lines) - 1 - place) % every == 0 or line.get("heldout_loss") is not None]
        rows = [{key: _number(line.get(key)) for key in _SERIES} for line in chosen]
        return RunMetrics(num_steps=len(lines), next_after=int(lines[-1]["step"]) if lines else after, points=rows)

    def models(self) -> list[ModelRow]:
        """Models in the workspace, and those served from elsewhere."""
        rows = [self._model(path.parent) for path in sorted(self._services.place.folder("models").glob("*/config.json"))]
        known = {row.name for row in rows}
        served = [model for name, model in self._services.models.items() if name not in known]
        return rows + [
            ModelRow(name=one.name, is_served=True, architecture="", parameters=None, context_tokens=one.context_tokens, bytes=0)
            for one in served
        ]

    def _model(self, folder: Any) -> ModelRow:
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            config = {}
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(str(config.get("dtype") or config.get("torch_dtype")), 0)
        return ModelRow(
            name=folder.name, is_served=folder.name in self._services.models, architecture=", ".join(config.get("architectures") or []),
            parameters=size // width if width else None, context_tokens=config.get("max_position_embeddings"), bytes=size,
        )  # fmt: skip

    def _folder(self, name: str) -> RunFolder:
        try:
            folder = RunFolder(self._services.place.folder("runs", name))
        except UsageError as error:
            raise found_or_404(error) from error
        if "\0" in name or not folder.holds_run():
            raise found_or_404(UsageError(f"there is no run {name!r}; see GET /api/v1/runs"))
        return folder


def run_routes(area: RunArea) -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1", tags=["training"], dependencies=[needs("engineer")])

    @router.get("/runs")
    def list_all() -> list[Run]:
        """Every run of the workspace."""
        return area.all()

    @router.get("/runs/{name}")
    def show(name: RunName) -> WholeRun:
        """How a run stands and what it was started with."""
        return area.show(name)

    @router.get("/runs/{name}/metrics")
    def metrics(
        name: RunName, after: Annotated[int, Query(ge=0, le=2**53)] = 0, points: Annotated[int, Query(ge=1, le=MAX_POINTS)] = 400
    ) -> RunMetrics:
        """Loss, speed and energy by step, after a step: ask again with `next_after` to follow a run."""
        return area.metrics(name, after=after, points=points)

    @router.get("/models")
    def models() -> list[ModelRow]:
        """Models of the workspace."""
        return area.models()

    return router


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
