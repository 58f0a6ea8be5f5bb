"""The few constants of the step-time model. Goes in: `data/constants.toml`, or measured steps through `calibrate.py`. Comes out: Constants.

No constant belongs to a row, a model or a source; each has a prior (median and spread of its logarithm) that data may move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agora.cluster.facts import load_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """Each field is explained by its row in `data/constants.toml`."""

    matmul: float
    half_depth: float
    quantisation: float
    rate_8: float
    rate_4: float
    attention: float
    memory: float
    elementwise: float
    fused: float
    launch_s: float
    expert_kernels: float
    up: float
    out: float
    up_step_s: float
    hidden: float
    interference: float
    step_s: float
    micro_batch_s: float
    logits: float
    experts: float
    rank_spread: float
    optimizer: float


NAMES = tuple(field.name for field in fields(Constants))


@lru_cache
def default_constants() -> Constants:
    """The constants that ship with Agora."""
    table = load_tables("constants")["step_time"]
    return Constants(**{name: table.base(name.removesuffix("_s")) for name in NAMES})


@lru_cache
def priors() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log medians and spreads of the priors. A spread of 0 holds a constant fixed."""
    table = load_tables("constants")["step_time"]
    medians, spreads = [], []
    for name in NAMES:
        fact = table.facts[name.removesuffix("_s")]
        prior = float(table.words.get(f"{name.removesuffix('_s')}.prior", fact.value))
        medians.append(np.log(prior * fact.base / fact.value))
        spreads.append(float(table.words[f"{name.removesuffix('_s')}.spread"]))
    return np.array(medians), np.array(spreads)


def from_logs(logs: NDArray[np.float64]) -> Constants:
    """Constants from the logarithms of their values in base units."""
    return Constants(**dict(zip(NAMES, np.exp(logs).tolist(), strict=True)))


def to_logs(constants: Constants) -> NDArray[np.float64]:
    """Logarithms of the constants, in the order of NAMES."""
    return np.log([getattr(constants, name) for name in NAMES])


def as_mapping(constants: Constants) -> Mapping[str, float]:
    """Name to value, for files and tables."""
    return {name: getattr(constants, name) for name in NAMES}
