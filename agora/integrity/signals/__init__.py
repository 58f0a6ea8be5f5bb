"""Signals: one file each, which declares what two accounts can have in common. Adding a signal is adding a file here.

A file holds `SIGNAL = Signal(...)`; the order in which signals run is that of their ids.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from agora.integrity.signals.declaration import Signal

__all__ = ["Signal", "signals"]


def signals(*, meaning: bool = False) -> tuple[Signal, ...]:
    """Every signal of this folder, by id; optional ones only with `meaning`."""
    return tuple(signal for signal in _all() if meaning or not signal.optional)


@cache
def _all() -> tuple[Signal, ...]:
    """Two files with one id are a defect."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "declaration"]
    found = [importlib.import_module(f"{__name__}.{name}").SIGNAL for name in sorted(names)]
    assert len({signal.id for signal in found}) == len(found), "two signals with one id"
    return tuple(sorted(found, key=lambda signal: signal.id))
