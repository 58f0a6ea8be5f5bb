"""The laptop's model with experts: about as many operations per token, more than twice the parameters. For 2 processor cores."""

from __future__ import annotations

from dataclasses import replace

from recipes import Recipe
from recipes.laptop import laptop


def laptop_experts() -> Recipe:
    """24.7M parameters, of which a token passes 10.5M: 8 experts, half as wide as the laptop's block, 2 of them for each token.
    Nobody has measured here whether it learns more than the laptop's model in the same time."""
    base = laptop()
    return replace(
        base,
        name="laptop_experts",
        purpose="the laptop's model with 8 experts, 2 for each token, on 2 cores",
        model=replace(base.model, num_experts=8, experts_per_token=2, expert_dim=384),
    )
