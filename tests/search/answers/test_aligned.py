"""A claim is what one clause of a post says, with all that turns it around."""

from __future__ import annotations

import time

import pytest

from agora.search.answers import Draft, judge
from tests.search.answers.made_up import evidence


@pytest.mark.parametrize(
    ("post", "claim"),
    [
        ("The bridge almost collapsed", "The bridge collapsed"),
        ("The bridge nearly collapsed", "The bridge collapsed"),
        ("3 dead in Bern, 12 dead in Basel", "12 dead in Bern"),
        ("In Bern 3 people died and in Basel 12 people died", "In Bern 12 people died"),
        ("In Bern, 3 people died. In Basel, 12 people died", "In Bern, 12 people died"),
        ("Ada beat Bob 3 to 1", "Bob beat Ada 3 to 1"),
        ("Ada beat Bob 3 to 1", "Ada beat Bob 3"),
        ("The police shot the protester in the old market", "The protester shot the police in the old market"),
        ("Ada hit Bob", "Ada was hit by Bob"),
        ("Trump hates the wall, Clinton loves the wall", "Trump loves the wall"),
        ("Trump attacked Clinton and Cruz praised Rubio", "Trump praised Rubio"),
        ("Trump attacked Clinton and Cruz praised Rubio", "Cruz attacked Clinton"),
        ("The train to Bern is on time, the train to Basel is cancelled", "The train to Bern is cancelled"),
        ("The mayor is innocent, the baker stole money", "The mayor stole money"),
        ("The son of Trump was arrested", "Trump was arrested"),
        ("I doubt the mayor stole money", "The mayor stole money"),
        ("I doubt it, the mayor stole money", "The mayor stole money"),
        ("Less than 5 people came", "5 people came"),
        ("At least 5 people came", "5 people came"),
        ("We saw fewer than 5 people", "We saw 5 people"),
        ("If it rains the bridge will collapse", "The bridge will collapse"),
        ("If it rains, the bridge will collapse", "The bridge will collapse"),
        ("Impfungen verursachen keinen Autismus", "Impfungen verursachen Autismus"),
        ("Vaccines rarely cause fever", "Vaccines cause fever"),
        ("Nobody believes that the bridge collapsed", "The bridge collapsed"),
        ("Some idiot tweeted the bridge collapsed lol no", "The bridge collapsed"),
        ("The bridge collapsed. Not really.", "The bridge collapsed"),
        ("The pope endorsed Trump said my drunk uncle", "The pope endorsed Trump"),
        ('"The bridge collapsed" is what they want you to believe', "The bridge collapsed"),
        ("The bridge collapsed, claims the mayor", "The bridge collapsed"),
        ("Bleach is safe for floors.", "Bleach is safe."),
        ("She is free of blame.", "She is free."),
        ("The bridge is closed for 3 hours.", "The bridge is closed."),
        ("Guns are banned in schools.", "Guns are banned."),
        ("Vaccines cause fever in mice.", "Vaccines cause fever."),
        ("Jews control the banks - @troll", "Jews control the banks."),
        ("Most trains were late on Monday, a few of them only in my dream", "Most trains were late on Monday"),
    ],
)
def test_what_only_the_words_support_is_refused(post: str, claim: str) -> None:
    assert judge(Draft(claim, ("p",)), {"p": evidence("p", post)}).reason is not None


@pytest.mark.parametrize(
    ("post", "claim"),
    [
        ("The bridge almost collapsed", "A bridge almost collapsed."),
        ("3 dead in Bern, 12 dead in Basel", "12 dead in Basel"),
        ("3 dead in Bern, 12 dead in Basel", "One post reports that 3 dead in Bern"),
        ("Trump hates the wall, Clinton loves the wall", "Clinton loves the wall"),
        ("I doubt the mayor stole money", "I doubt the mayor stole money"),
        ("If it rains, the bridge will collapse", "If it rains the bridge will collapse"),
        ("@anna @bob the mayor left the town hall on Monday #news https://x.example/a", "The mayor left the town hall."),
        ("BREAKING: mayor of Lindau resigned this morning", "Mayor resigned this morning"),
        ("The minister can't resign", "The minister cannot resign"),
        ("Impfungen verursachen keinen Autismus", "Impfungen verursachen keinen Autismus"),
        ("The bridge collapsed, claims the mayor", "The bridge collapsed, claims the mayor"),
        ("Bleach is safe for floors.", "Bleach is safe for floors."),
        ("RT @troll: The bridge collapsed", "RT @troll: The bridge collapsed"),
        ("On Monday, the mayor left in a hurry", "The mayor left in a hurry"),
        ("The bridge collapsed, see video https://a.example/b #news", "The bridge collapsed"),
    ],
)
def test_what_a_clause_says_is_kept(post: str, claim: str) -> None:
    assert judge(Draft(claim, ("p",)), {"p": evidence("p", post)}).reason is None


TELLING = (
    "tweeted wrote writes posted posts joked jokes argues argued insists insisted lied lies mocked mocks quipped sneered yelled shouted "
    "whispered trolled ranted babbled snarked hinted implied"
)


@pytest.mark.parametrize("tail", [f", {verb} a troll" for verb in TELLING.split()] + [
    ", c'est faux", ", das ist falsch", ", es falso", ", неправда", " (satire)", ", in my dream", ", a troll thinks", ", they say",
    ", as trolls put it", "; a prank", " ... NOT", ". C'est faux.", ". Das ist falsch!", ". Неправда.",
])  # fmt: skip
def test_who_said_it_and_what_denies_it_is_not_left_out(tail: str) -> None:
    post = evidence("p", f"Jews control the banks{tail}")
    assert judge(Draft("Jews control the banks.", ("p",)), {"p": post}).reason is not None


@pytest.mark.parametrize(
    "head", ["Nope: ", "Conspiracy: ", "Onion: ", "RT @troll: ", "@troll: ", "Trolls: ", "Ada wrote, ", "In my novel, "]
)
def test_what_stands_before_it_is_not_left_out(head: str) -> None:
    post = evidence("p", f"{head}Jews control the banks")
    assert judge(Draft("Jews control the banks.", ("p",)), {"p": post}).reason is not None


def test_whole_sentences_of_two_posts_may_be_joined_parts_of_them_not() -> None:
    posts = {one.id: one for one in (evidence("p", "In Bern, the bridge fell"), evidence("q", "The mayor left the town"))}
    assert judge(Draft("In Bern the bridge fell, and the mayor left the town", ("p", "q")), posts).post_ids == ("p", "q")
    assert judge(Draft("In Bern the mayor left the town", ("p", "q")), posts).reason is not None
    assert judge(Draft("In Bern and the mayor left the town", ("p", "q")), posts).reason is not None


@pytest.mark.parametrize("piece", ["山", "a, ", "and ", "to b ", "not ", "to to b, and "])
def test_long_claims_and_posts_take_no_long_time(piece: str) -> None:
    draft = Draft((piece * 1000)[:990], ("p",))
    started = time.process_time()
    judge(draft, {"p": evidence("p", (piece * 4000)[:4000])})  # without a RecursionError
    assert time.process_time() - started < 5
