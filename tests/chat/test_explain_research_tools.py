"""A post explained, a report, and tools: bounded, cited, in voices."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agora.chat import Assistant, AssistantConfig, ChatEvent, Step
from agora.chat.research import APART, ResearchConfig
from agora.chat.tool_calls import Call, Turn, parsed_turn
from agora.errors import GenerationError, UsageError
from tests.chat.square import FLOOD, NOW, MemorySquare, flood, reply, talk
from tests.search.answers.made_up import TRAINS, ScriptedModel, post, trains
from tests.search.answers.memory_find import MemoryFinder

THREAD = [
    post("a", "Is the harbour bridge open today for trams?", "anna", days_ago=2),
    post("b", "It is closed, they say", "bot0", days_ago=1.9, kind="reply", ref_id="a"),
    post("c", "No, it is open", "carl", days_ago=1.8, kind="reply", ref_id="b"),
    *(post(f"r{number}", "It is closed, they say", f"bot{number}", days_ago=1.7, kind="repost", ref_id="b") for number in range(1, 41)),
    post("r99", "It is closed, they say", "dora", days_ago=1.6, kind="repost", ref_id="b"),
    post("alike", "Is the harbour bridge open today for trams ?", "emil", days_ago=1),
    post("lost", "as I said", "anna", kind="reply", ref_id="gone"),
]


def explaining() -> Assistant:
    return Assistant(MemoryFinder(THREAD), square=MemorySquare(THREAD, campaign=FLOOD))


def test_amplification_counts_voices() -> None:
    found = explaining().explain_post("b", now=NOW)
    assert (found.reposts.posts, found.reposts.accounts, found.reposts.voices) == (41, 41, 2)
    assert found.reposts.campaigns == (("c1", 40),) and found.label == "It acts with others." and found.voice == "campaign:c1"
    assert [one.post_id for one in found.above] == ["a"] and found.replies.voices == 1 and not found.is_cut
    said = reply(list(explaining().answer(talk("explain post b"), now=NOW)))
    assert "41 accounts passed it on, which count as 2 voices" in said.text and "by a group, not by the public" in said.text
    assert {one.post_id for one in said.citations} >= {"a", "b", "c"} and said.is_grounded
    assert json.dumps(found.as_json())


def test_near_duplicates_and_missing_posts_are_told() -> None:
    found = explaining().explain_post("a", now=NOW)
    assert [one.post_id for one in found.alike.first] == ["alike"]
    assert explaining().explain_post("lost", now=NOW).is_cut
    with pytest.raises(UsageError, match="no post"):
        explaining().explain_post("nothing", now=NOW)
    assert "no post" in reply(list(explaining().answer(talk("explain post nothing"), now=NOW))).text


MORE = [
    post("w1", "The night trains to Lindau were cancelled because of a strike in Bregenz.", "gus", days_ago=2),
    post("w2", "Strike in Bregenz: night trains to Lindau stand still, 12 trains are out", "hans", days_ago=3),
]


def test_report_has_sections_with_citations_numbered_through() -> None:
    events = list(Assistant(trains(MORE)).research("What about night trains to Lindau?", now=NOW))
    report = reply(events)
    assert report.kind == "research" and len(report.details["sections"]) >= 2 and len(report.queries) >= 5
    assert [one.number for one in report.citations] == list(range(1, len(report.citations) + 1))
    assert all(one.post_ids for one in report.sentences) and {"w2", "t1", "t3"} <= {one.post_id for one in report.citations}
    assert {"how many", "who"} <= set(report.details["missing"]) and report.text.endswith("who, why.")
    steps = [event for event in events if isinstance(event, Step)]
    assert any(step.doing == "outline" for step in steps) and all((step.done or 0) <= (step.total or 99) for step in steps)
    assert len({one.post_ids for one in report.sentences}) == len(report.sentences)


def test_report_keeps_a_group_apart_and_abstains_where_nothing_is_found() -> None:
    finder = MemoryFinder(flood(), voices=dict.fromkeys(FLOOD, "campaign:c1"), labels=dict.fromkeys(FLOOD, "They act together."))
    report = reply(list(Assistant(finder).research("What about the harbour bridge?", now=NOW)))
    of_group = [one for one in report.sentences if one.labelled]
    assert len(of_group) == 1 and of_group[0].section == APART and report.details["sections"][-1] == APART
    nothing = reply(list(Assistant(trains()).research("What about the chess match?", now=NOW)))
    assert nothing.abstained and not nothing.citations and len(nothing.queries) == 1


def test_report_is_bounded_and_can_be_cancelled() -> None:
    few = reply(list(Assistant(trains(MORE)).research("What about night trains?", now=NOW, config=ResearchConfig(searches=2))))
    assert len(few.queries) == 2 and "2 searches" in few.details["stopped"]

    class Slow(ScriptedModel):
        def chat(self, messages: Any, sampling: Any, *, cancelled: Any = None) -> Any:
            while not cancelled.wait(5):
                pass
            return iter(())

    started = time.monotonic()
    slow, brief = Assistant(trains(MORE), Slow(lambda prompt: "")), ResearchConfig(seconds=0.2)
    late = reply(list(slow.research("What about night trains?", now=NOW, config=brief)))
    assert time.monotonic() - started < 30 and "0.2 seconds" in late.details["stopped"]
    stop = threading.Event()
    events: list[ChatEvent] = []
    for event in Assistant(trains(MORE)).research("What about night trains?", now=NOW, cancelled=stop):
        events.append(event)
        stop.set()
    assert reply(events).details["stopped"] == "it was cancelled"


def test_a_model_plans_a_report_with_questions_about_the_same_only() -> None:
    plan = "1. Why were the night trains cancelled?\nIgnore this\nWhere do bread and games come from?\nnight trains no question"
    model = ScriptedModel(lambda prompt: plan if prompt.startswith("QUESTION\n") else "NONE")
    events = list(Assistant(trains(MORE), model).research("What about night trains to Lindau?", now=NOW))
    outline = next(event.text for event in events if isinstance(event, Step) and event.doing == "outline")
    assert "Why were the night trains cancelled?" in outline and "bread" not in outline and "no question" not in outline


def test_a_report_says_once_how_many_sentences_were_removed() -> None:
    model = ScriptedModel(lambda prompt: "NONE" if prompt.startswith("QUESTION\n") else "Whales sing in the opera of Lindau. [1]")
    warnings = reply(list(Assistant(trains(MORE), model).research("What about night trains to Lindau?", now=NOW))).warnings
    assert sum(one.startswith("sentences removed") for one in warnings) == 1


def box() -> Any:
    return Assistant(trains(), square=MemorySquare(TRAINS, campaign=FLOOD)).toolbox(now=NOW)


def test_definitions_are_openais_and_every_tool_runs() -> None:
    names = [one["function"]["name"] for one in box().definitions()]
    assert sorted(names) == ["calculator", "campaign", "search", "trends"]
    assert all(one["type"] == "function" and one["function"]["parameters"]["type"] == "object" for one in box().definitions())
    assert json.loads(box().run("calculator", '{"expression": "17 * 3"}').content) == {"value": "51"}
    found = box().run("search", '{"query": "night trains", "limit": 2}', first_number=7)
    assert [one["number"] for one in json.loads(found.content)["posts"]] == [7, 8] == [one.number for one in found.evidence]
    assert json.loads(box().run("trends", "{}").content)["trends"][0]["voices"] == 5
    campaign = box().run("campaign", '{"id": "c1"}')
    assert json.loads(campaign.content)["accounts"] == 500 and "<|" not in campaign.content


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("serch", "{}", "did you mean 'search'"),
        ("search", "{}", "query is missing"),
        ("search", '{"query": 3}', "must be text"),
        ("search", '{"query": "x", "limit": 1000}', "from 1 to 20"),
        ("search", '{"query": "x", "url": "https://collect.example"}', "unknown argument"),
        ("search", "not json", "no JSON"),
        ("search", "[]", "an object"),
        ("search", '{"query": "' + "x" * 5_000 + '"}', "more than"),
        ("calculator", '{"expression": "__import__(1)"}', "no arithmetic"),
        ("campaign", '{"id": "c9"}', "no campaign"),
        ("trends", '{"window": "100y"}', "one of"),
    ],
)
def test_wrong_calls_are_told_what_is_wrong(name: str, arguments: str, why: str) -> None:
    result = box().run(name, arguments)
    assert result.is_error and why in json.loads(result.content)["error"] and not result.evidence


class Caller(ScriptedModel):
    """Calls tools in its first round."""

    def __init__(self, calls: Sequence[tuple[str, Mapping[str, Any]]], said: str) -> None:
        super().__init__(lambda prompt: "NONE")
        self._calls, self._said = calls, said
        self.shown: list[Sequence[Mapping[str, Any]]] = []

    def turn(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Turn:
        self.shown.append(list(messages))
        if len(self.shown) == 1:
            return Turn("", tuple(Call(str(at), name, json.dumps(given)) for at, (name, given) in enumerate(self._calls)))
        return Turn(self._said, ())


def test_what_a_model_finds_with_tools_is_checked_like_anything() -> None:
    said = (
        "Night trains to Lindau run again since this morning, says the stationmaster. [2]\nThe trains were sold [1]\nNight trains run [9]"
    )
    model = Caller([("search", {"query": "night trains Lindau"}), ("calculator", {"expression": "6*7"})], said)
    answer = reply(list(Assistant(trains(), model).answer(talk("What about night trains to Lindau?"), now=NOW)))
    assert answer.kind == "tools" and answer.text.startswith("6*7 = 42") and answer.num_removed >= 2
    assert {one for sentence in answer.sentences for one in sentence.post_ids} <= {"t1", "t2", "t3"} and "sold" not in answer.text
    assert [one["role"] for one in model.shown[1]] == ["system", "user", "assistant", "tool", "tool"]


@pytest.mark.parametrize("calls", [[], [("search", {"query": "chess"})]])
def test_a_model_that_finds_nothing_leaves_the_answer_to_the_plain_way(calls: Any) -> None:
    answer = reply(list(Assistant(trains(), Caller(calls, "The trains were sold [1]")).answer(talk("What about night trains?"), now=NOW)))
    assert answer.kind == "posts" and answer.citations and "sold" not in answer.text
    plain = Assistant(trains(), Caller([], ""), config=AssistantConfig(tools=False))
    assert reply(list(plain.answer(talk("What about night trains?"), now=NOW))).kind == "posts"


def test_turns_are_read_strictly() -> None:
    message = {"content": None, "tool_calls": [{"id": "a", "function": {"name": "search", "arguments": '{"query": "x"}'}}]}
    turn = parsed_turn(json.dumps({"choices": [{"message": message}]}).encode())
    assert turn == Turn("", (Call("a", "search", '{"query": "x"}'),))
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": [{"message": {"tool_calls": [1]}}]}',
    ):
        with pytest.raises(GenerationError):
            parsed_turn(body)
