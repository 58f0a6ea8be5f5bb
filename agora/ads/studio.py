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
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.ads.audiences import Audience
from agora.ads.brief import Brief
from agora.ads.copywriting import Blocked, Claim, Copy, Written, write_variants
from agora.ads.policy import Finding, Release, Targeting, check, is_blocked, special_categories, texts_sha256
from agora.errors import DataError, OtherRunError, UsageError
from agora.files import replacing_folder, write_atomically
from agora.log import Progress, silent

if TYPE_CHECKING:
    from agora.ads.images import Picture
    from agora.engine.interface import LanguageModel

EVERYBODY: Final = Audience(id="everybody", label="everybody", terms=(), num_authors=0, language="und")
"""Nobody in particular: for a square without posts."""
JOB, COPY, POLICY, ADS, RELEASES, SHEET = "job.json", "copy.json", "policy.json", "ads.json", "releases.json", "contact_sheet.html"
GRAMMAR: Final = "grammar"
"""The writer that is no model."""
BLOCKED, HELD, READY = "blocked", "held", "ready"
_LONGEST_UNDER: Final = 60
"""Characters below a headline that still read in a picture."""
CREDENTIALS_KB: Final = 20
"""What a signed manifest with its certificates takes at most (measured: 13 kB with a self-made chain)."""


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
    targeting: Targeting | None = None, progress: Progress = silent,
) -> Made:  # fmt: skip
    """Make every variant for every audience. Raises OtherRunError when `out` holds another job, UsageError for unknown placements."""
    chosen, readers = config or StudioConfig(), list(audiences) or [EVERYBODY]
    names = _placements(brief) if chosen.with_pictures else []
    aimed = targeting or Targeting()
    _begin(brief, out, readers, chosen, names, aimed, writer)
    releases = read_releases(out)
    written = {audience.id: _texts(brief, audience, out, writer, chosen) for audience in readers}
    total = sum(len(one.copies) for one in written.values())
    campaign = _campaign((copy for one in written.values() for copy in one.copies), brief)
    variants, pictures = [], []
    with progress.step("making ads", total=total * max(1, len(names)), unit="pictures" if names else "variants") as step:
        for audience in readers:
            for number, copy in enumerate(written[audience.id].copies):
                variant = _variant(brief, audience, copy, number, aimed, releases, campaign)
                step.note(variant.name)
                shown = [] if variant.state == BLOCKED else names
                made = _make(brief, out, variant, shown, chosen, chosen.seed + number)
                step.advance(max(1, len(names)))
                pictures += [(f"{variant.name} ({variant.state})", one) for one in made]
                variants.append(replace(variant, pictures=tuple(shown)))
    not_written = tuple((name, one) for name, some in written.items() for one in some.blocked)
    _finish(brief, out, variants, not_written, pictures)
    failed = sum(not picture.checks.passed for _, picture in pictures)
    return Made(folder=out, variants=tuple(variants), not_written=not_written, num_pictures=len(pictures), num_failed_checks=failed)


def read_releases(out: Path) -> dict[str, Release]:
    """The releases of a folder by the texts that they name."""
    path = out / RELEASES
    if not path.is_file():
        return {}
    try:
        return {one["texts_sha256"]: Release(**one) for one in _read_json(path)}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a list of releases ({error!r}); remove it and release the ads anew (agora ads release)") from error


def release(out: Path, *, by: str, variants: Sequence[str] = (), note: str = "", now: datetime | None = None) -> list[str]:
    """Note that a person has seen the texts of held variants (none named: all that are held) and lets them run. Raises UsageError.

    Blocked variants cannot be released: change the brief or the targeting.
    """
    if not by.strip():
        raise UsageError("a release needs the name of the person who gives it (--by NAME)")
    report = _read_report(out)
    known = {one["name"]: one for one in report["variants"]}
    if unknown := [name for name in variants if name not in known]:
        raise UsageError(f"{out} has no variant {unknown[0]!r}; it has {', '.join(known)}")
    held = [name for name, one in known.items() if one["state"] == HELD and (not variants or name in variants)]
    if blocked := [name for name in variants if known[name]["state"] == BLOCKED]:
        raise UsageError(f"{blocked[0]} is blocked and cannot be released; {known[blocked[0]]['findings'][0]['reason']}")
    given, at = read_releases(out), (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")
    for name in held:
        digest = texts_sha256(read_copy(out / name).texts())
        given[digest] = Release(by=by.strip(), at=at, texts_sha256=digest, note=note)
    write_atomically(out / RELEASES, _json([asdict(one) for one in given.values()]))
    return held


def recheck(brief: Brief, out: Path, *, targeting: Targeting | None = None) -> list[Variant]:
    """Every variant of a folder under the rules, releases and texts as they are now (texts may have been edited by hand).

    A special category that was declared when the ads were made, or that one of them is about, holds for all."""
    report, releases = _read_report(out), read_releases(out)
    copies = [read_copy(out / one["name"]) for one in report["variants"]]
    campaign, found = _campaign(copies, brief, declared=_declared(out)), []
    for one, copy in zip(report["variants"], copies, strict=True):
        aimed = replace(targeting or _read_targeting(out), release=releases.get(texts_sha256(copy.texts())))
        audience = _audience(one["audience"], out)
        shown = _other_pictures(copy, brief, out / one["name"], one["pictures"])
        findings = [
            *_untraced(copy, brief),
            *shown,
            *check(copy, brief, _with_audience(aimed, audience), by_meaning=False, campaign=campaign),
        ]
        found.append(Variant(name=one["name"], audience=audience, copy=copy, findings=tuple(findings), pictures=tuple(one["pictures"])))
    _write_reports(brief, out, found, report["not_written"])
    return found


def _audience(table: Mapping[str, Any], out: Path) -> Audience:
    try:
        return Audience(**{**table, "terms": tuple(table["terms"]), "names": tuple(table["names"])})
    except (KeyError, TypeError) as error:
        raise DataError(f"{out / POLICY} holds an audience that cannot be read ({error!r}); make the ads anew") from error


def writer_of(out: Path) -> str:
    """Who wrote the texts of a folder: `grammar`, or the name of a model. Raises DataError."""
    job = _read_json(out / JOB)
    if not isinstance(job, dict) or not isinstance(job.get("writer"), str):
        raise DataError(f"{out / JOB} does not say who wrote the texts; make the ads anew")
    return str(job["writer"])


def read_copy(folder: Path) -> Copy:
    """The texts of a variant's folder. Raises DataError."""
    table = _read_json(folder / COPY)
    try:
        claims = tuple(Claim(**one) for one in table.pop("claims"))
        return Copy(**{**table, "claims": claims, "topics": tuple(table["topics"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / COPY} is not a copy: {error!r}; make the ads anew") from error


def _untraced(copy: Copy, brief: Brief) -> list[Finding]:
    """Claims of edited texts that no fact carries."""
    from agora.ads.copywriting import blocked_in

    statements = brief.statements(copy.language)
    found = [blocked_in(text, statements, copy.language, topics=copy.topics, field=name) for name, text in copy.texts().items()]
    return [Finding(rule="claim", severity="block", field=one.field, span=one.text, reason=one.reason) for one in found if one is not None]


def _other_pictures(copy: Copy, brief: Brief, folder: Path, pictures: Sequence[str]) -> list[Finding]:
    """Pictures that show another text than copy.json holds now."""
    texts = {"headline": _headline(brief, copy), "description": _under(brief, copy), "call_to_action": copy.call_to_action}
    found = []
    for name in pictures:
        table = _read_json(folder / f"{name}.json")
        try:
            lines = {field: " ".join(lines) for field, lines in table["layout"]["lines"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{folder / name}.json does not say what its picture shows ({error!r}); make the ads anew") from error
        for field, text in texts.items():
            if field in lines and _squeezed(lines[field]) != _squeezed(text):
                reason = f"{name}.png shows {lines[field]!r}, {COPY} says {text!r}: put the text back, or make the ads anew"
                found.append(Finding(rule="picture", severity="block", field=field, span=lines[field], reason=reason))
    return found


def _squeezed(text: str) -> str:
    """A text without what line breaks change: blanks, hyphens, and the ending dot."""
    return re.sub(r"[\s\u00ad\u2010-]+", "", unicodedata.normalize("NFKC", text)).rstrip(".")


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
        if _read_json(out / JOB) != json.loads(_json(job)):
            raise OtherRunError(f"{out} holds ads of another brief, audience or setting; give another folder (--out DIR) or remove it")
        return
    out.mkdir(parents=True, exist_ok=True)
    if any(one.name not in (JOB,) and not one.name.startswith(".") for one in out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no {JOB}; give a new folder (--out DIR)")
    write_atomically(out / JOB, _json(job))


def _texts(brief: Brief, audience: Audience, out: Path, writer: LanguageModel | None, config: StudioConfig) -> Written:
    """Texts for an audience; once written they are kept, since a model may say something else the next time."""
    path = out / audience.id / "texts.json"
    if path.is_file():
        table = _read_json(path)
        copies = []
        for one in table["copies"]:
            claims = tuple(Claim(**claim) for claim in one.pop("claims"))
            copies.append(Copy(**{**one, "claims": claims, "topics": tuple(one["topics"])}))
        return Written(copies, [Blocked(**one) for one in table["blocked"]])
    written = write_variants(brief, audience, writer=writer, num_variants=config.num_variants, seed=config.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _json({"copies": [one.record() for one in written.copies], "blocked": [asdict(one) for one in written.blocked]}))
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
    """Every special category of a campaign: of one of its ads, of its brief, or as it was declared when it was made."""
    found = dict.fromkeys([declared] if declared else [])
    for copy in copies:
        found |= dict.fromkeys(special_categories(copy, brief))
    return tuple(found)


def _declared(out: Path) -> str:
    """The special category that the brief of a folder's job named. A brief without it, given later, does not take it back."""
    try:
        return str(_read_json(out / JOB)["brief"]["special_category"] or "")
    except (KeyError, TypeError) as error:
        raise DataError(f"{out / JOB} does not say what the brief was ({error!r}); make the ads anew") from error


def _with_audience(targeting: Targeting, audience: Audience) -> Targeting:
    return replace(targeting, audience=audience.id, lookalike=targeting.lookalike or audience.is_lookalike)


def _make(brief: Brief, out: Path, variant: Variant, placements: Sequence[str], config: StudioConfig, seed: int) -> list[Picture]:
    """The folder of a variant, unless it is there already; its pictures."""
    folder = out / variant.name
    digest = hashlib.sha256(_json([variant.copy.record(), list(placements), seed, config.with_credentials]).encode()).hexdigest()
    done = folder / ".made"
    if done.is_file() and done.read_text(encoding="utf-8") == digest:
        return [read_picture(folder, name) for name in placements]
    pictures = []
    with replacing_folder(folder) as draft:
        for name in placements:
            picture = _render(brief, variant.copy, name, config, seed)
            pictures.append(picture)
            (draft / f"{name}.png").write_bytes(picture.png)
            (draft / f"{name}.svg").write_text(picture.svg, encoding="utf-8")
            record = {"layout": picture.layout.to_dict(), "checks": picture.checks.to_dict()}
            (draft / f"{name}.json").write_text(_json(record), encoding="utf-8")
        (draft / COPY).write_text(_json(variant.copy.record()), encoding="utf-8")
        (draft / POLICY).write_text(_json([one.record() for one in variant.findings]), encoding="utf-8")
        (draft / ".made").write_text(digest, encoding="utf-8")
    return pictures


def _render(brief: Brief, copy: Copy, placement: str, config: StudioConfig, seed: int) -> Picture:
    from agora.ads.images import render
    from agora.ads.placements import placement_named

    place = placement_named(placement)
    if config.with_credentials:
        place = replace(place, max_kb=place.max_kb - CREDENTIALS_KB)

    return render(
        headline=_headline(brief, copy), description=_under(brief, copy),
        call_to_action=copy.call_to_action, brand=brief.brand, product_picture=brief.brand.product_picture, placement=place, seed=seed,
        language=copy.language,
    )  # fmt: skip


def _headline(brief: Brief, copy: Copy) -> str:
    """The headline for a picture: without the brand in front, which stands there as logo or wordmark."""
    rest = re.sub(rf"^{re.escape(brief.brand.name)}\s*[:：]\s*", "", copy.headline)
    return rest if rest == copy.headline else rest[:1].upper() + rest[1:]


def _under(brief: Brief, copy: Copy) -> str:
    """What stands below the headline in a picture: what neither the headline nor logo or wordmark says."""
    shown = re.split(r"[:：]", copy.headline.casefold())[-1].strip(" .!")
    named = {brief.brand.name.casefold(), brief.product.casefold(), brief.short_name.casefold()}
    for text in (copy.short_description, copy.description):
        said = text.casefold().strip(" .!")
        if said not in named and said not in shown and shown not in said and len(text) <= _LONGEST_UNDER:
            return text
    return ""


def read_picture(folder: Path, name: str) -> Picture:
    """A picture of a variant's folder."""
    from agora.ads.images import Checks, Layout, Picture
    from agora.ads.images.scene import Box

    table = _read_json(folder / f"{name}.json")
    layout, checks = table["layout"], table["checks"]
    layout |= {"boxes": {key: Box(*box) for key, box in layout["boxes"].items()}, "left_out": tuple(layout["left_out"])}
    layout |= {"lines": {key: tuple(lines) for key, lines in layout["lines"].items()}}
    checks = {key: tuple(value) if isinstance(value, list) else value for key, value in checks.items() if key not in ("problems", "passed")}
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    return Picture((folder / f"{name}.png").read_bytes(), svg, Layout(**layout), Checks(**checks))


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
    write_atomically(out / POLICY, _json({"variants": records, "not_written": list(not_written)}))
    write_atomically(out / "policy.html", _report(brief, variants, not_written))
    write_atomically(out / ADS, _json([_ad(brief, one, ready) for one in ready]))


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


def _report(brief: Brief, variants: Sequence[Variant], not_written: Sequence[Mapping[str, str]]) -> str:
    """The policy report as a page that needs no other file."""
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f}"
        "h2{margin:2rem 0 .3rem;font-size:1.1rem}.ready{color:#14663b}.held{color:#8a5a00}.blocked{color:#a3130c}"
        "li{margin:.3rem 0}q{background:#fff3d6}small{color:#5c5c66}"
    )
    parts = [f"<h1>Policy: {escape(brief.product)}</h1>"]
    for one in variants:
        parts.append(f'<h2>{escape(one.name)} <span class="{one.state}">{one.state}</span></h2>')
        parts.append(f"<p><b>{escape(one.copy.headline)}</b><br>{escape(one.copy.primary_text)}</p><ul>")
        for finding in one.findings:
            parts.append(f"<li>{escape(finding.rule)}, {finding.severity}: <q>{escape(finding.span)}</q> {escape(finding.reason)}</li>")
        rests = {(claim.text, claim.source) for claim in one.copy.claims}
        parts += [f"<li><small>{escape(text)}: {escape(source)}</small></li>" for text, source in sorted(rests)]
        parts.append("</ul>")
    for lost in not_written:
        parts.append(f'<h2>{escape(lost["audience"])} <span class="blocked">not written</span></h2>')
        parts.append(f"<p><q>{escape(lost['text'])}</q> ({escape(lost['field'])}): {escape(lost['reason'])}</p>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Policy</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _read_targeting(out: Path) -> Targeting:
    try:
        table = _read_json(out / JOB)["targeting"]
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        return Targeting(**plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{out / JOB} does not say for whom the ads are ({error!r}); make the ads anew") from error


def _read_report(out: Path) -> dict[str, Any]:
    """policy.json, its shape checked. Raises UsageError where there is none, DataError where it is something else."""
    if not (out / POLICY).is_file():
        raise UsageError(f"{out} has no {POLICY}; make ads first (agora ads make BRIEF --out {out})")
    report = _read_json(out / POLICY)
    lists = [report.get(key) for key in ("variants", "not_written")] if isinstance(report, dict) else [None]
    wanted = {"name": str, "state": str, "audience": dict, "pictures": list, "findings": list}
    if not all(isinstance(some, list) and all(isinstance(one, dict) for one in some) for some in lists) or not all(
        isinstance(one.get(key), kind) for one in report["variants"] for key, kind in wanted.items()
    ):
        raise DataError(f"{out / POLICY} is not the policy report of a run; make the ads anew")
    return dict(report)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; make the ads anew") from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n"


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
