"""Feedback of members becomes pairs: with the posts that were cited, and without what was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agora.database import Database
from agora.integrity.labels import LABEL_SCHEMA, write_labels
from agora.posts.store import PostStore
from agora.server.accounts import Accounts
from agora.server.asking import Asked, Asker, Event
from agora.server.conversations import Conversations
from agora.server.feedback import feedback_pairs, pairs_of_feedback
from agora.server.running import Stopping
from agora.server.tables import open_database
from agora.settings import Workspace
from agora.training.preference_pairs import PairSet


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Workspace(tmp_path).create())
    yield opened
    opened.close()


def post(number: int, name: str) -> dict[str, Any]:
    about = {"author": f"author of {name}", "created_at": "2026-03-01T10:00:00+00:00", "voice": name, "label": None}
    return {"number": number, "post_id": name, "text": f"words of {name}", **about}


def say(database: Database, name: str, answer: str, *, question: str = "why?", cites: tuple[dict[str, Any], ...] = ()) -> tuple[int, int]:
    """Account and answer of a new conversation."""
    talks, account = Conversations(database), Accounts(database).ensure(name, scopes=["member"]).account
    talk = talks.begin(account, "talk")
    talks.add(account, talk, "user", question)
    return account, talks.add(account, talk, "assistant", answer, details={"citations": list(cites)})


def pairs(database: Database, gone: frozenset[tuple[str, str]] = frozenset()) -> PairSet:
    accounts = {row["id"]: row for row in Accounts(database).all()}
    return pairs_of_feedback(Conversations(database).rated(), accounts, gone)


def test_an_answer_asked_for_again_is_kept_for_its_rating_and_shown_to_nobody(database: Database) -> None:
    talks, account = Conversations(database), Accounts(database).ensure("ada", scopes=["member"]).account
    talk, said = talks.begin(account, "talk"), iter(["first", "second", "third"])

    def answer(asked: Asked) -> Iterator[Event]:
        assert [one["content"] for one in asked.messages] == ["why?"]
        yield Event("text", {"delta": next(said)})

    asker = Asker(talks, answer, Stopping())
    for text in ("why?", None, None):
        _, number, asked = asker.begin(account, talk, text)
        asker._work(number, asked, lambda event: None)
        if text is not None:
            talks.give_feedback(account, number, "down")
    assert [one["content"] for one in talks.read(account, talk)["messages"]] == ["why?", "third"]
    assert [(one.chosen, one.rejected) for one in pairs(database).pairs] == [("third", "first")]
    talks.ask(account, talk, "how?", after=talks.read(account, talk)["messages"][0]["id"])
    assert talks.rated() == []


def test_a_pair_has_the_posts_of_both_answers_in_its_prompt_and_numbers_that_fit(database: Database) -> None:
    talks = Conversations(database)
    account, good = say(database, "ada", "It is so. [1][2]", cites=(post(1, "p"), post(2, "q")))
    _, bad = say(database, "ada", "It is not. [1, 2]", cites=(post(1, "r"), post(2, "p")))
    talks.give_feedback(account, good, "up")
    talks.give_feedback(account, bad, "unsupported")
    (pair,) = pairs(database).pairs
    assert (pair.chosen, pair.rejected) == ("It is so. [1][2]", "It is not. [3, 1]")
    system, asked = pair.prompt
    assert system["role"] == "system" and asked["role"] == "user" and "why?" in asked["content"]
    places = [asked["content"].index(f"[{number}] 2026-03-01\nwords of {name}") for number, name in ((1, "p"), (2, "q"), (3, "r"))]
    assert places == sorted(places)
    assert pairs(database).pairs == [pair]  # the same each time: a stopped run goes on with it


def test_what_rests_on_deleted_posts_and_accounts_is_left_out(database: Database) -> None:
    talks = Conversations(database)
    for number, name in enumerate(("ada", "eve", "bob", "joe")):
        account, answer = say(database, name, "no", question=name, cites=(post(1, f"p{number}"),))
        talks.give_feedback(account, answer, "edit", "yes")
    Accounts(database).change("joe", is_disabled=True)
    gone = frozenset({("post", "p0"), ("author", "author of p1"), ("author", "bob")})
    found = pairs(database, gone=gone)
    assert [pair.prompt[-1]["content"].count("words of p2") for pair in found.pairs] == [1]  # bob the member is not bob the author
    assert found.left_out == {"rests on a deleted post": 2, "account disabled": 1}
    assert len(pairs(database).pairs) == 3


def test_a_member_is_no_author_of_that_name(database: Database, tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    for name in ("ada", "one", "two"):
        account, answer = say(database, name, "no", question=name)
        Conversations(database).give_feedback(account, answer, "edit", "yes")
    fixed = {
        "kind": "account",
        "campaign": "c1",
        "state": "synchronised",
        "is_automatic": True,
        "reason": "",
        "evidence": "",
        "confidence": 0.99,
    }
    named = [{**fixed, "id": name, "account": name, "appeal": "none", "expires_at": "2999-01-01T00:00:00Z"} for name in ("one", "two")]
    write_labels(pa.Table.from_pylist(named, schema=LABEL_SCHEMA), place.root / "integrity")
    with PostStore.open(place.folder("posts"), create=True) as store:
        store.delete_authors(["ada"])
    found = feedback_pairs(place)
    assert [pair.weight for pair in found.pairs] == [1.0] * 3 and not found.left_out


def test_a_workspace_gives_its_pairs_and_an_empty_one_none(database: Database, tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert feedback_pairs(place) == PairSet(pairs=[])
    account, answer = say(database, "ada", "no")
    Conversations(database).give_feedback(account, answer, "down")
    assert feedback_pairs(place).left_out == {"bad answer, and none that is better": 1}
