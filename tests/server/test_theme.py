"""The pages' colours and where a sign-in leads: what needs no browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agora.server
from agora.server.web.mount import STYLES, policy
from agora.server.web.sign_in import local

PAIRS = [
    ("ink", "paper"), ("ink", "card"), ("ink", "tint"), ("soft", "paper"), ("soft", "card"), ("soft", "tint"), ("accent", "paper"),
    ("accent", "card"), ("accent", "accent-tint"), ("on-accent", "accent"), ("warn", "warn-tint"), ("bad", "bad-tint"), ("bad", "paper"),
    ("good", "good-tint"), ("soft", "paper"), ("ink", "accent-tint"),
]  # fmt: skip


def colours(is_dark: bool) -> dict[str, str]:
    """Names and colours of a theme; both stand in light-dark(light, dark)."""
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLES.read_text(encoding="utf-8"))
    assert len(found) >= 15
    return {name: dark if is_dark else light for name, light, dark in found}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_and_edges_of_fields_have_the_contrast_that_wcag_aa_asks_for(is_dark: bool) -> None:
    known = colours(is_dark)
    for text, ground in PAIRS:
        assert contrast(known[text], known[ground]) >= 4.5, (is_dark, text, ground)
    for ground in ("paper", "card"):
        assert contrast(known["edge"], known[ground]) >= 3, (is_dark, ground)


def test_nothing_of_a_page_comes_from_elsewhere_and_no_inline_script_runs() -> None:
    said = policy("n")
    assert "http" not in said and "'nonce-n'" in said
    script = next(part for part in said.split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in script and "*" not in said
    assert "http" not in STYLES.read_text(encoding="utf-8")


def test_pages_make_no_html_of_values() -> None:
    for path in (Path(agora.server.__file__).parent / "web").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        for word in ("ui.html", "ui.markdown", "innerHTML", "v-html", "ui.chat_message", "add_slot"):
            assert word not in source, (path.name, word)


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "ask", "/a\nb"]
)
def test_a_sign_in_leads_to_no_other_site(address: str) -> None:
    assert local(address) == "/ask"
    assert local("/search?q=a%20b") == "/search?q=a%20b"
