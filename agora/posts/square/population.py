"""Who lives on the square: accounts with a language, a clock, interests, a habit of writing, a group, and whom they follow.

Goes in: a SquareConfig. Comes out: a Population; memory grows with accounts and follows, never with posts.
Activity and popularity are heavy-tailed (log-normal), as on real platforms: most accounts post little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.errors import ConfigError
from agora.posts.square.config import Campaign, SquareConfig
from agora.posts.square.grammar import LANGUAGES, Grammar, read_words

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

LANGUAGE_SHARES: Final = {"en": 0.82, "de": 0.05, "es": 0.06, "fr": 0.04, "pt": 0.03}
UTC_OFFSETS: Final = {"en": ((-8, 0.15), (-5, 0.3), (0, 0.35), (5, 0.1), (10, 0.1)), "de": ((1, 1.0),), "es": ((1, 0.6), (-5, 0.4)),
                      "fr": ((1, 1.0),), "pt": ((-3, 0.8), (0, 0.2))}  # fmt: skip
STYLES: Final = ("plain", "lowercase", "no_stop", "emoji", "typos", "loud")
_STYLE_SHARES = (0.45, 0.2, 0.13, 0.1, 0.09, 0.03)
_ACTIVITY_SIGMA = 2.0
_POPULARITY_SIGMA = 1.8
_ORDINARY_SHARE = 0.8  # of all posts, the rest being bursts and waves; only sets how much campaigns camouflage
_FADING_POPULARITY = 0.08  # each topic of a language's list is liked a little less than the one before

ORDINARY, FANDOM, FAN_CLUB, NEWS, SYNDICATION, PROTEST, CAMPAIGN = GROUP_KINDS = (
    "ordinary", "fandom", "fan_club", "news", "syndication", "protest", "campaign",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Accounts with something in common. `lead` is whom a fan club follows or a campaign amplifies first, -1 for nobody."""

    name: str
    kind: str
    members: Ints
    lead: int = -1
    campaign: Campaign | None = None

    @property
    def leads(self) -> Ints:
        """Everybody whom the group follows or amplifies: `lead`, or the members of a campaign who take turns at it."""
        if self.lead < 0:
            return self.members[:0]
        return self.members[: self.campaign.num_leads if self.campaign else 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Arrays over accounts. `followers[follower_start[a]:follower_start[a + 1]]` follow account a."""

    handles: pa.Array
    lang: npt.NDArray[np.int8]
    interests: Ints  # (accounts, 3) topics, most cared for first
    offset_h: npt.NDArray[np.int8]
    style: npt.NDArray[np.int8]
    activity: Floats
    groups: tuple[Group, ...]
    follower_start: npt.NDArray[np.int64]
    followers: Ints

    def groups_of(self, kind: str) -> list[Group]:
        """Groups of one kind, in a fixed order."""
        return [group for group in self.groups if group.kind == kind]


def build_population(config: SquareConfig, grammar: Grammar) -> Population:
    """Draw all accounts, groups and follows of the square. Raises ConfigError when the groups do not fit."""
    rng = np.random.default_rng([config.seed, 1])
    num = config.num_accounts
    shuffled = rng.permutation(num).astype(np.int32)
    groups = _draw_groups(config, shuffled)
    lang = rng.choice(len(LANGUAGES), num, p=[LANGUAGE_SHARES[name] for name in LANGUAGES]).astype(np.int8)
    for group in groups:
        lang[group.members] = 0
    offset = np.zeros(num, np.int8)
    interests = np.zeros((num, 3), np.int32)
    for number, name in enumerate(LANGUAGES):
        mine = np.flatnonzero(lang == number)
        hours, shares = zip(*UTC_OFFSETS[name], strict=True)
        offset[mine] = rng.choice(np.asarray(hours, np.int8), len(mine), p=shares)
        topics = np.asarray(grammar.everyday(name), np.int32)
        liking = rng.gumbel(size=(len(mine), len(topics))) - _FADING_POPULARITY * np.arange(len(topics))
        interests[mine] = topics[np.argsort(-liking, axis=1)[:, np.arange(3) % len(topics)]]
    activity = np.exp(rng.normal(0, _ACTIVITY_SIGMA, num))
    popularity = np.exp(rng.normal(0, _POPULARITY_SIGMA, num)) * np.sqrt(activity)
    appetite = activity**0.6 + 0.1
    for group in groups:
        if group.campaign is not None:
            activity[group.members] = activity.mean() * _camouflage_posts(config, group.campaign)
            appetite[group.members] = appetite.mean() * _camouflage_posts(config, group.campaign)
        if group.kind in (NEWS, SYNDICATION):
            activity[group.members] = 0.0
            popularity[group.members] = np.sort(popularity)[-max(2, num // 200)]
            appetite[group.members] = 0.0
        if group.lead >= 0 and group.kind == FAN_CLUB:
            activity[group.lead], appetite[group.lead], popularity[group.lead] = 0.0, 0.0, popularity.max()
    follower_start, followers = _draw_follows(config, rng, interests, appetite, popularity, groups)
    return Population(
        handles=_draw_handles(num, rng, groups), lang=lang, interests=interests, offset_h=offset,
        style=rng.choice(len(STYLES), num, p=_STYLE_SHARES).astype(np.int8), activity=activity, groups=groups,
        follower_start=follower_start, followers=followers,
    )  # fmt: skip


def _camouflage_posts(config: SquareConfig, campaign: Campaign) -> float:
    """Ordinary posts that a member writes to hide its campaign posts, as a multiple of the average account's."""
    in_waves = campaign.num_waves * campaign.participation
    average = _ORDINARY_SHARE * config.num_posts / config.num_accounts
    return in_waves * campaign.camouflage / (1 - campaign.camouflage) / average


def _draw_groups(config: SquareConfig, shuffled: Ints) -> tuple[Group, ...]:
    """Groups take accounts from the shuffled list, so that a group cannot be guessed from the order of accounts."""
    num, used = config.num_accounts, 0

    def take(size: int) -> Ints:
        nonlocal used
        used += size
        return shuffled[used - size : used]

    groups = [Group(name=c.name, kind=CAMPAIGN, members=take(c.num_accounts), campaign=c) for c in config.campaigns]
    groups = [_with_lead(group) if group.campaign and group.campaign.channel == "repost" else group for group in groups]
    groups.append(Group(name="outlets", kind=NEWS, members=take(max(2, min(40, num // 1000)))))
    if config.fandoms:
        groups += [Group(name=f"fandom_{i}", kind=FANDOM, members=take(max(6, num // 80))) for i in (1, 2)]
    if config.fan_club:
        members = take(1 + max(6, min(400, num // 120)))
        groups.append(Group(name="alert_club", kind=FAN_CLUB, members=members, lead=int(members[0])))
    if config.syndication:
        groups.append(Group(name="syndicate", kind=SYNDICATION, members=take(max(4, min(30, num // 400)))))
    if config.protest:
        groups.append(Group(name="protesters", kind=PROTEST, members=take(max(8, num // 50))))
    if used > 0.8 * num:
        raise ConfigError(f"groups and campaigns need {used} accounts, too many for num_accounts={num}; raise it or use campaigns=[]")
    return tuple(groups)


def _with_lead(group: Group) -> Group:
    return Group(name=group.name, kind=group.kind, members=group.members, lead=int(group.members[0]), campaign=group.campaign)


def _draw_follows(
    config: SquareConfig, rng: np.random.Generator, interests: Ints, appetite: Floats, popularity: Floats, groups: tuple[Group, ...]
) -> tuple[npt.NDArray[np.int64], Ints]:
    """Whom everybody follows: mostly popular accounts that share an interest, some from elsewhere in the same language, and groups."""
    num = config.num_accounts
    degree = np.minimum(rng.poisson(config.mean_follows * appetite / appetite.mean()), min(num // 2, 5000))
    follower = np.repeat(np.arange(num, dtype=np.int32), degree)
    wanted = interests[follower, rng.choice(3, len(follower), p=[0.55, 0.25, 0.2])]
    order = np.argsort(interests[:, 0], kind="stable").astype(np.int32)
    first = np.searchsorted(interests[order, 0], np.arange(interests.max() + 2))
    mass = np.concatenate(([0.0], np.cumsum(popularity[order])))
    low, high = mass[first[wanted]], mass[first[wanted + 1]]
    followed = order[np.minimum(np.searchsorted(mass, low + rng.random(len(follower)) * (high - low), side="right") - 1, num - 1)]
    pairs = [np.stack((follower, followed))]
    follows_nobody_back = np.zeros(num, np.bool_)
    for group in groups:
        follows_nobody_back[group.members] |= group.campaign is not None or group.kind in (NEWS, SYNDICATION)  # an outlet follows nobody
    back = (rng.random(len(follower)) < 0.12) & ~follows_nobody_back[followed]
    pairs.append(np.stack((followed[back], follower[back])))
    for group in groups:
        if group.lead >= 0 and group.kind == FAN_CLUB:
            pairs.append(np.stack((group.members, np.full_like(group.members, group.lead))))
        elif group.kind in (FANDOM, PROTEST):
            inside = rng.choice(group.members, (2, 3 * len(group.members)))
            pairs.append(inside.astype(np.int32))
    both = np.concatenate(pairs, axis=1)
    both = both[:, both[0] != both[1]]
    keys = np.sort(both[1].astype(np.int64) * num + both[0])  # sorting is 20 times faster here than np.unique, which hashes
    keys = keys[np.diff(keys, prepend=-1) > 0]
    followed_by = keys // num
    return np.searchsorted(followed_by, np.arange(num + 1)).astype(np.int64), (keys % num).astype(np.int32)


def _draw_handles(num: int, rng: np.random.Generator, groups: tuple[Group, ...]) -> pa.Array:
    """Distinct names by construction: every pair of parts once in random order, then again with digits."""
    words: dict[str, Any] = read_words("handles.toml")
    first, second = np.asarray(words["first"], object), np.asarray(words["second"], object)
    count = len(first) * len(second)
    cell = rng.permutation(count)[np.arange(num) % count]
    rounds = np.arange(num) // count
    digits = np.where(rounds == 0, "", (rounds * 7 + 1).astype(str)).astype(object)
    names = first[cell % len(first)] + "_" + second[cell // len(first)] + digits
    places = sorted({text.lower().replace(" ", "") for text in read_words("en.toml")["symbols"]["place"]})
    outlets = np.concatenate([g.members for g in groups if g.kind in (NEWS, SYNDICATION)] or [np.zeros(0, np.int32)])
    for number, account in enumerate(outlets):
        names[account] = f"{places[number % len(places)]}_{words['news'][number % len(words['news'])]}{number or ''}"
    return pa.array(names.tolist(), pa.string())
