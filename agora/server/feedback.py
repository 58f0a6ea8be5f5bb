"""From the server's database to preference pairs. Goes in: what members said about answers, and the workspace's deletions. Comes out: a
`PairSet` for `agora train preferences`; agora/training/feedback.py has the rules.

An answer from posts was written from a prompt that holds posts. Its pair gets such a prompt again, with the posts that either answer
cites, numbered anew; the numbers in the answers follow. Left out is feedback of accounts that are disabled, and what rests on a post, or
an author's posts, that were deleted since: such an answer holds their words.

A voice is an account of the server. Accounts of the server and authors of posts are different people, whatever their names.

Not covered: posts that the writer saw and neither answer cites; they are not stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from agora.posts.store import PostStore
from agora.search.answers.prompt import build
from agora.search.answers.records import Evidence
from agora.server.accounts import Accounts
from agora.server.conversations import Conversations
from agora.server.tables import open_database
from agora.settings import Workspace
from agora.training.feedback import Rating, pairs_of
from agora.training.preference_pairs import Message, PairSet, PreferencePair

UNFINISHED: Final = ("writing", "failed", "interrupted", "stopped")
_NEEDED: Final = ("number", "post_id", "author", "created_at", "text", "voice")
_NUMBERS: Final = re.compile(r"\[(\d{1,3}(?: ?, ?\d{1,3})*)\]")

Citations = Sequence[Mapping[str, Any]]


def feedback_pairs(place: Workspace) -> PairSet:
    """The pairs that the feedback of a workspace makes. Raises DataError where the database or the posts cannot be read."""
    database = open_database(place)
    try:
        rated, accounts = Conversations(database).rated(), {row["id"]: row for row in Accounts(database).all()}
    finally:
        database.close()
    gone: frozenset[tuple[str, str]] = frozenset()
    if place.folder("posts").is_dir():
        with PostStore.open(place.folder("posts")) as store:
            gone = frozenset((row["kind"], row["key"]) for row in store.deletions().to_pylist())
    return pairs_of_feedback(rated, accounts, gone)


def pairs_of_feedback(
    rated: Sequence[Mapping[str, Any]], accounts: Mapping[int, Mapping[str, Any]], gone: frozenset[tuple[str, str]]
) -> PairSet:
    """`rated` as Conversations.rated has it; `gone`: ('post', id) and ('author', name) that were deleted."""
    left_out: Counter[str] = Counter()
    ratings, cited = list[Rating](), dict[tuple[str, str], tuple[str, Citations]]()
    for row in rated:
        account = accounts[row["account"]]
        if reason := _unusable(row, account, gone):
            left_out[reason] += 1
            continue
        question = [{"role": one["role"], "content": one["content"]} for one in row["before"]]
        answer, text, other = row["content"].strip(), row["text"].strip(), row["instead"] if row["state"] == "replaced" else None
        if other is not None and _is_gone(other["details"], gone):
            other = None
        ratings.append(
            Rating(
                question=question, answer=answer, kind=row["kind"], voice=f"account:{account['id']}", text=text,
                instead=other["content"].strip() if other is not None else "",
            )
        )  # fmt: skip
        key, asked = json.dumps(question, sort_keys=True), str(row["details"].get("question") or question[-1]["content"])
        cited[key, answer] = cited[key, text] = (asked, _citations(row["details"]))
        if other is not None:
            cited.setdefault((key, other["content"].strip()), (asked, _citations(other["details"])))
    found = pairs_of(ratings)
    pairs = [_with_posts(pair, cited) for pair in found.pairs]
    return PairSet(pairs=pairs, left_out=dict(left_out + Counter(found.left_out)))


def _unusable(row: Mapping[str, Any], account: Mapping[str, Any], gone: frozenset[tuple[str, str]]) -> str:
    """Why a rating is left out; empty for one that counts."""
    if account["disabled_at"] is not None:
        return "account disabled"
    if row["state"] in UNFINISHED:
        return "unfinished answer"
    if not row["content"].strip() or not row["before"] or row["before"][-1]["role"] != "user":
        return "no question or no answer"
    if any(_is_gone(details, gone) for details in (row["details"], *row["before"])):
        return "rests on a deleted post"
    return ""


def _is_gone(details: Mapping[str, Any], gone: frozenset[tuple[str, str]]) -> bool:
    return any(("post", one["post_id"]) in gone or ("author", one["author"]) in gone for one in _citations(details))


def _citations(details: Mapping[str, Any]) -> Citations:
    """The posts that a message cites; what lacks what a prompt needs is none."""
    found = [one for one in details.get("citations") or () if isinstance(one, Mapping)]
    return [{name: one.get(name, "") for name in _NEEDED} | {"label": one.get("label")} for one in found if one.get("post_id")]


def _with_posts(pair: PreferencePair, cited: Mapping[tuple[str, str], tuple[str, Citations]]) -> PreferencePair:
    """The pair as a writer meets it: the posts of both answers in the prompt, and the answers' numbers those of the prompt."""
    key = json.dumps(pair.prompt, sort_keys=True)
    question, _ = cited[key, pair.chosen]
    sides = [cited[key, answer][1] for answer in (pair.chosen, pair.rejected)]
    posts = {str(one["post_id"]): one for side in sides for one in side if one["text"] and one["created_at"]}
    if not posts:
        return pair
    number_of = {post_id: number for number, post_id in enumerate(posts, start=1)}
    mark = hashlib.sha256(json.dumps([key, *posts]).encode()).hexdigest()[:32]  # the same each time: a stopped run must find its pairs
    prompt = build(question, [_evidence(posts[post_id], number) for post_id, number in number_of.items()], mark=mark)
    chosen, rejected = (
        _renumbered(answer, {int(one["number"]): number_of[one["post_id"]] for one in side if one["post_id"] in number_of})
        for answer, side in zip((pair.chosen, pair.rejected), sides, strict=True)
    )
    messages: list[Message] = [dict(message) for message in prompt.messages]
    return replace(pair, prompt=messages, chosen=chosen, rejected=rejected)


def _renumbered(answer: str, numbers: Mapping[int, int]) -> str:
    def new(match: re.Match[str]) -> str:
        found = [int(number) for number in match.group(1).split(",")]
        return f"[{', '.join(str(numbers[number]) for number in found)}]" if all(number in numbers for number in found) else match.group()

    return _NUMBERS.sub(new, answer)


def _evidence(citation: Mapping[str, Any], number: int) -> Evidence:
    return Evidence(
        number=number, id=str(citation["post_id"]), author=str(citation["author"]), text=str(citation["text"]), kind="post",
        created_at=datetime.fromisoformat(str(citation["created_at"])), ref_id=None, ref_author=None,
        voice=str(citation["voice"]), label=citation["label"], alike=0, score=0.0,
    )  # fmt: skip
