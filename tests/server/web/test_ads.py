"""From a brief to ads in a real browser: upload, texts and pictures, a release, sheets, results."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow
BRIEF = """product = "Garden flat in Osk"
short_name = "Garden flat"
landing_page = "https://osk.example/flat"
special_category = "housing"
facts = ["two rooms of 48 m2", "ten minutes from the station", "quiet <script>window.broken=1</script> yard"]
placements = ["mobile-banner", "medium-rectangle"]
[brand]
name = "Osk"
colours = ["#123456"]
"""
RESULTS = "Ad name,Ad set name,Impressions,Link clicks\nfirst,readers,5000,40\n<b>second</b>,readers,5000,90\n"


def given(page: Any, number: int, name: str, content: str) -> None:
    """Choose a file in the page's n-th field for files."""
    page.locator("input[type=file]").nth(number).set_input_files({"name": name, "mimeType": "text/plain", "buffer": content.encode()})


def test_an_uploaded_brief_becomes_ads_that_a_person_releases(tab: Any) -> None:
    pytest.importorskip("skia")
    page = tab.open("/ads")
    page.get_by_role("button", name="New ads").click()
    page.wait_for_url("**/ads/new")
    tab.settled()
    page.get_by_role("button", name="Upload a file").click()
    given(page, 0, "brief.toml", BRIEF)
    page.get_by_text("brief.toml:5").first.wait_for()  # each fact with its line
    page.get_by_label("Variants for each audience").fill("1")
    tab.shot("ads_brief")
    page.get_by_role("button", name="Make the ads").click()
    page.wait_for_url("**/ads/garden-flat-in-osk-*")
    page.locator("figure img").first.wait_for(timeout=120_000)
    page.get_by_text("held", exact=True).first.wait_for()
    tab.shot("ads_pictures")
    page.wait_for_function("[...document.querySelectorAll('figure img')].every(one => one.complete && one.naturalWidth)")
    shown = page.evaluate("[...document.querySelectorAll('figure img')].map(one => [one.complete && one.naturalWidth, one.alt.length > 9])")
    assert [width for width, _ in shown] == [320, 300] and all(named for _, named in shown)
    page.get_by_role("link", name="Texts").click()
    page.get_by_text("google headline").first.wait_for()
    tab.shot("ads_texts")
    page.get_by_role("link", name="Export").click()
    page.get_by_text("None of these ads may run yet").first.wait_for()
    page.get_by_role("link", name="Policy").click()
    page.get_by_role("button", name="See all texts and release").click()
    page.get_by_text("Let these texts run?").wait_for()
    tab.shot("ads_release")
    page.get_by_role("button", name="I have seen them: release").click()
    page.get_by_text("Released by local").wait_for()
    tab.shot("ads_policy")
    page.get_by_role("link", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="meta.csv").click()
    assert download.value.suggested_filename.endswith(".meta.csv")
    page.get_by_label("Public address of the folder").fill("https://cdn.example/ads")
    page.keyboard.press("Enter")
    page.get_by_text("pictures of the size square, which these ads lack").wait_for()
    tab.shot("ads_export")
    page.get_by_role("link", name="Results").click()
    page.get_by_role("button", name="Choose results").wait_for()
    given(page, 0, "results.csv", RESULTS)
    page.get_by_text("keep <b>second</b>").wait_for()
    tab.shot("ads_results")
    assert page.evaluate("window.broken") is None


def test_the_form_begins_with_an_example_and_says_what_is_missing(tab: Any) -> None:
    page = tab.open("/ads/new")
    page.get_by_role("button", name="See how the brief is understood").click()
    page.get_by_text("made in a small workshop in Norway").last.wait_for()
    assert page.get_by_text("brief.json:").count() >= 4
    page.get_by_label("Product", exact=True).fill("")
    page.get_by_role("button", name="Make the ads").click()
    page.get_by_text("Brief product is empty.").first.wait_for()
    page.get_by_label("Product", exact=True).fill("Lamp")
    page.get_by_role("button", name="People like a list").click()
    page.get_by_label("Accounts, one a line").fill("# nobody yet")
    page.get_by_role("button", name="Make the ads").click()
    page.get_by_text("The list of accounts is empty.").first.wait_for()
    assert page.url.endswith("/ads/new")


def test_audiences_stand_beside_the_rules_that_hide_others(tab: Any) -> None:
    page = tab.open("/ads")
    page.get_by_text("What is never shown").wait_for()
    page.get_by_role("button", name="Look again").wait_for(timeout=120_000)
    assert page.get_by_text("withheld because of").count() or page.get_by_text("people", exact=False).count()
    tab.shot("ads")
