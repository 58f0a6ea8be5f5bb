"""Each page's main journey in a real browser. Everything here needs Chromium."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.server.web.conftest import PASSWORD

pytestmark = pytest.mark.slow


def test_a_question_gets_an_answer_with_cited_posts_that_stays(tab: Any) -> None:
    page = tab.open("/ask")
    page.get_by_label("Your question").fill("What do people say about the train?")
    page.evaluate(  # the Enter that ends a word in Japanese sends nothing
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    page.keyboard.press("Enter")
    page.wait_for_url("**/ask/*")
    page.get_by_label("Answer again").wait_for()
    assert page.locator(".me").count() == 1
    answer = page.locator("article .said").first.inner_text()
    assert answer and page.locator("article.post").count() >= 1
    tab.shot("ask")
    page.get_by_label("A good answer").click()
    page.get_by_text("Noted, thank you.").wait_for()
    address = page.url
    page.goto(address)
    tab.settled()
    page.get_by_label("Answer again").wait_for()
    assert page.locator("article .said").first.inner_text() == answer


def test_a_conversation_is_shared_read_only_and_taken_back(tab: Any) -> None:
    page = tab.open("/ask?q=What do people say about coffee?")
    page.get_by_label("Send").click()
    page.get_by_label("Answer again").wait_for()
    page.get_by_label("Share by a link").click()
    address = page.locator("a.mono").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).last.click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == tab.address + address
    page.goto(tab.address + address)
    page.wait_for_selector("main")
    page.get_by_text("What do people say about coffee?").first.wait_for()
    assert page.get_by_label("Your question").count() == 0
    tab.shot("shared")


def test_search_finds_counts_and_narrows(tab: Any) -> None:
    page = tab.open("/search")
    page.get_by_label("Search posts").fill("train")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=train*")
    tab.settled()
    page.get_by_text("posts match").wait_for()
    assert page.locator("article.post").count() >= 3 and page.locator("svg.chart").count() >= 1
    page.get_by_text("Why here").first.click()
    tab.shot("search")
    page.get_by_role("button", name="Latest").click()
    page.wait_for_url("**mode=latest*")
    tab.settled()


def test_a_search_is_kept_and_forgotten(tab: Any) -> None:
    page = tab.open("/search?q=coffee")
    page.get_by_role("button", name="Keep this search").click()
    page.get_by_label("Name").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("button", name="Keep this search").click()
    page.get_by_role("dialog", name="Keep this search").get_by_label("Name").fill("brew")
    page.keyboard.press("Enter")
    page.get_by_label("Forget brew").click()
    page.get_by_label("Forget brew").wait_for(state="detached")


def test_an_analyst_reads_the_evidence_and_gives_a_verdict(tab: Any) -> None:
    page = tab.open("/integrity")
    tab.shot("integrity")
    page.locator("a.card").first.click()
    page.wait_for_url("**/integrity/*")
    tab.settled()
    page.get_by_text("Who shared with whom").wait_for()
    assert page.locator("circle.node").count() > 3
    page.get_by_role("button", name="Give a verdict").click()
    page.get_by_text("coordinated: a person looked and confirms").click()
    page.get_by_label("Why, in plain words").fill("the same words within a minute, again and again")
    tab.shot("verdict")
    page.get_by_role("button", name="Give it").click()
    page.get_by_text("coordinated, by local").wait_for()
    tab.shot("campaign")


def test_runs_show_their_curves(tab: Any) -> None:
    page = tab.open("/training")
    tab.shot("training")
    page.locator("a.card").first.click()
    page.wait_for_url("**/training/main")
    tab.settled()
    page.get_by_role("img", name="Loss by step").wait_for()
    assert page.locator("path.curve").count() >= 3
    tab.shot("run")


def test_a_plan_follows_its_sliders_and_its_address(tab: Any) -> None:
    page = tab.open("/cluster?n=4096")
    page.get_by_text("4,096 accelerators").wait_for()
    page.get_by_text("Kinds side by side").wait_for()
    before = page.locator(".tile .value").first.inner_text()
    for place in (200, 140, 170):  # a press that meets a page which is just being drawn anew is lost
        page.locator("input[type=range]").first.click(position={"x": place, "y": 8})
        until = time.monotonic() + 15
        while (after := page.locator(".tile .value").first.inner_text()) == before and time.monotonic() < until:
            page.wait_for_timeout(100)
        if after != before:
            break
    assert after != before
    page.get_by_text("Kinds side by side").wait_for()
    tab.shot("cluster")
    assert "n=4096" not in page.url
    said = page.locator("input[type=range]").first.get_attribute("aria-valuetext")
    assert said.endswith(" accelerators") and said != "4,096 accelerators"


ODD = ("abc", "", "-1", "1e400", "nan", "9" * 400, "1;2", "\x00", "\ud800".encode("utf-8", "surrogatepass"), "<script>", "../..", "é" * 300)
ASKED = (
    "/ask?q=", "/search?q=", "/search?mode=", "/cluster?n=", "/cluster?tokens=", "/cluster?model=", "/cluster?on=", "/admin?tab=",
    "/training?compare=", "/integrity?x=", "/ads?x=", "/ads/nothing?part=", "/sign-in?next=", "/ask/", "/training/", "/integrity/", "/ads/",
    "/shared/", "/nowhere/",
)  # fmt: skip


@pytest.mark.parametrize("address", ASKED)
def test_whatever_an_address_asks_for_a_page_answers(address: str, site: str) -> None:
    with httpx.Client(base_url=site, follow_redirects=True) as client:
        for odd in ODD:
            answer = client.get(f"{address}{quote(odd, safe='')}")
            assert answer.status_code in (200, 404) and answer.headers["content-type"].startswith("text/html"), (odd, answer.text)


def test_a_wrong_number_in_an_address_is_told_and_the_usual_one_shown(tab: Any) -> None:
    page = tab.open("/cluster?n=abc&tokens=nan")
    page.get_by_text("n='abc' in the address is not a whole number; shown is n=1,024.").wait_for()
    page.get_by_text("tokens='nan' in the address is not a number").wait_for()
    page.get_by_text("1,024 accelerators").wait_for()
    page.get_by_text("Kinds side by side").wait_for()


def test_a_plan_for_a_million_a_ready_question_and_an_unknown_model(tab: Any) -> None:
    page = tab.open("/cluster?model=Llama-3-8B&n=1000000")
    page.get_by_text("Kinds side by side").wait_for()
    assert page.get_by_text("as no layout that fits divides the usual").count() == 1
    page = tab.open("/cluster?model=grok-314b")
    page.get_by_text("8,192 accelerators").wait_for()
    page.get_by_text("Kinds side by side").wait_for()
    assert page.get_by_text("in the address").count() == 0
    page = tab.open("/cluster?model=nothing")
    page.get_by_text("model='nothing' in the address is not known; shown is model=Llama-3-70B.").wait_for()


def test_dark_and_light_turn_to_the_other_of_what_is_seen_and_stay(people_site: str, new_tab: Callable[..., Any]) -> None:
    """By somebody: what an account chose stays."""
    tab = new_tab(people_site, color_scheme="dark")
    page = tab.page
    page.goto(f"{people_site}/training")
    tab.sign_in("root", PASSWORD)
    page.wait_for_url("**/training")
    tab.settled()
    is_dark = "document.body.classList.contains('body--dark')"
    assert page.evaluate(is_dark)
    page.get_by_label("Dark or light").click()
    assert not page.evaluate(is_dark)  # without waiting: the browser does it
    page.get_by_role("link", name="Ads").click()
    tab.settled()
    assert not page.evaluate(is_dark)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(251, 250, 248)"  # the browser asks for dark, and was told otherwise
    other = new_tab(people_site, color_scheme="dark")  # another browser of the same account
    other.open("/sign-in")
    assert other.page.evaluate(ground) == "rgb(20, 22, 26)"
    tab.sign_in("root", PASSWORD)
    page.wait_for_url("**/ask")
    tab.settled()
    page.get_by_label("Dark or light").click()
    page.wait_for_function(is_dark)
    assert [one for one in tab.problems if "404" not in one] == []


def test_the_first_frame_of_every_page_has_the_chosen_theme_and_the_cookie_is_never_shown(site: str) -> None:
    for path in ("/ask", "/cluster", "/sign-in", "/shared/nothing", "/nowhere"):
        for cookie, sign in (("dark", '<html data-theme="dark"'), ("light", '<html data-theme="light"'), ('"><script>', "<html")):
            answer = httpx.get(f"{site}{path}", headers={"cookie": f"agora_theme={cookie}"})
            assert sign in answer.text and "><script>" not in answer.text.partition("<head")[0], (path, cookie)


def test_pages_that_are_left_at_once_leave_no_traceback(servers: dict[str, Any], chromium: Any) -> None:
    context = chromium.new_context()
    page = context.new_page()
    for path in ("/ask", "/search?q=train", "/integrity", "/ads", "/ads/new", "/training", "/cluster", "/admin"):
        page.goto(f"{servers['open'].address}{path}", wait_until="commit")
        page.wait_for_timeout(150)
    context.close()
    time.sleep(1.3)  # so long the server waits for what it asked a browser
    assert "Traceback" not in servers["open"].log.read_text()


def test_an_admin_makes_and_revokes_a_key_and_reads_the_audit_log(tab: Any) -> None:
    page = tab.open("/admin")
    page.get_by_role("button", name="New key").first.click()
    assert page.locator(".sheet code").inner_text().startswith("agora_")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Revoke").first.click()
    page.get_by_text("revoked").first.wait_for()
    tab.shot("admin")
    tab.open("/admin?tab=audit")
    page.get_by_text("keys.revoke").first.wait_for()
    for name in ("usage", "sources", "deletions"):
        tab.open(f"/admin?tab={name}")
        tab.shot(f"admin_{name}")


@pytest.mark.parametrize("path", ["/ask", "/search?q=train", "/integrity", "/ads", "/ads/new", "/training/main", "/cluster", "/admin"])
def test_pages_fit_a_phone_and_the_keyboard_reaches_what_is_on_them(path: str, site: str, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(site, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = tab.open(path)
    tab.shot(f"phone_{path.strip('/').split('?')[0].replace('/', '_')}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.tagName + (document.activeElement.innerText || document.activeElement.ariaLabel)")
        )
    assert len(set(reached)) >= 4 and tab.problems == []


def test_the_menu_of_a_phone_is_entered_and_left_by_keyboard(site: str, new_tab: Callable[..., Any]) -> None:
    page = new_tab(site, viewport={"width": 390, "height": 844}).open("/cluster")
    focused = "document.activeElement.ariaLabel || document.activeElement.innerText"
    page.get_by_label("Menu").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"({focused}).endsWith('Ask')")
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('.q-layout--prevent-focus')")
    assert page.evaluate(focused) == "Menu"


def test_hostile_posts_and_names_are_text_everywhere(tab: Any) -> None:
    page = tab.open("/search?q=teapot&mode=latest")
    page.get_by_text("posts match").wait_for()
    assert page.get_by_text("<script>window.broken=1</script>").count() >= 1
    for button in page.get_by_text("Why here").all()[:4]:
        button.click()
    tab.shot("hostile")
    tab.open("/ask?q=What is said about the teapot?")
    page.get_by_label("Send").click()
    page.get_by_label("Answer again").wait_for()
    tab.open("/search?q=<img src=x onerror=window.broken=1>")
    tab.open("/admin?tab=sources")
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main iframe, main script, article a[href]").count() == 0


def test_with_accounts_pages_need_a_sign_in_and_show_what_the_scopes_allow(people_site: str, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(people_site, color_scheme="dark")
    page = tab.page
    page.goto(f"{people_site}/search?q=train")
    page.wait_for_url("**/sign-in?next=*")
    tab.sign_in("ada", "wrong password")
    page.get_by_text("The name or the password is wrong.").wait_for()
    tab.shot("sign_in")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 22, 26)"  # dark, as the browser asks
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=train")
    tab.settled()
    assert page.get_by_role("link", name="Admin").count() == 0
    for path in ("/admin", "/ads/new"):
        tab.open(path)
        page.get_by_text("This page is not for your account").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(f"{people_site}/ask")
    page.wait_for_url("**/sign-in?next=*")


def test_a_workspace_without_index_and_scan_names_the_commands(people_site: str, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(people_site)
    page = tab.page
    page.goto(f"{people_site}/search")
    tab.sign_in("root", PASSWORD)
    page.wait_for_url("**/search")
    page.get_by_text("agora posts import").first.wait_for()
    tab.shot("empty_search")
    tab.open("/integrity")
    page.get_by_text("agora integrity scan").wait_for()
    tab.open("/ask")
    page.get_by_text("agora posts import").first.wait_for()
    assert [one for one in tab.problems if "404" not in one] == []


def test_a_question_is_asked_once_edited_answered_again_and_left_by_the_back_button(tab: Any) -> None:
    def talk() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{tab.address}/api/v1/conversations/{page.url.rsplit('/', 1)[1]}").json()["messages"]
        return found

    def answered() -> None:
        page.wait_for_function("!document.querySelector('[aria-busy=true]')")
        page.get_by_label("Send").wait_for()

    before = len(httpx.get(f"{tab.address}/api/v1/conversations").json())
    page = tab.open("/ask")
    page.get_by_label("Your question").fill("What do people say about the train?")
    for _ in range(3):
        page.keyboard.press("Enter")
    page.wait_for_url("**/ask/*")
    page.get_by_label("Answer again").wait_for()
    assert len(httpx.get(f"{tab.address}/api/v1/conversations").json()) == before + 1 and len(talk()) == 2
    assert page.get_by_text("Explain this post").count() >= 1
    page.get_by_label("Ask it otherwise").click()
    page.get_by_text("will be replaced").wait_for()
    page.get_by_label("Answer again").click()  # leaves the edit; nothing is lost
    page.get_by_text("will be replaced").wait_for(state="hidden")
    answered()
    assert talk()[0]["content"] == "What do people say about the train?" and len(talk()) == 2
    page.get_by_label("Write it better").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_label("The better answer").wait_for(state="detached")
    page.go_back()
    page.get_by_role("heading", name="Ask", exact=True).wait_for()
    page.go_forward()
    page.get_by_role("heading", name="What do people say about the train?").wait_for()


def test_an_address_without_a_page_says_so_without_an_exception(site: str) -> None:
    answer = httpx.get(f"{site}/nothing/here")
    assert answer.status_code == 404 and "There is no page under this address" in answer.text and "HTTPException" not in answer.text


def test_what_a_form_cannot_hold_is_told(tab: Any) -> None:
    page = tab.open("/admin?tab=deletions")
    page.get_by_label("One id or account a line").fill("x" * 1_500)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("at most 1000 characters").wait_for()
