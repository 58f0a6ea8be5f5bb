"""The process that does the studio's long work. Goes in: a folder with `request.json`. Comes out: lines of progress, and `outcome.json`.

    python -m agora.server.studio.work FOLDER

kind `audiences`: found.json, the audiences of the workspace's posts     kind `ads`: out/, what `agora ads make` would write
An `ads` folder with like.json gets the audience of people like these accounts first; then the list is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from agora.errors import AgoraError, DataError
from agora.files import write_atomically
from agora.log import Progress, Step
from agora.server.studio.workshop import FAILED, FINISHED, LOCK, write_outcome
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.integrity.voice import Voices
    from agora.posts.store import PostStore

REQUEST: Final = "request.json"
FOUND: Final = "found.json"
LIKE: Final = "like.json"
_NICE: Final = 5
_EVERY_S: Final = 0.1
_TRIES: Final = 10


class _Lines:
    """Progress as JSON lines on standard output."""

    @contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        step = _Line(f"{title}{f' ({unit})' if unit else ''}", total)
        step.tell()
        yield step
        step.tell()


class _Line:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done, self._note, self._told = title, total, 0, "", 0.0

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        self._perhaps()

    def note(self, text: str) -> None:
        self._note = text
        self._perhaps()

    def _perhaps(self) -> None:
        if time.monotonic() - self._told >= _EVERY_S:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        _say(json.dumps({"title": self._title, "done": self._done, "total": self._total, "note": self._note}))


def main(folder: Path) -> int:
    """Do it. The exit code says only whether this process did its own part; the outcome stands in the folder."""
    os.nice(_NICE)
    threading.Thread(target=_listen, daemon=True).start()
    with (folder / LOCK).open("w") as lock:
        if not _alone(lock):
            write_outcome(folder, FAILED, message="Another process works on this; try again when it has ended")
            return 1
        request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        try:
            facts = {"audiences": find, "ads": make}[request["kind"]](folder, request, _Lines())
        except AgoraError as error:
            write_outcome(folder, FAILED, message=str(error).replace(f"{folder}/", ""))
            return 1
        write_outcome(folder, FINISHED, message="", **facts)
    return 0


def _alone(lock: IO[str]) -> bool:
    """Whether nobody else works on the folder. Who only looks (`is_worked_on`) is gone at the next try."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_EVERY_S)
    return False


def find(folder: Path, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The audiences of a workspace."""
    from agora.ads.audiences import find_audiences

    with _people(Workspace(Path(request["workspace"]))) as (store, voices, private):
        version = store.version
        found = find_audiences(store, voices, **private, progress=progress)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    table = {"at": at, "store_version": version, "audiences": [one.record() for one in found.audiences], "withheld": found.withheld}
    write_atomically(folder / FOUND, json.dumps(table, ensure_ascii=False) + "\n")
    return {"shown": len(found.audiences)}


@contextmanager
def _people(place: Workspace) -> Iterator[tuple[PostStore, Voices | None, dict[str, Any]]]:
    """Who writes here: the store, its voices, and whom audiences leave out and how they are counted."""
    from agora.ads.counts import workspace_counts
    from agora.ads.opt_outs import read_opt_outs
    from agora.integrity.voice import read_voices
    from agora.posts.store import PostStore

    with PostStore.open(place.folder("posts")) as store:
        voices = read_voices(place.root, deletions=store.deletions())
        yield store, voices, {"opted_out": read_opt_outs(place.root), "counts": workspace_counts(place.root)}


def _with_people_like(folder: Path, request: dict[str, Any], languages: Collection[str], progress: Progress) -> dict[str, Any]:
    """The request with the audience of people like the list, which is removed. Raises DataError for people of another language."""
    from agora.ads.audiences import lookalikes

    with _people(Workspace(folder.parents[2])) as (store, voices, private):
        found = lookalikes(store, json.loads((folder / LIKE).read_text(encoding="utf-8")), voices, **private, progress=progress)
    if found.language not in languages:
        raise DataError(f"the list writes in {found.language!r}, and the brief is in {', '.join(languages)}; add this language to it")
    request = {**request, "audiences": [found.record()]}
    write_atomically(folder / REQUEST, json.dumps(request, ensure_ascii=False, indent=1) + "\n")
    (folder / LIKE).unlink()
    return request


def make(folder: Path, request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The ads of a job."""
    from agora.ads.complete import sign_pictures
    from agora.ads.policy import Targeting
    from agora.ads.provenance import own_signer
    from agora.ads.studio import StudioConfig, make_ads
    from agora.server.studio.briefs import read_job_brief
    from agora.server.studio.jobs import audience_of
    from agora.server.studio.served_writer import ServedWriter

    brief = read_job_brief(folder / "brief")
    if (folder / LIKE).is_file():
        request = _with_people_like(folder, request, brief.languages, progress)
    aimed: dict[str, Any] = {key: tuple(value) for key, value in request["targeting"].items()}
    is_signed, model = bool(request.get("is_signed")), request.get("model")
    made = make_ads(
        brief, folder / "out", audiences=[audience_of(one) for one in request["audiences"]],
        writer=ServedWriter(model, _say, _heard) if model else None,
        config=StudioConfig(
            num_variants=request["variants"], seed=request["seed"], with_pictures=request["with_pictures"], with_credentials=is_signed
        ),
        targeting=Targeting(**aimed), progress=progress,
    )  # fmt: skip
    signer = own_signer(folder.parents[1] / "signing") if is_signed and made.num_pictures else None
    credentials = sign_pictures(made, signer, progress=progress)[1] if signer is not None else ""
    return {"pictures": made.num_pictures, "failed_checks": made.num_failed_checks, "credentials": credentials}


_heard: queue.SimpleQueue[str] = queue.SimpleQueue()
"""Lines from the server: answers of its model."""


def _listen() -> None:
    """The server holds the other end: when it dies, this process does."""
    with contextlib.suppress(OSError, ValueError):
        for line in sys.stdin:
            _heard.put(line)
    os._exit(1)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
