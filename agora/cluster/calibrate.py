"""Fits the constants of the step-time model to measured steps."""
from __future__ import annotations
