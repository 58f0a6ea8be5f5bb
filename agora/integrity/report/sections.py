"""One campaign as a section of the page. Goes in: a Campaign and what people decided about it. Comes out: Markup."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from agora.integrity.records import STATES, Action, Artefact, Campaign, Evidence, Explanation, Member
from agora.integrity.report.drawings import closeness, network, timeline
from agora.integrity.report.markup import Markup, amount, chance, counted, escaped, joined, moment, seconds_of, shortened, span, tag
from agora.integrity.report.sentences import linked

TITLES: Final = {"synchronised": "Synchronised", "duplicated": "Duplicated", "explained": "Explained", "shared_interest": "Shared interest"}
_SHARED: Final = {
    "repost": "reposts",
    "reply": "replies",
    "text": "identical texts",
    "near_text": "nearly identical texts",
    "link": "links",
    "hashtags": "hashtag sequences",
    "image": "images",
    "meaning": "texts of one meaning",
}
_SHARING: Final = {
    "repost": "the same posts", "reply": "replies to the same posts", "text": "identical texts", "near_text": "nearly identical texts",
    "link": "the same links", "hashtags": "the same hashtags", "image": "the same images", "meaning": "texts of one meaning",
}  # fmt: skip
_TESTS: Final = {
    "timing": "closer in time than other sharers of the same artefacts",
    "burst": "bursts on artefacts that hardly anybody else shared",
    "creation": "accounts made within days of each other, against others that post as much (labels nobody)",
}
_TITLE_CHARACTERS, _TEXT_CHARACTERS = 140, 1200


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a person decided or asked about a campaign: a verdict or an appeal, with name, time and reason.

    campaign  id of the campaign
    what      in plain words, as it is shown: `inauthentic`, `not coordinated`, `appeal: open`
    """

    campaign: str
    what: str
    name: str
    at: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much of each campaign the page shows; the rest is in the export. `recorded`: artefacts that the scan keeps at most."""

    members: int
    artefacts: int
    posts: int
    recorded: int


def campaign_section(
    campaign: Campaign, anchor: str, limits: Limits, *, labelled: frozenset[str], decisions: Sequence[Decision], is_open: bool
) -> Markup:
    """A `details` element: its summary tells who and how, its body shows all evidence. Anchors in it start with `anchor`."""
    members = sorted(campaign.members, key=lambda member: (member.q_value, -member.num_actions, member.account))[: limits.members]
    rows = {member.account: f"{anchor}-m{number}" for number, member in enumerate(members, 1)}
    kinds = {artefact.signal for artefact in campaign.artefacts}
    said = (joined(linked(sentence, anchor, kinds), " ") for sentence in campaign.sentences)
    body = tag(
        "div",
        *(_decision(decision) for decision in decisions),
        tag("p", *said, class_="sentences"),
        tag("p", tag("b", TITLES[campaign.state]), f" means: {STATES[campaign.state]}.", class_="caption"),
        _pictures(campaign, anchor, rows, labelled) if campaign.artefacts else Markup(),
        _explanations(campaign.explanations, anchor, kinds),
        _members(campaign, members, rows, labelled, anchor),
        _artefacts(campaign, rows, limits, anchor),
        _tests(campaign.evidence, anchor),
        _contest(campaign, anchor),
        class_="body",
    )
    return tag("details", _summary(campaign, labelled), body, class_=f"campaign {campaign.state}", id=anchor, open=is_open)


def _summary(campaign: Campaign, labelled: frozenset[str]) -> Markup:
    shared = list(dict.fromkeys(_SHARING.get(one.signal, one.signal.replace("_", " ")) for one in campaign.evidence))
    if _SHARING["near_text"] in shared and _SHARING["text"] in shared:
        shared.remove(_SHARING["text"])
    num_labelled = sum(member.account in labelled for member in campaign.members)
    return tag(
        "summary",
        tag("span", TITLES[campaign.state], class_="chip"),
        tag("h3", counted(len(campaign.members), "account"), f" sharing {' and '.join(shared[:2])}" if shared else ""),
        tag(
            "span",
            moment(campaign.first_at, with_time=False),
            " – ",
            moment(campaign.last_at, with_time=False),
            " · ",
            f"{num_labelled:,} labelled" if num_labelled else "no label",
            class_="when",
        ),
        tag("code", campaign.id),
    )


def _decision(decision: Decision) -> Markup:
    return tag(
        "p",
        tag("b", decision.what),
        f" — {decision.name}, ",
        moment(decision.at),
        ": ",
        tag("q", shortened(decision.reason, 600), dir="auto"),
        class_="decision",
    )


def _pictures(campaign: Campaign, anchor: str, rows: dict[str, str], labelled: frozenset[str]) -> Markup:
    drawn = network(campaign, rows, labelled)
    of_all = "" if drawn.num_members == len(campaign.members) else f" of {len(campaign.members):,}, those with most actions"
    legend = tag(
        "p",
        _key("labelled", "labelled member"),
        _key("queued", "member without a label"),
        _key("source", "source: first, others may copy it"),
        _key("outside", "outsider"),
        class_="legend",
    )
    left = tag(
        "figure",
        tag("figcaption", tag("h4", "Who shared with whom")),
        drawn.picture,
        legend,
        tag(
            "p",
            f"{drawn.num_members:,} members{of_all}, and {counted(drawn.num_outsiders, 'outsider')}. The larger a dot, the more actions; "
            "lines join those who shared artefacts, the strongest only.",
            class_="caption",
        ),
        id=f"{anchor}-network",
    )
    return tag("div", left, tag("div", _timeline(campaign, anchor), _closeness(campaign), class_="stack"), class_="pictures")


def _key(name: str, text: str) -> Markup:
    return tag("span", tag("i", class_=f"dot {name}"), text)


def _timeline(campaign: Campaign, anchor: str) -> Markup:
    drawn = timeline(campaign.artefacts)
    if drawn is None:
        return tag("figure", tag("h4", "When"), tag("p", "No action is on record.", class_="caption"), id=f"{anchor}-timeline")
    scale = "Both halves have the same scale." if drawn.is_one_scale else "Each half has its own scale."
    others = f"outsiders below (at most {drawn.most_outsiders:,})" if drawn.most_outsiders else "no outsider acted on them"
    return tag(
        "figure",
        tag("figcaption", tag("h4", "When they acted, and when everybody else did")),
        drawn.picture,
        tag("p", tag("span", moment(drawn.first_at)), tag("span", moment(drawn.last_at)), class_="axis"),
        tag(
            "p",
            tag("b", "Members", class_="inside"),
            f" above (at most {drawn.most_members:,} actions in {span(drawn.bin_s)}), {others}. {scale}",
            class_="caption",
        ),
        id=f"{anchor}-timeline",
    )


def _closeness(campaign: Campaign) -> Markup:
    drawn = closeness(campaign.artefacts)
    if drawn is None:
        return Markup()
    said = f"Within a minute of another member: {drawn.members_in_minute:.0%} of {drawn.num_members:,} members' actions, "
    if drawn.outsiders_in_minute is None:
        said += "and no outsider acted on the same."
    else:
        said += f"{drawn.outsiders_in_minute:.0%} of {drawn.num_outsiders:,} by outsiders."
    return tag(
        "figure",
        tag("figcaption", tag("h4", "How close to the nearest other member")),
        drawn.picture,
        tag("p", *(tag("span", label) for label in drawn.ticks), class_="axis ticks"),
        tag(
            "p",
            tag("b", "Members", class_="inside"),
            " against the organic curve of the same artefacts, the ",
            tag("b", "outsiders", class_="outside"),
            ". ",
            said,
            class_="caption",
        ),
    )


def _explanations(explanations: Sequence[Explanation], anchor: str, kinds: Collection[str]) -> Markup:
    items = [
        tag(
            "li",
            tag("b", "would explain it" if one.holds else "does not explain it", class_="holds" if one.holds else "fails"),
            tag("span", tag("strong", one.name[:1].upper() + one.name[1:].replace("_", " ")), " ", linked(one.text, anchor, kinds)),
        )
        for one in explanations
    ]
    body = tag("ul", *items, class_="checks") if items else tag("p", "No other explanation was looked into.", class_="caption")
    return tag("section", tag("h4", "What else would explain this?"), body, id=f"{anchor}-explanations")


def _members(campaign: Campaign, members: Sequence[Member], rows: dict[str, str], labelled: frozenset[str], anchor: str) -> Markup:
    head = ("Account", "Label", "q-value", "Actions", "Posts in all")
    body = [
        tag(
            "tr",
            tag("td", tag("bdi", member.account)),
            tag("td", _role(campaign, member, labelled)),
            _cell(chance(member.q_value), member.q_value),
            _cell(f"{member.num_actions:,}", member.num_actions),
            _cell(f"{member.num_posts:,}", member.num_posts),
            id=rows[member.account],
        )
        for member in members
    ]
    return tag(
        "section",
        tag("h4", f"Members ({len(campaign.members):,})"),
        _table(head, body, numbers=3, label="Members", sortable=True),
        _more(len(campaign.members) - len(members), "member"),
        tag(
            "p",
            "q-value: share of false members to expect among all that stand at this value or below it. Actions: posts counted as evidence.",
            class_="caption",
        ),
        id=f"{anchor}-members",
    )


def _role(campaign: Campaign, member: Member, labelled: frozenset[str]) -> Markup:
    if member.account in labelled:
        return tag("span", "labelled", class_="badge on")
    if campaign.state not in ("synchronised", "duplicated"):
        return tag("span", "none", class_="badge")
    if member.is_source:
        return tag("span", "source, never labelled by itself", class_="badge")
    return tag("span", "none" if member.is_automatic else "for a person to look at", class_="badge")


def _artefacts(campaign: Campaign, rows: dict[str, str], limits: Limits, anchor: str) -> Markup:
    """Artefacts by signal, in the order of the record, each group under an anchor of its own."""
    kinds = dict.fromkeys(artefact.signal for artefact in campaign.artefacts)
    groups = []
    for kind in kinds:
        every = [artefact for artefact in campaign.artefacts if artefact.signal == kind]
        shown = every[: max(2, limits.artefacts * len(every) // len(campaign.artefacts))]
        items = (_artefact(artefact, f"{anchor}-{kind}-{number}", rows, limits) for number, artefact in enumerate(shown, 1))
        name = _shared(kind)
        heading = tag("h5", name[:1].upper() + name[1:], tag("span", f" {len(every):,}", class_="n"))
        groups.append(tag("div", heading, *items, _more(len(every) - len(shown), "artefact"), id=f"{anchor}-{kind}", class_="kind"))
    if not kinds:
        note = "The scan keeps no posts of groups that its tests did not confirm."
    elif len(campaign.artefacts) >= limits.recorded:
        note = (
            f"The scan keeps the {limits.recorded:,} artefacts that most members shared (setting evidence_limit); counts above are of all."
        )
    else:
        note = "Open one for its posts. Outsiders are all other accounts of the scan that shared the same."
    return tag("section", tag("h4", "Shared artefacts"), tag("p", note, class_="caption"), *groups, id=f"{anchor}-artefacts")


def _shared(signal: str) -> str:
    return _SHARED.get(signal, signal.replace("_", " "))


def _artefact(artefact: Artefact, anchor: str, rows: dict[str, str], limits: Limits) -> Markup:
    actions = sorted(artefact.actions, key=lambda action: not action.is_member)[: limits.posts]
    actions.sort(key=lambda action: (seconds_of(action.at), action.post))
    start = seconds_of(min(artefact.actions, key=lambda action: seconds_of(action.at)).at) if actions else 0.0
    listed = len({action.account for action in artefact.actions if not action.is_member})
    text = shortened(artefact.text, _TEXT_CHARACTERS)
    title = shortened(" ".join(text.split()), _TITLE_CHARACTERS) or "(no text)"
    summary = tag(
        "summary",
        tag("bdi", title, class_="words"),
        tag("span", counted(artefact.num_members, "member"), f" in {span(artefact.gap_s)}", class_="num inside"),
        tag("span", counted(artefact.num_outsiders, "outsider"), class_="num outside"),
    )
    return tag(
        "details",
        summary,
        tag("blockquote", text, dir="auto") if text and text != title else Markup(),
        _table(
            ("Time (UTC)", "After the first", "Account", "", "Post"), [_action(action, start, rows) for action in actions], label="Posts"
        ),
        _more(len(artefact.actions) - len(actions), "post"),
        tag("p", f"{counted(artefact.num_outsiders - listed, 'more outsider')} counted, not kept one by one.", class_="more")
        if artefact.num_outsiders > listed
        else Markup(),
        tag("p", "Key ", tag("code", artefact.key), class_="caption"),
        class_="artefact",
        id=anchor,
    )


def _action(action: Action, start: float, rows: dict[str, str]) -> Markup:
    """One post as a row; written out, because pages hold thousands of them."""
    account = f"<bdi>{escaped(action.account)}</bdi>"
    if row := rows.get(action.account):
        account = f'<a href="#{row}">{account}</a>'
    after, name, who = (
        span(seconds_of(action.at) - start),
        ' class="member"' if action.is_member else "",
        "member" if action.is_member else "outsider",
    )
    cells = (moment(action.at), f"+{after}", account, who, f"<code>{escaped(action.post)}</code>")
    return Markup(f"<tr{name}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")


def _tests(evidence: Sequence[Evidence], anchor: str) -> Markup:
    head = ("Signal", "What was tested", "Window", "Occasions", "Observed", "Expected", "p", "q")
    body = [
        tag(
            "tr",
            tag("td", _shared(one.signal)),
            tag("td", _TESTS[one.test], class_="wide"),
            _cell(span(one.window_s), one.window_s),
            _cell(f"{one.num_occasions:,}", one.num_occasions),
            _cell(amount(one.observed), one.observed),
            _cell(amount(one.expected), one.expected),
            _cell(chance(one.p_value), one.p_value),
            _cell(chance(one.q_value), one.q_value),
        )
        for one in evidence
    ]
    note = (
        "Counted only in the half of the posts that did not serve to find the group. Observed: pairs of members within the window, or "
        "bursts; expected: the same if members were nothing special among all who shared these artefacts."
    )
    return tag(
        "section",
        tag("h4", "Evidence tests"),
        _table(head, body, numbers=6, label="Evidence tests", sortable=True),
        tag("p", note, class_="caption"),
        id=f"{anchor}-tests",
    )


def _contest(campaign: Campaign, anchor: str) -> Markup:
    return tag(
        "section",
        tag("h4", "Contest this"),
        tag(
            "p",
            "Anyone concerned can ask for another look. An appeal that is upheld takes the label away, and enough of them stop automatic "
            "labels altogether.",
        ),
        tag("pre", tag("code", f'agora integrity appeal {campaign.id} --account ACCOUNT --name NAME --reason "..."')),
        tag(
            "p",
            tag("a", "What the method does not cover", href="#limits"),
            " · ",
            tag("a", "Back to the overview", href="#top"),
            class_="caption",
        ),
        id=f"{anchor}-contest",
    )


def _cell(shown: str, value: float) -> Markup:
    return tag("td", shown, class_="num", data_value=repr(value))


def _table(head: Sequence[str], body: Sequence[Markup], *, label: str, numbers: int = 0, sortable: bool = False) -> Markup:
    """A table that scrolls sideways by itself; its last `numbers` columns are numbers."""
    first = len(head) - numbers
    cells = (tag("th", name, scope="col", class_="num" if index >= first else None) for index, name in enumerate(head))
    table = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *body), class_="sortable" if sortable else None)
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def _more(number: int, what: str) -> Markup:
    return (
        tag("p", escaped(f"{counted(number, f'more {what}', f'more {what}s')} in the export."), class_="more") if number > 0 else Markup()
    )
