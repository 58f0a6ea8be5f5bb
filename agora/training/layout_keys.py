"""Keys of a Layout that training does not read, because another setting says the same. Goes in: what was asked for. Comes out: a refusal
that names the setting which decides, so that each thing is said in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.training.config import TrainingConfig

PLANNED: Final = {
    "micro_batch": "training.micro_batch decides",
    "precision": "training.float8 decides, and training.dtype between 16 and 32 bits",
    "kernels": "training.compile decides",
    "attention": "attention is always fused",
    "overlap": "communication always overlaps",
}


def refuse_planned_keys(settings: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError when `settings`, dotted or nested, name such a key. `where` is their origin."""
    table = settings.get("layout")
    dotted = {key.removeprefix("layout.") for key in settings if key.startswith("layout.")}
    for name in sorted((dotted | set(table if isinstance(table, Mapping) else ())) & PLANNED.keys()):
        raise ConfigError(f"{where}: layout.{name} prices a plan (agora cluster plan); in training {PLANNED[name]}")


def refuse_planned(layout: Layout, training: TrainingConfig) -> None:
    """Raises ConfigError for a layout that says something else than the setting which decides it."""
    if layout.micro_batch not in (1, training.micro_batch):
        raise ConfigError(
            f"layout.micro_batch={layout.micro_batch} and training.micro_batch={training.micro_batch} contradict each other; "
            f"{PLANNED['micro_batch']}, so leave layout.micro_batch out"
        )
    if layout.precision != "bf16" and training.float8 == "off":
        raise ConfigError(
            f"layout.precision={layout.precision} prices a plan; in training {PLANNED['precision']}: try training.float8=rowwise"
        )
