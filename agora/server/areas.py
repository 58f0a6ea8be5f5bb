"""The areas of one application, for its routes and its pages. Goes in: the services of a workspace. Comes out: one object for each area."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastapi import APIRouter

from agora.database import Database
from agora.server.accounts import Accounts
from agora.server.api.ads import AdsArea
from agora.server.api.ads_routes import ads_routes
from agora.server.api.asking import asking_routes
from agora.server.api.campaigns import CampaignArea, campaign_routes
from agora.server.api.holdings import HoldingsArea, holdings_routes
from agora.server.api.people import people_routes
from agora.server.api.plans import plan_routes
from agora.server.api.runs import RunArea, run_routes
from agora.server.api.search import SearchArea, search_routes
from agora.server.api.talks import talk_routes
from agora.server.asking import Asker
from agora.server.conversations import Conversations
from agora.server.records import AuditLog, UsageLog
from agora.server.services import Services


@dataclass(frozen=True, slots=True)
class Areas:
    """What a workspace shows."""

    services: Services
    search: SearchArea
    campaigns: CampaignArea
    runs: RunArea
    holdings: HoldingsArea
    ads: AdsArea

    @classmethod
    def of(cls, services: Services, audit: AuditLog | None) -> Areas:
        """All areas of a workspace."""
        return cls(
            services, SearchArea(services), CampaignArea(services, audit), RunArea(services), HoldingsArea(services, audit),
            AdsArea(services, audit),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of what is open, and end what is being made."""
        self.services.close()

    def routes(self) -> list[APIRouter]:
        """Their JSON API."""
        return [
            search_routes(self.search, self.services), campaign_routes(self.campaigns), plan_routes(), run_routes(self.runs),
            holdings_routes(self.holdings), ads_routes(self.ads),
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class People:
    """Who there is and what they said. `asker`: where there is a workspace to ask about."""

    accounts: Accounts
    audit: AuditLog
    usage: UsageLog
    talks: Conversations
    asker: Asker | None = None

    @classmethod
    def of(cls, database: Database, services: Services | None = None) -> People:
        """Everybody of a database. Answers that a kill left unfinished are marked so. `services`: of the workspace that answers cite."""
        talks = Conversations(database, services.held_posts if services is not None else None)
        talks.mark_interrupted()
        return cls(Accounts(database), AuditLog(database), UsageLog(database), talks)

    def with_asker(self, asker: Asker) -> People:
        """The same, who can ask about a workspace."""
        return replace(self, asker=asker)

    def routes(self) -> list[APIRouter]:
        """Their JSON API."""
        asking = [asking_routes(self.asker)] if self.asker is not None else []
        return [people_routes(self.accounts, self.audit, self.usage), talk_routes(self.talks), *asking]

    def close(self) -> None:
        """Write what was counted."""
        self.usage.flush()
