"""What posts support, and what they do not."""

from __future__ import annotations

import pytest

from agora.search.answers import Draft, judge
from tests.search.answers.made_up import evidence

POSTS = {
    one.id: one
    for one in (
        evidence("p1", "Police found 11 dead at the market in Lindau. Two gunmen fled in a black car.", "guardian"),
        evidence("p2", "Police have not found the bag. The minister denied that the station was closed.", "dora"),
        evidence("p3", "Was the mayor of Lindau arrested? If so, the festival would be cancelled.", "emil"),
        evidence("p4", "The mayor left the country. FALSE.", "frida"),
        evidence("p5", "Dog bites man in Bregenz, see https://news.example/dog #Bregenz", "carl"),
        evidence("p6", "Most trains were late on Monday, a few were cancelled", "berta"),
        evidence("p7", "So glad that CNN tells: \u201cthe bridge is closed\u201d", "dead"),
        evidence("p8", "The fake news says the harbour is open", "anna"),
    )
}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Police found 11 dead at the market in Lindau.", ["p1"]),
        ("Police found eleven dead at the market.", ["p1"]),
        ("2 gunmen fled in a black car.", ["p1"]),
        ("According to one post, two gunmen fled in a black car.", ["p1"]),
        ("Police did not find".replace("did not find", "have not found") + " the bag.", ["p2"]),
        ("Police haven't found the bag.", ["p2"]),
        ('One account asked: "Was the mayor of Lindau arrested?"', ["p3"]),
        ('guardian wrote on 2026-03-15: "Two gunmen fled"', ["p1"]),
        ("Was the mayor arrested?", ["p3"]),
        ("A dog bites a man in Bregenz", ["p5"]),
        ("Most trains were late on Monday, a few were cancelled", ["p6"]),
        ("The fake news says the harbour is open", ["p8"]),
    ],
)
def test_supported(text: str, ids: list[str]) -> None:
    assert judge(Draft(text, tuple(ids)), POSTS).reason is None


@pytest.mark.parametrize(
    ("text", "ids", "reason"),
    [
        ("Police found 12 dead at the market.", ["p1"], "'12'"),
        ("Police found 2 dead at the market.", ["p1"], "beside"),
        ("Police found 11 gunmen.", ["p1"], "beside"),
        ("Police found 11 dead at the market in Bregenz.", ["p1"], "'Bregenz'"),
        ("Police killed 11 at the market in Lindau.", ["p1"], "killed"),
        ("Nobody was dead at the market.", ["p1"], "do not say"),
        ("Police found no dead at the market.", ["p1"], "do not say"),
        ("Police found the bag.", ["p2"], "deny"),
        ("The station was closed.", ["p2"], "deny"),
        ("The mayor of Lindau was arrested.", ["p3"], "is so"),
        ("The festival was cancelled.", ["p3"], "is so"),
        ("The mayor left the country.", ["p4"], "deny"),
        ("Man bites dog in Bregenz", ["p5"], "order"),
        ("All trains were late on Monday", ["p6"], "'All'"),
        ("Trains were never late on Monday", ["p6"], "do not say"),
        ("The bridge is dead", ["p7"], "dead"),
        ("Police found 11 dead.", [], "cites no post"),
        ("Police found 11 dead.", ["p99"], "not retrieved"),
        ("Police found 11 dead.", ["p1", "p99"], "not retrieved"),
        ("Police found 11 dead.", ["p5"], "none of its posts"),
        ('One post says "Police found 12 dead".', ["p1"], "none of its posts"),
        ('It is false that "Police found 11 dead".', ["p1"], "denies or doubts"),
        ('Nobody wrote "Police found 11 dead".', ["p1"], "denies or doubts"),
        ('emil wrote: "Police found 11 dead".', ["p1", "p3"], "emil"),
        ('One post says "Police found', ["p1"], "pair"),
        ("Dog bites man in Bregenz https://evil.example/?q=dog", ["p5"], "link"),
        ("Dog bites man in Bregenz, see evil-site.com", ["p5"], "link"),
        ("Dog bites man <|im_end|> in Bregenz", ["p5"], "special tokens"),
        ("Dog bites man \u202ein Bregenz", ["p5"], "control"),
        ("People say so.", ["p1"], "claims nothing"),
        ("!!!", ["p1"], "empty"),
        ("Police " * 400, ["p1"], "longer"),
    ],
)
def test_refused_with_the_reason(text: str, ids: list[str], reason: str) -> None:
    found = judge(Draft(text, tuple(ids)), POSTS).reason
    assert found is not None and reason in found


def test_citations_that_are_not_needed_are_dropped() -> None:
    assert judge(Draft("Police found 11 dead.", ("p5", "p1", "p6")), POSTS).post_ids == ("p1",)


def test_citations_that_are_needed_together_stay() -> None:
    draft = Draft(
        "Police found 11 dead at the market in Lindau, and most trains were late on Monday, a few were cancelled.", ("p6", "p1", "p5")
    )
    assert set(judge(draft, POSTS).post_ids) == {"p1", "p6"}


def test_quotations_know_their_place() -> None:
    (quote,) = judge(Draft('One post says "gunmen fled"', ("p1",)), POSTS).quotes
    assert POSTS[quote.post_id].text[quote.start :].startswith(quote.text)
