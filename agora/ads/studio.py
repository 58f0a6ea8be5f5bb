"""The whole studio: brief -> audiences -> texts -> policy -> pictures, one folder per audience and variant.

    make_ads(brief, Path("out"), audiences=[...])

OUT/
  job.json                    what was asked for; the same folder goes on only with the same
  AUDIENCE/LANGUAGE-N/        copy.json, policy.json, and per placement PLACEMENT.png, .svg, .json (layout and checks)
  policy.json, policy.html    every finding with its reason, and what was not written with the reason
  contact_sheet.html          all pictures on one page
  ads.json                    what may run, in the form that `agora ads export` takes
  releases.json               who released which texts (special categories)

Policy is by the rules alone here: what likeness in meaning would look at, texts that no fact carries, is blocked already.
A variant's folder is written whole or not at all: the same command goes on where it stopped. Texts that break a rule get no picture; those
that a person has to see get one, and stay out of ads.json until they are released.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.ads.audiences import Audience
from agora.ads.brief import Brief
from agora.ads.copywriting import Blocked, Claim, Copy, Written, write_variants
from agora.ads.drawing import Asked, drawn
from agora.ads.job_folder import (
    ADS,
    COPY,
    GRAMMAR,
    JOB,
    POLICY,
    RELEASES,
    SHEET,
    declared_category,
    read_audience,
    read_copy,
    read_json,
    read_picture,
    read_releases,
    read_report,
    read_targeting,
    to_json,
    writer_of,
)  # fmt: skip
from agora.ads.limits import platforms_named
from agora.ads.policy import Finding, Release, Targeting, check, is_blocked, special_by_meaning, special_categories, texts_sha256
from agora.ads.policy_page import policy_page
from agora.ads.shown_pictures import picture_findings, shown_sha256
from agora.errors import OtherRunError, UsageError
from agora.files import replacing_folder, write_atomically
from agora.log import Progress, silent

if TYPE_CHECKING:
    from agora.ads.images import Picture
    from agora.engine.interface import LanguageModel

EVERYBODY: Final = Audience(id="everybody", label="everybody", terms=(), num_authors=0, language="und")
"""Nobody in particular: for a square without posts."""
_MADE: Final = ".made"
BLOCKED, HELD, READY = "blocked", "held", "ready"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudioConfig:
    """`num_variants` per audience and language. `with_credentials`: leave room in each file for them (complete.py signs)."""

    num_variants: int = 3
    seed: int = 0
    with_pictures: bool = True
    with_credentials: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One finished variant. `state`: ready, held (a person has to release it) or blocked."""

    name: str
    audience: Audience
    copy: Copy
    findings: tuple[Finding, ...]
    pictures: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """What may be done with it."""
        return BLOCKED if is_blocked(self.findings) else HELD if self.findings else READY


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a run made. `not_written`: per audience, texts that were blocked while being written."""

    folder: Path
    variants: tuple[Variant, ...]
    not_written: tuple[tuple[str, Blocked], ...]
    num_pictures: int
    num_failed_checks: int

    def count(self, state: str) -> int:
        """How many variants are in a state."""
        return sum(variant.state == state for variant in self.variants)


def make_ads(
    brief: Brief, out: Path, *, audiences: Sequence[Audience], writer: LanguageModel | None = None, config: StudioConfig | None = None,
    targeting: Targeting | None = None, processes: int = 1, progress: Progress = silent,
) -> Made:  # fmt: skip
    """Make every variant for every audience. Raises OtherRunError when `out` holds another job, UsageError for unknown placements.

    `processes` draw the pictures, where there are enough; more than one needs a main module that may be imported (`if __name__ == ...`).
    """
    platforms_named(brief.platforms)  # an unknown one is refused before the folder is begun
    chosen, readers = config or StudioConfig(), list(audiences) or [EVERYBODY]
    names = _placements(brief) if chosen.with_pictures else []
    aimed = targeting or Targeting()
    _begin(brief, out, readers, chosen, names, aimed, writer)
    releases = read_releases(out)
    written = {audience.id: _texts(brief, audience, out, writer, chosen) for audience in readers}
    campaign = _campaign((copy for one in written.values() for copy in one.copies), brief)
    todo = [
        _Todo(_variant(brief, audience, copy, number, aimed, releases, campaign), names, chosen, number)
        for audience in readers
        for number, copy in enumerate(written[audience.id].copies)
    ]
    kept = {some.variant.name for some in todo if some.is_done(out)}
    asked = [one for some in todo if some.variant.name not in kept for one in some.asked(brief)]
    variants, pictures = [], []
    with (
        progress.step("making ads", total=len(todo) * max(1, len(names)), unit="pictures" if names else "variants") as step,
        drawn(asked, processes=processes) as fresh,
    ):
        for some in todo:
            step.note(some.variant.name)
            made = _make(out, some, fresh)
            step.advance(max(1, len(names)))
            pictures += [(f"{some.variant.name} ({some.variant.state})", one) for one in made]
            changed = _picture_findings(brief, out, some.variant, some.placements, releases) if some.variant.name in kept else []
            variants.append(replace(some.variant, pictures=some.placements, findings=(*some.variant.findings, *changed)))
    not_written = tuple((name, one) for name, some in written.items() for one in some.blocked)
    _finish(brief, out, variants, not_written, pictures)
    failed = sum(not picture.checks.passed for _, picture in pictures)
    return Made(folder=out, variants=tuple(variants), not_written=not_written, num_pictures=len(pictures), num_failed_checks=failed)


def release(out: Path, *, by: str, variants: Sequence[str] = (), note: str = "", now: datetime | None = None) -> list[str]:
    """Note that a person has seen the texts and pictures of held variants (none named: all that are held) and lets them run. Raises
    UsageError.

    Blocked variants cannot be released: change the brief or the targeting.
    """
    if not by.strip():
        raise UsageError("a release needs the name of the person who gives it (--by NAME)")
    report = read_report(out)
    known = {one["name"]: one for one in report["variants"]}
    if unknown := [name for name in variants if name not in known]:
        raise UsageError(f"{out} has no variant {unknown[0]!r}; it has {', '.join(known)}")
    held = [name for name, one in known.items() if one["state"] == HELD and (not variants or name in variants)]
    if blocked := [name for name in variants if known[name]["state"] == BLOCKED]:
        raise UsageError(f"{blocked[0]} is blocked and cannot be released; {known[blocked[0]]['findings'][0]['reason']}")
    given, at = read_releases(out), (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")
    for name in held:
        digest = texts_sha256(read_copy(out / name).texts())
        pictures = tuple(shown_sha256(out / name / f"{picture}.png") for picture in known[name]["pictures"])
        given[digest] = Release(by=by.strip(), at=at, texts_sha256=digest, note=note, pictures_sha256=pictures)
    write_atomically(out / RELEASES, to_json([asdict(one) for one in given.values()]))
    return held


def recheck(brief: Brief, out: Path, *, targeting: Targeting | None = None) -> list[Variant]:
    """Every variant of a folder under the rules, releases and texts as they are now (texts may have been edited by hand).

    A special category that was declared when the ads were made, or that one of them is about, holds for all."""
    report, releases = read_report(out), read_releases(out)
    copies = [read_copy(out / one["name"]) for one in report["variants"]]
    campaign, found = _campaign(copies, brief, declared=declared_category(out)), []
    for one, copy in zip(report["variants"], copies, strict=True):
        aimed = replace(targeting or read_targeting(out), release=releases.get(texts_sha256(copy.texts())))
        audience = read_audience(one["audience"], out)
        variant = Variant(name=one["name"], audience=audience, copy=copy, findings=(), pictures=tuple(one["pictures"]))
        findings = [
            *_untraced(copy, brief),
            *_picture_findings(brief, out, variant, variant.pictures, releases),
            *check(copy, brief, _with_audience(aimed, audience), by_meaning=False, campaign=campaign),
        ]
        found.append(replace(variant, findings=tuple(findings)))
    _write_reports(brief, out, found, report["not_written"])
    return found


def _untraced(copy: Copy, brief: Brief) -> list[Finding]:
    """Claims of edited texts that no fact carries."""
    from agora.ads.copywriting import blocked_in

    statements = brief.statements(copy.language)
    found = [blocked_in(text, statements, copy.language, topics=copy.topics, field=name) for name, text in copy.texts().items()]
    return [Finding(rule="claim", severity="block", field=one.field, span=one.text, reason=one.reason) for one in found if one is not None]


def _picture_findings(
    brief: Brief, out: Path, variant: Variant, pictures: Sequence[str], releases: Mapping[str, Release]
) -> list[Finding]:  # fmt: skip
    released = releases.get(texts_sha256(variant.copy.texts()))
    return picture_findings(
        variant.copy, brief, out / variant.name, pictures, seen=() if released is None else released.pictures_sha256
    )  # fmt: skip


def _placements(brief: Brief) -> list[str]:
    from agora.ads.placements import placement_named, placements

    return list(dict.fromkeys(placement_named(name).name for name in brief.placements)) or list(placements())


def _begin(
    brief: Brief, out: Path, audiences: Sequence[Audience], config: StudioConfig, placements: Sequence[str], targeting: Targeting,
    writer: LanguageModel | None,
) -> None:  # fmt: skip
    """Write down what is asked for, or see that it is what the folder was begun with."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder (--out DIR)")
    job = {
        "brief": _plain(brief), "audiences": [one.record() for one in audiences], "config": asdict(config), "placements": list(placements),
        "targeting": asdict(replace(targeting, release=None)), "writer": GRAMMAR if writer is None else writer.name,
    }  # fmt: skip
    if (out / JOB).is_file():
        if read_json(out / JOB) != json.loads(to_json(job)):
            raise OtherRunError(f"{out} holds ads of another brief, audience or setting; give another folder (--out DIR) or remove it")
        return
    out.mkdir(parents=True, exist_ok=True)
    if any(one.name not in (JOB,) and not one.name.startswith(".") for one in out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no {JOB}; give a new folder (--out DIR)")
    write_atomically(out / JOB, to_json(job))


def _texts(brief: Brief, audience: Audience, out: Path, writer: LanguageModel | None, config: StudioConfig) -> Written:
    """Texts for an audience; once written they are kept, since a model may say something else the next time."""
    path = out / audience.id / "texts.json"
    if path.is_file():
        table = read_json(path)
        copies = []
        for one in table["copies"]:
            claims = tuple(Claim(**claim) for claim in one.pop("claims"))
            copies.append(Copy(**{**one, "claims": claims, "topics": tuple(one["topics"])}))
        return Written(copies, [Blocked(**one) for one in table["blocked"]])
    written = write_variants(brief, audience, writer=writer, num_variants=config.num_variants, seed=config.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, to_json({"copies": [one.record() for one in written.copies], "blocked": [asdict(one) for one in written.blocked]})
    )
    return written


def _variant(
    brief: Brief,
    audience: Audience,
    copy: Copy,
    number: int,
    targeting: Targeting,
    releases: Mapping[str, Release],
    campaign: Sequence[str],
) -> Variant:
    aimed = _with_audience(replace(targeting, release=releases.get(texts_sha256(copy.texts()))), audience)
    name = f"{audience.id}/{copy.language}-{number + 1}"
    return Variant(name=name, audience=audience, copy=copy, findings=tuple(check(copy, brief, aimed, by_meaning=False, campaign=campaign)))


def _campaign(copies: Iterable[Copy], brief: Brief, *, declared: str = "") -> tuple[str, ...]:
    """Every special category of a campaign: of one of its ads, of its brief, also by meaning, or as it was declared when it was made."""
    found = dict.fromkeys([*([declared] if declared else []), *special_by_meaning(brief)])
    for copy in copies:
        found |= dict.fromkeys(special_categories(copy, brief))
    return tuple(found)


def _with_audience(targeting: Targeting, audience: Audience) -> Targeting:
    return replace(targeting, audience=audience.id, lookalike=targeting.lookalike or audience.is_lookalike)


class _Todo:
    """A variant that is to be made, with the pictures that it gets."""

    def __init__(self, variant: Variant, names: Sequence[str], config: StudioConfig, number: int) -> None:
        self.variant, self.config, self.seed = variant, config, config.seed + number
        self.placements = () if variant.state == BLOCKED else tuple(names)
        asked = [variant.copy.record(), list(self.placements), self.seed, config.with_credentials]
        self.digest = hashlib.sha256(to_json(asked).encode()).hexdigest()

    def is_done(self, out: Path) -> bool:
        """Whether the folder is there already, made of the same."""
        folder = out / self.variant.name
        files = [_MADE, COPY, *(f"{name}.{ending}" for name in self.placements for ending in ("png", "svg", "json"))]
        return all((folder / name).is_file() for name in files) and (folder / _MADE).read_text(encoding="utf-8") == self.digest

    def asked(self, brief: Brief) -> list[Asked]:
        """Its pictures."""
        return [
            Asked(brief=brief, copy=self.variant.copy, placement=name, seed=self.seed, with_credentials=self.config.with_credentials)
            for name in self.placements
        ]


def _make(out: Path, todo: _Todo, fresh: Iterator[Picture]) -> list[Picture]:
    """The folder of a variant, unless it is there already, with the next of the `fresh` pictures; its pictures."""
    folder = out / todo.variant.name
    if todo.is_done(out):
        return [read_picture(folder, name) for name in todo.placements]
    pictures = [next(fresh) for _ in todo.placements]
    with replacing_folder(folder) as draft:
        for name, picture in zip(todo.placements, pictures, strict=True):
            (draft / f"{name}.png").write_bytes(picture.png)
            (draft / f"{name}.svg").write_text(picture.svg, encoding="utf-8")
            shown = shown_sha256(draft / f"{name}.png")
            record = {"layout": picture.layout.to_dict(), "checks": picture.checks.to_dict(), "pixels_sha256": shown}
            (draft / f"{name}.json").write_text(to_json(record), encoding="utf-8")
        (draft / COPY).write_text(to_json(todo.variant.copy.record()), encoding="utf-8")
        (draft / POLICY).write_text(to_json([one.record() for one in todo.variant.findings]), encoding="utf-8")
        (draft / _MADE).write_text(todo.digest, encoding="utf-8")
    return pictures


def _finish(
    brief: Brief,
    out: Path,
    variants: Sequence[Variant],
    not_written: Iterable[tuple[str, Blocked]],
    pictures: Sequence[tuple[str, Picture]],
) -> None:
    for folder in out.glob("*/.*.draft-*"):
        shutil.rmtree(folder, ignore_errors=True)
    _write_reports(brief, out, variants, [{"audience": name, **asdict(one)} for name, one in not_written])
    if pictures:
        from agora.ads.images.contact_sheet import write_contact_sheet

        write_contact_sheet(out / SHEET, pictures, title=f"{brief.brand.name}: {brief.product}")


def _write_reports(brief: Brief, out: Path, variants: Sequence[Variant], not_written: Sequence[Mapping[str, str]]) -> None:
    """policy.json, policy.html and ads.json."""
    records = [
        {
            "name": one.name, "state": one.state, "audience": one.audience.record(), "pictures": list(one.pictures),
            "findings": [finding.record() for finding in one.findings],
        }
        for one in variants
    ]  # fmt: skip
    ready = [one for one in variants if one.state == READY]
    write_atomically(out / POLICY, to_json({"variants": records, "not_written": list(not_written)}))
    write_atomically(out / "policy.html", policy_page(brief, variants, not_written))
    write_atomically(out / ADS, to_json([_ad(brief, one, ready) for one in ready]))


def _ad(brief: Brief, variant: Variant, ready: Sequence[Variant]) -> dict[str, Any]:
    """One ad in the form of agora/ads/export/ad.py. Names of audiences, never of members.

    Ads that take several headlines get those of the other variants for the same audience and language too.
    """
    copy = variant.copy
    beside = [copy, *(one.copy for one in ready if one.audience.id == variant.audience.id and one.copy.language == copy.language)]
    texts = {name: text for name, text in copy.texts().items() if name != "long_headline"}
    picture = next((f"{variant.name}/{name}.png" for name in ("landscape", "square", *variant.pictures) if name in variant.pictures), "")
    return {
        **texts, "name": variant.name, "campaign": brief.product, "ad_group": variant.audience.id, "landing_page": brief.landing_page,
        "headlines": list(dict.fromkeys(one.headline for one in beside)),
        "descriptions": list(dict.fromkeys(one.description for one in beside)), "image": picture,
        "context_hints": list(variant.audience.terms[:5]) or [brief.product],
    }  # fmt: skip


def _plain(brief: Brief) -> dict[str, Any]:
    """A brief as JSON, with the content of its pictures by hash."""
    table = asdict(brief)
    for key in ("logo", "product_picture"):
        path = getattr(brief.brand, key)
        table["brand"][key] = None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    return table


__all__ = [
    "ADS", "BLOCKED", "EVERYBODY", "GRAMMAR", "HELD", "READY", "SHEET", "Made", "StudioConfig", "Variant", "make_ads", "read_copy",
    "read_picture",
    "read_releases", "recheck",
    "release", "writer_of",
]  # fmt: skip
