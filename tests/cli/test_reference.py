"""The page of commands says what the program does."""

from __future__ import annotations

from pathlib import Path

from agora.cli.reference import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_the_page_lists_every_command_and_setting_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m agora.cli.reference docs/commands.md"
