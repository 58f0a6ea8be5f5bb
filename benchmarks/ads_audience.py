# ruff: noqa: E501 - lists of words
"""Do texts for an audience sound like it? Audiences are found in a square of small interests; a classifier guesses for whom a text is.

python -m benchmarks ads_audience [--quick]

The store holds three crowds (cycling, baking, gardening), small talk that all share, a group of 30 authors, a crowd about an illness and a
campaign of 200 accounts with one text; the last three must never become an audience. Twelve products with facts of every kind are
written for each audience. The classifier (TF-IDF, logistic regression) learns on posts that the studio did not see and reads the
texts alone. Chance is 33%. The word lists of posts and the facts of products were written apart.
"""

from __future__ import annotations

import random
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from agora.ads.audiences import AudienceConfig, find_audiences
from agora.ads.brief import Brand, Brief, Fact
from agora.ads.copywriting import write_copies
from agora.integrity.voice import Voices
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from benchmarks.registry import Benchmark, Result

BAR = 0.60
TALK = [
    "today",
    "morning",
    "weekend",
    "finally",
    "maybe",
    "friends",
    "people",
    "little",
    "great",
    "week",
    "home",
    "time",
    "again",
    "still",
    "long",
    "little",
    "rain",
    "sun",
    "coffee",
    "street",
    "house",
]
INTERESTS = {
    "cycling": ["bike", "ride", "saddle", "pedal", "gravel", "climb", "chain", "gears", "tyres", "helmet", "sprint", "peloton", "route", "cadence", "wheels", "brakes", "commute", "trail", "handlebar", "puncture"],
    "baking": ["bread", "dough", "sourdough", "oven", "flour", "yeast", "loaf", "crust", "bake", "knead", "starter", "butter", "recipe", "cake", "pastry", "rye", "whisk", "proofing", "crumb", "batter"],
    "gardening": ["garden", "seeds", "tomato", "soil", "compost", "prune", "roses", "bloom", "watering", "shovel", "seedlings", "mulch", "beds", "harvest", "greenhouse", "weeds", "sprouts", "bulbs", "lawn", "herbs"],
    "small": ["abacus", "falconry", "gyrfalcon", "lure", "jesses", "hood", "perch", "mews", "tiercel", "gauntlet"],
    "illness": ["diabetes", "insulin", "pump", "sensor", "carbs", "needles", "levels", "readings", "doses", "strips", "lancets", "basal", "bolus", "tubing", "spikes", "lows", "highs"],
    "campaign": ["zelmar", "tonic", "bargain", "voucher"],
}  # fmt: skip
PEOPLE = {"cycling": 160, "baking": 150, "gardening": 140, "small": 30, "illness": 150, "campaign": 200}
FACTS = {
    "cycling": ["fits every bike", "made for long rides on gravel", "stays clean beside the chain", "light enough for a steep climb", "fits under the saddle", "for your daily commute"],
    "baking": ["keeps bread fresh", "good for sourdough", "wipes off flour and dough", "safe in the oven", "big enough for a loaf", "holds a whole cake"],
    "gardening": ["for the garden", "stands in wet soil", "carries seeds and bulbs", "cuts roses", "useful for compost", "keeps herbs fresh"],
}  # fmt: skip
PRODUCTS = ["Box", "Cloth", "Bag", "Jar", "Lamp", "Knife", "Apron", "Basket", "Brush", "Mat", "Cup", "Shelf"]


def _posts(name: str, people: int, each: int, drawn: random.Random, prefix: str) -> list[dict[str, Any]]:
    words, start = INTERESTS[name], datetime(2026, 1, 1, tzinfo=timezone.utc)
    rows: list[dict[str, Any]] = []
    for person in range(people):
        for number in range(each):
            if name == "campaign":
                text = f"the {' '.join(words)} is here and you can get it now {number}"
            else:
                text = (
                    f"the {' '.join(drawn.sample(words, 3))} and {' '.join(drawn.sample(TALK, 4))} with my {drawn.choice(words)} {number}"
                )
            at = start + timedelta(minutes=len(rows))
            rows.append({"id": f"{prefix}{name}{person}-{number}", "author": f"{name}{person}", "created_at": at, "text": text, "lang": "en", "kind": "post", "source": "written"})  # fmt: skip
    return rows


def _briefs(drawn: random.Random) -> list[Brief]:
    briefs = []
    for product in PRODUCTS:
        texts = [fact for some in FACTS.values() for fact in drawn.sample(some, 3)]
        facts = tuple(Fact(id=f"fact{at}", text=text, source=f"brief:{at}", language="en") for at, text in enumerate(texts))
        briefs.append(
            Brief(product=f"Osk {product}", brand=Brand(name="Osk"), facts=facts, landing_page="https://osk.example", languages=("en",))
        )
    return briefs


def _run(quick: bool, options: dict[str, str]) -> Result:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    drawn = random.Random(5)
    rows = [row for name, people in PEOPLE.items() for row in _posts(name, people, 8, drawn, "a")]
    speakers = Voices({f"campaign{number}": "c1" for number in range(PEOPLE["campaign"])})
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder) / "posts", create=True) as store:
        store.append(posts_table(rows))
        found = find_audiences(store, speakers, config=AudienceConfig(seed=1))
    shown = {one.id: _of(one.members) for one in found.audiences}
    leaked = [one.label for one in found.audiences if _of(one.members) in ("small", "illness", "campaign")]
    leaked += [
        term
        for one in found.audiences
        for term in (*one.terms, *one.names)
        for name in ("small", "illness", "campaign")
        if term in INTERESTS[name]
    ]
    others = {name: _posts(name, 40 if quick else 120, 6, drawn, "b") for name in FACTS}
    texts = [row["text"] for name in others for row in others[name]]
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=500))
    classifier.fit(texts, [name for name in others for _ in others[name]])
    right = total = 0
    samples = []
    for brief in _briefs(drawn):
        for audience in found.audiences:
            for copy in write_copies(brief, audience, num_variants=1 if quick else 3, seed=3):
                guess = classifier.predict([f"{copy.headline} {copy.primary_text}"])[0]
                right, total = right + int(guess == shown[audience.id]), total + 1
                samples.append(f"{shown[audience.id]}: {copy.headline} / {copy.primary_text}")
    share = right / max(1, total)
    kinds = sorted(set(shown.values()))
    details = {
        "audiences": [one.record() for one in found.audiences], "withheld": found.withheld, "variants": total, "right": right, "chance": 1 / 3,
        "bar": BAR, "never_to_be_shown_but_shown": leaked, "samples": samples[:6],
    }  # fmt: skip
    return Result(value=share, holds=share >= BAR and not leaked and kinds == sorted(FACTS), details=details)


def _of(members: tuple[str, ...]) -> str:
    """The crowd that most members belong to."""
    names = [member.rstrip("0123456789") for member in members]
    return max(sorted(set(names)), key=names.count) if names else ""


BENCHMARK = Benchmark(
    measures="variants whose audience (of three) a classifier picks; planted small, ill and bought crowds stay hidden", unit="share right",
    bound=">= 0.60, none of the planted ones shown", run=_run,
)  # fmt: skip
