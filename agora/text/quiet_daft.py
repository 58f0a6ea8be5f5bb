"""Daft without telemetry: it reads this setting when it is imported, so the corpus imports it from here."""

from __future__ import annotations

import os

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft

__all__ = ["daft"]
