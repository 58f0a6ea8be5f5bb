"""Conversations: whole or not at all, and one's own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agora.database import Database
from agora.errors import UsageError
from agora.server.accounts import Accounts
from agora.server.areas import People
from agora.server.conversations import Conversations
from agora.server.tables import open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "server.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url"))
    for name in ("ada", "eve"):
        Accounts(opened).add(name, scopes=["member"])
    yield opened
    opened.close()


@pytest.fixture
def talks(database: Database) -> Conversations:
    return Conversations(database)


ADA, EVE = 1, 2


def test_messages_come_back_in_order_with_their_details(talks: Conversations) -> None:
    talk = talks.begin(ADA, "  What   happened\nat the bridge? ")
    talks.add(ADA, talk, "user", "What happened? 🌉 ")
    answer = talks.add(ADA, talk, "assistant", "", state="writing")
    talks.write(answer, "It is", state="writing")
    talks.write(answer, "It is closed.", state="complete", details={"citations": ["p1"]})
    talks.write(answer, "too late", state="complete")
    read = talks.read(ADA, talk)
    assert read["title"] == "What happened at the bridge?"
    assert [(one["role"], one["content"], one["state"]) for one in read["messages"]] == [
        ("user", "What happened? 🌉 ", "complete"), ("assistant", "It is closed.", "complete"),
    ]  # fmt: skip
    assert read["messages"][1]["details"] == {"citations": ["p1"]}


def test_nobody_reads_or_changes_the_conversation_of_another(talks: Conversations) -> None:
    talk = talks.begin(ADA, "mine")
    answer = talks.add(ADA, talk, "assistant", "hello")
    for attempt in (
        lambda: talks.read(EVE, talk), lambda: talks.rename(EVE, talk, "x"), lambda: talks.share(EVE, talk, is_shared=True),
        lambda: talks.delete(EVE, talk), lambda: talks.add(EVE, talk, "user", "x"), lambda: talks.ask(EVE, talk, None, after=answer),
        lambda: talks.give_feedback(EVE, answer, "up"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="there is no"):
            attempt()
    assert talks.all(EVE) == [] and talks.read(ADA, talk)["messages"][0]["content"] == "hello"


def test_a_shared_conversation_is_read_by_its_link_until_it_is_taken_back(talks: Conversations, database: Database) -> None:
    talk = talks.begin(ADA, "mine")
    token = talks.share(ADA, talk, is_shared=True)
    assert token is not None and token == talks.share(ADA, talk, is_shared=True)
    assert "account" not in talks.read_shared(token)
    Accounts(database).change("ada", is_disabled=True)
    with pytest.raises(UsageError, match="no shared conversation"):
        talks.read_shared(token)
    Accounts(database).change("ada", is_disabled=False)
    assert talks.read_shared(token)["id"] == talk
    talks.share(ADA, talk, is_shared=False)
    with pytest.raises(UsageError, match="taken back"):
        talks.read_shared(token)


def test_deleting_takes_messages_and_feedback_along(talks: Conversations) -> None:
    talk = talks.begin(ADA, "mine")
    talks.give_feedback(ADA, talks.add(ADA, talk, "assistant", "hello"), "down")
    talks.delete(ADA, talk)
    assert talks.rated() == [] and talks.all(ADA) == []


def test_text_that_no_database_holds_is_kept_as_far_as_it_goes(talks: Conversations) -> None:
    talk = talks.begin(ADA, "a\0b")
    talks.give_feedback(ADA, talks.add(ADA, talk, "assistant", "x\0\ud800y"), "edit", "\0!")
    assert talks.read(ADA, talk)["messages"][0]["content"] == "x\ufffd?y" and talks.rated()[0]["text"] == "\ufffd!"


def test_regenerating_cuts_an_answer_and_what_came_after(talks: Conversations) -> None:
    talk = talks.begin(ADA, "mine")
    numbers = [talks.add(ADA, talk, role, role) for role in ("user", "assistant", "user", "assistant")]
    question, answer, _ = talks.ask(ADA, talk, None, after=numbers[1])
    assert question == numbers[0] and [one["id"] for one in talks.read(ADA, talk)["messages"]] == [question, answer]


def test_feedback_is_one_of_a_kind_and_knows_what_was_asked(talks: Conversations) -> None:
    talk = talks.begin(ADA, "mine")
    talks.add(ADA, talk, "user", "question")
    answer = talks.add(ADA, talk, "assistant", "answer")
    for kind, text in (("up", ""), ("down", ""), ("edit", "better"), ("edit", "best")):
        talks.give_feedback(ADA, answer, kind, text)
    rated = talks.rated()
    assert [(one["kind"], one["text"]) for one in rated] == [("down", ""), ("edit", "best")]
    assert rated[0]["before"] == [{"role": "user", "content": "question"}] and rated[0]["content"] == "answer"
    with pytest.raises(UsageError, match="unknown kind of feedback 'upp'; did you mean 'up'"):
        talks.give_feedback(ADA, answer, "upp")
    with pytest.raises(UsageError, match="empty"):
        talks.give_feedback(ADA, answer, "edit", " ")


def test_a_second_server_leaves_the_answers_of_the_first_whole(database: Database) -> None:
    first = People.of(database).talks
    talk = first.begin(ADA, "talk")
    answers = [first.add(ADA, talk, "assistant", "", state="writing") for _ in range(2)]
    second = People.of(database).talks
    assert [one["state"] for one in second.read(ADA, talk)["messages"]] == ["interrupted", "interrupted"]
    first.write(answers[0], "half", state="writing")
    assert second.read(ADA, talk)["messages"][0]["state"] == "writing"
    People.of(database)
    first.write(answers[0], "whole", state="complete", details={"steps": []})
    first.write(answers[0], "too late", state="complete")
    assert [(one["content"], one["state"]) for one in second.read(ADA, talk)["messages"]] == [("whole", "complete"), ("", "interrupted")]


_WRITER = """
import sys
from pathlib import Path
from agora.server.conversations import Conversations
from agora.server.tables import open_database
talks = Conversations(open_database(Path(sys.argv[1])))
talk = talks.begin(1, "talk")
number = 0
while True:
    number += 1
    talks.add(1, talk, "user", f"question {number}")
    answer = talks.add(1, talk, "assistant", "", state="writing")
    talks.write(answer, f"half {number}", state="writing")
    talks.write(answer, f"whole {number}", state="complete")
    print(number, flush=True)
"""


def test_a_killed_server_leaves_whole_messages_and_says_which_answer_was_interrupted(tmp_path: Path) -> None:
    place = tmp_path / "server.db"
    database = open_database(place)
    Accounts(database).add("ada", scopes=["member"])
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= 20:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    talks = Conversations(database)
    talks.mark_interrupted()
    messages = talks.read(1, talks.all(1)[0]["id"])["messages"]
    answers = [one for one in messages if one["role"] == "assistant"]
    assert [one["content"] for one in answers[:acknowledged]] == [f"whole {number + 1}" for number in range(acknowledged)]
    assert all(one["state"] == "complete" for one in answers[:acknowledged])
    assert all(one["state"] in ("complete", "interrupted") for one in answers[acknowledged:])
    database.close()
