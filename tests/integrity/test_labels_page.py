"""The page of labels says what the code does."""

from __future__ import annotations

from pathlib import Path

from agora.integrity.reference import update_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrity_labels.md"


def test_the_page_lists_every_field_and_setting_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == update_page(text), "run: python -m agora.integrity.reference docs/integrity_labels.md"
