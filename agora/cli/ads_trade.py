"""`agora ads score|experiment|export|verify|sign`: what comes after the pictures. The area's file registers them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import JsonOption, emit, next_command, terminal_progress
from agora.errors import UsageError

if TYPE_CHECKING:
    from agora.ads.provenance import Verified

_FORMATS = ("text", "json", "html")


def register(app: typer.Typer) -> None:
    """Add the commands to the area `ads`."""
    app.command("score")(score)
    app.command("experiment")(experiment)
    app.command("export")(export)
    app.command("verify")(verify)
    app.command("sign")(sign)


def score(
    past: Annotated[Path, typer.Argument(metavar="PAST", help="Past ads with results (.parquet, .csv, .jsonl), or a trained click model.")],
    ads: Annotated[Path | None, typer.Argument(metavar="ADS", help="Ads to compare, as a table with text.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to save the trained model in.", show_default=False)] = None,
    text_alone: Annotated[bool, typer.Option("--text-alone", help="Learn from the texts alone, not from targeting.")] = False,
    min_impressions: Annotated[int, typer.Option("--min-impressions", help="Past ads shown less often are left out.")] = 500,
    as_json: JsonOption = False,
) -> None:
    """Train a click model on your own past ads, and order new ones by it.

    Example: agora ads score results.csv new_ads.csv --out clicks
    """
    from agora.ads.scoring.clicks import ClickConfig, ClickModel, train_clicks
    from agora.ads.scoring.past_ads import read_new_ads, read_past_ads

    if ads is None and (out is None or past.is_dir()):
        raise UsageError("nothing to do: give ads to compare, or past ads and --out to save a model trained on them")
    if past.is_dir():
        model = ClickModel.load(past)
    else:
        config = ClickConfig(with_targeting=not text_alone)
        model = train_clicks(read_past_ads(past, min_impressions=min_impressions), config, progress=terminal_progress)
    result: dict[str, Any] = dict(model.facts)
    if out is not None:
        model.save(out)
        result["saved_in"] = out
    if ads is not None:
        new = read_new_ads(ads)
        found = sorted(zip(model.score(new), new, strict=True), key=lambda pair: -pair[0])
        result["order"] = {
            f"{place}. {' '.join(ad.text.split())[:70]}": round(float(value), 3) for place, (value, ad) in enumerate(found, 1)
        }
    emit(result, as_json=as_json)
    next_command("agora ads export ads.json google" if ads is not None else f"agora ads score {out} new_ads.csv")


def experiment(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="CSV file of results as the platform exports it.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write the report to.", show_default=False)] = None,
    report: Annotated[str, typer.Option("--format", help=f"Of the report: {', '.join(_FORMATS)}.")] = "text",
    column: Annotated[
        list[str] | None, typer.Option("--column", help="Name of a column, e.g. variant='Ad name'; may be repeated.", show_default=False)
    ] = None,
    min_share: Annotated[float, typer.Option("--min-share", help="Of the next views, for every variant still in the test.")] = 0.02,
    max_loss: Annotated[float, typer.Option("--max-loss", help="Expected share of clicks lost at which a test may stop.")] = 0.01,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Which variant to keep, per audience, and how to share the next views.

    Example: agora ads experiment results.csv --format html --out report.html
    """
    from agora.ads.experiment import ExperimentConfig, by_audience
    from agora.ads.experiment_report import decide, report_html, report_text, report_values, verdict
    from agora.ads.results import read_results
    from agora.files import write_atomically

    if report not in _FORMATS:
        raise UsageError(f"--format {report!r} is not one of {', '.join(_FORMATS)}")
    pairs = [one.partition("=") for one in column or ()]
    if any(not sign for _, sign, _ in pairs):
        raise UsageError("--column wants field=name, e.g. variant='Ad name'")
    found = read_results(results, columns={field: name for field, _, name in pairs})
    tests = by_audience(found.rows, ExperimentConfig(min_share=min_share, max_loss=max_loss), seed=seed)
    decisions = decide(tests)
    if out is not None:
        import json

        texts = {"text": lambda: report_text(decisions) + "\n", "html": lambda: report_html(decisions, title=f"Experiment: {results.name}")}
        written = texts.get(report, lambda: json.dumps(report_values(decisions), indent=2) + "\n")()
        write_atomically(out, written)
    if as_json:
        emit({"columns": dict(found.columns), "lines_left_out": found.left_out, "decisions": report_values(decisions)}, as_json=True)
    elif out is None and report == "html":
        print(report_html(decisions, title=f"Experiment: {results.name}"))
    else:
        print(report_text(decisions))
        if found.left_out:
            print(f"{found.left_out} lines of the file are totals or name no variant, and are left out")
    stopped = [audience for audience, decision in decisions.items() if verdict(decision) != "go on"]
    next_command("agora ads export ads.json google" if stopped else f"agora ads experiment {results}")


def export(
    ads: Annotated[Path, typer.Argument(metavar="ADS", help="JSON list of ads.")],
    sheet: Annotated[str, typer.Argument(metavar="SHEET", help="google, meta, x or openai.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write (default: ADS with the ending .SHEET.csv).", show_default=False)
    ] = None,
    pictures: Annotated[
        str, typer.Option("--pictures", metavar="URL", help="Public address of the folder with the pictures, for ads without image_url.")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="ADS is a CSV sheet already: only check it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write ads as the sheet that an ad system imports; it is re-read and checked before it is written.

    Example: agora ads export ads.json google --out google.csv
    """
    from agora.ads.export import export as write_sheet
    from agora.ads.export import sheet_named, validate
    from agora.ads.export.ad import read_ads
    from agora.errors import DataError

    table = sheet_named(sheet)
    if check:
        if not ads.is_file():
            raise UsageError(f"{ads} does not exist; give a CSV sheet to check")
        try:
            faults = validate(ads.read_text(encoding="utf-8-sig"), table)
        except UnicodeDecodeError as error:
            raise DataError(f"{ads} is not UTF-8 (byte {error.start}); save it as UTF-8 CSV") from None
        emit({"sheet": table.title, "faults": len(faults), "list": [str(fault) for fault in faults]}, as_json=as_json)
        if faults:
            raise DataError(f"{ads}: {len(faults)} faults")
        return
    target = out or ads.with_suffix(f".{sheet}.csv")
    found = read_ads(ads)
    text = write_sheet(found, table, out=target, pictures=pictures)
    rows = len(list(csv.reader(io.StringIO(text)))) - 1
    emit({"sheet": table.title, "ads": rows, "file": target, "note": table.note, "columns_as_of": table.date}, as_json=as_json)
    next_command(f"agora ads export {target} {sheet} --check")


def verify(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG or SVG files.")], as_json: JsonOption = False
) -> None:
    """Check content credentials: intact, by whom, and how the picture says it was made.

    Example: agora ads verify out/*.png
    """
    from agora.ads.provenance import verify_file

    _say_verified({path: verify_file(path) for path in pictures}, as_json=as_json)


def sign(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG or SVG files; they are signed where they are.")],
    source_type: Annotated[
        str | None,
        typer.Option(
            "--source-type",
            metavar="TERM",
            show_default=False,
            help="How they were made, a term of the IPTC: digitalCapture, humanEdits, digitalCreation, trainedAlgorithmicMedia, "
            "compositeWithTrainedAlgorithmicMedia, ... Left out: only pictures that the studio made.",
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Sign with a certificate made here and kept in this folder.", show_default=False)
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="PEM file of a certificate chain; with --key.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM file of the certificate's private key.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign pictures with content credentials that say how they were made, and verify them.

    Example: agora ads sign shoe.jpg --source-type digitalCapture --keep signing
    """
    from agora.ads.provenance import known_source_type, own_signer, sign_file, signer_from_files, source_type_named

    if keep is not None and (certificate is not None or key is not None):
        raise UsageError("--keep and --certificate are two ways to sign; give one of them")
    if keep is None and (certificate is None or key is None):
        raise UsageError("who signs? give --certificate CHAIN.pem and --key KEY.pem, or --keep FOLDER for a certificate made here")
    kinds = {path: source_type_named(source_type) if source_type is not None else known_source_type(path) for path in pictures}
    signer = own_signer(keep) if keep is not None else signer_from_files(certificate or Path(), key or Path())
    _say_verified({path: sign_file(path, signer, source_type=kind) for path, kind in kinds.items()}, as_json=as_json)
    next_command(f"agora ads verify {pictures[0]}")


def _say_verified(found: Mapping[Path, Verified], *, as_json: bool) -> None:
    """What each picture says; DataError where one has no valid credentials."""
    from dataclasses import asdict

    from agora.errors import DataError

    emit({str(path): asdict(one) if as_json else one.in_words for path, one in found.items()}, as_json=as_json, keys_are_data=True)
    broken = [path for path, one in found.items() if not one.is_valid]
    if broken:
        raise DataError(f"{len(broken)} of {len(found)} pictures have no valid content credentials, first {broken[0]}")
