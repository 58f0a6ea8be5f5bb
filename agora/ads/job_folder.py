"""What stands in the folder of a job, read back and checked. Goes in: the folder that `make_ads` wrote. Comes out: texts, pictures,
reports, releases.

What cannot be read raises DataError and says what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.ads.audiences import Audience
from agora.ads.copywriting import Claim, Copy
from agora.ads.policy import Release, Targeting
from agora.errors import DataError, UsageError

if TYPE_CHECKING:
    from agora.ads.images import Picture

JOB, COPY, POLICY, ADS, RELEASES, SHEET = "job.json", "copy.json", "policy.json", "ads.json", "releases.json", "contact_sheet.html"
GRAMMAR: Final = "grammar"
"""The writer that is no model."""


def read_releases(out: Path) -> dict[str, Release]:
    """The releases of a folder by the texts that they name."""
    path = out / RELEASES
    if not path.is_file():
        return {}
    try:
        return {
            one["texts_sha256"]: Release(**{**one, "pictures_sha256": tuple(one.get("pictures_sha256", ()))}) for one in read_json(path)
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a list of releases ({error!r}); remove it and release the ads anew (agora ads release)") from error


def read_audience(table: Mapping[str, Any], out: Path) -> Audience:
    try:
        return Audience(**{**table, "terms": tuple(table["terms"]), "names": tuple(table["names"])})
    except (KeyError, TypeError) as error:
        raise DataError(f"{out / POLICY} holds an audience that cannot be read ({error!r}); make the ads anew") from error


def writer_of(out: Path) -> str:
    """Who wrote the texts of a folder: `grammar`, or the name of a model. Raises DataError."""
    job = read_json(out / JOB)
    if not isinstance(job, dict) or not isinstance(job.get("writer"), str):
        raise DataError(f"{out / JOB} does not say who wrote the texts; make the ads anew")
    return str(job["writer"])


def read_copy(folder: Path) -> Copy:
    """The texts of a variant's folder. Raises DataError."""
    table = read_json(folder / COPY)
    try:
        claims = tuple(Claim(**one) for one in table.pop("claims"))
        return Copy(**{**table, "claims": claims, "topics": tuple(table["topics"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / COPY} is not a copy: {error!r}; make the ads anew") from error


def declared_category(out: Path) -> str:
    """The special category that the brief of a folder's job named. A brief without it, given later, does not take it back."""
    try:
        return str(read_json(out / JOB)["brief"]["special_category"] or "")
    except (KeyError, TypeError) as error:
        raise DataError(f"{out / JOB} does not say what the brief was ({error!r}); make the ads anew") from error


def read_picture(folder: Path, name: str) -> Picture:
    """A picture of a variant's folder."""
    from agora.ads.images import Checks, Layout, Picture
    from agora.ads.images.scene import Box

    table = read_json(folder / f"{name}.json")
    layout, checks = table["layout"], table["checks"]
    layout |= {"boxes": {key: Box(*box) for key, box in layout["boxes"].items()}, "left_out": tuple(layout["left_out"])}
    layout |= {"lines": {key: tuple(lines) for key, lines in layout["lines"].items()}}
    checks = {key: tuple(value) if isinstance(value, list) else value for key, value in checks.items() if key not in ("problems", "passed")}
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    return Picture((folder / f"{name}.png").read_bytes(), svg, Layout(**layout), Checks(**checks))


def read_targeting(out: Path) -> Targeting:
    try:
        table = read_json(out / JOB)["targeting"]
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        return Targeting(**plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{out / JOB} does not say for whom the ads are ({error!r}); make the ads anew") from error


def read_report(out: Path) -> dict[str, Any]:
    """policy.json, its shape checked. Raises UsageError where there is none, DataError where it is something else."""
    if not (out / POLICY).is_file():
        raise UsageError(f"{out} has no {POLICY}; make ads first (agora ads make BRIEF --out {out})")
    report = read_json(out / POLICY)
    lists = [report.get(key) for key in ("variants", "not_written")] if isinstance(report, dict) else [None]
    wanted = {"name": str, "state": str, "audience": dict, "pictures": list, "findings": list}
    if not all(isinstance(some, list) and all(isinstance(one, dict) for one in some) for some in lists) or not all(
        isinstance(one.get(key), kind) for one in report["variants"] for key, kind in wanted.items()
    ):
        raise DataError(f"{out / POLICY} is not the policy report of a run; make the ads anew")
    return dict(report)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; make the ads anew") from error


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n"
