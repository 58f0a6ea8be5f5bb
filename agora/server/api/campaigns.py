"""Campaigns of the last scan and what people rule on them.

GET  /api/v1/campaigns                       GET /api/v1/campaigns/{id}, /campaigns/{id}/network, /campaigns/{id}/timeline
POST /api/v1/campaigns/{id}/verdict          POST /api/v1/campaigns/{id}/appeals
GET  /api/v1/appeals                         POST /api/v1/appeals/{number}/decision
GET  /api/v1/breaker                         POST /api/v1/breaker/reset

A ruling is the caller's: the name in the ledger is the account's, and the audit log has it as well.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from agora.errors import UsageError
from agora.integrity.records import STATES, Artefact, Campaign
from agora.integrity.report.drawings import gaps, graph
from agora.integrity.results import record_fields
from agora.integrity.rulings import REASONS, VERDICT_STATES, Appeal, Rulings, labelled_members
from agora.server.access import Asking, needs
from agora.server.accounts import Caller
from agora.server.api.forms import MAX_ID, Body
from agora.server.records import AuditLog
from agora.server.services import Services, found_or_404

NUM_BINS: Final = 60
MAX_ARTEFACTS: Final = 50
_CURVE_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)

Reason = Annotated[str, Field(min_length=3, max_length=2_000)]
CampaignId = Annotated[str, Path(max_length=64)]


class CampaignRow(BaseModel):
    """`state` is the scan's, `verdict` a person's. `labelled`: accounts with a label as things stand."""

    id: str
    state: str
    state_in_words: str
    verdict: str | None
    members: int
    labelled: int
    open_appeals: int
    first_at: str
    last_at: str
    sentences: list[str]


class Queue(BaseModel):
    """What waits for a person, the campaigns without a verdict first."""

    scanned_posts: int
    scanned_accounts: int
    first_at: str
    last_at: str
    labels_stopped: bool
    campaigns: list[CampaignRow]


class MemberRow(BaseModel):
    account: str
    q_value: float
    num_actions: int
    num_posts: int
    is_source: bool
    label: Literal["automatic", "by a person"] | None
    appeal: str | None


class EvidenceRow(BaseModel):
    test: str
    signal: str
    window_s: int
    num_occasions: int
    observed: float
    expected: float
    p_value: float
    q_value: float


class ExplanationRow(BaseModel):
    name: str
    holds: bool
    text: str


class ActionRow(BaseModel):
    post: str
    account: str
    at: str
    is_member: bool


class ArtefactRow(BaseModel):
    signal: str
    text: str
    num_members: int
    num_outsiders: int
    gap_s: int
    actions: list[ActionRow]


class VerdictRow(BaseModel):
    number: int
    state: str
    explanation: str | None
    name: str
    reason: str
    at: str


class AppealRow(BaseModel):
    number: int
    campaign: str
    account: str
    state: str
    name: str
    reason: str
    at: str
    is_automatic: bool
    decided_by: str | None
    decided_because: str | None
    decided_at: str | None


class WholeCampaign(CampaignRow):
    """`artefacts`: the ones that most members share, at most 50."""

    ruling: VerdictRow | None
    appeals: list[AppealRow]
    member_rows: list[MemberRow]
    companions: list[str]
    evidence: list[EvidenceRow]
    explanations: list[ExplanationRow]
    num_artefacts: int
    artefacts: list[ArtefactRow]
    verdict_states: dict[str, str] = Field(default_factory=lambda: {str(key): words for key, words in VERDICT_STATES.items()})
    explanation_kinds: dict[str, str] = Field(default_factory=lambda: {str(key): words for key, words in REASONS.items()})


class NodeRow(BaseModel):
    account: str
    kind: str
    num_actions: int
    x: float
    y: float


class NetworkData(BaseModel):
    """`edges`: places of two nodes in `nodes`, and the artefacts they share."""

    nodes: list[NodeRow]
    edges: list[tuple[int, int, int]]


class TimeBin(BaseModel):
    start: str
    members: int
    outsiders: int


class CurvePoint(BaseModel):
    """The share of actions whose nearest action of a member is at most `seconds` away."""

    seconds: int
    members: float
    outsiders: float | None


class Timeline(BaseModel):
    """`curve`: members beside outsiders who shared the very same things, which is the organic spread."""

    bin_s: float
    bins: list[TimeBin]
    curve: list[CurvePoint]


class NewVerdict(Body):
    state: Literal["inauthentic", "coordinated", "explained", "not_coordinated"]
    reason: Reason
    explanation: Literal["fan", "declared", "official"] | None = None


class NewAppeal(Body):
    account: Annotated[str, Field(min_length=1, max_length=1_000)]
    reason: Reason


class Decision(Body):
    outcome: Literal["upheld", "rejected"]
    reason: Reason


class Reset(Body):
    reason: Reason


class BreakerState(BaseModel):
    is_tripped: bool
    num_labels: int
    num_decided: int
    num_upheld: int
    tripped_at: str | None
    reason: str
    share_allowed: float
    appeals_needed: int


class CampaignArea:
    """What the routes and the pages call."""

    def __init__(self, services: Services, audit: AuditLog | None) -> None:
        self._services = services
        self._audit = audit

    def queue(self) -> Queue:
        """All campaigns, those that wait for a person first. Raises NotReady without a scan."""
        folder, result = self._services.scan()
        with folder.ledger() as ledger:
            rulings = ledger.rulings()
        rows = [_row(campaign, rulings) for campaign in result.campaigns]
        rows.sort(key=lambda row: (row.open_appeals == 0, row.verdict is not None, row.state == "shared_interest", -row.members, row.id))
        return Queue(
            scanned_posts=result.num_posts, scanned_accounts=result.num_accounts, first_at=result.first_at, last_at=result.last_at,
            labels_stopped=rulings.is_stopped, campaigns=rows,
        )  # fmt: skip

    def show(self, campaign: str) -> WholeCampaign:
        """One campaign with its evidence. Raises ApiError 404."""
        folder, found = self._find(campaign)
        with folder.ledger() as ledger:
            rulings = ledger.rulings()
        verdict, appeals = rulings.verdict(found), rulings.appeals_on(found)
        labelled = {member.account: is_automatic for member, is_automatic in labelled_members(found, rulings)}
        members = [
            MemberRow(
                account=one.account, q_value=one.q_value, num_actions=one.num_actions, num_posts=one.num_posts, is_source=one.is_source,
                label=None if one.account not in labelled else "automatic" if labelled[one.account] else "by a person",
                appeal=appeals[one.account].state if one.account in appeals else None,
            )
            for one in found.members
        ]  # fmt: skip
        artefacts = sorted(found.artefacts, key=lambda one: (-one.num_members, one.gap_s, one.key))[:MAX_ARTEFACTS]
        return WholeCampaign(
            **_row(found, rulings).model_dump(),
            ruling=VerdictRow(**_only(VerdictRow, record_fields(verdict))) if verdict else None,
            appeals=[_appeal(one) for one in appeals.values()], member_rows=members, companions=list(found.companions),
            evidence=[EvidenceRow(**asdict(one)) for one in found.evidence],
            explanations=[ExplanationRow(**asdict(one)) for one in found.explanations],
            num_artefacts=len(found.artefacts),
            artefacts=[
                ArtefactRow(
                    signal=one.signal, text=one.text, num_members=one.num_members, num_outsiders=one.num_outsiders, gap_s=one.gap_s,
                    actions=[ActionRow(**asdict(action)) for action in one.actions[:100]],
                )
                for one in artefacts
            ],
        )  # fmt: skip

    def network(self, campaign: str) -> NetworkData:
        """Who shared with whom, with places to draw them at (480 by 330)."""
        folder, found = self._find(campaign)
        with folder.ledger() as ledger:
            labelled = frozenset(member.account for member, _ in labelled_members(found, ledger.rulings()))
        drawn = graph(found, labelled)
        return NetworkData(nodes=[NodeRow(**asdict(node)) for node in drawn.nodes], edges=list(drawn.edges))

    def timeline(self, campaign: str) -> Timeline:
        """Actions over time, and how close members act to each other against everybody else."""
        _, found = self._find(campaign)
        return _timeline(found.artefacts)

    def give_verdict(self, caller: Caller, campaign: str, body: NewVerdict) -> WholeCampaign:
        """Rule on a campaign under the caller's name; labels follow at once."""
        folder, found = self._find(campaign)
        with folder.ledger() as ledger:
            ledger.give_verdict(found, body.state, name=caller.name, reason=body.reason, explanation=body.explanation)
            folder.publish(ledger)
        self._note(caller, "verdicts.give", campaign, state=body.state, explanation=body.explanation, reason=body.reason)
        return self.show(campaign)

    def appeal(self, caller: Caller, campaign: str, body: NewAppeal) -> AppealRow:
        """Contest the label of an account, for it."""
        folder, found = self._find(campaign)
        with folder.ledger() as ledger:
            made = ledger.appeal(found, body.account, name=caller.name, reason=body.reason)
            folder.publish(ledger)
        self._note(caller, "appeals.add", str(made.number), campaign=campaign, account=body.account)
        return _appeal(made)

    def appeals(self) -> list[AppealRow]:
        """All appeals, the open ones first."""
        folder = self._services.integrity()
        with folder.ledger() as ledger:
            known = ledger.rulings().appeals
        return [_appeal(one) for one in sorted(known, key=lambda one: (one.state != "open", -one.number))]

    def decide(self, caller: Caller, number: int, body: Decision) -> AppealRow:
        """Decide an appeal. Too many upheld ones stop automatic labels."""
        folder = self._services.integrity()
        with folder.ledger() as ledger:
            if number not in {one.number for one in ledger.rulings().appeals}:
                raise found_or_404(UsageError(f"there is no appeal {number}"))
            made = ledger.decide(number, body.outcome, name=caller.name, reason=body.reason)
            folder.publish(ledger)
        self._note(caller, "appeals.decide", str(number), outcome=body.outcome, account=made.account)
        return _appeal(made)

    def breaker(self) -> BreakerState:
        """Whether upheld appeals have stopped automatic labels, and the numbers that decide it."""
        folder = self._services.integrity()
        with folder.ledger() as ledger:
            state = ledger.breaker(config=folder.config)
        return BreakerState(**asdict(state), share_allowed=folder.config.breaker_share, appeals_needed=folder.config.breaker_appeals)

    def reset_breaker(self, caller: Caller, reason: str) -> BreakerState:
        """Let automatic labels begin again."""
        folder = self._services.integrity()
        with folder.ledger() as ledger:
            ledger.reset_breaker(name=caller.name, reason=reason)
            folder.publish(ledger)
        self._note(caller, "breaker.reset", "breaker", reason=reason)
        return self.breaker()

    def _find(self, campaign: str) -> tuple[Any, Campaign]:
        folder, result = self._services.scan()
        known = {one.id: one for one in result.campaigns}
        if campaign not in known:
            close = difflib.get_close_matches(campaign, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise found_or_404(UsageError(f"the last scan has no campaign {campaign!r}{hint}"))
        return folder, known[campaign]

    def _note(self, caller: Caller, action: str, what: str, **details: Any) -> None:
        if self._audit is not None:
            self._audit.add(caller.name, action, what, **details)


def campaign_routes(area: CampaignArea) -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1", tags=["integrity"], dependencies=[needs("analyst")])

    @router.get("/campaigns")
    def list_campaigns() -> Queue:
        """Campaigns of the last scan, those that wait for a person first."""
        return area.queue()

    @router.get("/campaigns/{campaign}")
    def show_campaign(campaign: CampaignId) -> WholeCampaign:
        """Members, evidence, innocent explanations, what was shared, what people ruled."""
        return area.show(campaign)

    @router.get("/campaigns/{campaign}/network")
    def show_network(campaign: CampaignId) -> NetworkData:
        """Accounts and what they share, with places to draw them at."""
        return area.network(campaign)

    @router.get("/campaigns/{campaign}/timeline")
    def show_timeline(campaign: CampaignId) -> Timeline:
        """Actions over time, and the curve of closeness against the organic one."""
        return area.timeline(campaign)

    @router.post("/campaigns/{campaign}/verdict", status_code=201)
    def give_verdict(campaign: CampaignId, body: NewVerdict, caller: Asking) -> WholeCampaign:
        """Rule under one's own name. It holds over the scan and over earlier verdicts; all are kept."""
        return area.give_verdict(caller, campaign, body)

    @router.post("/campaigns/{campaign}/appeals", status_code=201)
    def appeal(campaign: CampaignId, body: NewAppeal, caller: Asking) -> AppealRow:
        """Contest the label of an account."""
        return area.appeal(caller, campaign, body)

    @router.get("/appeals")
    def list_appeals(state: Annotated[Literal["open", "upheld", "rejected"] | None, Query()] = None) -> list[AppealRow]:
        """Appeals, the open ones first."""
        return [one for one in area.appeals() if state is None or one.state == state]

    @router.post("/appeals/{number}/decision", status_code=201)
    def decide(number: Annotated[int, Path(ge=0, le=MAX_ID)], body: Decision, caller: Asking) -> AppealRow:
        """Uphold an appeal (the label goes) or reject it."""
        return area.decide(caller, number, body)

    @router.get("/breaker")
    def show_breaker() -> BreakerState:
        """The circuit breaker of automatic labels."""
        return area.breaker()

    @router.post("/breaker/reset", status_code=201)
    def reset_breaker(body: Reset, caller: Asking) -> BreakerState:
        """Let automatic labels begin again."""
        return area.reset_breaker(caller, body.reason)

    return router


def _row(campaign: Campaign, rulings: Rulings) -> CampaignRow:
    verdict = rulings.verdict(campaign)
    return CampaignRow(
        id=campaign.id, state=campaign.state, state_in_words=STATES[campaign.state], verdict=verdict.state if verdict else None,
        members=len(campaign.members), labelled=len(labelled_members(campaign, rulings)),
        open_appeals=sum(one.state == "open" for one in rulings.appeals_on(campaign).values()),
        first_at=campaign.first_at, last_at=campaign.last_at, sentences=list(campaign.sentences),
    )  # fmt: skip


def _appeal(appeal: Appeal) -> AppealRow:
    return AppealRow(**_only(AppealRow, record_fields(appeal)))


def _only(form: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in form.model_fields}


def _timeline(artefacts: tuple[Artefact, ...]) -> Timeline:
    actions = [(datetime.fromisoformat(action.at), action.is_member) for artefact in artefacts for action in artefact.actions]
    if not actions:
        return Timeline(bin_s=0, bins=[], curve=[])
    first, last = min(actions)[0], max(actions)[0]
    width_s = max((last - first).total_seconds() / NUM_BINS, 1.0)
    counts = Counter((min(int((at - first).total_seconds() / width_s), NUM_BINS - 1), is_member) for at, is_member in actions)
    bins = [
        TimeBin(start=(first + timedelta(seconds=place * width_s)).isoformat(), members=counts[place, True], outsiders=counts[place, False])
        for place in range(NUM_BINS)
    ]
    inside, outside = gaps(artefacts)
    curve = [CurvePoint(seconds=at, members=_share(inside, at) or 0.0, outsiders=_share(outside, at)) for at in _CURVE_S]
    return Timeline(bin_s=width_s, bins=bins, curve=curve if inside else [])


def _share(gaps_s: list[float], limit_s: float) -> float | None:
    return sum(gap <= limit_s for gap in gaps_s) / len(gaps_s) if gaps_s else None
