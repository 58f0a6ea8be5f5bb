"""`agora search trends`, `save`, `saved`, `alerts`: what is rising, and being told of it. The area's file registers them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress, visible
from agora.cli.query_argument import QueryCommand
from agora.settings import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agora.integrity.voice import Voices
    from agora.posts.store import PostStore
    from agora.search.alerts import Alert
    from agora.search.query.syntax import QueryWarning
    from agora.search.trends import Bucket, Trend

_BARS = " .:-=+*#%@"
_SHOWN_TEXT = 160

AtOption = Annotated[
    str | None, typer.Option("--at", help='The moment that counts as now: 2026-11-22T18:00Z, yesterday, "3 days ago".', show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to an area's app."""
    app.command("trends", cls=QueryCommand)(trends)
    app.command("save", cls=QueryCommand)(save)
    app.command("saved")(saved)
    app.command("alerts")(alerts)


def trends(
    query: Annotated[str, typer.Argument(metavar="[QUERY]", help="Only among posts that match (docs/search_query.md).")] = "",
    window: Annotated[str, typer.Option("--window", help="Length of now: 15m, 1h, 1d.")] = "1h",
    history: Annotated[str, typer.Option("--history", help="How far back the history goes before it.")] = "7d",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Trends to show.")] = 20,
    min_voices: Annotated[int, typer.Option("--min-voices", min=2, help="Fewer voices are no trend.")] = 4,
    at: AtOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the terms that more voices use now than their own history lets expect. A campaign of N accounts is one voice.

    Example: agora search trends --window 1h --history 7d
    """
    from dataclasses import asdict
    from datetime import datetime, timezone

    from agora.errors import ConfigError, UsageError
    from agora.search.query.dates import DateError, parse_date, parse_length
    from agora.search.query.parse import parse
    from agora.search.trends import MIN_WINDOWS, TrendConfig, find_trends

    place = Workspace.find(workspace)
    clock = datetime.now(timezone.utc)
    try:
        now = parse_date(at, clock) if at else clock
        config = TrendConfig(
            window_s=float(parse_length(window)), history_s=float(parse_length(history)), limit=limit, min_voices=min_voices
        )
    except DateError as error:
        raise UsageError(str(error)) from error
    except ConfigError as error:
        raise UsageError(
            f"--window {window} must lie between 1m and 366d, and --history {history} be {MIN_WINDOWS} to 10,000 times as long; "
            "example: --window 1h --history 7d"
        ) from error
    read = parse(query, now=now)
    _warn(read.warnings)
    store = _store(place)
    report = find_trends(
        store, config, voices=_voices(place, store), where=read.root, now=now, or_newest=at is None, progress=terminal_progress
    )
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(asdict(report), ensure_ascii=False))
    else:
        print(
            f"{report.num_posts:,} posts of {report.num_voices:,} voices up to {report.at}; "
            f"{len(report.trends)} of {report.num_terms:,} terms rise"
        )
        for trend in report.trends:
            print("\n".join(_shown_trend(trend)))
    example = report.trends[0].term if report.trends else "flood"
    next_command(f"agora search save NAME {json.dumps(example, ensure_ascii=False)}")


def save(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for (docs/search_query.md).")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a search: posts that come in from now on and match it become alerts.

    Example: agora search save river "flood (aare OR rhine) -filter:reposts"
    """
    from agora.search.alerts import open_saved
    from agora.search.query.parse import parse
    from agora.search.query.printing import to_text

    place = Workspace.find(workspace)
    store = _store(place)
    with open_saved(place.root) as searches:
        _warn(searches.save(name, query, position=store.appended))
    root = parse(query).root
    assert root is not None
    emit({"name": name, "query": query, "read_as": to_text(root), "after_posts": store.appended}, as_json=as_json)
    next_command("agora search alerts --follow")


def saved(
    remove: Annotated[str | None, typer.Option("--remove", metavar="NAME", help="Forget this search and its alerts.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the saved searches, or forget one.

    Example: agora search saved
    """
    from dataclasses import asdict

    from agora.search.alerts import open_saved

    place = Workspace.find(workspace)
    _store(place)  # no searches are kept where there are no posts
    with open_saved(place.root) as searches:
        if remove is not None:
            searches.remove(remove)
        known = searches.searches()
    if as_json:
        print(json.dumps({"searches": [asdict(search) for search in known]}, ensure_ascii=False))
    else:
        emit(
            {search.name: f"{search.query}   ({search.num_alerts:,} alerts since {search.saved_at})" for search in known},
            as_json=False, keys_are_data=True, title="" if known else "no search is saved",
        )  # fmt: skip
    next_command("agora search alerts --follow" if known else "agora search save NAME QUERY")


def alerts(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes in, until interrupted.")] = False,
    poll: Annotated[float, typer.Option("--poll", min=0.1, help="With --follow: seconds between looks at the store.")] = 1.0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print each post that came in since the last time and matches a saved search, once. Without --json, the posts of one campaign
    that match one search are shown by their first.

    Example: agora search alerts --follow
    """
    from agora.search.alerts import open_saved, watch_alerts

    place = Workspace.find(workspace)
    store = _store(place)
    with open_saved(place.root) as searches:
        found = watch_alerts(
            store, searches, voices=lambda: _voices(place, store), poll_s=poll, stop=lambda: not follow, progress=terminal_progress
        )
        num_alerts, num_hidden = _print_alerts(found, as_json)
        num_searches = len(searches.searches())
    more = f", {num_hidden:,} of them more of a campaign that was shown" if num_hidden else ""
    print(f"{num_alerts:,} alerts{more}; {num_searches:,} saved searches", file=sys.stderr)
    next_command("agora search saved" if num_searches else "agora search save NAME QUERY")


def _print_alerts(found: Iterator[Alert], as_json: bool) -> tuple[int, int]:
    num_alerts = num_hidden = 0
    shown: set[tuple[str, str]] = set()
    try:
        for alert in found:
            num_alerts += 1
            if as_json:
                print(json.dumps(_as_json(alert), ensure_ascii=False, default=str), flush=True)
            elif alert.is_campaign and (alert.search, alert.voice) in shown:
                num_hidden += 1
            else:
                shown.add((alert.search, alert.voice))
                print(_shown_alert(alert), flush=True)
    except KeyboardInterrupt:
        pass
    return num_alerts, num_hidden


def _as_json(alert: Alert) -> dict[str, Any]:
    return {
        "number": alert.number, "search": alert.search, "at": alert.at, "voice": alert.voice, "is_labelled": alert.is_labelled,
        "post": dict(alert.post),
    }  # fmt: skip


def _shown_alert(alert: Alert) -> str:
    text = visible(str(alert.post["text"]))
    text = text if len(text) <= _SHOWN_TEXT else text[: _SHOWN_TEXT - 3] + "..."
    label = " [labelled as coordinated]" if alert.is_labelled else ""
    author, name = visible(alert.post["author"]), visible(alert.post["id"])
    return f"{alert.search}: {alert.post['created_at']:%Y-%m-%d %H:%M} {author}{label}: {text} ({name})"


def _shown_trend(trend: Trend) -> Iterator[str]:
    accounts = f" ({trend.accounts:,} accounts)" if trend.accounts != trend.voices else ""
    yield visible(trend.term)
    yield f"  {trend.voices:,} voices{accounts}, {trend.expected:.2g} expected, q {trend.q_value:.1g}  |{_bars(trend.histogram)}|"
    if trend.alike:
        yield f"  with {visible(', '.join(trend.alike))}"


def _bars(histogram: Sequence[Bucket]) -> str:
    """One character for each window, higher for more voices."""
    most = max(bucket.voices for bucket in histogram) or 1
    return "".join(_BARS[-(-bucket.voices * (len(_BARS) - 1) // most)] for bucket in histogram)


def _store(place: Workspace) -> PostStore:
    from agora.posts.store import PostStore

    return PostStore.open(place.folder("posts"))


def _voices(place: Workspace, store: PostStore) -> Voices | None:
    from agora.integrity.voice import read_voices

    return read_voices(place.root, deletions=store.deletions())


def _warn(warnings: Sequence[QueryWarning]) -> None:
    for warning in warnings:
        print(f"warning: query, character {warning.position + 1}: {warning.message}", file=sys.stderr)


__all__ = ["alerts", "register", "save", "saved", "trends"]
