"""The routes of ads; see agora/server/api/ads.py."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel

from agora.server.access import Asking, needs
from agora.server.api.ads import AdsArea
from agora.server.api.ads_forms import (
    AudiencesFound,
    BriefRead,
    ExperimentReport,
    JobRow,
    Kit,
    NewBrief,
    NewJob,
    NewRelease,
    NewResults,
    WholeJob,
)
from agora.server.api.forms import Done

JobName = Annotated[str, Path(max_length=80)]
Part = Annotated[str, Path(max_length=120)]
_KINDS: Final = {".png": "image/png", ".svg": "image/svg+xml"}
_SAFE: Final = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class Checked(BaseModel):
    """`nearest`: ids of the audiences that the brief names most."""

    brief: BriefRead
    nearest: list[str]


def _file(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI page says of an answer that is a file."""
    return {200: {"description": "The file", "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}}}


def ads_routes(area: AdsArea) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api/v1/ads", tags=["ads"], dependencies=[needs("advertiser")])

    @router.get("/kit")
    def kit() -> Kit:
        """Placements, platforms, fonts and more that a brief may name, and an example."""
        return area.kit()

    @router.get("/audiences")
    def audiences() -> AudiencesFound:
        """Audiences of the posts: none of few voices, none on a sensitive topic. Members are named nowhere."""
        return area.audiences()

    @router.post("/audiences", status_code=202)
    def find_audiences() -> AudiencesFound:
        """Look for audiences in the posts as they are now; ask GET for how far it is."""
        return area.find_audiences()

    @router.post("/briefs/check")
    def check(body: NewBrief) -> Checked:
        """How a brief is understood. Nothing is kept."""
        brief, nearest = area.check(body)
        return Checked(brief=brief, nearest=nearest)

    @router.get("/jobs")
    def jobs(caller: Asking) -> list[JobRow]:
        """One's own, the newest first."""
        return area.jobs(caller)

    @router.post("/jobs", status_code=201)
    def make(body: NewJob, caller: Asking) -> WholeJob:
        """Keep a brief and begin to make texts and pictures for audiences."""
        return area.make(caller, body)

    _add_job_routes(router, area)
    _add_file_routes(router, area)
    return router


def _add_job_routes(router: APIRouter, area: AdsArea) -> None:
    @router.get("/jobs/{job}")
    def show(job: JobName, caller: Asking) -> WholeJob:
        """Texts with counted lengths, findings with reasons, pictures, and how far the work is."""
        return area.show(caller, job)

    @router.delete("/jobs/{job}")
    def delete(job: JobName, caller: Asking) -> Done:
        """Remove a job with all that was made."""
        area.delete(caller, job)
        return Done()

    @router.post("/jobs/{job}/run", status_code=202)
    def run(job: JobName, caller: Asking) -> WholeJob:
        """Go on with a job that was cancelled, interrupted or failed."""
        return area.run(caller, job)

    @router.post("/jobs/{job}/cancel", status_code=202)
    def cancel(job: JobName, caller: Asking) -> WholeJob:
        """End the work; what is made stays."""
        return area.cancel(caller, job)

    @router.post("/jobs/{job}/release", status_code=201)
    def release(job: JobName, body: NewRelease, caller: Asking) -> WholeJob:
        """Let held texts run, under one's own name, after having seen them. A key cannot."""
        return area.release(caller, job, body)

    @router.put("/jobs/{job}/experiment")
    def keep_results(job: JobName, body: NewResults, caller: Asking) -> ExperimentReport:
        """Keep the results that a platform exported (CSV) in place of earlier ones."""
        return area.keep_results(caller, job, body)

    @router.get("/jobs/{job}/experiment")
    def experiment(job: JobName, caller: Asking) -> ExperimentReport:
        """Which variant to keep for whom, and how to share the next views."""
        return area.experiment(caller, job)


def _add_file_routes(router: APIRouter, area: AdsArea) -> None:
    @router.get("/jobs/{job}/pictures/{audience}/{variant}/{file}", response_class=Response, responses=_file(*_KINDS.values()))
    def picture(job: JobName, audience: Part, variant: Part, file: Part, caller: Asking) -> Response:
        """PLACEMENT.png, or PLACEMENT.svg with layers to edit."""
        path = area.picture(caller, job, f"{audience}/{variant}", file)
        name = f"{audience}-{variant}-{path.name}" if path.suffix == ".svg" else None
        return FileResponse(path, media_type=_KINDS[path.suffix], filename=name, headers={**_SAFE, "cache-control": "private, max-age=60"})

    @router.get("/jobs/{job}/export/{sheet}", response_class=Response, responses=_file("text/csv"))
    def export(job: JobName, sheet: Part, caller: Asking, pictures: Annotated[str, Query(max_length=1_000)] = "") -> Response:
        """A platform's sheet of what may run; it was re-read and checked. `pictures`: the public address of the folder with the archive's
        pictures, for a sheet that takes them by a link (the kit says which)."""
        text, encoding = area.export(caller, job, sheet, pictures=pictures)
        name = f'attachment; filename="{job}.{sheet}.csv"'
        return Response(text.encode(encoding), media_type="text/csv", headers={**_SAFE, "content-disposition": name})

    @router.get("/jobs/{job}/archive", response_class=Response, responses=_file("application/zip"))
    def archive(job: JobName, caller: Asking) -> Response:
        """What may run: pictures, texts, ads.json and the policy report."""
        name = f'attachment; filename="{job}.zip"'
        return Response(area.archive(caller, job), media_type="application/zip", headers={**_SAFE, "content-disposition": name})


__all__ = ["ads_routes"]
