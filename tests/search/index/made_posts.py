"""Posts for the tests of the index: few accounts, few words, many ways to refer to each other."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from agora.posts.schema import posts_table

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
NOW = START + timedelta(days=3)
ACCOUNTS = ("ada", "Bob", "çelik", "did:plc:x1", "eve")
WORDS = (
    "vote",
    "brexit",
    "Caffè",
    "state-of-the-art",
    "東京都",
    "京",
    "don't",
    "#Vote",
    "@ada",
    "$ACME",
    "🎉",
    "https://www.example.org/News?a=1",
    "a",
)
LANGUAGES = ("en", "en-GB", "pt_BR", None)


def some_posts(count: int, seed: int = 0, *, first: int = 0) -> list[dict[str, Any]]:
    """Random posts; the references may point forward, to nothing, and in circles."""
    rng = random.Random(f"{seed} {first}")
    posts = []
    for number in range(first, first + count):
        kind = rng.choice(["post", "post", "reply", "reply", "repost", "quote"])
        target = rng.randrange(first + count + 3)
        posts.append(
            {
                "id": f"p{number}",
                "author": rng.choice(ACCOUNTS),
                "created_at": START + timedelta(minutes=rng.randrange(4000)),
                "text": " ".join(rng.choice(WORDS) for _ in range(rng.randrange(0, 9))),
                "lang": rng.choice(LANGUAGES),
                "kind": kind,
                "ref_id": f"p{target}" if kind != "post" else None,
                "ref_author": rng.choice(ACCOUNTS) if kind != "post" else None,
                "urls": rng.choice([[], [], ["https://news.example.com/two/three"]]),
                "hashtags": rng.choice([[], ["Brexit"], ["New York"]]),
                "mentions": rng.choice([[], ["Eve"]]),
                "media": rng.choice(
                    [[], [{"kind": "image", "url": "https://x/y", "alt": None}], [{"kind": "link", "url": "u", "alt": None}]]
                ),
                "source": "test",
            }
        )
    return posts


def table(posts: list[dict[str, Any]]) -> pa.Table:
    return posts_table(posts)
