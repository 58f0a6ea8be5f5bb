"""Jobs of the ads studio, each a folder. Goes in: a brief, audiences, settings. Comes out: what is asked for and what is made.

WORKSPACE/ads/jobs/NAME/
  request.json    what is asked for, by whom      brief/         the brief with its pictures (briefs.py)
  like.json       accounts, until people like them are found
  out/            what the studio makes           results.csv    what a platform exported about these ads
  outcome.json    how the work ended              work.log       what the process said
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agora.ads.audiences import Audience
from agora.ads.brief import Brief
from agora.ads.job_folder import COPY, POLICY
from agora.ads.policy import Finding
from agora.ads.studio import BLOCKED, HELD, READY
from agora.errors import DataError
from agora.files import write_atomically
from agora.server.studio.briefs import read_job_brief
from agora.server.studio.work import REQUEST
from agora.settings import Workspace

RESULTS: Final = "results.csv"
COLUMNS: Final = "columns.json"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `owner`: the account whose it is."""

    folder: Path
    request: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name, which is also the job's address."""
        return self.folder.name

    @property
    def out(self) -> Path:
        """Where the studio writes."""
        return self.folder / "out"

    @property
    def owner(self) -> int:
        """The account's number."""
        return int(self.request["owner"])

    def brief(self) -> Brief:
        """The brief as it was sent."""
        return read_job_brief(self.folder / "brief")


@dataclass(frozen=True, slots=True)
class MadeVariant:
    """One variant as it lies in the folder. `pictures`: names of placements."""

    name: str
    audience: Mapping[str, Any]
    state: str
    findings: tuple[Finding, ...]
    pictures: tuple[str, ...]


def jobs_folder(place: Workspace) -> Path:
    """Where all jobs are."""
    return place.folder("ads") / "jobs"


def new_job(place: Workspace, draft: Path, request: Mapping[str, Any], product: str) -> Job:
    """A job of a folder that holds a brief already; the folder is moved to its place."""
    root = jobs_folder(place)
    root.mkdir(parents=True, exist_ok=True)
    plain = unicodedata.normalize("NFKD", product).encode("ascii", "ignore").decode().lower()
    name = "-".join(re.findall(r"[a-z0-9]+", plain))[:40].strip("-") or "ads"
    folder = root / f"{name}-{secrets.token_hex(3)}"
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    write_atomically(draft / REQUEST, json.dumps({"kind": "ads", "made_at": at, **request}, ensure_ascii=False, indent=1) + "\n")
    draft.rename(folder)
    return read_job(place, folder.name)


def read_job(place: Workspace, name: str) -> Job:
    """A job by its name. Raises DataError where there is none."""
    folder = jobs_folder(place) / name
    if not _NAME.fullmatch(name) or not (folder / REQUEST).is_file():
        raise DataError(f"there are no ads {name[:80]!r}")
    return Job(folder, json.loads((folder / REQUEST).read_text(encoding="utf-8")))


def all_jobs(place: Workspace) -> list[Job]:
    """All of them, the newest first."""
    found = [read_job(place, path.parent.name) for path in jobs_folder(place).glob(f"*/{REQUEST}") if _NAME.fullmatch(path.parent.name)]
    return sorted(found, key=lambda job: (job.request["made_at"], job.name), reverse=True)


def delete_job(job: Job) -> None:
    """Remove a job with all that was made."""
    (job.folder / REQUEST).unlink()
    shutil.rmtree(job.folder)


def made_variants(job: Job) -> list[MadeVariant]:
    """What is made so far, in the order of the report; of a job that still runs, in that of the folders."""
    report = job.out / POLICY
    if report.is_file():
        table = json.loads(report.read_text(encoding="utf-8"))["variants"]
        return [
            MadeVariant(
                name=one["name"], audience=one["audience"], state=one["state"], pictures=tuple(one["pictures"]),
                findings=tuple(Finding(**found) for found in one["findings"]),
            )
            for one in table
        ]  # fmt: skip
    audiences = {one["id"]: one for one in job.request["audiences"]}
    return [_unreported(folder, audiences) for folder in _made_folders(job)]


def not_written(job: Job) -> list[Mapping[str, str]]:
    """Texts that were blocked while they were written, with the reason."""
    report = job.out / POLICY
    return list(json.loads(report.read_text(encoding="utf-8"))["not_written"]) if report.is_file() else []


def variant_named(job: Job, name: str) -> MadeVariant:
    """One variant. Raises DataError."""
    found = next((one for one in made_variants(job) if one.name == name), None)
    if found is None:
        raise DataError(f"{job.name} has no variant {name[:120]!r}")
    return found


def picture_file(job: Job, name: str, placement: str, ending: str) -> Path:
    """The file of a picture. Raises DataError for what was not made, whatever the words are."""
    variant = variant_named(job, name)
    if placement not in variant.pictures or ending not in ("png", "svg"):
        raise DataError(f"{name[:120]} has no picture {placement[:60]!r}")
    return job.out / variant.name / f"{placement}.{ending}"


def audience_of(record: Mapping[str, Any]) -> Audience:
    """An audience from its record."""
    return Audience(**{**record, "terms": tuple(record["terms"]), "names": tuple(record["names"])})


def _made_folders(job: Job) -> Iterator[Path]:
    for path in sorted(job.out.glob(f"*/*/{COPY}")):
        if not path.parent.name.startswith("."):
            yield path.parent


def _unreported(folder: Path, audiences: Mapping[str, Any]) -> MadeVariant:
    findings = tuple(Finding(**one) for one in json.loads((folder / POLICY).read_text(encoding="utf-8")))
    state = BLOCKED if any(one.severity == "block" for one in findings) else HELD if findings else READY
    everybody = {
        "id": "everybody",
        "label": "everybody",
        "terms": [],
        "names": [],
        "num_authors": 0,
        "language": "und",
        "is_lookalike": False,
    }
    pictures = tuple(sorted(path.stem for path in folder.glob("*.png")))
    name = f"{folder.parent.name}/{folder.name}"
    return MadeVariant(name, audiences.get(folder.parent.name, everybody), state, findings, pictures)


__all__ = [
    "COLUMNS", "RESULTS", "Job", "MadeVariant", "all_jobs", "audience_of", "delete_job", "jobs_folder", "made_variants", "new_job",
    "not_written", "picture_file", "read_job", "variant_named",
]  # fmt: skip
