"""Plans of training machines: what `agora cluster` says, as JSON.

GET  /api/v1/plans/known        POST /api/v1/plans, /plans/compare, /plans/what-if
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from agora.cluster.describe import plan_table, short_row
from agora.cluster.explain import assumptions
from agora.cluster.facts import load_tables
from agora.cluster.models import model_names
from agora.cluster.plan import MAX_ACCELERATORS, PlanRequest, plan
from agora.cluster.questions import QUESTIONS
from agora.cluster.requests import request_from_words
from agora.cluster.studies import Option, compare, pareto, what_ifs
from agora.errors import ConfigError
from agora.server.access import needs
from agora.server.api.forms import Body, finite

MAX_OPTIONS = 64
Known = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.\- ]+$")]
Count = Annotated[int, Field(ge=1, le=MAX_ACCELERATORS)]
Share = Annotated[float, Field(gt=0, le=1)]


class PlanBody(Body):
    """What is asked, as in `agora cluster plan`; what is left out is as in `question`, or the planner's default."""

    question: Known | None = None
    model: Known | None = None
    accelerator: Known | None = None
    num_accelerators: Count | None = None
    network: Known | None = None
    tokens: Annotated[float, Field(gt=0, le=1e18)] | None = None
    seq_len: Annotated[int, Field(ge=128, le=1_048_576)] | None = None
    batch_tokens: Annotated[float, Field(gt=0, le=1e10)] | None = None
    precision: Literal["bf16", "fp8"] | None = None
    kernels: Literal["plain", "fused"] | None = None
    power_cap: Share | None = None
    network_share: Share | None = None
    memory_share: Share | None = None
    pue: Annotated[float, Field(ge=1, le=5)] | None = None
    usd_per_kwh: Annotated[float, Field(ge=0, le=100)] | None = None
    kg_per_kwh: Annotated[float, Field(ge=0, le=100)] | None = None


class CompareBody(PlanBody):
    """The same run on each accelerator, in each number."""

    on: list[Known] = Field(default_factory=list, max_length=20)
    numbers: list[Count] = Field(default_factory=list, max_length=20)


class Planned(BaseModel):
    """`plan` as `agora cluster plan --json` gives it; `assumptions` names what stands behind each number."""

    plan: dict[str, Any]
    assumptions: dict[str, list[str]]


class OptionRow(BaseModel):
    """`row` is none where the option is impossible; `reason` then says why. `is_unbeaten` in time, cost and energy together."""

    label: str
    row: dict[str, Any] | None
    reason: str | None
    is_unbeaten: bool


class KnownThings(BaseModel):
    accelerators: dict[str, str]
    networks: dict[str, str]
    models: list[str]
    questions: dict[str, str]


def make_plan(body: PlanBody) -> Planned:
    """A plan. Raises ConfigError for what cannot be."""
    made = plan(_request(body))
    return Planned(plan=finite(plan_table(made)), assumptions={name: list(lines) for name, lines in assumptions(made).items()})


def make_comparison(body: CompareBody) -> list[OptionRow]:
    """Options side by side. Raises ConfigError for unknown accelerators or too many options."""
    if max(1, len(body.on)) * max(1, len(body.numbers)) > MAX_OPTIONS:
        raise ConfigError(f"{len(body.on)} accelerators x {len(body.numbers)} numbers are more than {MAX_OPTIONS} options")
    return _rows(compare(_request(body), accelerators=body.on, numbers=body.numbers))


def make_what_ifs(body: PlanBody) -> list[OptionRow]:
    """The usual questions about one run."""
    return _rows(what_ifs(_request(body)))


def known_things() -> KnownThings:
    """What plans can name."""
    return KnownThings(
        accelerators={name: str(table.words["label"]) for name, table in load_tables("accelerators").items()},
        networks={name: str(table.words["label"]) for name, table in load_tables("networks").items()},
        models=model_names(),
        questions={name: (make.__doc__ or "").strip() for name, make in QUESTIONS.items()},
    )


def plan_routes() -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1/plans", tags=["cluster"], dependencies=[needs("engineer")])

    @router.get("/known")
    def known() -> KnownThings:
        """Accelerators, networks, models and ready questions that a plan can name."""
        return known_things()

    @router.post("")
    def make(body: PlanBody) -> Planned:
        """The fastest layout that fits: time, memory, failures, power, money, carbon."""
        return make_plan(body)

    @router.post("/compare")
    def side_by_side(body: CompareBody) -> list[OptionRow]:
        """The same run on other accelerators and numbers."""
        return make_comparison(body)

    @router.post("/what-if")
    def what_if(body: PlanBody) -> list[OptionRow]:
        """Twice the machine, half of it, a power cap, a thin network, longer sequences, 8-bit products."""
        return make_what_ifs(body)

    return router


def _request(body: PlanBody) -> PlanRequest:
    given = body.model_dump(exclude_none=True, exclude={"question", "model", "on", "numbers"})
    words = [*([body.model] if body.model else []), *(f"{name}={value}" for name, value in given.items())]
    return request_from_words(words, question=body.question)


def _rows(found: Sequence[Option]) -> list[OptionRow]:
    best = {option.label for option in pareto(found)}
    return [
        OptionRow(
            label=option.label, row=finite(short_row(option.plan)) if option.plan else None, reason=option.reason,
            is_unbeaten=option.label in best,
        )
        for option in found
    ]  # fmt: skip
