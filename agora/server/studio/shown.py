"""Jobs as the API shows them. Goes in: a job's folder. Comes out: texts with their lengths, findings, addresses of pictures, a ZIP file."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from agora.ads.brief import Brief, Fact
from agora.ads.copywriting import Copy
from agora.ads.job_folder import ADS, POLICY, read_copy, read_releases
from agora.ads.limits import limits_of, platforms_named, width_of
from agora.ads.placements import placement_named
from agora.ads.policy.special import texts_sha256
from agora.ads.studio import BLOCKED, HELD, READY
from agora.server.api.ads_forms import (
    BriefRead,
    ClaimRow,
    FactRow,
    FindingRow,
    JobRow,
    LimitRow,
    NotWrittenRow,
    PictureRow,
    PlacementRow,
    ReleaseRow,
    TextRow,
    VariantRow,
    WholeJob,
    Working,
)
from agora.server.studio.jobs import RESULTS, Job, MadeVariant, made_variants, not_written
from agora.server.studio.workshop import read_outcome

_ALWAYS: Final = ("policy.html", POLICY, ADS)
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # equal ads give equal archives


def brief_read(brief: Brief) -> BriefRead:
    """A brief as it was understood."""
    return BriefRead(
        product=brief.product, short_name=brief.short_name, brand=brief.brand.name, colours=list(brief.brand.colours),
        fonts=list(brief.brand.fonts), landing_page=brief.landing_page, languages=list(brief.languages), tone=brief.tone,
        facts=[_fact(one) for one in brief.facts], offers=[_fact(one) for one in brief.offers], call_to_action=dict(brief.call_to_action),
        platforms=list(brief.platforms), placements=list(brief.placements), special_category=brief.special_category,
        has_logo=brief.brand.logo is not None, has_product_picture=brief.brand.product_picture is not None,
    )  # fmt: skip


def job_row(job: Job, work: Working) -> JobRow:
    """A job in a list."""
    return JobRow(**_row(job, work, made_variants(job), job.brief()))


def whole_job(job: Job, work: Working, brief: BriefRead, placements: list[PlacementRow]) -> WholeJob:
    """A job with everything that is made."""
    variants, read = made_variants(job), job.brief()
    releases = read_releases(job.out)
    rows = []
    for one in variants:
        copy = read_copy(job.out / one.name)
        given = releases.get(texts_sha256(copy.texts()))
        released = None if given is None else ReleaseRow(by=given.by, at=given.at, note=given.note)
        rows.append(
            VariantRow(
                name=one.name, audience=one.audience["id"], label=one.audience["label"], language=copy.language, state=cast(Any, one.state),
                written_by=copy.written_by, texts=_texts(copy, read), findings=[FindingRow(**found.record()) for found in one.findings],
                pictures=[_picture(job, one, placement) for placement in one.pictures], release=released,
            )
        )  # fmt: skip
    labels = {one["id"]: one["label"] for one in job.request["audiences"]}
    lost = [
        NotWrittenRow(audience=labels.get(one["audience"], one["audience"]), field=one["field"], text=one["text"], reason=one["reason"])
        for one in not_written(job)
    ]
    return WholeJob(
        **_row(job, work, variants, read), brief=brief, placements=placements, variants=rows, not_written=lost,
        has_results=(job.folder / RESULTS).is_file(), model=job.request.get("model"),
        credentials=read_outcome(job.folder).get("credentials", ""),
    )  # fmt: skip


def archive_of(job: Job) -> bytes:
    """Pictures and texts of what may run, with ads.json and the policy report."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:

        def add(path: Path) -> None:
            name = str(path.relative_to(job.out))
            packing = zipfile.ZIP_STORED if path.suffix == ".png" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), path.read_bytes(), packing)

        for name in _ALWAYS:
            add(job.out / name)
        for one in made_variants(job):
            if one.state == READY:
                add(job.out / one.name / "copy.json")
                for placement in one.pictures:
                    add(job.out / one.name / f"{placement}.png")
                    add(job.out / one.name / f"{placement}.svg")
    return target.getvalue()


def _row(job: Job, work: Working, variants: Sequence[MadeVariant], brief: Brief) -> dict[str, Any]:
    states = [one.state for one in variants]
    shown = next((one for one in variants if one.pictures), None)
    cover = _address(job, shown, min(shown.pictures, key=_from_cover), "png") if shown is not None else None
    return {
        "id": job.name, "product": brief.product, "brand": brief.brand.name, "by": job.request["by"], "made_at": job.request["made_at"],
        "work": work, "audiences": _for_whom(job), "ready": states.count(READY),
        "held": states.count(HELD), "blocked": states.count(BLOCKED), "num_pictures": sum(len(one.pictures) for one in variants),
        "cover": cover,
    }  # fmt: skip


def _for_whom(job: Job) -> list[str]:
    """Labels of the audiences; for people like a list, that they are, and of how many accounts the list was."""
    labels = [one["label"] for one in job.request["audiences"]]
    if number := job.request.get("num_like"):
        return [f"people like a list of {number:,} accounts{f' ({labels[0]})' if labels else ''}"]
    return labels or ["everybody"]


def _from_cover(placement: str) -> float:
    """How far the shape of a size is from that of a cover (4:3), in which it is shown cut."""
    size = placement_named(placement)
    return abs(math.log(size.width / size.height / (4 / 3)))


def _texts(copy: Copy, brief: Brief) -> list[TextRow]:
    chosen = platforms_named(brief.platforms)
    claims = [ClaimRow(text=one.text, fact=one.fact, source=one.source) for one in copy.claims]
    by_field = {name: [row for row, one in zip(claims, copy.claims, strict=True) if one.field == name] for name in copy.texts()}
    return [
        TextRow(
            field=name, text=text, claims=by_field[name],
            limits=[
                LimitRow(
                    platform=one.platform, field=one.field, max=one.max, width=width_of(text, one.platform, with_link=one.with_link)
                )
                for one in limits_of(name, chosen)
            ],
        )
        for name, text in copy.texts().items()
    ]  # fmt: skip


def _picture(job: Job, variant: MadeVariant, placement: str) -> PictureRow:
    size = placement_named(placement)
    record = job.out / variant.name / f"{placement}.json"
    checks = json.loads(record.read_text(encoding="utf-8"))["checks"]
    return PictureRow(
        placement=placement, width=size.width, height=size.height, png=_address(job, variant, placement, "png"),
        svg=_address(job, variant, placement, "svg"), problems=checks["problems"], warnings=checks["warnings"],
    )  # fmt: skip


def _address(job: Job, variant: MadeVariant, placement: str, ending: str) -> str:
    return f"/api/v1/ads/jobs/{job.name}/pictures/{variant.name}/{placement}.{ending}"


def _fact(fact: Fact) -> FactRow:
    return FactRow(id=fact.id, text=fact.text, language=fact.language, source=fact.source)


__all__ = ["archive_of", "brief_read", "job_row", "whole_job"]
