"""How many new posts per second are held against thousands of saved searches, beside asking every search of every post.

python -m benchmarks search_alerts [--quick] [--searches 5000] [--posts 20000]

Posts come from the simulated square. Searches are made of words that its posts hold: two words, a word or another, a phrase, a word of an
author, a tag, a word without another. One in fifty (`lang:`, exclusions alone) can only be asked every time. On a part of the posts
every search is asked, which gives the speed without filing and checks that nothing is missed.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

from benchmarks.registry import Benchmark, Result, whole_number

MIN_POSTS_PER_S: Final = 500.0
"""What the freshness bar of search ingests."""
_TWIN_POSTS: Final = 30


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.simulate import SquareConfig, simulate
    from agora.search.percolate import Percolator, required_keys
    from agora.search.query.matching import MatchContext, matches

    num_posts = whole_number(options, "posts", 4_000 if quick else 20_000, at_least=3_200)
    num_searches = whole_number(options, "searches", 5_000, at_least=1)
    config = SquareConfig(num_posts=num_posts, num_accounts=max(1_000, num_posts // 20), seed=11)
    posts = [post for table in simulate(config) for post in table.to_pylist()]
    searches = _searches(posts, num_searches)
    context = MatchContext()
    started = time.perf_counter()
    percolator = Percolator(searches)
    filed_s = time.perf_counter() - started
    started = time.perf_counter()
    found = [percolator.queries_of(post, context) for post in posts]
    wall_s = time.perf_counter() - started
    some = range(0, len(posts), max(1, len(posts) // _TWIN_POSTS))
    started = time.perf_counter()
    slow = [sorted(name for name, node in searches.items() if matches(node, posts[place], context)) for place in some]
    slow_s = time.perf_counter() - started
    agree = slow == [found[place] for place in some]
    rate = len(posts) / wall_s
    details: dict[str, Any] = {
        "posts": len(posts), "searches": len(searches), "asked_every_time": sum(required_keys(node) is None for node in searches.values()),
        "alerts": sum(map(len, found)), "filing_s": round(filed_s, 2), "posts_per_s": round(rate),
        "posts_per_s_without_filing": round(len(some) / slow_s, 1), "agrees_with_asking_all": agree,
    }  # fmt: skip
    return Result(value=rate, holds=agree and rate >= MIN_POSTS_PER_S, details=details)


def _searches(posts: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """Queries by name, about what the posts say."""
    from agora.search.query.parse import parse

    chance = random.Random(5)
    found: dict[str, Any] = {}
    while len(found) < count:
        post = chance.choice(posts)
        said = [word for word in post["text"].lower().split() if word.isalpha() and len(word) > 4]
        if len(said) < 3:
            continue
        one, two, three = chance.sample(said, 3)
        tags = [f"#{tag}" for tag in post["hashtags"]] or [one]
        forms = [
            f"{one} {two}", f"({one} OR {two}) {three}", f'"{said[0]} {said[1]} {said[2]}"', f"from:{post['author']} {one}",
            f"{tags[0]} {two}", f"{one} {two} -{three}",
        ]  # fmt: skip
        query = f"-{one} lang:xx" if len(found) % 50 == 0 else chance.choice(forms)
        found[f"s{len(found)}"] = parse(query).root
    return found


BENCHMARK = Benchmark(
    measures="new posts held against 5,000 saved searches, on one core", unit="posts/s", bound=">= 500", run=_run,
    options=("searches", "posts"),
)  # fmt: skip
