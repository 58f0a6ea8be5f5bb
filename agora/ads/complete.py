"""What comes after texts and pictures, in one go: content credentials, scores, sheets for the ad systems. Goes in: a folder that
`make_ads` wrote. Comes out, beside what is there:

    AUDIENCE/LANGUAGE-N/   scores.json, contact_sheet.html, SHEET.csv (of what may run); PNG and SVG signed, where a signer is given
    exports/SHEET.csv      all ads that may run, one sheet per platform of the brief
    scores.json            every variant, the best first within its audience

Every file is written whole, and only where it changes: the same command goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.ads.brief import Brief
from agora.ads.export import export
from agora.ads.export.ad import Ad, read_ads
from agora.ads.export.sheet import sheet_names
from agora.ads.limits import platforms_named
from agora.ads.studio import ADS, GRAMMAR, READY, SHEET, Made, Variant, writer_of
from agora.errors import DataError
from agora.files import write_atomically
from agora.log import Progress, silent

if TYPE_CHECKING:
    from agora.ads.provenance import Signer
    from agora.ads.scoring.clicks import ClickModel

SCORES: Final = "scores.json"
EXPORTS: Final = "exports"
SIGNED: Final = (".png", ".svg")


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """What was added. `credentials`: one sentence for people. `faults`: sheets that were not written, with the reason."""

    num_signed: int
    credentials: str
    sheets: tuple[str, ...]
    faults: Mapping[str, str]
    best: Mapping[str, str]


def complete(
    brief: Brief, made: Made, *, signer: Signer | None = None, clicks: ClickModel | None = None, page: str | None = None,
    progress: Progress = silent,
) -> Completed:  # fmt: skip
    """Sign, score and export a folder. `page`: the HTML of the landing page. Raises as signing does (DataError, ModelError)."""
    shown = [variant for variant in made.variants if variant.pictures]
    num_signed, said = sign_pictures(made, signer, progress=progress) if signer is not None else (0, "not signed")
    scores = {variant.name: _scored(brief, made.folder, variant, clicks, page) for variant in made.variants}
    for variant in made.variants:
        if (made.folder / variant.name).is_dir():
            _write(made.folder / variant.name / SCORES, json.dumps(scores[variant.name], ensure_ascii=False, indent=1) + "\n")
    for variant in shown:
        _write_sheet(brief, made.folder, variant)
    _write(made.folder / SCORES, json.dumps(_ranked(scores), ensure_ascii=False, indent=1) + "\n")
    sheets, faults = write_exports(brief, made.folder, made.variants)
    best = {name.split("/")[0]: name for name in reversed(_ranked(scores)) if scores[name]["state"] == READY}
    return Completed(num_signed=num_signed, credentials=said, sheets=sheets, faults=faults, best=best)


def sign_pictures(made: Made, signer: Signer, *, progress: Progress = silent) -> tuple[int, str]:
    """Sign every picture that is not signed yet: how many, and what a verifier says of the last. Raises DataError, ModelError."""
    num_signed, said = 0, "not signed"
    trained = writer_of(made.folder) != GRAMMAR  # backgrounds are drawn by rules here, never painted by a model
    with progress.step("signing", total=len(made.variants), unit="variants") as step:
        for variant in made.variants:
            number, found = _signed(made.folder / variant.name, variant, signer, trained=trained)
            num_signed, said = num_signed + number, found if variant.pictures else said
            step.advance(1)
    return num_signed, said


def write_exports(brief: Brief, out: Path, variants: Sequence[Variant] = ()) -> tuple[tuple[str, ...], dict[str, str]]:
    """The sheets of all ads that may run now, and of each in its variant's folder; which were written, and why others were not. Sheets of
    what may run no more are removed."""
    table = json.loads((out / ADS).read_text(encoding="utf-8"))
    ads = read_ads(out / ADS) if table else []
    names = [platform.name for platform in platforms_named(brief.platforms) if platform.name in sheet_names()]
    written, faults = [], {}
    for name in names:
        targets = [(out / EXPORTS / f"{name}.csv", ads), *((out / one.name / f"{name}.csv", _named(ads, one.name)) for one in variants)]
        for target, chosen in targets:
            try:
                if chosen:
                    _write(target, export(chosen, name))
                else:
                    target.unlink(missing_ok=True)
            except DataError as error:
                faults[name] = str(error)
                target.unlink(missing_ok=True)
        if (out / EXPORTS / f"{name}.csv").is_file():
            written.append(name)
    return tuple(written), faults


def _named(ads: Sequence[Ad], name: str) -> list[Ad]:
    return [ad for ad in ads if ad.name == name]


def _signed(folder: Path, variant: Variant, signer: Signer, *, trained: bool) -> tuple[int, str]:
    """Sign the pictures of a variant that are not signed yet; how many, and what a verifier says of the last one."""
    from agora.ads.provenance import sign_file, studio_source_type, verify_file

    number, said = 0, "not signed"
    for path in sorted(folder / f"{name}{ending}" for name in variant.pictures for ending in SIGNED):
        found = verify_file(path)
        if not found.is_valid:
            found = sign_file(path, signer, source_type=studio_source_type(trained=trained))
            number += 1
        said = found.in_words
    return number, said


def _scored(brief: Brief, out: Path, variant: Variant, clicks: ClickModel | None, page: str | None) -> dict[str, Any]:
    """Layout and legibility per picture, landing page and clicks where they are known. `score`: the mean of what is known, 0..1."""
    from agora.ads.scoring.landing import score_landing
    from agora.ads.scoring.layout import layout_record, score_layout
    from agora.ads.scoring.legibility import score_legibility
    from agora.ads.scoring.past_ads import PastAd

    pictures = {}
    for name in variant.pictures:
        record = layout_record(json.loads((out / variant.name / f"{name}.json").read_text(encoding="utf-8"))["layout"], where=name)
        seen = score_legibility((out / variant.name / f"{name}.png").read_bytes(), record)
        pictures[name] = {"layout": round(score_layout(record).score, 3), "legible_when_small": round(seen.score, 3)}
    parts = [value for one in pictures.values() for value in one.values()]
    found: dict[str, Any] = {"audience": variant.audience.id, "state": variant.state, "pictures": pictures}
    if page is not None:
        landing = score_landing(list(variant.copy.texts().values()), page)
        found["landing_page"] = asdict(landing)
        parts.append(landing.score)
    if clicks is not None:
        ad = PastAd(text=variant.copy.primary_text, landing_page=brief.landing_page)
        found["clicks_log_odds"] = round(float(clicks.score([ad])[0]), 4)
    return found | {"score": round(sum(parts) / len(parts), 3) if parts else None}


def _ranked(scores: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Within an audience what may run first; then by expected clicks where they are known, then by score."""

    def place(name: str) -> tuple[str, bool, float, float, str]:
        one = scores[name]
        return one["audience"], one["state"] != READY, -one.get("clicks_log_odds", 0.0), -(one["score"] or 0.0), name

    return {name: scores[name] for name in sorted(scores, key=place)}


def _write_sheet(brief: Brief, out: Path, variant: Variant) -> None:
    from agora.ads.images.contact_sheet import contact_sheet
    from agora.ads.studio import read_picture

    pictures = [(f"{variant.name} ({variant.state})", read_picture(out / variant.name, name)) for name in variant.pictures]
    _write(out / variant.name / SHEET, contact_sheet(pictures, title=f"{brief.brand.name}: {brief.product}"))


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())


__all__ = ["EXPORTS", "SCORES", "Completed", "complete", "sign_pictures", "write_exports"]
