"""Promoting a model. Goes in: the name of a model or of a run, and the workspace. Comes out: an `Outcome`: the suite's verdict, and what is
served from now on.

    agora model promote chat-2
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agora.errors import AgoraError, UsageError
from agora.log import Progress, silent
from agora.model.find import find_model
from agora.server.feedback import feedback_pairs
from agora.server.promotion import Promoted, Promotions
from agora.server.records import AuditLog
from agora.server.suite import Material, Tolerances, Verdict, judge
from agora.server.tables import DATABASE_FILE, DATABASE_VARIABLE, open_database
from agora.settings import DEFAULT_NAME, Workspace
from agora.training.evaluate import evenly_spaced, file_texts, heldout_texts
from agora.training.export_checkpoint import export_checkpoint
from agora.training.preference_pairs import PreferencePair
from agora.training.preference_tuning import HELDOUT_SHARE
from agora.training.run_folder import RunFolder

NUM_DOCUMENTS: Final = 200
KEEP: Final = 5
"""Promotions whose models stay on the disk."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`promoted` is None where the suite refused. `before`: the name of what was served, if anything was."""

    candidate: str
    before: str | None
    verdict: Verdict
    promoted: Promoted | None


def promote(
    place: Workspace,
    wanted: str,
    *,
    by: str,
    tolerances: Tolerances,
    corpus: str | None = None,
    texts: Sequence[Path] = (),
    num_documents: int = NUM_DOCUMENTS,
    force: str | None = None,
    keep: int = KEEP,
    progress: Progress = silent,
) -> Outcome:
    """Serve the model `wanted` (a name or folder, or a run, of which the newest checkpoint is taken) if the suite lets it, or with
    `force`, a reason. Measured on `texts`, or on the held-out authors of a corpus (default: main). The models of the `keep` newest
    promotions stay, older ones go; the server's audit log has it all.

    Raises UsageError for a model that is served already or does not exist, DataError without text to measure on.
    """
    if force is not None and not force.strip():
        raise UsageError("--force needs a reason, which is kept in the record")
    if keep < 1:
        raise UsageError(f"--keep {keep}: at least the model that is served is kept")
    promotions = Promotions(place)
    with promotions.locked(), _candidate(place, wanted, promotions.folder) as (folder, name):
        current = promotions.current()
        unpromoted = None if current is not None else _usual(place)
        if current is not None and _same_weights(folder, current.folder):
            raise UsageError(f"{name} is what is served now (promotion {current.number})")
        if unpromoted is not None and unpromoted.resolve() == folder.resolve():
            unpromoted = None
        served = current.folder if current is not None else unpromoted
        read = file_texts(list(texts)) if texts else heldout_texts(place.folder("corpus", corpus or DEFAULT_NAME))
        material = Material(evenly_spaced(read, num_documents), _heldout_pairs(place))
        verdict = judge(folder, served, material, tolerances, progress=progress)
        promoted = None
        if verdict.holds or force is not None:
            figures = {"measures": [asdict(one) for one in verdict.measures], "broken": verdict.broken, "tolerances": asdict(tolerances)}
            reason = "" if verdict.holds else str(force).strip()
            promoted = promotions.promote(folder, name, by=by, figures=figures, reason=reason, before=unpromoted)
            removed = promotions.prune(keep)
            told = {"model": name, "in_place_of": current.number if current is not None else None, "reason": reason, "removed": removed}
            _audit(place, by, "models.promote", promoted.number, told)
    before = current.name if current is not None else unpromoted.name if unpromoted is not None else None
    return Outcome(candidate=name, before=before, verdict=verdict, promoted=promoted)


def roll_back(place: Workspace, *, by: str, reason: str = "") -> Promoted:
    """Serve what was served before. Raises UsageError where there is nothing."""
    promotions = Promotions(place)
    with promotions.locked():
        before, back = promotions.current(), promotions.roll_back(by=by, reason=reason)
        told = {"model": back.name, "in_place_of": before.number if before is not None else None, "reason": reason}
        _audit(place, by, "models.rollback", back.number, told)
        return back


def _audit(place: Workspace, who: str, action: str, number: int, details: dict[str, Any]) -> None:
    """Tell the server's audit log. The switch is made and recorded by then, so a database that fails is only warned of."""
    try:
        database = open_database(place)
        try:
            AuditLog(database).add(who, action, str(number), **details)
        finally:
            database.close()
    except AgoraError as error:
        logger.warning("the audit log has no entry of %s %d: %s", action, number, error)


@contextmanager
def _candidate(place: Workspace, wanted: str, scratch: Path) -> Iterator[tuple[Path, str]]:
    """The model folder and the name to serve it under. A run is exported for as long as it is looked at."""
    run = place.folder("runs", wanted) if Path(wanted).name == wanted else Path(wanted)
    has_model = (place.folder("models", run.name) / "config.json").is_file() if Path(wanted).name == wanted else False
    if has_model or not RunFolder(run).holds_run():
        folder = find_model(place, wanted)
        yield folder, folder.resolve().name
        return
    with tempfile.TemporaryDirectory(prefix=".candidate-", dir=scratch) as draft:
        found = export_checkpoint(run, Path(draft) / run.name)
        logger.info("%s: the checkpoint of step %d is measured", run, found["step"])
        yield Path(draft) / run.name, run.name


def _usual(place: Workspace) -> Path | None:
    """What `agora serve` serves where nothing was promoted."""
    try:
        return find_model(place, None)
    except UsageError:
        return None


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files of weights: one was linked from the other, and not written since."""
    files = [{(file.name, file.stat().st_ino) for file in folder.glob("*.safetensors")} for folder in (one, other)]
    return bool(files[0]) and files[0] == files[1]


def _heldout_pairs(place: Workspace) -> list[PreferencePair]:
    """Pairs of members' feedback that no model learns from."""
    if not os.environ.get(DATABASE_VARIABLE) and not (place.folder("server") / DATABASE_FILE).exists():
        return []
    return feedback_pairs(place).split(HELDOUT_SHARE)[1]


def as_plain(outcome: Outcome) -> dict[str, Any]:
    """For the screen and for --json."""
    verdict, promoted = outcome.verdict, outcome.promoted
    return {
        "candidate": outcome.candidate, "served_before": outcome.before, "holds": verdict.holds,
        "promoted": promoted is not None, "number": promoted.number if promoted is not None else None,
        "measures": [asdict(one) | {"holds": one.holds} for one in verdict.measures], "reasons": verdict.reasons,
    }  # fmt: skip
