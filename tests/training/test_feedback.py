"""From ratings to pairs: each rule, one voice, and every rating that makes no pair is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import SourceError
from agora.training.feedback import Rating, pairs_of
from agora.training.preference_pairs import PreferencePair, load_pairs, read_pairs, write_pairs


def rating(kind: Any, answer: str, voice: str = "ada", *, question: str = "why?", **more: Any) -> Rating:
    return Rating(question=[{"role": "user", "content": question}], answer=answer, kind=kind, voice=voice, **more)


def made(*ratings: Rating) -> tuple[set[tuple[str, str]], dict[str, int]]:
    found = pairs_of(ratings)
    return {(pair.chosen, pair.rejected) for pair in found.pairs}, found.left_out


def test_an_edit_beats_the_original_whatever_else_was_said_of_it() -> None:
    edit = rating("edit", "it is", text="it is not")
    for others in ([], [rating("up", "it is")], [rating("down", "it is")], [rating("unsupported", "it is")]):
        assert made(edit, *others)[0] == made(*others, edit)[0] == {("it is not", "it is")}
    assert made(rating("edit", "same", text="same")) == (set(), {"edit that changes nothing": 1})


def test_good_beats_bad_and_a_lone_rating_makes_no_pair() -> None:
    assert made(rating("up", "a"), rating("down", "b"), rating("unsupported", "c"))[0] == {("a", "b"), ("a", "c")}
    pairs, left_out = made(rating("down", "b"), rating("up", "a", question="when?"), rating("unsupported", "c", "eve"))
    assert not pairs
    assert left_out == {
        "bad answer, and none that is better": 1, "good answer, and none that is worse": 1,
        "unsupported answer, and none that is better": 1,
    }  # fmt: skip


def test_the_answer_that_was_taken_instead_beats_the_bad_one_unless_it_is_bad_too() -> None:
    assert made(rating("down", "a", instead="b"))[0] == {("b", "a")}
    assert made(rating("up", "a", instead="b"))[0] == set()
    assert made(rating("down", "a", instead="b"), rating("down", "b")) == (set(), {"bad answer, and none that is better": 2})


def test_voices_are_taken_together_and_the_latest_opinion_counts() -> None:
    assert made(rating("up", "a", "ada"), rating("down", "b", "eve"))[0] == {("a", "b")}
    assert made(rating("up", "a"), rating("down", "b"), rating("up", "b"), rating("down", "a"))[0] == {("b", "a")}
    against = [rating("up", "a", "ada"), rating("down", "b", "ada"), rating("up", "b", "eve"), rating("down", "a", "eve")]
    assert made(*against) == (set(), {"voices disagree": 1})
    third = [rating("up", "a", "bob"), rating("down", "b", "bob")]
    assert made(*against, *third)[0] == {("a", "b")}


def weights_by_voice(ratings: list[Rating]) -> dict[str, float]:
    """What the pairs of each question weigh, the question naming the voice."""
    found: dict[str, float] = {}
    for pair in pairs_of(ratings).pairs:
        name = pair.prompt[0]["content"].split()[0]
        found[name] = found.get(name, 0.0) + pair.weight
    return found


@settings(max_examples=25)
@given(num_ada=st.integers(1, 5), num_flood=st.integers(1, 60))
def test_who_rates_more_weighs_no_more(num_ada: int, num_flood: int) -> None:
    ada = [rating("edit", "x", "ada", question=f"ada {number}", text="y") for number in range(num_ada)]
    flood = [rating("edit", "x", "flood", question=f"flood {number}", text="y") for number in range(num_flood)]
    found = weights_by_voice(ada + flood)
    assert found["ada"] == pytest.approx(found["flood"])
    assert sum(found.values()) == pytest.approx(num_ada + num_flood)  # the mean weight stays 1


def test_a_voice_gains_no_weight_by_rating_what_others_rated() -> None:
    """A flood calls many answers bad to the question that ada rated: all it gets is one vote."""
    ada = [rating("up", "x", "ada", question="ada"), rating("edit", "p", "ada", question="ada other", text="q")]
    flood = [rating("down", f"bad {number}", "flood", question="ada") for number in range(50)]
    found = pairs_of([*ada, *flood])
    weights = sorted(pair.weight for pair in found.pairs)
    assert len(weights) == 2 and weights[0] == pytest.approx(weights[1])


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return path


def test_files_of_pairs_are_read_and_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": "No."}]
    path = lines(
        tmp_path / "a.jsonl", {"prompt": "why?", "chosen": " Yes. ", "rejected": said}, "{no", "[1]", {"chosen": "a", "rejected": "b"},
        {"prompt": [{"role": "wizard", "content": "x"}], "chosen": "a", "rejected": "b"}, {"prompt": "x", "chosen": "a", "rejected": ""},
        {"prompt": "x", "chosen": "a", "rejected": "a "}, {"prompt": "x", "chosen": "a", "rejected": "b", "weight": -1},
    )  # fmt: skip
    found = read_pairs([path])
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in found.pairs] == [([{"role": "user", "content": "why?"}], "Yes.", "No.")]
    assert found.left_out == {
        "not_a_json_object": 2, "no_prompt": 1, "unknown_role": 1, "empty_content": 1, "same_answers": 1, "weight_not_above_0": 1,
    }  # fmt: skip
    with pytest.raises(SourceError, match="not a file"):
        read_pairs([tmp_path])


def test_voices_of_a_file_count_once_each_and_what_is_written_is_read_back(tmp_path: Path) -> None:
    one = {"chosen": "a", "rejected": "b"}
    path = lines(tmp_path / "a.jsonl", *({**one, "prompt": str(number), "voice": 1} for number in range(3)), {**one, "prompt": "x"})
    found = read_pairs([path])
    assert [pair.weight for pair in found.pairs] == pytest.approx([2 / 3] * 3 + [2])
    write_pairs(tmp_path / "b.jsonl", found.pairs)
    assert load_pairs(tmp_path / "b.jsonl") == found.pairs
    assert [pair.weight for pair in read_pairs([tmp_path / "b.jsonl"]).pairs] == pytest.approx([2 / 3] * 3 + [2])
    (tmp_path / "b.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(SourceError, match="damaged"):
        load_pairs(tmp_path / "b.jsonl")


def test_all_pairs_of_one_question_fall_on_the_same_side() -> None:
    asked = [[{"role": "user", "content": str(number % 50)}] for number in range(100)]
    pairs = [PreferencePair(prompt=prompt, chosen=str(number), rejected="no") for number, prompt in enumerate(asked)]
    found = read_pairs([])
    learned, heldout = type(found)(pairs=pairs).split(0.2)
    assert len(learned) + len(heldout) == 100 and heldout
    assert not {pair.question_sha256 for pair in learned} & {pair.question_sha256 for pair in heldout}
