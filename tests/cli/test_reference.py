"""The page of commands says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from agora.cli.reference import page

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "commands.md"


def test_the_page_lists_every_command_and_setting_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m agora.cli.reference docs/commands.md"


def test_the_page_names_every_variable_of_the_environment() -> None:
    read = {name for path in REPOSITORY.glob("agora/**/*.py") for name in re.findall(r"AGORA_[A-Z_]+", path.read_text(encoding="utf-8"))}
    assert read and not {name for name in read if f"`{name}`" not in PAGE.read_text(encoding="utf-8")}


def test_no_meaning_of_a_setting_is_cut_off() -> None:
    assert "roll_back to the last checkpoint and skip the batches since |" in PAGE.read_text(encoding="utf-8")
