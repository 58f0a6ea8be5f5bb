"""The guide names every signal, setting, state and explanation, and only explanations that exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from agora.integrity.config import IntegrityConfig
from agora.integrity.records import STATES
from agora.integrity.rulings import VERDICT_STATES
from agora.integrity.signals import signals

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = (ROOT / "docs" / "integrity.md").read_text(encoding="utf-8")
NAMED = [signal.id for signal in signals(meaning=True)] + [one.name for one in fields(IntegrityConfig)] + list(STATES)


@pytest.mark.parametrize("name", NAMED)
def test_the_guide_has_a_row_for_each_signal_setting_and_state(name: str) -> None:
    assert f"| `{name}` |" in GUIDE


@pytest.mark.parametrize("name", VERDICT_STATES)
def test_the_guide_names_each_verdict(name: str) -> None:
    assert f"`{name}`" in GUIDE


def test_the_guide_has_a_row_for_each_explanation() -> None:
    source = (ROOT / "agora" / "integrity" / "explain.py").read_text(encoding="utf-8")
    names = set(re.findall(r'name(?: = |=)"([^"]+)"', source))
    table = GUIDE.split("| explanation | holds when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)) == names


def test_links_of_the_guide_lead_somewhere() -> None:
    for name in ("integrity.md", "decisions/0004-coordination-tests.md"):
        page = ROOT / "docs" / name
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{name}: {target}"
