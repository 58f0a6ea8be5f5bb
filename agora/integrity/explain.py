"""What else would explain a group. Goes in: its members and actions. Comes out: one Explanation per check, with the numbers it rests on.

An explanation that holds keeps the group from being labelled; it stays visible to analysts. Each can be wrong: a campaign may boost a
single account, or pose as outlets, and is then left to a person.

Checks ask about all members. Attackers who join an innocent community and copy it would spoil every answer; therefore
`explained_part` also looks for members whose own actions one check explains, the same way for each, and asks about them alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.collect import Collected
from agora.integrity.detect import Actions
from agora.integrity.episodes import contains
from agora.integrity.records import Explanation
from agora.integrity.shared import Ints
from agora.integrity.signals import signals
from agora.integrity.sources import copied

if TYPE_CHECKING:
    from agora.integrity.campaigns import SharedArtefact

MOST: Final = 0.8
FEED: Final = 0.75
FASTER_THAN_PEOPLE_S: Final = 10
PACE_OF_PEOPLE_S: Final = 120
EVENT_HOURS: Final = 24
USUAL_HOURS: Final = 3
MIN_PART: Final = 3
"""Members; fewer may look alike by chance."""
MIN_DAYS: Final = 4
"""Of occasions at random times, four fall into the same three hours of the day with a probability below .01."""
_AMPLIFIED: Final = frozenset(signal.id for signal in signals() if signal.role == "amplified")


@dataclass(frozen=True, slots=True)
class Square:
    """What is known besides the posts.

    follows   (follower, followed) as sorted codes follower * accounts + followed, or None where the graph is not known
    declared  organisation of each account that declared one, by code
    created   seconds since 1970 at which an account was made, by code, where known
    has_link  posts that carry a link
    is_feed   accounts, by code, that post almost only links (`feeds`)
    """

    follows: npt.NDArray[np.int64] | None
    declared: Mapping[int, str]
    created: Mapping[int, int]
    has_link: npt.NDArray[np.bool_]
    is_feed: npt.NDArray[np.bool_]


def feeds(posts: Collected, has_link: npt.NDArray[np.bool_], is_reply: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which accounts, by code, are feeds: at least FEED of their posts are links of their own that answer nobody."""
    plain = np.bincount(posts.account, posts.is_own & has_link & ~is_reply, posts.num_accounts)
    return np.asarray(plain >= FEED * np.bincount(posts.account, minlength=posts.num_accounts))


def explanations(
    accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square
) -> list[Explanation]:
    """All checks, in a fixed order."""
    return [check(accounts, actions, artefacts, posts, square) for check, _ in _CHECKS]


def explained_part(
    accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square
) -> tuple[Ints, Actions]:
    """Some of the members, at least MIN_PART, whom one check explains when it looks at them alone, and their actions; or nobody.

    Only members whose own actions it explains, each in the same way, are tried. What others did beside them counts neither for nor
    against, nor do actions of theirs that others merely copied.
    """
    actions = actions.where(np.flatnonzero(~np.isin(actions.post, copied(artefacts))))
    order = np.argsort(actions.account, kind="stable")
    starts, ends = (np.searchsorted(actions.account[order], accounts, side) for side in ("left", "right"))
    bounds = zip(accounts.tolist(), starts.tolist(), ends.tolist(), strict=True)
    own = {account: actions.where(order[start:end]) for account, start, end in bounds if start < end}
    for check, alone in _CHECKS:
        if alone is None:
            continue
        reasons = {account: alone(account, mine, posts, square) for account, mine in own.items()}
        count = Counter(reason for reason in reasons.values() if reason is not None)
        for reason in sorted((one for one in count if count[one] >= MIN_PART), key=lambda one: (-count[one], str(one))):
            part = np.array([account for account, its in reasons.items() if its == reason], np.int32)
            among = [one for one in artefacts if np.isin(one.account, part).sum() >= 2]
            if check(part, actions.of(part), among, posts, square).holds:
                return part, actions.of(part)
    return accounts[:0], actions.of(accounts[:0])


def _one_account(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """Fans of one account that alerts them."""
    name = "all follow one account"
    top, count = _target(actions, posts)
    if not count:
        return Explanation(name=name, holds=False, text="None of the evidence is about one account's posts.")
    who = posts.names[top].as_py()
    text = f"{count:,} of {len(actions.post):,} actions pass on or answer posts of {who}."
    holds = count >= MOST * len(actions.post)
    if holds and square.follows is not None:
        codes = accounts.astype(np.int64) * posts.num_accounts + top
        following = int(contains(square.follows, codes).sum())
        text += f" {following:,} of {len(accounts):,} members follow it."
        holds = following >= 0.5 * len(accounts)
    if holds and _is_faster_than_people(actions, posts):
        text += f" But most of them acted within {FASTER_THAN_PEOPLE_S} seconds of each other, faster than an alert can be read."
        holds = False
    return Explanation(name=name, holds=holds, text=text)


def _target(actions: Actions, posts: Collected) -> tuple[int, int]:
    """The account whose posts most of the actions pass on or answer, and how many do."""
    target = posts.ref_author[actions.post[np.isin(actions.signal, list(_AMPLIFIED))]]
    values, counts = np.unique(target[target >= 0], return_counts=True)
    return (int(values[counts.argmax()]), int(counts.max())) if len(values) else (-1, 0)


def _fan_of(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    top, count = _target(actions, posts)
    return top if count and count >= MOST * len(actions.post) else None


def _is_faster_than_people(actions: Actions, posts: Collected) -> bool:
    """Whether on at least MOST occasions the members act within a few seconds; sources with times to the minute never do."""
    times = posts.time_s[actions.post]
    if not np.any(times % 60):
        return False
    spans = _spans(actions, times)
    return bool(len(spans)) and float(np.mean(spans <= FASTER_THAN_PEOPLE_S)) >= MOST


def _spans(actions: Actions, times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Of each occasion with three actions or more: seconds between the earliest and the latest tenth of them."""
    parts = [times[actions.hour == hour] for hour in np.unique(actions.hour)]
    return np.array([np.percentile(part, 90) - np.percentile(part, 10) for part in parts if len(part) >= 3])


def _one_organisation(
    accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square
) -> Explanation:
    name = "one declared organisation"
    owners = [square.declared[a] for a in accounts.tolist() if a in square.declared]
    if not owners:
        return Explanation(name=name, holds=False, text="None of the members has declared an organisation.")
    top = max(sorted(set(owners)), key=owners.count)
    text = f"{owners.count(top):,} of {len(accounts):,} members declare that they belong to {top}."
    return Explanation(name=name, holds=owners.count(top) >= MOST * len(accounts), text=text)


def _member_of(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    return square.declared.get(account)


def _syndication(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """Outlets behind one client: what they share always carries a link, to another page each time, and they post little else."""
    evidence = np.unique(actions.post[~np.isin(actions.signal, list(_AMPLIFIED))])
    linked = float(square.has_link[evidence].mean()) if len(evidence) else 0.0
    feeds = int(square.is_feed[accounts].sum())
    texts = len({one.key for one in artefacts if one.signal in ("near_text", "text")})
    links = len({one.key for one in artefacts if one.signal == "link"})
    text = f"{linked:.0%} of the evidence carries a link ({links:,} pages, {texts:,} texts); "
    text += f"{feeds:,} of {len(accounts):,} members post almost only links."
    holds = linked >= MOST and feeds >= MOST * len(accounts) and links >= 0.3 * max(texts, 1)
    return Explanation(name="a syndication client", holds=bool(holds), text=text)


def _is_feed(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    return "feed" if square.is_feed[account] else None


def _one_author(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """One person with a few accounts who posts everything on each: every member takes part every time."""
    together = [len(np.unique(actions.account[actions.hour == hour])) for hour in np.unique(actions.hour)]
    all_of_them = sum(count == len(accounts) for count in together)
    text = f"On {all_of_them:,} of {len(together):,} occasions all {len(accounts):,} members took part."
    return Explanation(name="one author", holds=len(accounts) <= 3 and all_of_them >= MOST * len(together), text=text)


def _one_event(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """One evening in front of the same match or show: many occasions, but one coincidence."""
    hours = int(actions.hour.max() - actions.hour.min()) + 1
    text = f"All evidence lies within {hours:,} hours." if hours <= EVENT_HOURS else f"The evidence spreads over {hours / 24:,.1f} days."
    return Explanation(name="one event", holds=hours <= EVENT_HOURS, text=text)


def _at_once(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    """The day on which the account did everything, as the hour of its first action tells it."""
    return int(actions.hour.min()) // EVENT_HOURS if int(actions.hour.max() - actions.hour.min()) < EVENT_HOURS else None


def _app(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """A game, a horoscope, a share button: the app writes the text, links to itself, and its users use it at their usual time."""
    top, same, written = _host(actions, posts)
    if not same:
        return Explanation(name="an app writes for its users", holds=False, text="None of the evidence that members wrote carries a link.")
    days, share = _usual_time(actions)
    text = f"{same:,} of {written:,} posts link to {top}; {share:.0%} of the occasions fall into the same {USUAL_HOURS} hours of the day."
    holds = same >= MOST * written and days >= MIN_DAYS and share >= MOST
    return Explanation(name="an app writes for its users", holds=holds, text=text)


def _host(actions: Actions, posts: Collected) -> tuple[str, int, int]:
    """The host that most of the posts which members wrote link to, how many do, and how many they wrote."""
    written = np.unique(actions.post[~np.isin(actions.signal, list(_AMPLIFIED))])
    hosts = Counter(host for host in posts.values("host", written) if host)
    top, same = min(hosts.items(), key=lambda pair: (-pair[1], pair[0]), default=("", 0))
    return top, same, len(written)


def _user_of(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    top, same, written = _host(actions, posts)
    return top if same and same >= MOST * written else None


def _routine(accounts: Ints, actions: Actions, artefacts: Sequence[SharedArtefact], posts: Collected, square: Square) -> Explanation:
    """Colleagues in their break, pupils after school: every day at the same time, at the pace of people."""
    days, share = _usual_time(actions)
    spans = _spans(actions, posts.time_s[actions.post])
    pace = float(np.median(spans)) if len(spans) else 0.0
    text = f"{share:.0%} of the occasions, on {days:,} days, fall into the same {USUAL_HOURS} hours of the day; "
    text += f"usually {pace:,.0f} seconds lie between the early and the late."
    return Explanation(name="a daily routine", holds=days >= MIN_DAYS and share >= MOST and pace >= PACE_OF_PEOPLE_S, text=text)


def _keeps_hours(account: int, actions: Actions, posts: Collected, square: Square) -> Hashable | None:
    days, share = _usual_time(actions)
    return "routine" if days >= MIN_DAYS and share >= MOST else None


def _usual_time(actions: Actions) -> tuple[int, float]:
    """Days with an occasion, and the largest share of occasions that fall into the same USUAL_HOURS of the day."""
    hours = np.unique(actions.hour)
    clock = np.bincount(hours % 24, minlength=24)
    band = np.convolve(np.concatenate((clock, clock)), np.ones(USUAL_HOURS, np.int64), mode="valid")
    return len(np.unique(hours // 24)), float(band.max() / len(hours))


_Check = Callable[[Ints, Actions, Sequence["SharedArtefact"], Collected, Square], Explanation]
_Alone = Callable[[int, Actions, Collected, Square], Hashable | None]
_CHECKS: Final[tuple[tuple[_Check, _Alone | None], ...]] = (
    (_one_account, _fan_of),
    (_one_organisation, _member_of),
    (_syndication, _is_feed),
    (_one_author, None),
    (_one_event, _at_once),
    (_app, _user_of),
    (_routine, _keeps_hours),
)
"""Each check, and what it would say of one account's own actions: a reason that members can have in common, or None."""
