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


def test_no_page_breaks_a_rule_of_wcag(axe: str, site: str, people_site: str, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(site, color_scheme="light")
    for path in PAGES:
        if path == "CAMPAIGN":
            path = tab.open("/integrity").locator("a.card").first.get_attribute("href")
        tab.open(path)
        in_both_themes(tab, axe, path)
    assert tab.problems == []
    signing = new_tab(people_site, color_scheme="light")
    signing.open("/sign-in")
    in_both_themes(signing, axe, "/sign-in")


def in_both_themes(tab: Any, axe: str, path: str) -> None:
    """The page that is shown breaks no rule; in the other theme only colours can be different."""
    grounds = []
    for theme, rules in (("light", RULES), ("dark", ["color-contrast"])):
        tab.page.emulate_media(color_scheme=theme)
        tab.page.wait_for_function("!document.querySelector('.q-ripple') && !document.getAnimations().length")
        grounds.append(tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert broken(tab, axe, rules) == [], (theme, path)
    assert grounds[0] != grounds[1], path
