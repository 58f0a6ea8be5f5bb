"""Which model is served, and how it came there. Goes in: model folders that the suite (suite.py) let through. Comes out: a pointer that
names the served one, the record of every promotion, and the way back.

WORKSPACE/serving/
  served.json            the pointer, with every switch that was ever made: the old one or the new one after a kill
  0002/promotion.json    who promoted what and when, in place of which, with the suite's figures
  0002/model/            the model as it was then, as hard links: training under its name again changes nothing here

A promotion is written whole before the pointer moves. Of old promotions the models go and the records stay (`prune`). Numbers above the
pointer's `last` are of promotions that a kill cut short; the next one takes them away.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal

from agora.errors import DataError, UsageError
from agora.files import replacing_folder, write_atomically
from agora.settings import Workspace

POINTER: Final = "served.json"
RECORD: Final = "promotion.json"
MODEL: Final = "model"


@dataclass(frozen=True, slots=True)
class Promoted:
    """What is served. `earlier_names`: every name that was served before in its place."""

    number: int
    name: str
    folder: Path
    at: str
    by: str
    earlier_names: tuple[str, ...] = ()


class Promotions:
    """The promotions of one workspace."""

    def __init__(self, place: Workspace) -> None:
        self.folder = place.folder("serving")

    def current(self) -> Promoted | None:
        """What is served; None where nothing was promoted. Raises DataError when the pointer or its record is damaged."""
        pointer = self._pointer()
        if pointer is None:
            return None
        number = int(pointer["number"])
        record, switch = self.record(number), pointer["history"][-1]
        names = dict.fromkeys(name for one in pointer["history"] if (name := self._name_or_none(one["to"])) is not None)
        return Promoted(number, record["name"], self._place(number) / MODEL, switch["at"], switch["by"], tuple(names))

    def current_or_none(self) -> Promoted | None:
        """As `current`, and None where it is damaged."""
        try:
            return self.current()
        except (DataError, OSError):
            return None

    def record(self, number: int) -> dict[str, Any]:
        """The record of a promotion. Raises DataError."""
        path = self._place(number) / RECORD
        record = _read(path)
        if not isinstance(record.get("name"), str):
            raise _damaged(path, "it has no name")
        return record

    def _name_or_none(self, number: int) -> str | None:
        """The name of a promotion; None where its folder was removed or its record is damaged."""
        try:
            return str(self.record(number)["name"])
        except DataError:
            return None

    def history(self) -> list[dict[str, Any]]:
        """Every switch, the oldest first: at, by, action, from, to, reason."""
        pointer = self._pointer()
        return [] if pointer is None else list(pointer["history"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One promotion at a time. Raises UsageError when another one is being made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError("another promotion is being made in this workspace; wait for it") from None
            yield
        finally:
            os.close(descriptor)

    def promote(
        self, model: Path, name: str, *, by: str, figures: Mapping[str, Any], reason: str = "", before: Path | None = None
    ) -> Promoted:
        """Serve the folder `model` under `name`. `before`: what was served without ever being promoted; it gets a number too, so that
        there is a way back. `reason`: why, where the suite had refused. Call it inside `locked`."""
        pointer = self._pointer()
        last = 0 if pointer is None else int(pointer["last"])
        self._clean(last)
        previous = None if pointer is None else int(pointer["number"])
        history = [] if pointer is None else list(pointer["history"])
        if previous is None and before is not None:
            last = previous = self._keep(last + 1, before, before.name, by=by, figures={}, reason="served before the first promotion")
            history.append(_switch(by, "begin", None, previous, ""))
        number = self._keep(last + 1, model, name, by=by, figures=figures, reason=reason, previous=previous)
        history.append(_switch(by, "force" if reason else "promote", previous, number, reason))
        self._point(number, number, history)
        current = self.current()
        assert current is not None
        return current

    def roll_back(self, *, by: str, reason: str = "") -> Promoted:
        """Serve what was served before the present model was promoted. Raises UsageError where there is nothing. Inside `locked`."""
        pointer = self._pointer()
        if pointer is None:
            raise UsageError("nothing was promoted in this workspace, so there is nothing to go back to")
        number = int(pointer["number"])
        previous = self.record(number).get("previous")
        if previous is None:
            raise UsageError(f"promotion {number} is the first one; there is nothing before it to go back to")
        name = self.record(int(previous))["name"]
        if not (self._place(int(previous)) / MODEL).is_dir():
            raise UsageError(
                f"the model of promotion {previous}, {name}, was removed as an old one; promote it again: agora model promote {name}"
            )
        self._point(int(previous), int(pointer["last"]), [*pointer["history"], _switch(by, "rollback", number, int(previous), reason)])
        current = self.current()
        assert current is not None
        return current

    def prune(self, keep: int) -> list[int]:
        """Remove the models of old promotions; their records stay. Kept are the one that is served, the one before it, and the `keep`
        newest. Gives the numbers of what was removed. Inside `locked`; a kill leaves some of them there."""
        pointer = self._pointer()
        if pointer is None:
            return []
        number = int(pointer["number"])
        numbers = sorted((int(one.parent.name) for one in self.folder.glob(f"*/{MODEL}") if one.parent.name.isdecimal()), reverse=True)
        kept = {number, self.record(number).get("previous"), *numbers[:keep]}
        removed = [one for one in numbers if one not in kept]
        for one in removed:
            gone = self._place(one) / f".{MODEL}-removed"  # at once: half a model is never in its place
            (self._place(one) / MODEL).rename(gone)
            shutil.rmtree(gone)
        return removed

    def _keep(
        self, number: int, model: Path, name: str, *, by: str, figures: Mapping[str, Any], reason: str, previous: int | None = None
    ) -> int:
        """The folder of a promotion, whole or absent."""
        with replacing_folder(self._place(number)) as draft:
            _link(model, draft / MODEL)
            record = {
                "number": number, "name": name, "model": str(model), "at": _now(), "by": by, "previous": previous, "reason": reason,
                "figures": dict(figures),
            }  # fmt: skip
            write_atomically(draft / RECORD, json.dumps(record, indent=2) + "\n")
        return number

    def _point(self, number: int, last: int, history: list[dict[str, Any]]) -> None:
        write_atomically(self.folder / POINTER, json.dumps({"number": number, "last": last, "history": history}, indent=2) + "\n")

    def _clean(self, last: int) -> None:
        for folder in self.folder.iterdir():
            if folder.name.isdecimal() and int(folder.name) > last:
                shutil.rmtree(folder)

    def _pointer(self) -> dict[str, Any] | None:
        path = self.folder / POINTER
        if not path.exists():
            return None
        pointer = _read(path)
        history = pointer.get("history")
        if not (_is_number(pointer.get("number")) and _is_number(pointer.get("last"))):
            raise _damaged(path, "number and last must be whole numbers")
        if not (isinstance(history, list) and history and all(_is_switch(one) for one in history)):
            raise _damaged(path, "history must be a list of switches")
        return pointer

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:04d}"


def _switch(by: str, action: Literal["begin", "promote", "force", "rollback"], old: int | None, new: int, reason: str) -> dict[str, Any]:
    return {"at": _now(), "by": by, "action": action, "from": old, "to": new, "reason": reason}


def _link(source: Path, target: Path) -> None:
    """The files of a model folder: hard links where the disk can, else copies. A folder that is written anew gets other files."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file():
            try:
                os.link(file.resolve(), target / file.name)
            except OSError:
                shutil.copyfile(file, target / file.name)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_switch(value: object) -> bool:
    return isinstance(value, dict) and _is_number(value.get("to")) and all(isinstance(value.get(key), str) for key in ("at", "by"))


def _damaged(path: Path, why: object) -> DataError:
    return DataError(f"{path} is damaged ({why}); `agora serve --model NAME` serves a model without it")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, "a table was expected")
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
