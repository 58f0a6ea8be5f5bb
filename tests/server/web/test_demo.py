"""From the last lines of `make demo` to a cited answer: no step that is not on screen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agora.settings import Workspace

pytestmark = pytest.mark.slow


LAST_STEP = "from runs import demo; print(demo.closing_words(demo.start_server(demo.Workspace(demo.FOLDER / 'square'))))"


@pytest.fixture
def last_lines(square: Workspace, tiny_workspace: Path, tmp_path: Path) -> Iterator[str]:
    """What the demo prints at its end, over a square with the two models that it makes (here untrained). Its server runs."""
    place = Workspace(tmp_path / "demo" / "square")
    shutil.copytree(square.root, place.root, ignore=shutil.ignore_patterns("server", "ads"))
    for name in ("chat", "main"):
        shutil.copytree(tiny_workspace / "models" / "tiny", place.folder("models") / name)

    def ran(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
        return subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    yield ran("-c", LAST_STEP)
    ran("-m", "runs.demo", "--stop")


def test_the_demos_last_lines_lead_to_a_cited_answer(last_lines: str, new_tab: Callable[..., Any]) -> None:
    address = re.search(r"Open (http://\S+) in a browser and press one of the questions", last_lines)
    assert address is not None
    tab = new_tab(address[1])
    page = tab.page
    page.goto(address[1])
    question = page.locator("main button", has_text="What do people think of").first
    asked = question.inner_text()
    tab.shot("demo_start")
    question.click()
    page.get_by_label("Answer again").wait_for(timeout=120_000)
    answer = page.locator("article .said").first.inner_text()
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", answer)}
    assert cited and page.locator("article.post").count() >= len(cited)
    word = asked.split()[-1].rstrip("?")
    assert word in page.locator("article.post").all_inner_texts()[0].lower()
    assert "/sign-in" not in page.url and tab.problems == []
    tab.shot("demo_answer")
    tab.close()
