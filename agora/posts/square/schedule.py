"""What happens on the square, and when: the daily rhythm, bursts of attention, and waves of one group acting together.

Goes in: a SquareConfig and its Population. Comes out: a Schedule whose parts add up to exactly `num_posts`. Its size depends
on days, campaigns and accounts, not on posts.

A burst (breaking news, a final, a release, a protest) draws its posts from a curve of attention over time. A wave is one
moment at which members of one group post within seconds to a day: a fan club alerted by its idol, outlets behind one
syndication client, or a campaign. Only `Group.kind` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.errors import ConfigError
from agora.posts.square.config import Channel, SquareConfig, TextMode
from agora.posts.square.grammar import Grammar
from agora.posts.square.population import (
    CAMPAIGN,
    FAN_CLUB,
    FANDOM,
    NEWS,
    PROTEST,
    SYNDICATION,
    Group,
    Population,
)  # fmt: skip

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

DAY_S: Final = 86400.0
# Share of an account's waking activity per local hour, 0 h to 23 h: low at night, a rise at breakfast, a peak in the evening.
HOURLY: Final = np.array([30, 16, 9, 6, 6, 10, 24, 48, 66, 70, 70, 74, 82, 80, 74, 72, 74, 80, 90, 100, 108, 104, 84, 54]) / 100
_WEEKEND = 1.12
_GRID_S = 600.0
_CURVE_POINTS = 400
# Shares of all posts that bursts take, and how many bursts per day; the sizes of bursts of one kind follow a Pareto law.
_BURSTS = {"breaking": (0.045, 1.2), "final": (0.03, 1 / 7), "fandom": (0.03, 0.4), "protest": (0.025, 0.1)}
_BURST_ALPHA = 1.2
_ORGANIC_WAVES_SHARE = 0.08
_OUTLET_POSTS_PER_DAY, _IDOL_POSTS_PER_DAY, _WIRE_STORIES_PER_DAY = 4.0, 2.5, 3.0
_ALERT_MEDIAN_S, _ALERT_SIGMA, _ALERT_TURNOUT = 22.0, 1.1, 0.45
_WIRE_MEAN_S, _WIRE_TURNOUT = 25.0, 0.85
_CAMPAIGN_TOPICS = ("push_policy", "push_coin", "push_smear", "push_product")


@dataclass(frozen=True, kw_only=True, slots=True)
class Burst:
    """Attention to one subject: `curve_f` is the share of its `size` posts written until `curve_t` (seconds)."""

    topic: int
    subject: int
    tag: int
    tag_share: float
    size: int
    curve_t: Floats
    curve_f: Floats
    group: Group | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """One moment of one group. `turnout` members post within the delays that `delays` draws; with channel repost the lead posts first."""

    number: int
    time_s: float
    group: Group
    channel: Channel
    text: TextMode
    topic: int
    subject: int
    tags: tuple[int, ...]
    url: int
    author: int
    turnout: int

    @property
    def num_posts(self) -> int:
        """Posts that the wave makes, the lead's included."""
        return self.turnout + (self.author >= 0)

    def delays(self, rng: Rng) -> Floats:
        """Seconds after `time_s`, one per member taking part."""
        if self.group.kind == FAN_CLUB:
            return 2.0 + np.exp(rng.normal(np.log(_ALERT_MEDIAN_S), _ALERT_SIGMA, self.turnout))
        if self.group.campaign is None:
            return rng.exponential(_WIRE_MEAN_S, self.turnout)
        return self.group.campaign.jitter_s * rng.beta(1.0, 1.6, self.turnout)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """All that happens. `rhythm_f[i]` ordinary posts are written until `rhythm_t[i]` seconds."""

    duration_s: float
    start_hour: float
    num_ordinary: int
    rhythm_t: Floats
    rhythm_f: Floats
    bursts: tuple[Burst, ...]
    waves: tuple[Wave, ...]


def build_schedule(config: SquareConfig, people: Population, grammar: Grammar) -> Schedule:
    """Draw bursts and waves and spread the remaining posts over the days. Raises ConfigError when the campaigns ask for too many."""
    rng = np.random.default_rng([config.seed, 2])
    duration = config.days * DAY_S
    bursts = _draw_bursts(config, people, grammar, rng, duration)
    waves = _number(_draw_organic_waves(config, people, grammar, rng, duration) + _draw_campaign_waves(people, grammar, rng, duration))
    taken = sum(burst.size for burst in bursts) + sum(wave.num_posts for wave in waves)
    if taken > 0.8 * config.num_posts:
        raise ConfigError(
            f"campaigns and events write {taken} of num_posts={config.num_posts}, which leaves too little ordinary talk; "
            f"use num_posts={2 * taken} or more, or fewer and smaller campaigns"
        )
    num_ordinary = config.num_posts - taken
    start_hour = config.start_us() / 3.6e9 % (24 * 7)
    times, cumulative = _rhythm(people, duration, start_hour)
    return Schedule(
        duration_s=duration, start_hour=start_hour, num_ordinary=num_ordinary, rhythm_t=times, rhythm_f=cumulative * num_ordinary,
        bursts=bursts, waves=waves,
    )  # fmt: skip


def wakefulness(utc_hour: Floats, offset_h: npt.NDArray[np.int8]) -> Floats:
    """How active people are (0 to about 1) at an hour of the week, by their distance from UTC. Epoch hour 0 is a Thursday, 0 h."""
    local = utc_hour + offset_h
    low = np.floor(local).astype(np.int64)
    part = local - low
    level = HOURLY[low % 24] * (1 - part) + HOURLY[(low + 1) % 24] * part
    return np.asarray(level * np.where((low // 24 + 3) % 7 >= 5, _WEEKEND, 1.0))


def _rhythm(people: Population, duration: float, start_hour: float) -> tuple[Floats, Floats]:
    times = np.append(np.arange(0, duration, min(_GRID_S, duration / 8)), duration)
    rate = np.zeros(len(times))
    for offset in np.unique(people.offset_h):
        share = people.activity[people.offset_h == offset].sum()
        rate += share * wakefulness(start_hour + times / 3600, np.int8(offset))  # type: ignore[arg-type]
    cumulative = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(times))))
    return times, cumulative / cumulative[-1]


def _draw_bursts(config: SquareConfig, people: Population, grammar: Grammar, rng: Rng, duration: float) -> tuple[Burst, ...]:
    switches = {"breaking": config.breaking_news, "final": config.sports_final, "fandom": config.fandoms, "protest": config.protest}
    bursts = []
    for name, (share, per_day) in _BURSTS.items():
        if not switches[name]:
            continue
        count = max(1, round(per_day * config.days))
        weights = rng.pareto(_BURST_ALPHA, count) + 0.2
        sizes = np.floor(weights / weights.sum() * share * config.num_posts).astype(int)
        for size in sizes[sizes >= 8]:
            bursts.append(_draw_burst(name, int(size), people, grammar, rng, duration))
    return tuple(bursts)


def _draw_burst(name: str, size: int, people: Population, grammar: Grammar, rng: Rng, duration: float) -> Burst:
    topic = grammar.topic(name)
    group = {"fandom": FANDOM, "protest": PROTEST}.get(name)
    groups = people.groups_of(group) if group else []
    start = duration * rng.uniform(0.03, 0.85)
    if name == "breaking":
        times, share = _decay(start, rng.uniform(300, 2400), 1.3)
    elif name == "fandom":
        times, share = _decay(start, rng.uniform(1800, 7200), 1.2)
    elif name == "final":
        times, share = _match(start, rng)
    else:
        times, share = _contagion(start, rng.uniform(0.5, 1.5) * DAY_S)
    inside = times < duration
    times, share = np.append(times[inside], duration), np.append(share[inside], share[inside][-1] if inside.any() else 1.0)
    first_tag = grammar.topics[topic].first_tag
    return Burst(
        topic=topic, subject=_new_subject(grammar, topic, rng), tag=int(first_tag + rng.integers(grammar.topics[topic].num_tags)),
        tag_share={"breaking": 0.3, "final": 0.55, "fandom": 0.85, "protest": 0.9}[name], size=size,
        curve_t=times, curve_f=share / share[-1], group=groups[int(rng.integers(len(groups)))] if groups else None,
    )  # fmt: skip


def _decay(start: float, scale: float, alpha: float) -> tuple[Floats, Floats]:
    """Attention that fades by a power law (Lomax): half of it within minutes, the rest over hours, cut after three days."""
    lag = np.concatenate(([0.0], np.geomspace(1.0, 3 * DAY_S, _CURVE_POINTS)))
    return start + lag, 1 - (1 + lag / scale) ** -alpha


def _match(start: float, rng: Rng) -> tuple[Floats, Floats]:
    """A final of two and a half hours: steady talk, and a spike that fades in a minute and a half at each of three to six moments."""
    lag = np.linspace(0, 3 * 3600, _CURVE_POINTS)
    share = np.minimum(lag / 9000, 1.0)
    for moment in rng.uniform(600, 8400, int(rng.integers(3, 7))):
        share = share + rng.uniform(0.2, 0.7) * (1 - np.exp(-np.maximum(lag - moment, 0) / 90))
    return start + lag, share


def _contagion(start: float, middle: float) -> tuple[Floats, Floats]:
    """A hashtag that spreads from person to person: logistic growth, saturated after twice `middle` seconds."""
    lag = np.linspace(0, 2.2 * middle, _CURVE_POINTS)
    share = 1 / (1 + np.exp(-(lag - middle) / (middle / 6)))
    return start + lag, share - share[0]


def _draw_organic_waves(config: SquareConfig, people: Population, grammar: Grammar, rng: Rng, duration: float) -> list[Wave]:
    """Outlets posting alone, the idol and its club, stories that the syndication client sends to all its outlets at once."""
    plans = [(group, _OUTLET_POSTS_PER_DAY * len(group.members)) for group in people.groups_of(NEWS)]
    plans += [(group, _IDOL_POSTS_PER_DAY) for group in people.groups_of(FAN_CLUB)]
    plans += [(group, _WIRE_STORIES_PER_DAY) for group in people.groups_of(SYNDICATION)]
    expected = sum(per_day * (1 + _turnout(group) * len(group.members)) for group, per_day in plans) * config.days
    thin = min(1.0, _ORGANIC_WAVES_SHARE * config.num_posts / max(expected, 1.0))
    waves = []
    for group, per_day in plans:
        for _ in range(int(rng.poisson(per_day * config.days * thin))):
            is_club = group.kind == FAN_CLUB
            topic = grammar.topic("idol" if is_club else "outlet")
            author = group.lead if is_club else int(rng.choice(group.members)) if group.kind == NEWS else -1
            waves.append(
                Wave(
                    number=-1, time_s=_waking_moment(rng, duration), group=group, channel="repost" if is_club else "link",
                    text="verbatim" if group.kind == SYNDICATION else "paraphrased", topic=topic,
                    subject=_new_subject(grammar, topic, rng) if is_club else int(rng.choice(grammar.topics[topic].subjects)),
                    tags=_tags(grammar, topic, rng, int(rng.random() < 0.3)), url=-1 if is_club else _url(rng), author=author,
                    turnout=int(rng.binomial(len(group.members) - is_club, _turnout(group))),
                )
            )  # fmt: skip
    return waves


def _turnout(group: Group) -> float:
    return {FAN_CLUB: _ALERT_TURNOUT, SYNDICATION: _WIRE_TURNOUT}.get(group.kind, 0.0)


def _draw_campaign_waves(people: Population, grammar: Grammar, rng: Rng, duration: float) -> list[Wave]:
    waves = []
    for order, group in enumerate(people.groups_of(CAMPAIGN)):
        campaign = group.campaign
        assert campaign is not None
        topic = grammar.topic(_CAMPAIGN_TOPICS[order % len(_CAMPAIGN_TOPICS)])
        subject, url, tags = _new_subject(grammar, topic, rng), _url(rng), _tags(grammar, topic, rng, 2)
        others = len(group.members) - (group.lead >= 0)
        leads = group.leads.tolist() or [-1]
        for turn in range(campaign.num_waves):
            latest = max(duration - campaign.jitter_s, 0.0)
            waves.append(
                Wave(
                    number=-1, time_s=float(rng.uniform(0, latest)), group=group, channel=campaign.channel, text=campaign.text,
                    topic=topic, subject=subject, tags=tags if campaign.channel == "hashtag" else (),
                    url=url if campaign.channel == "link" else -1, author=leads[turn % len(leads)],
                    turnout=int(rng.binomial(others, campaign.participation)),
                )
            )  # fmt: skip
    return waves


def _number(waves: list[Wave]) -> tuple[Wave, ...]:
    return tuple(replace(wave, number=number) for number, wave in enumerate(sorted(waves, key=lambda wave: wave.time_s)))


def _waking_moment(rng: Rng, duration: float) -> float:
    """A moment between 6 h and 22 h UTC of some day."""
    day = rng.integers(max(1, int(np.ceil(duration / DAY_S)))) * DAY_S
    moment = day + rng.uniform(6, 22) * 3600
    return float(moment if moment < duration else rng.uniform(0, duration))


def _new_subject(grammar: Grammar, topic: int, rng: Rng) -> int:
    one = np.array([grammar.symbol("event")], np.int32)
    text = grammar.write(one, np.array([topic], np.int32), np.zeros(1, np.int32), rng)[0].as_py()
    return grammar.add_subject(text)


def _tags(grammar: Grammar, topic: int, rng: Rng, count: int) -> tuple[int, ...]:
    first, num = grammar.topics[topic].first_tag, grammar.topics[topic].num_tags
    return tuple(int(first + tag) for tag in rng.permutation(num)[:count])


def _url(rng: Rng) -> int:
    """A link as one number: the page, whose remainder also picks the domain."""
    return int(rng.integers(10_000, 10_000_000))
