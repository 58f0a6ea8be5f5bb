"""Integrity: the queue of campaigns; one campaign with its network, times, evidence, verdict and appeals; the circuit breaker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

from nicegui import ui

from agora.server.api.campaigns import AppealRow, CampaignRow, Decision, NewAppeal, NewVerdict, Queue, Timeline, WholeCampaign
from agora.server.web import charts
from agora.server.web.parts import box, button, count, empty, moment, note, sheet, table, text, tile, unbroken, waiting
from agora.server.web.site import Shown, Site, Viewer, formed, loaded, quick
from agora.units import format_span

Fill = Callable[[], Callable[[], str]]
_VERDICT_CHIP = {"inauthentic": "bad", "coordinated": "warn"}


def add_pages(site: Site) -> None:
    """/integrity, /integrity/{campaign}"""

    @site.page("/integrity", "Integrity", "integrity")
    def queue(viewer: Viewer) -> None:
        _queue(site, viewer)

    @site.page("/integrity/{campaign}", "Campaign", "integrity")
    def one(viewer: Viewer, campaign: str) -> None:
        _Campaign(site, viewer, campaign).build()


def _queue(site: Site, viewer: Viewer) -> None:
    text("h1", "Integrity")
    text("p", "Groups that act together. The scan says how sure it is; only a person says what it means.", "soft")
    area = box("stack wide")
    with area:
        waiting(6)

    async def load() -> None:
        found = await site.call(viewer, site.areas.campaigns.queue)
        state = await site.call(viewer, site.areas.campaigns.breaker)
        area.clear()
        with area:
            if state.is_tripped:
                note(f"Automatic labels are stopped since {moment(state.tripped_at)}: {state.reason}", "bad")
                button("Let them begin again", lambda: _reset(site, viewer), "danger")
            _numbers(found)
            if not found.campaigns:
                empty("No campaigns", "The last scan found no group that acts together.")
            for row in found.campaigns:
                _row(row)
            text(
                "p", f"Circuit breaker: {state.num_upheld} of {state.num_decided} decided appeals were upheld; automatic labels stop above "
                f"{state.share_allowed:.0%}, from {state.appeals_needed} appeals on.", "small soft",
            )  # fmt: skip

    loaded(area, load)


def _numbers(found: Queue) -> None:
    waiting_for = sum(row.verdict is None and row.state != "shared_interest" for row in found.campaigns)
    with box("tiles"):
        tile("Wait for a verdict", waiting_for)
        tile("Open appeals", sum(row.open_appeals for row in found.campaigns))
        tile("Labelled accounts", count(sum(row.labelled for row in found.campaigns)))
        tile("Posts scanned", count(found.scanned_posts), f"{count(found.scanned_accounts)} accounts")


def _row(row: CampaignRow) -> None:
    with ui.link(target=f"/integrity/{row.id}").classes("card"):
        with box("line apart"):
            with box("line").style("width:auto"):
                text("span", f"{row.members} accounts", "strong")
                text("span", row.state.replace("_", " "), "chip warn" if row.state in ("synchronised", "duplicated") else "chip")
                if row.verdict:
                    text("span", f"verdict: {row.verdict.replace('_', ' ')}", f"chip {_VERDICT_CHIP.get(row.verdict, 'accent')}")
                if row.open_appeals:
                    text("span", f"{row.open_appeals} open appeals", "chip bad")
            text("span", f"{moment(row.first_at)} – {moment(row.last_at)}", "small soft")
        text("p", unbroken(" ".join(row.sentences)), "wrap")
        text("p", f"{row.labelled} of them labelled" if row.labelled else "none of them labelled", "tiny soft")


def _reset(site: Site, viewer: Viewer) -> None:
    async def done(reason: str) -> None:
        await site.call(viewer, site.areas.campaigns.reset_breaker, viewer.caller, reason)
        ui.navigate.reload()

    _ask_reason("Let automatic labels begin again", "Why may they?", done)


def _ask_reason(title: str, question: str, act: Callable[[str], Awaitable[None]], *, fill: Fill | None = None, go: str = "Do it") -> None:
    """A dialog that wants a reason. `fill` adds fields above it and gives what still stops them, or nothing."""
    with sheet(title) as dialog:
        missing = fill() if fill is not None else None
        reason = ui.textarea(question).props("outlined autogrow maxlength=2000").style("width:100%")
        if fill is None:
            reason.props("autofocus")

        async def done() -> None:
            lacks = missing() if missing is not None else ""
            if lacks or len((reason.value or "").strip()) < 3:
                ui.notify(lacks or "Give a reason: it is kept, and the people concerned can ask for it.")
                return
            try:
                await act(reason.value)
            except Shown as problem:
                quick(problem)
                return
            dialog.close()

        with box("line"):
            button(go, done, "main")
            button("Cancel", dialog.close, "plain")


class _Campaign:
    """One campaign on the page."""

    def __init__(self, site: Site, viewer: Viewer, campaign: str) -> None:
        self.site, self.viewer, self.campaign = site, viewer, campaign
        self.calls = site.areas.campaigns

    def build(self) -> None:
        ui.link("← All campaigns", "/integrity").classes("small")
        self.area = box("stack wide")
        with self.area:
            waiting(8)
        loaded(self.area, self.load)

    async def load(self) -> None:
        found = await self.site.call(self.viewer, self.calls.show, self.campaign)
        drawn = await self.site.call(self.viewer, self.calls.network, self.campaign)
        times = await self.site.call(self.viewer, self.calls.timeline, self.campaign)
        self.area.clear()
        with self.area:
            self.head(found)
            with box("halves"):
                with box("card"):
                    text("h2", "Who shared with whom")
                    charts.network(drawn)
                self.times(times)
            self.evidence(found)
            self.artefacts(found)
            self.members(found)
            self.appeals(found.appeals)

    def head(self, found: WholeCampaign) -> None:
        with box("line apart top"):
            with box("stack tight grow"):
                text("h1", f"{found.members} accounts, {found.state.replace('_', ' ')}")
                text("p", found.state_in_words, "soft")
            button("Give a verdict", lambda: self.verdict(found), "main", "gavel")
        for sentence in found.sentences:
            text("p", unbroken(sentence), "wrap")
        if found.ruling:
            of = f" ({found.ruling.explanation})" if found.ruling.explanation else ""
            note(
                f"{found.ruling.state.replace('_', ' ')}{of}, by {found.ruling.name}, {moment(found.ruling.at)}: {found.ruling.reason}",
                "warn" if found.ruling.state in _VERDICT_CHIP else "",
            )
        with box("tiles"):
            tile("Labelled accounts", found.labelled)
            tile("Shared artefacts", count(found.num_artefacts))
            tile("Companions", len(found.companions), "act along, have no label")
            tile("Active from", moment(found.first_at).split(",")[0], f"until {moment(found.last_at)}")

    def times(self, times: Timeline) -> None:
        with box("card"):
            text("h2", "When they acted")
            charts.timeline(times.bins)
            text("h3", "How close to the next member's action")
            charts.closeness(times.curve)

    def evidence(self, found: WholeCampaign) -> None:
        with box("card"):
            text("h2", "Evidence")
            table(
                ("signal", "within", "seen", "expected", "occasions", "q"),
                [
                    (f"{one.signal} ({one.test})", format_span(one.window_s), count(one.observed), f"{one.expected:.3g}",
                     count(one.num_occasions), f"{one.q_value:.2g}")
                    for one in found.evidence
                ],
                numbers=(1, 2, 3, 4, 5),
            )  # fmt: skip
            text("h2", "What else would explain it")
            for one in found.explanations:
                with box("line top").style("flex-wrap:nowrap"):
                    text("span", "yes" if one.holds else "no", f"chip {'warn' if one.holds else ''}")
                    text("span", f"{one.name}: {one.text}", "wrap")

    def artefacts(self, found: WholeCampaign) -> None:
        with box("card"):
            text("h2", "What they shared")
            text("p", f"{len(found.artefacts)} of {found.num_artefacts}, those of most members first", "small soft")
            for one in found.artefacts[:12]:
                with box("stack tight").style("border-top:1px solid var(--line); padding-top:10px"):
                    text("div", one.text, "said", dir="auto")
                    text("p", f"{one.signal}: {one.num_members} members within {one.gap_s:,} s; {one.num_outsiders} others", "small soft")
                    with ui.expansion("Posts").props("dense"):
                        table(
                            ("at", "account", "post", ""),
                            [(moment(act.at), act.account, act.post, "member" if act.is_member else "other") for act in one.actions[:40]],
                        )

    def members(self, found: WholeCampaign) -> None:
        with box("card"):
            text("h2", "Members")
            table(
                ("account", "label", "actions", "of posts", "q", "appeal"),
                [
                    (one.account + ("  (often first)" if one.is_source else ""), one.label or "none", one.num_actions, one.num_posts,
                     f"{one.q_value:.2g}", one.appeal or "")
                    for one in found.member_rows[:200]
                ],
                numbers=(2, 3, 4),
            )  # fmt: skip
            labelled = [one.account for one in found.member_rows if one.label and one.appeal != "open"]
            if labelled:
                button("Contest a label", lambda: self.contest(labelled), "plain")

    def appeals(self, appeals: list[AppealRow]) -> None:
        with box("card"):
            text("h2", "Appeals")
            if not appeals:
                text("p", "Nobody has contested a label of this campaign.", "soft")
            for one in appeals:
                with box("stack tight").style("border-top:1px solid var(--line); padding-top:10px"):
                    with box("line"):
                        text("span", one.account, "strong wrap")
                        text("span", one.state, f"chip {'bad' if one.state == 'open' else ''}")
                    text("p", f"{one.name}, {moment(one.at)}: {one.reason}", "wrap")
                    if one.decided_by:
                        text("p", f"decided by {one.decided_by}, {moment(one.decided_at)}: {one.decided_because}", "small soft wrap")
                    else:
                        with box("line"):
                            button("Uphold", lambda one=one: self.decide(one, "upheld"), "plain")
                            button("Reject", lambda one=one: self.decide(one, "rejected"), "plain")

    def verdict(self, found: WholeCampaign) -> None:
        chosen: dict[str, Any] = {}

        def fill() -> Callable[[], str]:
            text("p", f"It is kept under the name {self.viewer.caller.name}, and labels follow at once.", "small soft")
            state = ui.radio({key: f"{key.replace('_', ' ')}: {words}" for key, words in found.verdict_states.items()}, value=None)
            kind = ui.select(found.explanation_kinds, label="Explained by").props("outlined dense").style("width:100%")
            kind.bind_visibility_from(state, "value", value="explained")
            chosen.update(state=state, kind=kind)

            def missing() -> str:
                if state.value == "explained" and not kind.value:
                    return "Choose what explains it."
                return "" if state.value else "Choose a verdict."

            return missing

        async def give(reason: str) -> None:
            state = chosen["state"].value
            body = formed(NewVerdict, state=state, reason=reason, explanation=chosen["kind"].value if state == "explained" else None)
            await self.site.call(self.viewer, self.calls.give_verdict, self.viewer.caller, self.campaign, body)
            await self.load()

        _ask_reason("Your verdict", "Why, in plain words", give, fill=fill, go="Give it")

    def contest(self, accounts: list[str]) -> None:
        chosen: dict[str, Any] = {}

        def fill() -> Callable[[], str]:
            account = chosen["account"] = ui.select(accounts, label="Account", with_input=True).props("outlined dense").style("width:100%")
            return lambda: "" if account.value else "Choose an account."

        async def send(reason: str) -> None:
            body = formed(NewAppeal, account=chosen["account"].value, reason=reason)
            await self.site.call(self.viewer, self.calls.appeal, self.viewer.caller, self.campaign, body)
            await self.load()

        _ask_reason("Contest a label", "Why the label is wrong", send, fill=fill, go="Send")

    def decide(self, appeal: AppealRow, outcome: str) -> None:
        async def done(reason: str) -> None:
            body = formed(Decision, outcome=cast(Literal["upheld", "rejected"], outcome), reason=reason)
            await self.site.call(self.viewer, self.calls.decide, self.viewer.caller, appeal.number, body)
            await self.load()

        _ask_reason(f"{'Uphold' if outcome == 'upheld' else 'Reject'} the appeal of {appeal.account}", "Why?", done)
