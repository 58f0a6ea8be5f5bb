"""Ads: audiences, briefs, jobs that make texts and pictures, releases, sheets, experiments.

GET  /api/v1/ads/kit                                     POST /api/v1/ads/briefs/check
GET, POST /api/v1/ads/audiences                          GET, POST /api/v1/ads/jobs
GET, DELETE /api/v1/ads/jobs/{job}                       POST /api/v1/ads/jobs/{job}/run, /cancel, /release
GET  /api/v1/ads/jobs/{job}/pictures/{audience}/{variant}/{file}
GET  /api/v1/ads/jobs/{job}/export/{sheet}, /archive     GET, PUT /api/v1/ads/jobs/{job}/experiment

Jobs are their account's own (admins see all). Long work is done in a process of its own, one at a time; ask for the job again to follow it.
A release is a person's word: a key cannot give it.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.errors import DataError, MissingExtraError, UsageError
from agora.server.accounts import Caller
from agora.server.api.ads_forms import (
    AudienceRow,
    AudienceRules,
    AudiencesFound,
    BriefForm,
    BriefRead,
    DecisionRow,
    ExperimentReport,
    JobRow,
    Kit,
    NamedRow,
    NewBrief,
    NewJob,
    NewRelease,
    NewResults,
    PlacementRow,
    SheetRow,
    WholeJob,
    Working,
)
from agora.server.errors import ApiError
from agora.server.records import AuditLog
from agora.server.services import NotReady, Services
from agora.server.studio.workshop import INTERRUPTED, Workshop, is_worked_on, read_outcome

if TYPE_CHECKING:
    from agora.ads.brief import Brief
    from agora.server.studio.jobs import Job

NEAREST: Final = 3
"""Audiences that are taken when none is named."""
FRESH: Final = timedelta(minutes=15)
"""So long audiences stand although posts came in."""
REPORT_SEED: Final = 0


@contextmanager
def told() -> Iterator[None]:
    """Data of the caller's that cannot be used are the caller's mistake; missing libraries are named."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "regex", "ads", "the ads studio") from error
    except DataError as error:
        raise ApiError(400, str(error)) from error


class AdsArea:
    """What the routes and the pages call."""

    def __init__(self, services: Services, audit: AuditLog | None) -> None:
        self._services = services
        self._audit = audit

    @property
    def _workshop(self) -> Workshop:
        return self._services.workshop

    @property
    def _model(self) -> str | None:
        writer = self._services.writer
        return None if writer is None else writer.name

    def kit(self) -> Kit:
        """What a brief may name."""
        with told():
            from agora.ads.brief import SPECIAL_CATEGORIES, TONES
            from agora.ads.export.sheet import sheet_named, sheet_names
            from agora.ads.images.fonts import FAMILIES
            from agora.ads.limits import IMAGE, platforms
        example = tomllib.loads(files("agora.server.studio").joinpath("example.toml").read_text(encoding="utf-8"))
        known = [NamedRow(name=one.name, title=one.title) for one in platforms().values() if one.name != IMAGE]
        return Kit(
            placements=_placements(()), platforms=known,
            tones=list(TONES), special_categories=list(SPECIAL_CATEGORIES), fonts=list(FAMILIES),
            sheets=[SheetRow(name=one.name, title=one.title, picture=one.picture) for one in map(sheet_named, sheet_names())],
            example=BriefForm(**example),
            model=self._model, can_sign=find_spec("c2pa") is not None,
        )  # fmt: skip

    def audiences(self) -> AudiencesFound:
        """The audiences that were found last. Raises NotReady without posts."""
        with told():
            from agora.ads.audiences import AudienceConfig
            from agora.ads.sensitive import known_languages, topics
        with self._services.store() as store:
            version = store.version
        folder, found = self._audience_folder(), self._found()
        rules = AudienceRules(
            min_voices=AudienceConfig().min_voices, rounded_to=10, topics=list(topics()), languages=sorted(known_languages())
        )
        has_begun = self._workshop.look(folder) is not None or (folder / "request.json").is_file()
        return AudiencesFound(
            work=self._working(folder) if has_begun else None, found_at=found.get("at"), rules=rules,
            is_current=found.get("store_version") == version,
            audiences=[AudienceRow(**one) for one in found.get("audiences", ())], withheld=found.get("withheld", {}),
        )  # fmt: skip

    def current_audiences(self) -> AudiencesFound:
        """The audiences; where posts came or went some time ago, or nobody looked yet, the search for them begins."""
        found = self.audiences()
        is_old = found.work is None
        if found.work is not None and found.work.state == "finished" and found.found_at is not None and not found.is_current:
            is_old = datetime.now(timezone.utc) - datetime.fromisoformat(found.found_at) > FRESH
        return self.find_audiences() if is_old else found

    def find_audiences(self) -> AudiencesFound:
        """Begin to look for audiences in the posts as they are now."""
        with self._services.store():
            pass
        folder = self._audience_folder()
        if self._workshop.look(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            request = {"kind": "audiences", "workspace": str(self._services.place.root.resolve())}
            (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
            self._workshop.start(folder)
        return self.audiences()

    def nearest(self, brief: Brief) -> list[str]:
        """The audiences whose terms a brief names most, then the largest."""
        from agora.ads.copywriting.grammar import relevance
        from agora.ads.copywriting.language import language_named

        said = " ".join(one.text for one in brief.statements())
        fitting = [one for one in self._found().get("audiences", ()) if one["language"] in brief.languages]
        ranked = sorted(fitting, key=lambda one: -relevance(said, one["terms"], language_named(one["language"])))
        return [one["id"] for one in ranked[:NEAREST]]

    def check(self, body: NewBrief) -> tuple[BriefRead, list[str]]:
        """A brief as it is understood, and the audiences nearest to it. Nothing is kept."""
        with told(), tempfile.TemporaryDirectory() as folder:
            brief = _write(Path(folder), body)
            _refuse_unknown(brief)
            return _shown(brief), self.nearest(brief)

    def make(self, caller: Caller, body: NewJob) -> WholeJob:
        """Keep a brief and begin to make its ads."""
        if body.by_model and self._model is None:
            raise NotReady("No model is served that could write. Serve one: agora serve --model NAME")
        if body.like:
            with self._services.store():
                pass  # says what is missing
        with told():
            if body.is_signed and find_spec("c2pa") is None:
                raise MissingExtraError("c2pa-python", "ads", "content credentials")
            from agora.server.studio.jobs import jobs_folder, new_job
            from agora.server.studio.work import LIKE

            root = jobs_folder(self._services.place)
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".draft-", ignore_cleanup_errors=True) as draft:
                folder = Path(draft) / "job"
                (folder / "brief").mkdir(parents=True)
                brief = _write(folder / "brief", body)
                _refuse_unknown(brief)
                if body.like:
                    _refuse_likeness(body, brief)
                    (folder / LIKE).write_text(json.dumps(body.like), encoding="utf-8")
                request = {
                    "owner": caller.account, "by": caller.name, "num_like": len(body.like),
                    "variants": body.variants, "seed": body.seed,
                    "audiences": [] if body.like else self._chosen(body.audiences, brief),
                    "with_pictures": body.with_pictures, "targeting": body.targeting.model_dump(),
                    "model": self._model if body.by_model else None, "is_signed": body.is_signed,
                }  # fmt: skip
                job = new_job(self._services.place, folder, request, brief.product)
        self._note(caller, "ads.make", job.name, product=brief.product, **({"accounts_in_list": len(body.like)} if body.like else {}))
        self._workshop.start(job.folder)
        return self.show(caller, job.name)

    def jobs(self, caller: Caller) -> list[JobRow]:
        """One's own jobs, the newest first; an admin's are all."""
        with told():
            from agora.server.studio.jobs import all_jobs
            from agora.server.studio.shown import job_row
        return [job_row(job, self._working(job.folder)) for job in all_jobs(self._services.place) if _may(caller, job)]

    def show(self, caller: Caller, name: str) -> WholeJob:
        """A job with all that is made so far."""
        job = self._job(caller, name)
        from agora.server.studio.shown import whole_job

        with told():
            brief = job.brief()
            return whole_job(job, self._working(job.folder), _shown(brief), _placements(brief.placements))

    def run(self, caller: Caller, name: str) -> WholeJob:
        """Go on with a job that was cancelled, interrupted or failed."""
        job = self._job(caller, name)
        if self._working(job.folder).state not in ("finished", "running", "waiting"):
            self._workshop.start(job.folder)
        return self.show(caller, name)

    def cancel(self, caller: Caller, name: str) -> WholeJob:
        """End the work on a job; what is made stays."""
        self._end(self._job(caller, name))
        return self.show(caller, name)

    def delete(self, caller: Caller, name: str) -> None:
        """Remove a job with all that was made."""
        from agora.server.studio.jobs import delete_job

        job = self._job(caller, name)
        self._end(job)
        delete_job(job)
        self._note(caller, "ads.delete", name)

    def release(self, caller: Caller, name: str, body: NewRelease) -> WholeJob:
        """Note that the caller has seen held texts and lets them run. Raises ApiError 403 for a key: a release is a person's."""
        if caller.key is not None:
            raise ApiError(403, "A key cannot release ads: a person has to sign in, see the texts and answer for them", code="needs_person")
        job = self._finished(caller, name)
        with told():
            from agora.ads.studio import recheck, release

            released = release(job.out, by=caller.name, variants=body.variants, note=body.note)
            recheck(job.brief(), job.out)
        if released:
            self._note(caller, "ads.release", name, variants=released, note=body.note)
        return self.show(caller, name)

    def picture(self, caller: Caller, name: str, variant: str, file: str) -> Path:
        """The file of a picture. Raises ApiError 404."""
        from agora.server.studio.jobs import picture_file

        placement, _, ending = file.rpartition(".")
        try:
            return picture_file(self._job(caller, name), variant, placement, ending)
        except DataError as error:
            raise ApiError(404, str(error), code="not_found") from error

    def export(self, caller: Caller, name: str, sheet: str, *, pictures: str = "") -> tuple[str, str]:
        """A platform's sheet of what may run, and its encoding. `pictures`: the public address of the folder with the pictures. Raises
        NotReady where nothing may run, ApiError where the sheet takes pictures of a size that was not made."""
        job = self._finished(caller, name)
        with told():
            from agora.ads.export import export, sheet_named
            from agora.ads.export.ad import read_ads
            from agora.ads.studio import ADS

            if not json.loads((job.out / ADS).read_text(encoding="utf-8")):
                raise NotReady("None of these ads may run yet: they are blocked, or wait for a release")
            table, ads = sheet_named(sheet), read_ads(job.out / ADS)
            if table.picture and not all((job.out / ad.name / f"{table.picture}.png").is_file() for ad in ads):
                raise ApiError(400, f"The sheet takes pictures of the size {table.picture}, which these ads lack; make them with this size")
            return export(ads, table, pictures=pictures), table.encoding

    def archive(self, caller: Caller, name: str) -> bytes:
        """What may run, as a ZIP file: pictures, texts, ads.json, the policy report."""
        job = self._finished(caller, name)
        from agora.server.studio.shown import archive_of

        return archive_of(job)

    def keep_results(self, caller: Caller, name: str, body: NewResults) -> ExperimentReport:
        """Keep what a platform exported about these ads, and what it says. What cannot be read is not kept."""
        job = self._job(caller, name)
        with told():
            from agora.files import write_atomically
            from agora.server.studio.jobs import COLUMNS, RESULTS

            with tempfile.TemporaryDirectory() as folder:
                draft = Path(folder) / RESULTS
                draft.write_bytes(body.text.encode("utf-8", "replace"))
                found = _report(draft, {str(field): name for field, name in body.columns.items()})
            write_atomically(job.folder / COLUMNS, json.dumps(body.columns))
            write_atomically(job.folder / RESULTS, body.text.encode("utf-8", "replace"))
        self._note(caller, "ads.results", name, lines=found.lines)
        return found

    def experiment(self, caller: Caller, name: str) -> ExperimentReport:
        """Which variant to keep for whom, by the results that were kept. Raises NotReady without."""
        job = self._job(caller, name)
        with told():
            from agora.server.studio.jobs import COLUMNS, RESULTS

            if not (job.folder / RESULTS).is_file():
                raise NotReady("There are no results yet. Send what the platform exported: PUT /api/v1/ads/jobs/{job}/experiment")
            return _report(job.folder / RESULTS, json.loads((job.folder / COLUMNS).read_text(encoding="utf-8")))

    def _end(self, job: Job) -> None:
        """Raises ApiError 409 where another server does the work."""
        if not self._workshop.cancel(job.folder) and is_worked_on(job.folder):
            raise ApiError(409, "Another server on this workspace works on these ads; end the work there", code="busy")

    def _job(self, caller: Caller, name: str) -> Job:
        """Raises ApiError 404 for what is not there or not the caller's."""
        with told():
            from agora.server.studio.jobs import read_job
        try:
            job = read_job(self._services.place, name)
        except DataError as error:
            raise ApiError(404, str(error), code="not_found") from error
        if not _may(caller, job):
            raise ApiError(404, f"there are no ads {name!r}", code="not_found")
        return job

    def _finished(self, caller: Caller, name: str) -> Job:
        job = self._job(caller, name)
        if self._working(job.folder).state != "finished":
            raise NotReady("These ads are not made yet; wait until they are, or go on with them")
        return job

    def _chosen(self, ids: Sequence[str] | None, brief: Brief) -> list[dict[str, Any]]:
        found = {one["id"]: one for one in self._found().get("audiences", ())}
        if ids is None:
            return [found[key] for key in self.nearest(brief)]
        if unknown := next((key for key in ids if key not in found), None):
            raise UsageError(f"there is no audience {unknown!r}; see GET /api/v1/ads/audiences")
        return [found[key] for key in dict.fromkeys(ids)]

    def _audience_folder(self) -> Path:
        return self._services.place.folder("ads").resolve() / "audiences"

    def _found(self) -> dict[str, Any]:
        path = self._audience_folder() / "found.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def _working(self, folder: Path) -> Working:
        task = self._workshop.look(folder)
        if task is None:
            outcome = read_outcome(folder)
            if outcome["state"] == INTERRUPTED and is_worked_on(folder):
                return Working(state="running", note="Another server on this workspace does it")
            return Working(state=outcome["state"], message=outcome.get("message", ""))
        return Working(state=task.state, title=task.title, done=task.done, total=task.total, note=task.note)  # type: ignore[arg-type]

    def _note(self, caller: Caller, action: str, what: str, **details: Any) -> None:
        if self._audit is not None:
            self._audit.add(caller.name, action, what, **details)


def _may(caller: Caller, job: Job) -> bool:
    return job.owner == caller.account or caller.may("admin")


def _write(folder: Path, body: NewBrief) -> Brief:
    """Raises ApiError where there is not exactly one brief, ConfigError for what is wrong with it."""
    from agora.server.studio.briefs import Role, write_file, write_form

    pictures: dict[Role, bytes] = {}
    if body.pictures.logo is not None:
        pictures["logo"] = body.pictures.logo
    if body.pictures.product_picture is not None:
        pictures["product_picture"] = body.pictures.product_picture
    if (body.brief is None) == (body.file is None):
        raise ApiError(400, "Send either `brief` or `file`", param="brief")
    if body.brief is not None:
        return write_form(folder, body.brief.table(), pictures)
    assert body.file is not None
    return write_file(folder, body.file.name, body.file.text, pictures, {"colours": body.file.colours, "fonts": body.file.fonts})


def _refuse_unknown(brief: Brief) -> None:
    """Raises UsageError for a placement, platform or font that is not known, before any work begins."""
    from agora.ads.images.fonts import family_named
    from agora.ads.limits import platforms_named
    from agora.ads.placements import placement_named

    platforms_named(brief.platforms)
    for name in brief.placements:
        placement_named(name)
    for font in brief.brand.fonts:
        family_named(font)


def _refuse_likeness(body: NewJob, brief: Brief) -> None:
    """Raises ApiError where people like a list may not be, or others are asked for too."""
    if body.audiences:
        raise ApiError(400, "Send either `audiences` or `like`", param="like")
    if brief.special_category:
        raise ApiError(400, f"Ads of the category {brief.special_category} may not be aimed at people like a list", param="like")


def _shown(brief: Brief) -> BriefRead:
    from agora.server.studio.shown import brief_read

    return brief_read(brief)


def _placements(names: Sequence[str]) -> list[PlacementRow]:
    from agora.ads.placements import placement_named, placements

    chosen = [placement_named(name) for name in names] or list(placements().values())
    return [PlacementRow(name=one.name, width=one.width, height=one.height, platform=one.platform) for one in chosen]


def _report(path: Path, columns: dict[str, str]) -> ExperimentReport:
    from dataclasses import asdict

    from agora.ads.experiment import by_audience
    from agora.ads.experiment_report import decide
    from agora.ads.results import read_results

    try:
        found = read_results(path, columns=columns)
    except DataError as error:
        raise ApiError(400, str(error).replace(str(path), "results")) from error
    decisions = decide(by_audience(found.rows, seed=REPORT_SEED))
    return ExperimentReport(
        columns=dict(found.columns), lines=len(found.rows), left_out=found.left_out,
        decisions=[DecisionRow(audience=name, **asdict(one)) for name, one in decisions.items()],
    )  # fmt: skip


__all__ = ["AdsArea"]
