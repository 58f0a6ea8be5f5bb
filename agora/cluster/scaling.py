"""What size of model and how many tokens a budget of compute is best spent on. Goes in: FLOPs. Comes out: sizes by several published fits.

The fits disagree; their spread is the uncertainty that is shown. All are for dense decoders on web text of their time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agora.cluster.facts import Fact, load_tables


@dataclass(frozen=True, slots=True)
class Optimum:
    """One fit's answer. `loss` is in nats per token of that fit's text, None where the fit gives none."""

    fit: str
    parameters: float
    tokens: float
    loss: float | None


def optima(flops: float) -> list[Optimum]:
    """Compute-optimal sizes by every fit of `data/scaling.toml`.

    Loss fits: L = E + A / N^alpha + B / D^beta with C = 6 N D (Hoffmann et al. 2022, equation 4):
    N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1 / (alpha + beta)). Power fits: D = k C^p.
    """
    found = []
    for name, table in load_tables("scaling").items():
        facts = table.facts
        found.append(_by_loss(name, facts, flops) if "alpha" in facts else _by_power(name, facts, flops))
    return found


def _by_loss(name: str, facts: Mapping[str, Fact], flops: float) -> Optimum:
    e, a, b, alpha, beta = (facts[key].value for key in ("e", "a", "b", "alpha", "beta"))
    scale = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    parameters = scale * (flops / 6) ** (beta / (alpha + beta))
    tokens = flops / 6 / parameters
    return Optimum(name, parameters, tokens, e + a / parameters**alpha + b / tokens**beta)


def _by_power(name: str, facts: Mapping[str, Fact], flops: float) -> Optimum:
    tokens = facts["factor"].value * flops ** facts["exponent"].value
    return Optimum(name, flops / 6 / tokens, tokens, None)


def loss_of(fit: str, parameters: float, tokens: float) -> float | None:
    """Loss of a size by a loss fit; None for a power fit."""
    facts = load_tables("scaling")[fit].facts
    if "alpha" not in facts:
        return None
    value = {key: facts[key].value for key in ("e", "a", "b", "alpha", "beta")}
    return float(value["e"] + value["a"] / parameters ** value["alpha"] + value["b"] / tokens ** value["beta"])
