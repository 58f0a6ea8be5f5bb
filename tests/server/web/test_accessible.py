"""Every page against axe-core's rules for WCAG 2.2 A and AA, in both themes: names, roles, contrast, headings, landmarks."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

pytestmark = pytest.mark.slow
PAGES = (
    "/ask", "/search?q=train", "/integrity", "CAMPAIGN", "/ads", "/ads/new", "/training", "/training/main", "/cluster", "/admin",
    "/admin?tab=usage", "/admin?tab=sources", "/admin?tab=deletions", "/admin?tab=audit",
)  # fmt: skip
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def axe() -> str:
    pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python")
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def broken(tab: Any, axe: str, rules: list[str]) -> list[tuple[str, str, str]]:
    """What axe has against the page that is shown: rule, element, why."""
    tab.page.evaluate(f"{axe};0")
    found = tab.page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
    return [(one["id"], node["html"][:200], node["failureSummary"]) for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_breaks_a_rule_of_wcag(theme: str, axe: str, site: str, people_site: str, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(site, color_scheme=theme)
    for path in PAGES:
        if path == "CAMPAIGN":
            path = tab.open("/integrity").locator("a.card").first.get_attribute("href")
        tab.open(path)
        tab.page.wait_for_function("!document.querySelector('.q-ripple')")
        # What is no colour is the same in both themes.
        assert broken(tab, axe, RULES if theme == "light" else ["color-contrast"]) == [], (theme, path)
    assert tab.problems == []
    signing = new_tab(people_site, color_scheme=theme)
    signing.open("/sign-in")
    assert broken(signing, axe, RULES) == []
