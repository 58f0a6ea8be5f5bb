"""`agora integrity`: coordinated accounts, what people rule on them, and the labels that follow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli import integrity_watch
from agora.cli.output import JsonOption, Overrides, WorkspaceOption, emit, next_command, terminal_progress
from agora.errors import UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.integrity.folder import IntegrityFolder
    from agora.integrity.records import Campaign, ScanResult
    from agora.integrity.rulings import Rulings

app = typer.Typer(help="Coordinated accounts: find, show, rule on, label, export.\n\nExample: agora integrity scan", no_args_is_help=True)

app.command("watch")(integrity_watch.watch)

CampaignArgument = Annotated[str, typer.Argument(help="Id of a campaign (see: agora integrity campaigns).")]
NameOfPerson = Annotated[str, typer.Option("--name", help="Who decides; kept in the ledger.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in plain words; kept in the ledger.")]


@app.command()
def scan(
    overrides: Overrides = None,
    follows: Annotated[
        Path | None, typer.Option("--follows", exists=True, dir_okay=False, help="Parquet with columns follower, followed.")
    ] = None,
    declared: Annotated[
        Path | None, typer.Option("--declared", exists=True, dir_okay=False, help="CSV with columns account, organisation.")
    ] = None,
    created: Annotated[
        Path | None, typer.Option("--created", exists=True, dir_okay=False, help="CSV with columns account, created_at.")
    ] = None,
    ray: Annotated[str | None, typer.Option("--ray", help="Ray cluster that reads the posts: HOST:PORT or ray://HOST:10001.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for coordinated accounts among the posts of the workspace; label them. A killed scan goes on where it stopped.

    Settings (agora.toml section integrity, or key=value): see docs/commands.md.

    Example: agora integrity scan q_members=0.005 --declared organisations.csv
    """
    from agora.config import apply_overrides, parse_assignments
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.inputs import read_created, read_declared, read_follows
    from agora.posts.store import PostStore

    place = Workspace.find(workspace)
    config = apply_overrides(IntegrityConfig(), place.defaults("integrity"), f"{place.settings_file} [integrity]")
    config = apply_overrides(config, parse_assignments(overrides or []), "agora integrity scan")
    known_follows = read_follows(follows) if follows else None
    known_declared = read_declared(declared) if declared else {}
    folder = integrity_folder(place)
    store = PostStore.open(place.folder("posts"))
    known_created = read_created(created) if created else {}
    result = folder.scan_store(
        store, config, follows=known_follows, declared=known_declared, created=known_created, ray=ray, progress=terminal_progress
    )
    with folder.ledger() as ledger:
        labels = folder.publish(ledger)
        breaker = ledger.breaker(config=folder.config)
        campaigns = _lines(result, labels, ledger.rulings())
    accounts = [row for row in labels.to_pylist() if row["kind"] == "account"]
    summary = {
        "posts": result.num_posts, "accounts": result.num_accounts, "groups": result.num_groups, "tests": result.num_tests,
        "num_campaigns": sum(one["state"] != "shared_interest" for one in campaigns),
        "num_shared_interest": sum(one["state"] == "shared_interest" for one in campaigns),
        "labelled_accounts": len({row["id"] for row in accounts}),
        "labelled_posts": len({row["id"] for row in labels.to_pylist() if row["kind"] == "post"}),
        "automatic_labels_stopped": breaker.is_tripped,
    }  # fmt: skip
    if as_json:
        names = ("campaign", "state", "confidence", "reason")
        shown = [{"account": row["id"], "automatic": row["is_automatic"], **{name: row[name] for name in names}} for row in accounts]
        emit({**summary, "campaigns": campaigns, "labels": shown}, as_json=True)
    else:
        emit(summary, as_json=False)
    _warn(breaker.is_tripped)
    next_command("agora integrity campaigns")


@app.command()
def campaigns(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the campaigns of the last scan, with what people ruled on them.

    Example: agora integrity campaigns
    """
    folder, result = _opened(workspace)
    with folder.ledger() as ledger:
        rulings = ledger.rulings()
    labels = folder.labels(result, rulings)
    lines = _lines(result, labels, rulings)
    if as_json:
        emit({"campaigns": lines}, as_json=True)
    for line in () if as_json else lines:
        ruled = f", verdict: {line['verdict']}" if line["verdict"] else ""
        print(f"{line['campaign']}  {line['state']}{ruled}  {line['members']} members, {line['labelled']} labelled")
        print(f"    {' '.join(line['sentences'])}")
    if not lines and not as_json:
        print("no campaigns")
    _warn(rulings.is_stopped)
    next_command(f"agora integrity show {lines[0]['campaign']}" if lines else "agora integrity scan")


@app.command()
def show(campaign: CampaignArgument, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show one campaign: why it was found, who takes part, what they shared, what else would explain it, what people ruled.

    Example: agora integrity show c0ffee12
    """
    import json

    from agora.integrity.results import record_fields
    from agora.integrity.rulings import labelled_members

    folder, result = _opened(workspace)
    found = _find(result, campaign)
    with folder.ledger() as ledger:
        rulings = ledger.rulings()
    verdict, appeals = rulings.verdict(found), rulings.appeals_on(found)
    labelled = {member.account: is_automatic for member, is_automatic in labelled_members(found, rulings)}
    if as_json:
        table = json.loads(json.dumps(found, default=lambda value: sorted(value) if isinstance(value, frozenset) else record_fields(value)))
        ruled = {
            "verdict": record_fields(verdict) if verdict else None,
            "appeals": [record_fields(appeal) for appeal in appeals.values()],
            "labelled": labelled,
        }
        emit(json.loads(json.dumps({**table, **ruled}, default=sorted)), as_json=True)
    else:
        _show(found, labelled, {account: appeal.state for account, appeal in appeals.items()})
        if verdict:
            of = f" ({verdict.explanation})" if verdict.explanation else ""
            print(f"\nverdict: {verdict.state}{of}, by {verdict.name} at {verdict.at}: {verdict.reason}")
    _warn(rulings.is_stopped)
    next_command(f"agora integrity verdict {found.id} STATE --name NAME --reason REASON")


@app.command()
def verdict(
    campaign: CampaignArgument,
    state: Annotated[str, typer.Argument(help="inauthentic, coordinated, explained or not_coordinated.")],
    name: NameOfPerson,
    reason: ReasonOption,
    explanation: Annotated[str | None, typer.Option("--explanation", help="For explained: fan, declared or official.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a person's verdict on a campaign. It rules over the scan, and over earlier verdicts; all are kept.

    Example: agora integrity verdict c0ffee12 explained --explanation fan --name Ada --reason "a fan club with open rules"
    """
    from agora.integrity.results import record_fields

    folder, result = _opened(workspace)
    found = _find(result, campaign)
    with folder.ledger() as ledger:
        given = ledger.give_verdict(found, state, name=name, reason=reason, explanation=explanation)
        labels = folder.publish(ledger)
    row = {**record_fields(given), "accounts": len(given.accounts)}
    emit({**row, "labelled_accounts": _num_labelled(labels)[found.id]}, as_json=as_json)
    next_command(f"agora integrity show {found.id}")


@app.command()
def appeal(
    what: Annotated[str, typer.Argument(help="Id of a campaign to contest, or the number of an appeal to decide.")],
    name: NameOfPerson,
    reason: ReasonOption,
    account: Annotated[str | None, typer.Option("--account", help="The labelled account, to contest.")] = None,
    uphold: Annotated[bool, typer.Option("--uphold", help="Decide: the account was right.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Decide: the label stays.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Contest a label, or decide such an appeal. Too many upheld appeals stop automatic labels (agora integrity breaker).

    Example: agora integrity appeal c0ffee12 --account some_account --name "some_account" --reason "we are a choir"
    """
    from agora.integrity.results import record_fields

    if (account is not None) + uphold + reject != 1:
        raise UsageError("give exactly one of --account NAME (contest a label), --uphold, --reject (decide an appeal)")
    folder, result = _opened(workspace)
    with folder.ledger() as ledger:
        if account is not None:
            done = ledger.appeal(_find(result, what), account, name=name, reason=reason)
        elif not what.isdecimal():
            raise UsageError(f"{what!r} is not the number of an appeal; example: agora integrity appeal 3 --uphold --name Ada --reason ...")
        else:
            done = ledger.decide(int(what), "upheld" if uphold else "rejected", name=name, reason=reason)
        folder.publish(ledger)
        is_stopped = ledger.rulings().is_stopped
    emit({**record_fields(done), "accounts": len(done.accounts), "automatic_labels_stopped": is_stopped}, as_json=as_json)
    _warn(is_stopped)
    following = f"agora integrity appeal {done.number} --uphold|--reject --name NAME --reason REASON"
    next_command(following if account is not None else "agora integrity breaker")


@app.command()
def breaker(
    reset: Annotated[bool, typer.Option("--reset", help="Let automatic labels begin again; needs --name and --reason.")] = False,
    name: Annotated[str, typer.Option("--name", help="Who resets it; kept in the ledger.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why it may be reset; kept in the ledger.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether upheld appeals have stopped automatic labels, and let them begin again.

    Example: agora integrity breaker --reset --name Ada --reason "q_members lowered, scanned again, 40 accounts checked"
    """
    from agora.integrity.results import record_fields

    if not reset and (name or reason):
        raise UsageError("--name and --reason belong to --reset")
    place = Workspace.find(workspace)
    folder = integrity_folder(place)
    if not folder.root.is_dir():
        raise UsageError(f"no scan in {folder.root}; run: agora integrity scan")
    with folder.ledger() as ledger:
        if reset:
            ledger.reset_breaker(name=name, reason=reason)
            if folder.scan_folder.is_dir():
                folder.publish(ledger)
        state = ledger.breaker(config=folder.config)
    allowed = {"share_allowed": folder.config.breaker_share, "appeals_needed": folder.config.breaker_appeals}
    emit({**record_fields(state), **allowed}, as_json=as_json)
    next_command("agora integrity breaker --reset --name NAME --reason REASON" if state.is_tripped else "agora integrity campaigns")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write: .json, .csv, .graphml or .stix.json.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the last scan with its rulings and labels for other programs. STIX carries labelled accounts only.

    Example: agora integrity export campaigns.stix.json
    """
    from agora.integrity.export import export_scan
    from agora.integrity.results import load_origin

    folder, result = _opened(workspace)
    with folder.ledger() as ledger:
        rulings = ledger.rulings()
    labels = folder.labels(result, rulings)
    files = export_scan(result, rulings, labels, file, scanned_at=load_origin(folder.scan_folder).scanned_at)
    emit({"campaigns": len(result.campaigns), "labels": labels.num_rows, "files": [str(path) for path in files]}, as_json=as_json)
    next_command("agora integrity campaigns")


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="Where to write the page (.html).")] = Path("integrity.html"),
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the last scan with its rulings as one page that works offline.

    Example: agora integrity report campaigns.html
    """
    from agora.integrity.report import Decision, write_report

    if file.suffix != ".html" or not file.absolute().parent.is_dir():
        raise UsageError(f"report file {file} must end in .html and lie in an existing folder")
    folder, result = _opened(workspace)
    with folder.ledger() as ledger:
        rulings = ledger.rulings()
    labels = folder.labels(result, rulings)
    decisions = []
    for campaign in result.campaigns:
        if found := rulings.verdict(campaign):
            decisions.append(
                Decision(campaign=campaign.id, what=f"verdict: {found.state}", name=found.name, at=found.at, reason=found.reason)
            )
        for appeal in rulings.appeals_on(campaign).values():
            what = f"appeal of {appeal.account}: {appeal.state}"
            decisions.append(Decision(campaign=campaign.id, what=what, name=appeal.name, at=appeal.at, reason=appeal.reason))
    accounts = {row["id"] for row in labels.to_pylist() if row["kind"] == "account"}
    write_report(result, file, labels=accounts, verdicts=decisions)
    emit({"campaigns": len(result.campaigns), "labelled_accounts": len(accounts), "file": str(file)}, as_json=as_json)
    _warn(rulings.is_stopped)
    next_command(f"open {file} in a browser")


@app.command()
def signals(as_json: JsonOption = False) -> None:
    """List what two accounts can have in common for a scan, why it tells something, and when it is innocent; with those that a setting
    turns on.

    Example: agora integrity signals
    """
    from agora.integrity.signals import signals as known

    emit(
        {
            one.id: {
                "why": one.why, "what_is_shared": one.outputs, "innocent_when": "; ".join(one.false_alarms), "kind": one.role,
                "reads": list(one.inputs), "version": one.version, "runs": f"with {one.id}=true" if one.optional else "always",
            }
            for one in known(meaning=True)
        },
        as_json=as_json, keys_are_data=True,
    )  # fmt: skip
    next_command("agora integrity scan")


def integrity_folder(place: Workspace) -> IntegrityFolder:
    """The workspace's integrity folder with the settings of its agora.toml section labels."""
    from agora.integrity.folder import IntegrityFolder

    return IntegrityFolder.of(place)


def _opened(workspace: Path | None) -> tuple[IntegrityFolder, ScanResult]:
    """The folder and the last scan, after deletions from the store have reached them."""
    from agora.posts.store import PostStore

    place = Workspace.find(workspace)
    folder = integrity_folder(place)
    folder.load()
    if place.folder("posts").is_dir():
        folder.forget_deleted(PostStore.open(place.folder("posts")))
    return folder, folder.load()


def _find(result: ScanResult, campaign: str) -> Campaign:
    import difflib

    known = {one.id: one for one in result.campaigns}
    if campaign not in known:
        close = [one for one in known if campaign and one.startswith(campaign)] or difflib.get_close_matches(campaign, known, n=1)
        hint = f"did you mean {close[0]!r}?" if len(close) == 1 else "see: agora integrity campaigns"
        raise UsageError(f"the last scan has no campaign {campaign!r}; {hint}")
    return known[campaign]


def _num_labelled(labels: Any) -> Counter[str]:
    """Labelled accounts of each campaign."""
    kinds, names = labels["kind"].to_pylist(), labels["campaign"].to_pylist()
    return Counter(name for kind, name in zip(kinds, names, strict=True) if kind == "account")


def _lines(result: ScanResult, labels: Any, rulings: Rulings) -> list[dict[str, Any]]:
    """One line per campaign."""
    labelled = _num_labelled(labels)
    lines = []
    for campaign in result.campaigns:
        ruled = rulings.verdict(campaign)
        lines.append(
            {
                "campaign": campaign.id, "state": campaign.state, "verdict": ruled.state if ruled else None,
                "members": len(campaign.members), "labelled": labelled[campaign.id],
                "first_at": campaign.first_at, "last_at": campaign.last_at, "sentences": list(campaign.sentences),
            }
        )  # fmt: skip
    return lines


def _show(campaign: Campaign, labelled: dict[str, bool], appeals: dict[str, str]) -> None:
    from agora.integrity.records import STATES

    print(f"{campaign.id}: {STATES[campaign.state]}\n{' '.join(campaign.sentences)}")
    print(f"from {campaign.first_at} to {campaign.last_at}\n\nmembers ({len(campaign.members)}):")
    for member in campaign.members:
        label = "not labelled" if member.account not in labelled else "labelled" if labelled[member.account] else "labelled by a person"
        words = [label, *(["often first: perhaps copied"] if member.is_source else [])]
        words += [f"appeal {appeals[member.account]}"] if member.account in appeals else []
        print(f"  {member.account}  q={member.q_value:.2g}  {member.num_actions} of {member.num_posts} posts  {', '.join(words)}")
    if campaign.companions:
        print(f"\ncompanions, who acted along and have no label ({len(campaign.companions)}):\n  {', '.join(campaign.companions)}")
    print("\nevidence:")
    for one in campaign.evidence:
        of = "known accounts" if one.test == "creation" else "occasions"
        print(
            f"  {one.signal} within {one.window_s:,} s: {one.observed:,.4g} seen, {one.expected:,.4g} expected "
            f"in {one.num_occasions:,} {of}; q={one.q_value:.2g} ({one.test})"
        )
    print("\nwhat else would explain it:")
    for other in campaign.explanations:
        print(f"  {'yes' if other.holds else 'no '}  {other.name}: {other.text}")
    print(f"\nshared artefacts ({len(campaign.artefacts)}):")
    for artefact in campaign.artefacts:
        text = " ".join(artefact.text.split())
        posts = ", ".join(action.post for action in artefact.actions if action.is_member)
        print(
            f"  {artefact.signal}: {artefact.num_members} members within {artefact.gap_s:,} s, {artefact.num_outsiders} outsiders: {text}"
        )
        print(f"    posts: {posts}")


def _warn(is_stopped: bool) -> None:
    if is_stopped:
        typer.echo("warning: automatic labels are STOPPED, too many appeals were upheld; see: agora integrity breaker", err=True)
