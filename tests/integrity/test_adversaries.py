"""What campaigns may try. Every case says how much must be found (0: nothing need be), and always nobody innocent is labelled.

Innocent is whoever is in no campaign: ordinary accounts, fans, outlets, and those whom attackers frame.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from agora.integrity.scan import scan
from agora.posts.schema import POST_SCHEMA
from agora.posts.simulate import Campaign, SquareConfig, follow_graph, ground_truth, simulate

NUM_POSTS, NUM_ACCOUNTS, SEED = 16_000, 1_200, 71


def square(campaign: Campaign | None, seed: int = SEED) -> SquareConfig:
    return SquareConfig(num_posts=NUM_POSTS, num_accounts=NUM_ACCOUNTS, seed=seed, campaigns=(campaign,) if campaign else ())


def labelled(posts: pa.Table, config: SquareConfig, work: Path) -> set[str]:
    posts = posts.sort_by("created_at").combine_chunks()
    result = scan(posts.to_batches(max_chunksize=8_192), work, follows=follow_graph(config))
    return {member.account for campaign in result.campaigns for member in campaign.labelled}


def attack(
    work: Path, campaign: Campaign, change: Callable[[pa.Table, set[str]], pa.Table] = lambda posts, _: posts, seed: int = SEED
) -> tuple[float, set[str]]:
    """Share of the campaign's members that are labelled, and innocents that are."""
    config = square(campaign, seed)
    truth = ground_truth(config)
    members = set(truth.filter(truth["is_coordinated"])["author"].to_pylist())
    found = labelled(change(pa.concat_tables(simulate(config)), members), config, work)
    return len(found & members) / len(members), found - members


def campaign(**settings: Any) -> Campaign:
    return Campaign(**{"name": "x", "num_accounts": 30, "num_waves": 24, "channel": "text", "text": "verbatim", **settings})


@pytest.mark.parametrize(("jitter_s", "at_least"), [(5, 0.8), (60, 0.8), (600, 0.8), (7_200, 0.0), (86_400, 0.0)])
def test_jitter(tmp_path: Path, jitter_s: float, at_least: float) -> None:
    found, innocents = attack(tmp_path, campaign(jitter_s=jitter_s))
    assert found >= at_least
    assert not innocents


@pytest.mark.parametrize(("participation", "at_least"), [(1.0, 0.8), (0.5, 0.8), (0.25, 0.5), (0.1, 0.0)])
def test_participation(tmp_path: Path, participation: float, at_least: float) -> None:
    found, innocents = attack(tmp_path, campaign(participation=participation, num_waves=40))
    assert found >= at_least
    assert not innocents


@pytest.mark.parametrize(("camouflage", "at_least"), [(0.0, 0.8), (0.8, 0.8), (0.95, 0.5)])
def test_camouflage(tmp_path: Path, camouflage: float, at_least: float) -> None:
    small = campaign(camouflage=camouflage, num_accounts=12, num_waves=16)
    found, innocents = attack(tmp_path, small)
    assert found >= at_least
    assert not innocents


def test_reposts_for_several_leads(tmp_path: Path) -> None:
    found, innocents = attack(tmp_path, campaign(channel="repost", num_leads=5))
    assert found >= 0.8
    assert not innocents


def only_pairs(posts: pa.Table, members: set[str]) -> pa.Table:
    """Of each text of the campaign only one pair of accounts, another each time, writes it."""
    by_text: dict[str, int] = {}
    names = sorted(members)
    keep = []
    for row, (author, text) in enumerate(zip(posts["author"].to_pylist(), posts["text"].to_pylist(), strict=True)):
        if author in members:
            turn = by_text.setdefault(text, len(by_text))
            pair = {names[(2 * turn) % len(names)], names[(2 * turn + 1 + turn // len(names)) % len(names)]}
            if author not in pair:
                continue
        keep.append(row)
    return posts.take(pa.array(keep))


def test_rotating_pairs(tmp_path: Path) -> None:
    _, innocents = attack(tmp_path, campaign(participation=1.0), only_pairs)
    assert not innocents


@pytest.mark.parametrize(("text", "at_least"), [("templated", 0.8), ("paraphrased", 0.0)])
def test_rewriting(tmp_path: Path, text: str, at_least: float) -> None:
    found, innocents = attack(tmp_path, campaign(text=text))
    assert found >= at_least
    assert not innocents


def noisy_links(posts: pa.Table, members: set[str]) -> pa.Table:
    """Every copy of a link carries tracking parameters of its own."""
    names = ("utm_source", "fbclid", "gclid", "utm_campaign")
    urls = [
        [f"{url}?{names[row % len(names)]}={row}" for url in links] if author in members else links
        for row, (author, links) in enumerate(zip(posts["author"].to_pylist(), posts["urls"].to_pylist(), strict=True))
    ]
    index = posts.schema.get_field_index("urls")
    return posts.set_column(index, POST_SCHEMA.field("urls"), pa.array(urls, POST_SCHEMA.field("urls").type))


def test_tracking_parameters_hide_nothing(tmp_path: Path) -> None:
    links = campaign(channel="link", text="paraphrased")
    plain, _ = attack(tmp_path / "plain", links)
    found, innocents = attack(tmp_path / "noisy", links, noisy_links)
    assert found == plain >= 0.8
    assert not innocents


def framed(posts: pa.Table, victims: set[str], attackers: list[str], delay_s: int) -> pa.Table:
    """Every attacker writes what each victim writes, word for word and link for link, seconds later."""
    rng = np.random.default_rng(5)
    mine = posts.filter(pc.and_(pc.is_in(posts["author"], pa.array(sorted(victims))), pc.equal(posts["kind"], "post")))
    copies = []
    for number, attacker in enumerate(attackers):
        late = pa.array(rng.integers(1, delay_s, mine.num_rows) * 1_000_000).cast(pa.duration("us"))
        copy = mine.set_column(0, POST_SCHEMA.field("id"), pc.binary_join_element_wise(mine["id"], f"-{number}", ""))
        copy = copy.set_column(1, POST_SCHEMA.field("author"), pa.array([attacker] * mine.num_rows))
        times = pc.add(mine["created_at"], late).cast(POST_SCHEMA.field("created_at").type)
        copies.append(copy.set_column(2, POST_SCHEMA.field("created_at"), times))
    return pa.concat_tables([posts, *copies])


@pytest.mark.parametrize(("num_victims", "num_attackers", "delay_s"), [(1, 8, 20), (6, 4, 5), (12, 12, 60), (20, 3, 300)])
def test_those_who_are_copied_within_seconds_are_not_labelled(tmp_path: Path, num_victims: int, num_attackers: int, delay_s: int) -> None:
    config = square(None)
    posts = pa.concat_tables(simulate(config))
    ordinary = set(ground_truth(config).filter(pc.equal(ground_truth(config)["group"], "ordinary"))["author"].to_pylist())
    written = posts.filter(pc.equal(posts["kind"], "post"))["author"].value_counts().to_pylist()
    busy = [row["values"] for row in sorted(written, key=lambda row: -row["counts"]) if row["values"] in ordinary]
    attackers = [f"attacker_{number}" for number in range(num_attackers)]
    found = labelled(framed(posts, set(busy[:num_victims]), attackers, delay_s), config, tmp_path)
    assert found <= set(attackers)


def together(posts: pa.Table, victims: list[str], attackers: list[str]) -> pa.Table:
    """Attackers make victims look like a group: they copy a text of one victim in the minute in which another victim posted."""
    rng = np.random.default_rng(6)
    mine = posts.filter(pc.and_(pc.is_in(posts["author"], pa.array(victims)), pc.equal(posts["kind"], "post")))
    rows = []
    for number, row in enumerate(mine.slice(0, 400).to_pylist()):
        for attacker in rng.choice(attackers, 3, replace=False).tolist():
            late = np.timedelta64(int(rng.integers(2, 40)), "s").item()
            rows.append({**row, "id": f"frame-{number}-{attacker}", "author": attacker, "created_at": row["created_at"] + late})
    return pa.concat_tables([posts, pa.Table.from_pylist(rows, schema=POST_SCHEMA)])


def test_attackers_who_take_turns_at_copying_frame_nobody(tmp_path: Path) -> None:
    config = square(None)
    posts = pa.concat_tables(simulate(config))
    truth = ground_truth(config)
    victims = truth.filter(pc.equal(truth["group"], "fandom_1"))["author"].to_pylist()
    attackers = [f"attacker_{number}" for number in range(9)]
    assert labelled(together(posts, victims, attackers), config, tmp_path) <= set(attackers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [72, 73, 74])
@pytest.mark.parametrize("channel", ["repost", "link", "hashtag", "text"])
def test_no_channel_endangers_innocents(tmp_path: Path, channel: Any, seed: int) -> None:
    _, innocents = attack(tmp_path, campaign(channel=channel, text="templated", jitter_s=300), seed=seed)
    assert not innocents


@pytest.mark.parametrize("channel", ["text", "repost"])
def test_a_flood_that_is_a_large_part_of_the_square_is_found_whole(tmp_path: Path, channel: Any) -> None:
    """Most pairs are then the flood's: a search by modularity cuts it up, and some of its members share something in every hour."""
    flood = Campaign(name="flood", num_accounts=250, channel=channel, text="templated", jitter_s=60)
    config = SquareConfig(num_posts=40_000, num_accounts=2_000, seed=SEED, campaigns=(flood,))
    truth = ground_truth(config)
    members = set(truth.filter(truth["is_coordinated"])["author"].to_pylist())
    found = labelled(pa.concat_tables(simulate(config)), config, tmp_path)
    assert len(found & members) >= 0.9 * len(members)
    assert found <= members
