"""What a simulated square is made of: its size, its span of time, its organic events and its coordinated campaigns."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Literal

from agora.errors import ConfigError

TextMode = Literal["verbatim", "templated", "paraphrased"]
Channel = Literal["repost", "link", "hashtag", "text"]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """Accounts that act as one. In each wave, those who take part post within `jitter_s` seconds.

    name           name of the group in the ground truth
    num_accounts   accounts that belong to it
    num_waves      how many times it strikes during the simulated days
    jitter_s       seconds between the first and the last possible post of a wave
    participation  chance that an account takes part in a wave
    camouflage     share of ordinary posts among all that its accounts post (expected)
    num_leads      with channel repost, how many members take turns at writing what the others repost
    channel        what the accounts have in common: they repost one post, or post one link, one hashtag, or the text alone
    text           verbatim: one text per wave; templated: one sentence, its slots filled anew; paraphrased: only the claim is shared
    """

    name: str
    num_accounts: int = 30
    num_waves: int = 12
    jitter_s: float = 60.0
    participation: float = 0.7
    camouflage: float = 0.5
    num_leads: int = 1
    channel: Channel = "repost"
    text: TextMode = "templated"

    def __post_init__(self) -> None:
        where = f"campaign {self.name!r}"
        _require(self.num_accounts >= 2, f"{where}: num_accounts={self.num_accounts} must be at least 2")
        _require(self.num_waves >= 1, f"{where}: num_waves={self.num_waves} must be at least 1")
        _require(0 < self.jitter_s <= 7 * 86400, f"{where}: jitter_s={self.jitter_s} must be above 0 and at most a week (604800)")
        _require(0 < self.participation <= 1, f"{where}: participation={self.participation} must be above 0 and at most 1")
        _require(0 <= self.camouflage < 1, f"{where}: camouflage={self.camouflage} must be at least 0 and below 1")
        _require(
            1 <= self.num_leads < self.num_accounts,
            f"{where}: num_leads={self.num_leads} must be at least 1 and below num_accounts={self.num_accounts}",
        )


DEFAULT_CAMPAIGNS = (
    Campaign(
        name="amplifiers", num_accounts=40, num_waves=14, jitter_s=5, participation=0.8, camouflage=0.1, num_leads=5, channel="repost",
    ),
    Campaign(
        name="copy_paste", num_accounts=25, num_waves=12, jitter_s=60, participation=0.7, camouflage=0.3, channel="text", text="verbatim",
    ),
    Campaign(name="link_farm", num_accounts=30, num_waves=12, jitter_s=600, participation=0.6, camouflage=0.5, channel="link"),
    Campaign(name="trend_makers", num_accounts=35, num_waves=8, jitter_s=3600, participation=0.5, camouflage=0.6, channel="hashtag"),
    Campaign(
        name="patient_voices", num_accounts=20, num_waves=10, jitter_s=86400, participation=0.6, camouflage=0.8, channel="text",
        text="paraphrased",
    ),
    Campaign(name="slow_boosters", num_accounts=25, num_waves=15, jitter_s=14400, participation=0.5, camouflage=0.8, channel="repost"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class SquareConfig:
    """One square. The same config gives the same posts, byte for byte, with the same version of Agora and numpy.

    num_posts      posts in all, exactly
    num_accounts   accounts in all, those of campaigns included
    start          first moment, ISO 8601 (UTC where no offset is given)
    days           simulated days
    seed           another seed, another square
    mean_follows   accounts that one account follows, on average
    campaigns      coordinated campaigns, see below; none with campaigns=[]
    breaking_news  bursts of attention that fade within hours
    sports_final   an evening with goals
    fandoms        two fandoms that celebrate releases with their hashtag
    fan_club       an idol whose followers repost within seconds of an alert
    syndication    outlets that post the same story through one client
    protest        a hashtag that spreads from person to person
    """

    num_posts: int = 100_000
    num_accounts: int = 5_000
    start: str = "2026-03-02T00:00:00+00:00"
    days: float = 14.0
    seed: int = 0
    mean_follows: float = 25.0
    campaigns: tuple[Campaign, ...] = DEFAULT_CAMPAIGNS
    breaking_news: bool = True
    sports_final: bool = True
    fandoms: bool = True
    fan_club: bool = True
    syndication: bool = True
    protest: bool = True

    def __post_init__(self) -> None:
        _require(self.num_posts >= 1, f"num_posts={self.num_posts} must be at least 1")
        _require(self.num_accounts >= 100, f"num_accounts={self.num_accounts} must be at least 100")
        _require(self.days > 0, f"days={self.days} must be above 0")
        _require(self.seed >= 0, f"seed={self.seed} must not be negative")
        _require(self.mean_follows > 0, f"mean_follows={self.mean_follows} must be above 0")
        names = [campaign.name for campaign in self.campaigns]
        _require(len(set(names)) == len(names), f"campaigns: the names {names} must differ")
        in_campaigns = sum(campaign.num_accounts for campaign in self.campaigns)
        _require(
            in_campaigns <= self.num_accounts // 2,
            f"campaigns have {in_campaigns} accounts, more than half of num_accounts={self.num_accounts}; raise it or use campaigns=[]",
        )
        self.start_us()

    def start_us(self) -> int:
        """`start` in microseconds since 1970, UTC. Raises ConfigError when it is not a moment in ISO 8601."""
        try:
            moment = datetime.fromisoformat(self.start)
        except ValueError as error:
            raise ConfigError(f"start={self.start!r} is not an ISO 8601 moment; example: 2026-03-02T00:00:00+00:00") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return round(moment.timestamp()) * 1_000_000

    def fingerprint(self) -> str:
        """Eight hex digits of the whole config: the beginning of every post id, so that two squares never share one."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
