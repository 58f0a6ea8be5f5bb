"""The report: what it shows is true to the records, safe to open, and small enough to open."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agora.integrity.report import Decision, write_report
from agora.integrity.report.drawings import closeness, network, timeline
from agora.integrity.report.markup import chance, escaped, joined, moment, percent, span, tag
from agora.integrity.report.sentences import linked
from tests.integrity.made_up import MadeUpResult, made_up_campaign, made_up_result

VOID = {"br", "circle", "input", "line", "link", "meta", "path"}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' & </details> <!--title--> \x00\x1b\u202etxt\ud800 ${x} {y}"


class Page(HTMLParser):
    """Elements of a page; complains about what is not closed or not opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.attributes: Counter[str] = Counter()
        self.counts: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._count = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags[name] += 1
        self.attributes.update(list(found))
        if name not in VOID:
            self.open.append(name)
        self.ids += [str(found["id"])] if "id" in found else []
        self.targets += [str(found[key]) for key in ("href", "src") if key in found]
        self._count = str(found["href"]) if found.get("class") == "count" else ""

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        assert name in VOID, f"{name} closes itself"
        self.handle_starttag(name, attrs)

    def handle_endtag(self, name: str) -> None:
        assert self.open and self.open[-1] == name, f"</{name}> inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self._count:
            self.counts.append((data, self._count))
            self._count = ""
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


def page_of(result: MadeUpResult, folder: Path, **options: object) -> Page:
    write_report(result, folder / "report.html", **options)  # type: ignore[arg-type]
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(made_up_result(), tmp_path_factory.mktemp("report"))


def test_page_is_well_formed_and_every_link_leads_somewhere_in_it(usual: Page) -> None:
    assert len(usual.ids) == len(set(usual.ids))
    inside = {target for target in usual.targets if target.startswith("#")}
    assert {target[1:] for target in inside} <= set(usual.ids)
    assert usual.tags["title"] >= 1 and usual.tags["h1"] == 1


def test_every_number_of_the_sentences_is_a_link_to_what_it_counts(usual: Page) -> None:
    campaigns = made_up_result().campaigns
    wanted = Counter(number for one in campaigns for sentence in one.sentences for number in re.findall(r"\d[\d,.-]*\d|\d", sentence))
    linked_numbers = Counter(number for text, _ in usual.counts for number in re.findall(r"\d[\d,.-]*\d|\d", text))
    assert wanted <= linked_numbers
    assert all(target[1:] in usual.ids for _, target in usual.counts)


@pytest.mark.parametrize(
    ("sentence", "links"),
    [
        ("14 accounts shared 37 links and 2 texts.", ["members", "link", "near_text"]),
        ("Between 2026-03-02 and 2026-03-11.", ["timeline", "timeline"]),
        ("On 12 occasions 412 pairs acted within 1 min, where 3.2 would be expected.", ["tests", "tests", "tests", "tests"]),
        ("12 pictures, 4 posts they passed on.", ["artefacts", "artefacts"]),
        ("user42 and @7up and c-12ab took part", []),
        ("62% of 1,204 actions; 1 of 14 members", ["artefacts", "artefacts", "members", "members"]),
    ],
)
def test_a_number_links_to_the_list_that_the_next_words_name(sentence: str, links: list[str]) -> None:
    found = re.findall(r'href="#c9-(\w+)"', linked(sentence, "c9", {"link", "near_text"}))
    assert found == links


def test_nothing_that_strangers_wrote_becomes_markup(usual: Page, tmp_path: Path) -> None:
    plain = made_up_result().campaigns[0]
    evil = replace(
        plain, id=EVIL, sentences=(EVIL, EVIL), members=tuple(replace(one, account=EVIL + one.account) for one in plain.members),
        evidence=tuple(replace(one, signal=EVIL) for one in plain.evidence),
        explanations=tuple(replace(one, name=EVIL, text=EVIL) for one in plain.explanations),
        artefacts=tuple(
            replace(one, text=EVIL, key=EVIL, actions=tuple(replace(a, post=EVIL, account=EVIL + a.account) for a in one.actions))
            for one in plain.artefacts
        ),
    )  # fmt: skip
    decision = Decision(campaign=EVIL, what=EVIL, name=EVIL, at="2026-03-29T10:12:00Z", reason=EVIL)
    page = page_of(replace(made_up_result(), campaigns=(evil,)), tmp_path, verdicts=[decision], title=EVIL)
    honest = page_of(replace(made_up_result(), campaigns=(plain,)), tmp_path)
    assert set(page.tags) <= set(honest.tags) | {"q"}
    assert page.tags["script"] == 1 and page.tags["img"] == 0
    assert not {name for name in page.attributes if name.startswith("on")} and "style" not in page.attributes
    assert "<script>alert(1)</script>" in "".join(page.words)
    assert "\u202e" not in "".join(page.words)


def test_page_names_no_address_to_fetch_and_allows_only_its_own_script(usual: Page, tmp_path: Path) -> None:
    write_report(made_up_result(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(target.startswith(("#", "data:,")) for target in usual.targets)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and policy[1].startswith("default-src &#x27;none&#x27;;") and "unsafe" not in policy[1] and "http" not in policy[1]
    assert text.index("Content-Security-Policy") < text.index("<style>")


@pytest.mark.slow
def test_a_large_scan_is_cut_and_says_by_how_much(tmp_path: Path) -> None:
    result = made_up_result(301, num_members=67, num_artefacts=12, num_outsiders=4)
    page = page_of(result, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 16e6
    words = "".join(page.words)
    assert "1 more campaign in the export." in words
    assert "27 more members in the export." in words and "more posts in the export." in words
    assert page.tags["tr"] < 45_000


def test_verdicts_and_labels_of_now_are_shown(tmp_path: Path) -> None:
    campaign = made_up_campaign()
    decision = Decision(campaign=campaign.id, what="Verdict: inauthentic", name="Ada", at="2026-03-29T10:12:00Z", reason="one operator")
    other = replace(decision, campaign="c-other", reason="elsewhere")
    page = page_of(MadeUpResult(campaigns=(campaign,)), tmp_path, labels=[campaign.members[0].account], verdicts=[decision, other])
    words = "".join(page.words)
    assert "Verdict: inauthentic — Ada, 29 Mar 2026, 10:12:00: one operator" in words and "elsewhere" not in words
    assert "1 labelled" in words


def test_members_of_what_is_never_labelled_are_not_queued_for_a_label(tmp_path: Path) -> None:
    doubtful = tuple(replace(one, is_automatic=False, is_source=False) for one in made_up_campaign().members)
    for state, queued in (("synchronised", 14), ("explained", 0), ("shared_interest", 0)):
        campaign = replace(made_up_campaign(), state=state, members=doubtful)
        assert page_of(MadeUpResult(campaigns=(campaign,)), tmp_path).words.count("for a person to look at") == queued


def test_a_scan_that_found_nothing_says_so(tmp_path: Path) -> None:
    empty = MadeUpResult(campaigns=(), num_posts=0, num_accounts=0, num_groups=0, num_tests=0, first_at="", last_at="")
    words = "".join(page_of(empty, tmp_path).words)
    assert "No posts" in words and "No group of accounts acted together" in words


def test_a_group_without_kept_posts_shows_its_members_and_no_empty_pictures(tmp_path: Path) -> None:
    bare = replace(made_up_campaign(state="shared_interest"), artefacts=(), explanations=(), evidence=())
    page = page_of(MadeUpResult(campaigns=(replace(bare, sentences=("14 accounts often share the same 3 links.", "")),)), tmp_path)
    assert page.tags["svg"] == 0 and "c1-members" in page.ids
    assert all(target[1:] in page.ids for _, target in page.counts)


def test_the_same_result_gives_the_same_page_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    result = made_up_result(2)
    write_report(result, tmp_path / "a.html")
    write_report(result, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    broken = replace(result, campaigns=(replace(result.campaigns[0], first_at="yesterday"),))
    with pytest.raises(ValueError):
        write_report(broken, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_curve_of_closeness_counts_by_hand() -> None:
    campaign = made_up_campaign(jitter_s=30)
    drawn = closeness(campaign.artefacts)
    assert drawn and drawn.members_in_minute == 1.0 and drawn.outsiders_in_minute is not None and drawn.outsiders_in_minute < 0.1
    only = tuple(replace(one, actions=tuple(a for a in one.actions if a.is_member)) for one in campaign.artefacts)
    alone = closeness(only)
    assert alone and alone.outsiders_in_minute is None
    assert closeness(()) is None and timeline(()) is None


def test_network_draws_every_member_of_a_small_campaign_and_the_busiest_of_a_large_one() -> None:
    small, large = made_up_campaign(), made_up_campaign(num_members=90)
    assert network(small, {}, frozenset()).num_members == 14
    drawn = network(large, {}, frozenset())
    assert drawn.num_members == 60 and drawn.picture.count('class="node queued"') + drawn.picture.count('class="node source"') == 60


def test_words_for_numbers() -> None:
    assert [span(value) for value in (0, 45, 60, 90, 7200, 86_400, 259_200)] == [
        "0 s",
        "45 s",
        "1 min",
        "1.5 min",
        "2 h",
        "1 day",
        "3 days",
    ]
    assert [chance(value) for value in (0.25, 0.001, 3e-9, 0)] == ["0.250", "0.001", "3e-9", "0"]
    assert [percent(value) for value in (0.01, 0.0011, 1)] == ["1%", "0.11%", "100%"]
    assert moment("2026-03-02T14:03:09+00:00") == '<time datetime="2026-03-02T14:03:09+00:00">2 Mar 2026, 14:03:09</time>'
    assert moment("2026-03-02T14:03:09") == '<time datetime="2026-03-02T14:03:09">2 Mar 2026, 14:03:09</time>'
    assert joined("a<b", tag("b", "x&y", class_='"')) == 'a&lt;b<b class="&quot;">x&amp;y</b>'
    assert escaped("a\x00b\u2066") == "a\ufffdb"


def test_importing_the_library_loads_no_report() -> None:
    code = "import agora.integrity.records, sys; sys.exit('agora.integrity.report' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
