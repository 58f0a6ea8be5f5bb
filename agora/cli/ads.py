"""`agora ads`: texts and pictures for audiences, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli import ads_trade
from agora.cli.asking import writing_model
from agora.cli.output import JsonOption, Overrides, WorkspaceOption, emit, next_command, terminal_progress
from agora.errors import DataError, UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.ads.audiences import Audience, AudienceConfig
    from agora.ads.policy import Targeting
    from agora.ads.provenance import Signer
    from agora.ads.scoring.clicks import ClickModel

app = typer.Typer(
    help="Ads for audiences: make, check, release, measure, export.\n\nExample: agora ads make brief.toml --out ads", no_args_is_help=True
)
BriefArgument = Annotated[Path, typer.Argument(metavar="BRIEF", help="brief.toml, .json, or a saved product page (.html); docs/ads.md.")]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="KEY=VALUE", help="ages=25-40, sexes=female, postcodes=10115,10117.", show_default=False),
]
OptOutsOption = Annotated[
    Path | None,
    typer.Option(
        "--opt-outs", help="More accounts that must be in no audience, one a line, beside WORKSPACE/ads/opt_outs.txt.", show_default=False
    ),
]
LikeOption = Annotated[
    Path | None, typer.Option("--like", help="An audience like these accounts, one a line, instead of interests.", show_default=False)
]


@app.command("make")
def make(
    brief: BriefArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; the same command goes on where it stopped.")],
    variants: Annotated[int, typer.Option("--variants", min=1, help="Variants per audience and language.")] = 3,
    audiences: Annotated[int, typer.Option("--audiences", min=0, help="How many audiences, the nearest to the brief; 0: everybody.")] = 3,
    like: LikeOption = None,
    target: TargetOption = None,
    model: Annotated[str | None, typer.Option(help="Let this model write (workspace or folder); else a grammar over the facts.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Let an OpenAI-compatible server write: its URL, ending in /v1.")] = None,
    endpoint_model: Annotated[str, typer.Option(help="The model's name at the endpoint.")] = "default",
    texts_only: Annotated[bool, typer.Option("--texts-only", help="No pictures.")] = False,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Sign pictures: PEM file of the certificate chain; with --key.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM file of the certificate's private key.", show_default=False)] = None,
    self_signed: Annotated[
        bool, typer.Option("--self-signed", help="Sign with a certificate made here: intact, but of an issuer whom nobody knows.")
    ] = False,
    clicks: Annotated[
        Path | None, typer.Option("--clicks", help="Order variants by this click model (agora ads score --out).", show_default=False)
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="The landing page as a saved file, to compare the texts with.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal ads.")] = 0,
    opt_outs: OptOutsOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make ads of a brief for the audiences of the workspace's posts: texts, pictures, policy report, scores, sheets, contact sheet.

    Without posts, or with --audiences 0, they are for everybody. With --endpoint the brief leaves this machine.

    Example: agora ads make brief.toml --out ads
    """
    from agora.ads.brief import read_brief
    from agora.ads.complete import complete
    from agora.ads.drawing import usable_cores
    from agora.ads.policy import likeness
    from agora.ads.studio import BLOCKED, HELD, READY, StudioConfig, make_ads

    place, read = Workspace.find(workspace), read_brief(brief)
    signer = _signer(place, certificate, key, self_signed=self_signed)
    judge, landing = _click_model(clicks), _page(page, brief)
    chosen = _audiences_for(place, audiences, like, opt_outs, read)
    config = StudioConfig(num_variants=variants, seed=seed, with_pictures=not texts_only, with_credentials=signer is not None)
    writer = writing_model(place, model, endpoint, endpoint_model)
    made = make_ads(
        read, out, audiences=chosen, writer=writer, config=config, targeting=_targeting(target), processes=usable_cores(),
        progress=terminal_progress,
    )  # fmt: skip
    added = complete(read, made, signer=signer, clicks=judge, page=landing, progress=terminal_progress)
    result = {
        "audiences": [one.label for one in chosen] or ["everybody"], "ready": made.count(READY), "held_for_a_person": made.count(HELD),
        "blocked_by_policy": made.count(BLOCKED), "special_categories_by_meaning": likeness.said_of(read.languages),
        "not_written": len(made.not_written), "pictures": made.num_pictures,
        "pictures_that_fail_a_check": made.num_failed_checks, "content_credentials": added.credentials, "sheets": list(added.sheets),
        "sheets_not_written": dict(added.faults), "best_by_score": dict(added.best), "folder": out,
    }  # fmt: skip
    emit(result, as_json=as_json)
    next_command(f"agora ads release {out} --by NAME" if made.count(HELD) else f"agora ads check {brief} {out}")


@app.command("audiences")
def audiences(
    overrides: Overrides = None,
    like: LikeOption = None,
    opt_outs: OptOutsOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the audiences of the workspace's posts: label, terms, rounded count. Small and sensitive ones are counted, not shown.

    Example: agora ads audiences min_voices=100
    """
    from agora.ads.audiences import AudienceConfig
    from agora.config import apply_overrides, parse_assignments

    config = apply_overrides(AudienceConfig(), parse_assignments(overrides or []), "agora ads audiences")
    found, withheld = _found(Workspace.find(workspace), like, opt_outs, config)
    if as_json:
        emit({"audiences": [one.record() for one in found], "withheld": withheld}, as_json=True)
    else:
        shown = {one.id: f"{one.label}: about {one.num_authors:,} authors, {one.language}" for one in found}
        emit({**shown, "withheld": withheld or "none"}, as_json=False, keys_are_data=True)
    next_command("agora ads make brief.toml --out ads")


@app.command("check")
def check(
    brief: BriefArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `agora ads make` wrote; its texts may have been edited.")],
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every text of a folder against the facts, the rules and the releases as they are now. Exit 1 when one is blocked.

    Example: agora ads check brief.toml ads
    """
    from agora.ads.brief import read_brief
    from agora.ads.complete import write_exports
    from agora.ads.policy import likeness
    from agora.ads.studio import BLOCKED, HELD, READY, recheck

    read = read_brief(brief)
    found = recheck(read, folder, targeting=_targeting(target) if target else None)
    write_exports(read, folder, found)
    states = {state: [one.name for one in found if one.state == state] for state in (READY, HELD, BLOCKED)}
    reasons = {one.name: [finding.record() for finding in one.findings] for one in found if one.findings}
    by_meaning = likeness.said_of(read.languages)
    if as_json:
        emit({**states, "special_categories_by_meaning": by_meaning, "findings": reasons}, as_json=True)
    else:
        emit({**{state: len(names) for state, names in states.items()}, "special_categories_by_meaning": by_meaning}, as_json=False)
        for name, findings in reasons.items():
            for finding in findings:
                print(f"{name} {finding['field']} {finding['rule']}: {finding['span']!r} {finding['reason']}")
    if states[BLOCKED]:
        raise DataError(
            f"{len(states[BLOCKED])} of {len(found)} variants are blocked, the first is {states[BLOCKED][0]}; see {folder}/policy.html"
        )
    next_command(f"agora ads release {folder} --by NAME" if states[HELD] else f"agora ads export {folder}/ads.json google")


@app.command("release")
def release(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `agora ads make` wrote.")],
    by: Annotated[str, typer.Option("--by", help="Who has seen the texts and answers for them.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant (default: all held).", show_default=False)
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Why they may run.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Note that a person has seen held texts and lets them run: housing, jobs, credit, politics. Other texts need another release.

    Example: agora ads release ads --by "Ada Fernwood"
    """
    from agora.ads.studio import release as note_release

    names = note_release(folder, by=by, variants=variant or (), note=note)
    emit({"released": names, "by": by}, as_json=as_json)
    next_command(f"agora ads check brief.toml {folder}")


def _audiences_for(place: Workspace, number: int, like: Path | None, opt_outs: Path | None, brief: Any) -> list[Audience]:
    """The audiences whose terms the brief names most, then the largest; none where there are no posts."""
    from agora.ads.audiences import AudienceConfig
    from agora.ads.copywriting.grammar import relevance
    from agora.ads.copywriting.language import language_named

    if number == 0 or (like is None and not place.folder("posts").exists()):
        return []
    found, _ = _found(place, like, opt_outs, AudienceConfig())
    text = " ".join(one.text for one in brief.statements())
    fitting = [one for one in found if one.language in brief.languages]
    if like is not None and not fitting:
        raise UsageError(
            f"the list writes in {found[0].language!r}, and the brief is in {', '.join(brief.languages)}; add this language to it"
        )
    ranked = sorted(fitting, key=lambda one: -relevance(text, one.terms, language_named(one.language)))
    return ranked[:number]


def _found(place: Workspace, like: Path | None, opt_outs: Path | None, config: AudienceConfig) -> tuple[list[Audience], dict[str, int]]:
    from agora.ads.audiences import find_audiences, lookalikes
    from agora.ads.counts import workspace_counts
    from agora.ads.opt_outs import read_accounts, read_opt_outs
    from agora.integrity.voice import read_voices
    from agora.posts.store import PostStore

    refused = read_opt_outs(place.root, *([opt_outs] if opt_outs is not None else []))
    counts = workspace_counts(place.root)
    with PostStore.open(place.folder("posts")) as store:
        voices = read_voices(place.root, deletions=store.deletions())
        if like is not None:
            seeds = read_accounts(like)
            return [lookalikes(store, seeds, voices, config=config, opted_out=refused, counts=counts, progress=terminal_progress)], {}
        found = find_audiences(store, voices, config=config, opted_out=refused, counts=counts, progress=terminal_progress)
        return list(found.audiences), found.withheld


def _signer(place: Workspace, certificate: Path | None, key: Path | None, *, self_signed: bool) -> Signer | None:
    from agora.ads.provenance import own_signer, signer_from_files

    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key belong together: give both PEM files")
    if certificate is not None and key is not None:
        if self_signed:
            raise UsageError("--certificate and --self-signed are two ways to sign; give one of them")
        return signer_from_files(certificate, key)
    return own_signer(place.root / "ads" / "signing") if self_signed else None


def _click_model(folder: Path | None) -> ClickModel | None:
    if folder is None:
        return None
    from agora.ads.scoring.clicks import ClickModel

    return ClickModel.load(folder)


def _page(page: Path | None, brief: Path) -> str | None:
    """The landing page to compare with: the file named, or the brief itself where it is a saved page."""
    file = page or (brief if brief.suffix.lower() in (".html", ".htm") else None)
    if file is not None and not file.is_file():
        raise UsageError(f"there is no page {file}; save the landing page and name the file (--page)")
    return None if file is None else file.read_text(encoding="utf-8", errors="replace")


def _targeting(words: list[str] | None) -> Targeting:
    from agora.ads.policy import Targeting

    given: dict[str, Any] = {}
    for word in words or []:
        key, _, value = word.partition("=")
        parts = tuple(part.strip() for part in value.replace("-", ",").split(",") if part.strip())
        if key not in ("ages", "sexes", "postcodes") or not parts:
            raise UsageError(f"--target {word!r} must be ages=25-40, sexes=female or postcodes=10115,10117")
        if key == "ages" and not all(part.isdecimal() for part in parts):
            raise UsageError(f"--target {word!r}: ages are numbers, as in ages=25-40")
        given[key] = tuple(int(part) for part in parts) if key == "ages" else parts
    return Targeting(**given)


ads_trade.register(app)
