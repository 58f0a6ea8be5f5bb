"""A scan's result that nobody scanned: campaigns as a scan would describe them, for tests of what is made from them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from agora.integrity.config import IntegrityConfig
from agora.integrity.records import Action, Artefact, Campaign, Evidence, Explanation, Member, State, Test

_FIRST_POST = 1_760_000_000_000
START = datetime(2026, 3, 2, 6, tzinfo=timezone.utc)
TEXTS = (
    "The new harbour levy will cost every family on the coast. Read what they hide from you: harbour-facts.example/levy",
    "Nobody asked us about the levy. Share this before they take it down!",
    "RT: The council met behind closed doors again last night. Minutes attached.",
    "I was undecided until I saw these numbers. The levy is theft, plain and simple. #StopTheLevy #CoastFirst",
    "Fishermen deserve better than this council, and they know it.",
)


@dataclass(frozen=True, kw_only=True)
class MadeUpResult:
    """The fields of a scan's result."""

    campaigns: tuple[Campaign, ...]
    config: IntegrityConfig = field(default_factory=IntegrityConfig)
    num_posts: int = 1_204_311
    num_accounts: int = 48_210
    num_groups: int = 212
    num_tests: int = 1_696
    first_at: str = "2026-03-01T00:00:04Z"
    last_at: str = "2026-03-28T23:59:58Z"


def made_up_campaign(
    seed: int = 0, *, state: State = "synchronised", num_members: int = 14, num_artefacts: int = 24, jitter_s: int = 45,
    texts: Sequence[str] = TEXTS, num_outsiders: int = 9,
) -> Campaign:  # fmt: skip
    """A campaign whose members act within `jitter_s` of each other, while outsiders share the same artefacts over a day."""
    chance = random.Random(seed)
    names = [
        f"{chance.choice(['coast', 'tide', 'gull', 'harbor', 'net'])}_{chance.choice(['ann', 'lee', 'max', 'sue', 'jo'])}{seed}{i:02d}"
        for i in range(num_members)
    ]
    crowd = [f"reader{seed}_{i:03d}" for i in range(num_outsiders * 6)]
    signals = ("link", "near_text") if state == "duplicated" else ("repost", "link")
    artefacts = tuple(
        _artefact(chance, number, signals[number % 2], texts[number % len(texts)], names, crowd, jitter_s, num_outsiders)
        for number in range(num_artefacts)
    )
    acted = Counter(action.account for artefact in artefacts for action in artefact.actions)
    counts = {name: acted[name] for name in names}
    members = tuple(
        Member(
            account=name, q_value=10 ** -(1.5 + count / 2), num_actions=count, num_posts=count * chance.randint(1, 9) + 3,
            is_automatic=count >= 6, is_source=index == 2 and state == "synchronised",
        )
        for index, (name, count) in enumerate(counts.items())
    )  # fmt: skip
    times = sorted(action.at for artefact in artefacts for action in artefact.actions)
    half, what = num_artefacts // 2, ("links", "texts") if state == "duplicated" else ("posts they passed on", "links")
    sentences = (
        f"{num_members:,} accounts shared {num_artefacts - half:,} {what[0]} and {half:,} {what[1]} close together in time, "
        f"between {times[0][:10]} and {times[-1][:10]}.",
        f"On {num_artefacts:,} occasions that had no part in finding them, 412 pairs of them acted within 1 min, where 3.2 would be "
        "expected of as many accounts that shared the same things.",
    )
    return Campaign(
        id=f"c-{random.Random(seed).getrandbits(40):010x}", state=state, members=members, evidence=_evidence(signals, num_artefacts),
        explanations=_explanations(state), artefacts=artefacts, first_at=times[0], last_at=times[-1], sentences=sentences,
    )  # fmt: skip


def _artefact(
    chance: random.Random,
    number: int,
    signal: str,
    text: str,
    names: Sequence[str],
    crowd: Sequence[str],
    jitter_s: int,
    num_outsiders: int,
) -> Artefact:
    begun = START + timedelta(hours=9 * number + chance.random() * 7)
    burst = begun + timedelta(minutes=chance.expovariate(1 / 90))
    takers = chance.sample(list(names), max(2, int(len(names) * chance.uniform(0.4, 0.9))))
    inside = [(burst + timedelta(seconds=int(chance.random() * jitter_s)), name, True) for name in takers]
    few = chance.randint(0, min(len(crowd), 2 * num_outsiders))
    outside = [(begun + timedelta(seconds=int(chance.expovariate(1 / 18_000))), name, False) for name in chance.sample(list(crowd), few)]
    actions = tuple(
        Action(post=f"{_FIRST_POST + number * 7919}{index:03d}", account=name, at=at.strftime("%Y-%m-%dT%H:%M:%SZ"), is_member=is_member)
        for index, (at, name, is_member) in enumerate(sorted(inside + outside))
    )
    times = [at for at, _, _ in sorted(inside)]
    return Artefact(
        signal=signal, key=f"{chance.getrandbits(64):016x}", text=text, num_members=len(takers), num_outsiders=few,
        gap_s=int((times[-1] - times[0]).total_seconds()), actions=actions,
    )  # fmt: skip


def _evidence(signals: Sequence[str], num_artefacts: int) -> tuple[Evidence, ...]:
    rows: tuple[tuple[Test, int, int, float, float, float], ...] = (
        ("timing", 0, 60, 412, 3.2, 3e-41), ("timing", 0, 600, 455, 31.7, 2e-30), ("burst", 1, 3600, 11, 0.04, 4e-22),
    )  # fmt: skip
    return tuple(
        Evidence(
            test=test, signal=signals[which], window_s=window_s, num_occasions=num_artefacts, observed=observed, expected=expected,
            p_value=p_value, q_value=900 * p_value,
        )
        for test, which, window_s, observed, expected, p_value in rows
    )  # fmt: skip


def _explanations(state: State) -> tuple[Explanation, ...]:
    none, most = "None of the members has declared an organisation.", "12 of 14 members declare that they belong to Coast Today."
    declared = most if state == "explained" else none
    return (
        Explanation(name="all follow one account", holds=False, text="31 of 187 actions pass on or answer posts of harbor_news."),
        Explanation(name="one declared organisation", holds=state == "explained", text=declared),
        Explanation(
            name="a syndication client", holds=False,
            text="62% of the evidence carries a link (12 pages, 5 texts); 1 of 14 members post almost only links.",
        ),
        Explanation(name="one author", holds=False, text="On 0 of 24 occasions all 14 members took part."),
    )  # fmt: skip


def made_up_result(num_campaigns: int = 5, **changes: int) -> MadeUpResult:
    """Campaigns of all states, one after the other; from the sixth on they repeat under other ids."""
    states: tuple[State, ...] = ("synchronised", "duplicated", "synchronised", "explained", "shared_interest")
    first = [made_up_campaign(number, state=state, **changes) for number, state in enumerate(states)]
    return MadeUpResult(
        campaigns=tuple(replace(first[number % 5], id=f"{first[number % 5].id}-{number}") for number in range(num_campaigns))
    )
