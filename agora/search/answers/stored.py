"""Stored answers. Goes in: answers. Comes out: the same answer to the same question, for as long as nothing has changed.

    workspace/search/answers/POSITION-HASH.json     one file per answer, written whole

POSITION is the version of the post store. The key behind HASH (`ask.answer_key`, with what `workspace.py` adds to it) is the question as
read, its queries, the writer, the settings, the state of the index and the labels: after any new post, deletion or label nothing old is
found. Files of other positions go with the next `catch_up` or `put`, their bytes are overwritten first: they may rest on words that were
deleted or edited since.

Not covered: copies that the file system or a backup keeps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agora.files import sync, write_atomically
from agora.posts.store import PostStore
from agora.search.answers.ask import without_posts
from agora.search.answers.records import Answer, Evidence, Quote, Refused, Sentence

log = logging.getLogger(__name__)

FORMAT: Final = 2
"""Of the files, and of the rules by which answers are made: an answer by earlier rules is made anew."""
_DRAFT_S: Final = 60.0
"""The writer of an older draft was killed."""
MAX_ANSWERS: Final = 1_000
"""The oldest go beyond this."""


class StoredAnswers:
    """One folder of answers. Several processes may use it: every file is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, position: int) -> Answer | None:
        """The answer stored for `key` at this position of the index, if there is one."""
        try:
            content = json.loads(self._file(key, position).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("stored answer cannot be read and is made anew: %s", error)
            return None
        return _answer(content["answer"]) if content.get("format") == FORMAT and content.get("position") == position else None

    def put(self, key: str, position: int, answer: Answer) -> None:
        """Store an answer, as far as it shows: with the posts it cites. Answers of earlier positions go."""
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = without_posts(answer)
        content = {"format": FORMAT, "position": position, "answer": asdict(kept)}
        write_atomically(self._file(key, position), json.dumps(content, ensure_ascii=False, default=_plain))
        self._remove_others(position)
        recent = sorted(self._files(), key=lambda file: (_written_at(file), file.name))
        self._remove(recent[:-MAX_ANSWERS])

    def catch_up(self, store: PostStore) -> int:
        """Remove what was answered before the last change of the store: after a deletion or an edit no file holds what it took back. Call
        it after a change and before an answer is taken from here. Returns how many went."""
        return self._remove_others(store.version)

    def _remove_others(self, position: int) -> int:
        """Remove the files of other positions."""
        others = [file for file in self._files() if _position(file) != position]
        self._remove(others)
        return len(others)

    def __len__(self) -> int:
        return sum(1 for _ in self._files())

    def _file(self, key: str, position: int) -> Path:
        return self._folder / f"{position}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _files(self) -> Iterator[Path]:
        """Answers, and drafts that a killed writer left."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.suffix == ".json" or (path.suffix == ".part" and time.time() - _written_at(path) > _DRAFT_S):
                    yield path

    def _remove(self, files: list[Path]) -> None:
        for file in files:
            try:
                with file.open("r+b") as content:
                    content.write(b" " * file.stat().st_size)
                    content.flush()
                    os.fsync(content.fileno())
                file.unlink()
            except FileNotFoundError:
                continue  # another process was first
        if files and self._folder.is_dir():
            sync(self._folder)


def _position(file: Path) -> int:
    """The position that a file was answered at; of one that says none (a draft that was left), before all."""
    first = file.name.partition("-")[0]
    return int(first) if first.isdigit() else -1


def _written_at(file: Path) -> float:
    """Seconds since 1970; now where another process has just removed it."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _plain(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat()


def _answer(content: dict[str, Any]) -> Answer:
    sentences = [
        Sentence(
            one["text"], tuple(one["post_ids"]), tuple(Quote(**quote) for quote in one["quotes"]), tuple(one["labelled"])
        )
        for one in content["sentences"]
    ]  # fmt: skip
    evidence = [Evidence(**{**one, "created_at": datetime.fromisoformat(one["created_at"])}) for one in content["evidence"]]
    return Answer(
        **{
            **content, "sentences": tuple(sentences), "evidence": tuple(evidence), "warnings": tuple(content["warnings"]),
            "refused": tuple(Refused(**one) for one in content["refused"]),
        }
    )  # fmt: skip
