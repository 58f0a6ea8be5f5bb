"""The page about the corpus says what the code does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agora.corpus.reference import update_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "corpus.md"


def test_the_page_lists_every_filter_and_setting_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == update_page(page), "run: python -m agora.corpus.reference docs/corpus.md"


def test_daft_is_told_not_to_phone_home_before_it_is_imported() -> None:
    program = "import agora.corpus.build, daft.scarf_telemetry as telemetry; print(telemetry.opted_out())"
    environment = {name: value for name, value in os.environ.items() if name not in ("DAFT_ANALYTICS_ENABLED", "DO_NOT_TRACK")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "True"
