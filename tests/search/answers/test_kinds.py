"""An answer gives the kind of thing that was asked for, or there is none."""

from __future__ import annotations

import pytest

from agora.search.answers import ask
from tests.search.answers.made_up import NOW, post
from tests.search.answers.memory_find import MemoryFinder


def answered(question: str, text: str) -> bool:
    return ask(question, MemoryFinder([post("x", text)]), now=NOW).abstained is None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When is the next GOP debate?", "I am so ready for the next GOP debate, 2 candidates less please"),
        ("When is the next GOP debate?", "When is the next GOP debate? Is it tonight?"),
        ("How many people were shot in Ottawa?", "People were shot in Ottawa, police look for a 2nd shooter"),
        ("How many people were shot in Ottawa?", "People were shot in Ottawa at 10:30, channel 5 is there"),
        ("Who killed Michael Brown?", "Somebody killed Michael Brown and nobody talks about it"),
        ("Who killed Michael Brown?", "Michael Brown was killed in Ferguson"),
        ("Who won the chess match?", "The chess match was won at last"),
        (
            "Who shot the soldier in Ottawa?",
            "#Ottawa MT @CBCAlerts: Gunman shot dead inside Parliament. Soldier shot earlier at War Memorial",
        ),
        ("Who won the chess match?", "I asked Berta who won the chess match"),
        ("Where is the harvest festival?", "The harvest festival is great in the end"),
        ("Why was the bridge in Lindau closed?", "Why was the bridge in Lindau closed? Nobody knows."),
        ("Why was the bridge in Lindau closed?", "The bridge in Lindau was closed this morning"),
        ("Why was the bridge in Lindau closed?", "The bridge in Lindau was closed, no reason was given for it, the only reason for anger"),
        ("Why was the bridge in Lindau closed?", "Was the bridge in Lindau closed because of the storm?"),
        ("Who killed the soldier in Ottawa?", "The Canadian soldier killed in today's Ottawa shooting is Cpl. Nathan Cirillo"),
        ("Who killed the soldier in Ottawa?", "Canadian Soldier killed in Ottawa, says Nathan"),
        ("Where was Putin?", "Coup in #Russia? Good article by @Forbes. #RamzanKadyrov #Putin"),
        ("Where was Putin?", "Staff in London have left for Russia, rumours Putin has died"),
        ("Where was Putin?", "Was Putin removed in Moscow?"),
        ("Who killed Michael Brown?", "Was it Darren Wilson who killed Michael Brown?"),
    ],
)
def test_no_answer_where_the_post_does_not_give_it(question: str, text: str) -> None:
    assert not answered(question, text)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When is the next GOP debate?", "The next GOP debate is on September 16"),
        ("When is the next GOP debate?", "next GOP debate starts at 9pm"),
        ("How many people were shot in Ottawa?", "Three people were shot in Ottawa"),
        ("How much did the night trains cost?", "The night trains cost $40 millions"),
        ("Who killed Michael Brown?", "They say Darren Wilson killed Michael Brown"),
        ("Who killed Michael Brown?", "Michael Brown was killed by Darren Wilson"),
        ("Who won the chess match?", "Berta Huber won the chess match"),
        ("Where is the harvest festival?", "The harvest festival is in Lindau this year"),
        ("Where did the passengers wait?", "300 passengers wait at the station"),
        ("Why was the bridge in Lindau closed?", "The bridge in Lindau was closed because of the storm"),
        ("Why was the bridge in Lindau closed?", "Due to a crack the bridge in Lindau is closed. Why not earlier?"),
        ("Who killed the soldier in Ottawa?", "Police say Zehaf killed the soldier in Ottawa"),
        ("Who killed the soldier in Ottawa?", "The soldier was killed in Ottawa by Zehaf"),
        ("Who resigned in Lindau?", "Mayor Ada Huber resigned in Lindau on Monday"),
        ("Why are people posting #bridge about Lindau?", "Lindau looks great today #bridge"),
        ("Where was Putin?", "Putin was seen in Moscow this morning"),
        ("Where was Putin?", "In Moscow Putin was seen at last"),
        ("What happened when the bridge collapsed?", "Everyone ran when the bridge collapsed"),
        ("What about people who like bread?", "People who like bread like butter"),
    ],
)
def test_an_answer_where_the_post_gives_it(question: str, text: str) -> None:
    assert answered(question, text)
