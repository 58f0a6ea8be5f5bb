"""The report of a scan: one page that works offline, for those who must decide. Goes in: a scan's result. Comes out: an HTML file.

    agora integrity report

Nothing on the page is fetched from anywhere (its policy forbids it), and nothing that posts contain is run or followed.
Not covered: more than MAX_CAMPAIGNS campaigns and the ends of long lists; the page says how much is left out, the export has all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from agora.files import write_atomically
from agora.integrity.candidates import MIN_SIZE
from agora.integrity.config import IntegrityConfig
from agora.integrity.records import STATES, Campaign, ScanResult
from agora.integrity.report.markup import Markup, counted, joined, moment, percent, span, tag
from agora.integrity.report.sections import TITLES, Decision, Limits, campaign_section
from agora.integrity.signals import signals

__all__ = ["Decision", "write_report"]

PAGE: Final = Path(__file__).with_name("page.html")
MAX_CAMPAIGNS: Final = 300
_MEMBER_ROWS, _ARTEFACTS, _POST_ROWS = 12_000, 2_400, 16_000
_PART: Final = re.compile(r"<!--(\w+)-->")


def write_report(
    result: ScanResult,
    path: Path,
    *,
    labels: Collection[str] | None = None,
    verdicts: Sequence[Decision] = (),
    title: str = "Integrity report",
) -> None:
    """Write the page. `labels` are the accounts that carry a label now; without it, those that the scan labels by itself."""
    automatic = (member.account for campaign in result.campaigns for member in campaign.labelled)
    labelled = frozenset(automatic if labels is None else labels)
    order = list(STATES)
    ranked = sorted(result.campaigns, key=lambda one: (order.index(one.state), -len(one.labelled), -len(one.members), one.id))
    shown = ranked[:MAX_CAMPAIGNS]
    limits = _limits(shown, result.config.evidence_limit)
    sections = [
        campaign_section(
            campaign,
            f"c{number}",
            limits,
            labelled=labelled,
            is_open=number == 1,
            decisions=[decision for decision in verdicts if decision.campaign == campaign.id],
        )
        for number, campaign in enumerate(shown, 1)
    ]
    rest = len(ranked) - len(shown)
    more = tag("p", f"{counted(rest, 'more campaign')} in the export.", class_="more") if rest else Markup()
    nothing = tag("p", "No group of accounts acted together more than chance and virality explain.", class_="sentences")
    parts = {
        "title": joined(title),
        "overview": _overview(result, labelled),
        "states": _states(result.campaigns),
        "campaigns": joined(*sections, more) if sections else nothing,
        "limits": _not_covered(result.config),
        "signals": _signals(result.config),
    }
    write_atomically(path, _page(parts))


def _limits(campaigns: Sequence[Campaign], recorded: int) -> Limits:
    """Long lists for a few campaigns, short ones for many, so that the page opens."""
    num_kept = max(sum(bool(campaign.artefacts) for campaign in campaigns), 1)
    artefacts = min(40, max(6, _ARTEFACTS // num_kept))
    num_artefacts = sum(min(len(campaign.artefacts), artefacts) for campaign in campaigns)
    posts = min(200, max(6, _POST_ROWS // max(num_artefacts, 1)))
    return Limits(members=min(200, max(10, _MEMBER_ROWS // max(len(campaigns), 1))), artefacts=artefacts, posts=posts, recorded=recorded)


def _page(parts: dict[str, Markup]) -> str:
    """The template with its parts in, and a policy that allows its own style and script by their hashes and nothing else."""
    template = PAGE.read_text(encoding="utf-8")
    hashes = {}
    for name in ("style", "script"):
        found = re.search(f"<{name}>(.*?)</{name}>", template, re.DOTALL)
        assert found, f"{PAGE.name} has no {name}"
        hashes[name] = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; img-src data:; "
    parts = {
        **parts,
        "policy": Markup(tag("meta", http_equiv="Content-Security-Policy", content=policy + "base-uri 'none'; form-action 'none'")),
    }
    return _PART.sub(lambda found: parts[found[1]], template)


def _overview(result: ScanResult, labelled: frozenset[str]) -> Markup:
    tiles = (
        (result.num_posts, "posts read"),
        (result.num_accounts, "accounts"),
        (result.num_groups, "groups tested"),
        (result.num_tests, "tests"),
        (len(result.campaigns), "campaigns and groups found"),
        (len(labelled), "labelled accounts"),
    )
    when = ("Posts from ", moment(result.first_at), " to ", moment(result.last_at), " (UTC)") if result.first_at else ("No posts",)
    share = f"{percent(len(labelled) / result.num_accounts)} of all accounts" if result.num_accounts else ""
    return joined(
        tag("p", *when, class_="lead"),
        tag("dl", *(tag("div", tag("dd", f"{number:,}"), tag("dt", name)) for number, name in tiles), class_="tiles"),
        tag(
            "p",
            f"Labelled: {share}. " if share else "",
            f"Of all groups confirmed by tests, at most {percent(result.config.q_groups)} are expected to be "
            f"false, and at most {percent(result.config.q_members)} of their members (Benjamini-Hochberg). Windows: ",
            ", ".join(map(span, result.config.windows_s)),
            f". Seed {result.config.seed}.",
            class_="caption",
        ),
    )


def _states(campaigns: Sequence[Campaign]) -> Markup:
    """One choice per state, with its number of campaigns and what it means."""
    choices = [_choice("all", "All", len(campaigns), "", checked=True)]
    for state, meaning in STATES.items():
        choices.append(_choice(state, TITLES[state], sum(campaign.state == state for campaign in campaigns), meaning))
    return joined(*choices)


def _choice(value: str, name: str, number: int, meaning: str, *, checked: bool = False) -> Markup:
    field = tag("input", type="radio", name="state", value=value, id=f"state-{value}", checked=checked)
    return tag(
        "label", field, tag("i", class_="dot"), tag("b", name), tag("span", f"{number:,}", class_="n"), class_=value, title=meaning or None
    )


def _not_covered(config: IntegrityConfig) -> Markup:
    meaning = (
        "Meanings were compared, so paraphrases count where the model sees them as one."
        if config.meaning
        else ("Texts rewritten in other words each time: meanings were not compared in this scan (setting `meaning`).")
    )
    return tag(
        "ul",
        *(
            tag("li", text)
            for text in (
                "Who is behind an account, what it intends, whether it is a program, whether it tells the truth.",
                f"Groups of fewer than {MIN_SIZE} accounts, or with fewer than {config.min_occasions} occasions in a half of the posts.",
                f"Accounts that act more than {span(max(config.windows_s))} apart and share no words, links or pictures of their own.",
                meaning,
                "Pictures uploaded anew: files are never fetched, only their addresses are compared.",
                "Likes, follows, views, private messages, deleted posts: they are not in the posts.",
                f"Errors remain: up to {percent(config.q_groups)} of the groups that tests confirm may be there by chance.",
            )
        ),
    )


def _signals(config: IntegrityConfig) -> Markup:
    rows = [
        tag(
            "tr", tag("td", tag("code", f"{signal.id} v{signal.version}")), tag("td", signal.why), tag("td", "; ".join(signal.false_alarms))
        )
        for signal in signals()
    ]
    head = tag(
        "thead",
        tag("tr", *(tag("th", name, scope="col") for name in ("Signal", "Why it may speak of coordination", "Known innocent reasons"))),
    )
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll", role="region", aria_label="Signals", tabindex=0)
