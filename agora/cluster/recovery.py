"""How a job comes back from failures, and what that leaves of the calendar. Goes in: an accelerator, a model, numbers of ranks. Comes out:
a Recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agora.cluster.facts import Table, load_tables
from agora.cluster.failures import FailureModel, best_interval_s, elastic_goodput, failure_model, goodput
from agora.cluster.wafer import interruptions_of_wafer_s, is_wafer
from agora.model.counts import num_parameters
from agora.model.shape import ModelShape

RecoveryKind = Literal["best", "restart", "replica"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """Failures of a job and both ways on from them. `elastic_goodput` is 0 with one replica, which cannot be lost alone, and of wafers."""

    failures: FailureModel
    checkpoint_interval_s: float
    goodput: float
    elastic_goodput: float
    is_elastic: bool

    @property
    def useful_share(self) -> float:
        """Share of the calendar that becomes progress."""
        return self.elastic_goodput if self.is_elastic else self.goodput


def recovery_of(chip: Table, shape: ModelShape, num_accelerators: int, replicate: int, recovery: RecoveryKind) -> Recovery:
    """What failures cost a job of so many replicas, each of which writes the whole checkpoint in parts. The store beside wafers is taken to
    write as fast as so many accelerators."""
    per_replica = num_accelerators // replicate
    failures = failure_model(
        num_accelerators=num_accelerators,
        checkpoint_bytes=load_tables("memory")["state"].base("checkpoint") * num_parameters(shape).total,
        accelerators_per_node=int(chip.base("per_node")), num_writers=num_accelerators if is_wafer(chip) else per_replica,
        rate_per_accelerator_s=interruptions_of_wafer_s() if is_wafer(chip) else None,
    )  # fmt: skip
    between = best_interval_s(failures)
    synchronous = float(goodput(failures, between))
    restart = load_tables("failures")["restart"]
    times = (restart.base(name) for name in ("rejoin", "regroup", "detect"))
    elastic = float(elastic_goodput(failures, per_replica, *times)) if replicate > 1 and not is_wafer(chip) else 0.0
    is_elastic = elastic > synchronous if recovery == "best" else recovery == "replica" and replicate > 1
    return Recovery(
        failures=failures, checkpoint_interval_s=between, goodput=synchronous, elastic_goodput=elastic, is_elastic=is_elastic
    )  # fmt: skip
