"""From a question to an answer: evidence, quoting, abstaining, warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import GenerationError, UsageError
from agora.integrity.labels import LABEL_SCHEMA, Label
from agora.integrity.voice import voices as speakers
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.answers import Answer, AskConfig, EvidenceConfig, GeneratedWriter, ask, rewrite, select
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from tests.search.answers.made_up import NOW, TRAINS, ScriptedModel, post, trains
from tests.search.answers.memory_find import MemoryFinder


def texts(answer: Answer) -> str:
    return " ".join(sentence.text for sentence in answer.sentences)


def test_answer_quotes_posts_with_author_day_and_id() -> None:
    answer = ask("What about night trains to Lindau?", trains(), now=NOW)
    assert answer.abstained is None
    by_text = {sentence.text: sentence.post_ids for sentence in answer.sentences}
    assert by_text["dora wrote on 2026-03-15: “Night trains to Lindau run again since this morning, says the stationmaster. #trains”"] == (
        "t3",
    )


def test_every_quotation_stands_in_its_post() -> None:
    answer = ask("What about night trains?", trains(), now=NOW)
    by_id = {row["id"]: row["text"] for row in TRAINS}
    quotes = [quote for sentence in answer.sentences for quote in sentence.quotes]
    assert quotes and all(by_id[quote.post_id][quote.start : quote.start + len(quote.text)] == quote.text for quote in quotes)


@given(st.text(min_size=1, max_size=400))
def test_whatever_a_post_says_quotations_are_verbatim(text: str) -> None:
    row = post("x", f"trains {text}")
    answer = ask("What about trains?", MemoryFinder([row]), now=NOW)
    assert answer.sentences or answer.abstained
    for sentence in answer.sentences:
        assert sentence.post_ids == ("x",) and all(quote.text in row["text"] for quote in sentence.quotes)


def test_leading_handles_and_closing_links_are_not_quoted_unless_asked_for() -> None:
    row = post("x", "@railways @anna trains are late https://news.example/a")
    assert ask("What about trains?", MemoryFinder([row]), now=NOW).sentences[0].quotes[0].text == "trains are late"
    asked = ask("What do people say to @railways about trains?", MemoryFinder([row]), now=NOW)
    assert asked.sentences[0].quotes[0].text.startswith("@railways")


def test_number_questions_are_answered_with_a_number_only() -> None:
    answer = ask("How many passengers waited at the station?", trains(), now=NOW)
    assert [sentence.post_ids for sentence in answer.sentences] == [("t1",)]
    none = ask("How many ministers resign over the trains?", trains(), now=NOW)
    assert none.abstained is not None


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("What about night trains to Bregenz?", "Bregenz"),
        ("What did @frida say about trains?", "frida"),
        ("What about night trains before 2026-01-01?", "before 2026-01-01"),
        ("Who won the chess match?", "chess"),
    ],
)
def test_abstains_and_says_what_would_support_an_answer(question: str, missing: str) -> None:
    answer = ask(question, trains(), now=NOW)
    assert answer.sentences == () and answer.abstained is not None
    assert "would support an answer" in answer.abstained and missing in answer.abstained
    assert answer.confidence == 0


def test_question_without_words_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no word"):
        ask("?!", trains(), now=NOW)


def test_near_duplicates_fold_into_the_earliest() -> None:
    copies = [post(f"c{n}", "RT @berta: " + TRAINS[0]["text"], f"copier{n}", days_ago=0.1, kind="repost") for n in range(6)]
    asked = rewrite("What about passengers at the station in Lindau?", now=NOW)
    found = select(trains(copies).find("passengers station Lindau", limit=50, match="any").hits, asked)
    assert [(one.id, one.alike) for one in found] == [("t1", 6)]


def flood(count: int) -> tuple[list[dict[str, object]], dict[str, str], dict[str, str]]:
    words = ["wonderful", "cheap", "clean", "fast", "punctual", "friendly", "modern", "quiet", "safe", "green"]
    rows = [
        post(
            f"f{n}",
            f"Night trains are {words[n % 10]} and {words[(n // 10 + 1 + n) % 10]}, everybody {n} at the harbour loves them",
            f"bot{n}",
        )
        for n in range(count)
    ]
    return rows, {f"bot{n}": "campaign:c1" for n in range(count)}, {f"bot{n}": "acts together with 39 others" for n in range(count)}


def test_a_coordinated_group_is_one_voice_and_named() -> None:
    rows, voices, labels = flood(40)
    answer = ask("What about night trains?", trains(rows, voices=voices, labels=labels), now=NOW)
    assert sum(one.voice == "campaign:c1" for one in answer.evidence) <= 1
    assert any("coordinated group" in warning for warning in answer.warnings)
    ids = {one.id for one in answer.evidence if one.label}
    assert all(set(sentence.labelled) == set(sentence.post_ids) & ids for sentence in answer.sentences)


def test_the_warning_counts_what_a_search_by_voice_hides(tmp_path: Path) -> None:
    rows, voices, _ = flood(40)
    with PostStore.open(tmp_path / "posts", create=True) as store, EmbeddedIndex.open(tmp_path / "index") as index:
        store.append(posts_table([*TRAINS, *rows]))
        labels = [
            Label(
                kind="account", id=account, account=account, campaign="c1", state="synchronised", is_automatic=True, reason="same minute",
                evidence="", confidence=0.99, expires_at="2099-01-01T00:00:00Z", appeal="none",
            )
            for account in voices
        ]  # fmt: skip
        table = pa.Table.from_pylist([asdict(label) for label in labels], schema=LABEL_SCHEMA)
        index.catch_up(store, labels=table)
        answer = ask("What about night trains?", Searcher(index, voices=speakers(table), labels=table), now=NOW)
    assert sum(one.voice == "campaign:c1" for one in answer.evidence) <= 1
    assert any("coordinated group (campaign:c1)" in warning for warning in answer.warnings)


def test_no_warning_below_the_share() -> None:
    rows, voices, labels = flood(1)
    answer = ask("What about night trains?", trains(rows, voices=voices, labels=labels), now=NOW)
    assert not any("coordinated group" in warning for warning in answer.warnings)


def test_one_account_does_not_fill_the_evidence() -> None:
    rows = [post(f"s{n}", f"Night trains story number {n}: " + "abcdefghij"[n] * 9, "spammer") for n in range(9)]
    asked = rewrite("What about night trains?", now=NOW)
    found = select(trains(rows).find("night trains", limit=50, match="any").hits, asked, EvidenceConfig(per_account=2))
    assert sum(one.author == "spammer" for one in found) <= 2


def model(text: str) -> GeneratedWriter:
    return GeneratedWriter(ScriptedModel(lambda prompt: text))


def number_of(prompt: str, words: str) -> str:
    lines = prompt.splitlines()
    index = next(index for index, line in enumerate(lines) if words in line and not lines[index - 1].startswith("QUESTION"))
    return lines[index - 1].split("[")[1].split("]")[0]


def test_generated_sentences_that_hold_are_kept_with_their_posts() -> None:
    def say(prompt: str) -> str:
        first, third = number_of(prompt, "passengers"), number_of(prompt, "stationmaster")
        waited = f"- 300 passengers waited at the station. [{first}]"
        return f"{waited}\nNight trains run again since this morning, says the stationmaster. [{third}][{first}]\n"

    answer = ask("What about night trains to Lindau?", trains(), writer=GeneratedWriter(ScriptedModel(say)), now=NOW)
    assert [sentence.post_ids for sentence in answer.sentences] == [("t3",)]  # the first says nothing about what was asked
    assert [one.reason for one in answer.refused] == ["it is not about the question"]
    assert answer.sentences[0].text == "Night trains run again since this morning, says the stationmaster."


@pytest.mark.parametrize(
    "text",
    ["Night trains were sold to Mars. [1]", "Night trains run.", "[1][2]", "Night trains to Lindau run again [77]", "\x00", "x" * 100_000],
)
def test_unsupported_generation_falls_back_to_quotations_with_a_warning(text: str) -> None:
    answer = ask("What about night trains to Lindau?", trains(), writer=model(text), now=NOW)
    assert answer.sentences and all(sentence.quotes for sentence in answer.sentences)
    assert any("quoted instead" in warning for warning in answer.warnings)


def test_model_that_says_none_abstains() -> None:
    answer = ask("What about night trains to Lindau?", trains(), writer=model("NONE"), now=NOW)
    assert answer.sentences == () and answer.abstained


def test_model_that_fails_is_replaced_with_a_warning() -> None:
    def fail(prompt: str) -> str:
        raise GenerationError("the server is down")

    answer = ask("What about night trains to Lindau?", trains(), writer=GeneratedWriter(ScriptedModel(fail)), now=NOW)
    assert answer.sentences and any("the server is down" in warning for warning in answer.warnings)


def test_quotation_of_escaped_words_is_restored_verbatim() -> None:
    row = post("x", 'He said <b>"trains [are] late"</b> | again')

    def say(prompt: str) -> str:
        shown = next(line for line in prompt.splitlines() if "late" in line)
        return f'One post says "{shown}" about trains [1]'

    answer = ask("What about trains?", MemoryFinder([row]), writer=GeneratedWriter(ScriptedModel(say)), now=NOW)
    assert answer.sentences[0].quotes[0].text == row["text"] and row["text"] in answer.sentences[0].text


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"answers\.hits=0"):
        AskConfig(hits=0)
    with pytest.raises(UsageError, match=r"evidence\.alike=2"):
        EvidenceConfig(alike=2)


@dataclass(frozen=True)
class Sure:
    """A finder that says how sure it is."""

    confidence: float | None
    total: int = 0

    def find(self, text: str, **options: Any) -> Any:
        return SimpleNamespace(hits=trains().find(text, **options).hits, confidence=self.confidence, total=self.total)


@pytest.mark.parametrize(("confidence", "is_answered"), [(None, True), (0.5, True), (0.05, False)])
def test_no_answer_where_the_search_is_not_sure(confidence: float | None, is_answered: bool) -> None:
    answer = ask("What about night trains?", Sure(confidence), now=NOW)
    assert (answer.abstained is None) == is_answered
    assert is_answered or "not sure" in str(answer.abstained)
    assert ask("What about night trains?", Sure(confidence), now=NOW, config=AskConfig(least=0.0)).sentences
    assert ask("What about night trains?", Sure(confidence, total=40), now=NOW).sentences  # a topic: none of many posts stands out


def test_missing_words_are_shown_as_they_were_asked() -> None:
    answer = ask("What about Germanwings?", trains(), now=NOW)
    assert answer.abstained is not None and "'Germanwings'" in answer.abstained and "'germanwing'" not in answer.abstained
