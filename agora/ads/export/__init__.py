"""Sheets for the ad systems people use: written from tables of columns in data/exports, re-read and checked by our own validator."""

from __future__ import annotations

from agora.ads.export.ad import Ad
from agora.ads.export.sheet import Sheet, sheet_named, sheet_names
from agora.ads.export.validate import Fault, validate
from agora.ads.export.write import export

__all__ = ["Ad", "Fault", "Sheet", "export", "sheet_named", "sheet_names", "validate"]
