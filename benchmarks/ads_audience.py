# ruff: noqa: E501 - lists of words
"""Do texts for an audience sound like it, and is nobody shown who must not be? Audiences are found in a square of made-up crowds.

python -m benchmarks ads_audience [--quick]

The store holds interests (cycling, baking, gardening, surfing), small talk that all share, and crowds that must stay hidden: too small ones
(12, 30 and 49 authors; a hundred of whom sixty opted out), private matters (illness, faith, politics, a strike, debt, a treatment that
is told without its name), and coordinated groups (200 accounts with one text, 200 with texts of their own, 60 together with 30 people:
one voice each). Crowds of 50 and 51 authors may be hidden or shown with 50, as the noise of the day has it. All are looked for on several
days, by words and, with the extra `minilm`, by meaning.

Twelve products with facts of every kind are written for the three largest interests. The classifier (TF-IDF, logistic regression) learns
on posts that the studio did not see and reads the texts alone. Chance is 33%. The word lists of posts and the facts of products
were written apart. Last, lookalikes: a list of cyclists who say "bike" and a crowd that says "bicycle" and shares no word of it.
"""

from __future__ import annotations

import random
import tempfile
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from agora.ads.audiences import AudienceConfig, Found, find_audiences, lookalikes
from agora.ads.author_vectors import Method
from agora.ads.brief import Brand, Brief, Fact
from agora.ads.copywriting import write_copies
from agora.ads.counts import Counts
from agora.errors import DataError
from agora.integrity.voice import Voices
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.text import minilm
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
    "surfing": ["surf", "wetsuit", "swell", "board", "paddle", "reef", "tide", "barrel", "longboard", "fins", "wax", "offshore"],
    "fifty": ["chess", "knight", "bishop", "rook", "pawn", "gambit", "castling", "endgame", "checkmate", "blitz", "stalemate", "queenside"],
    "fiftyone": ["kite", "spool", "bridle", "spar", "ripstop", "dihedral", "sled", "parafoil", "delta", "swivel", "windsock", "reel"],
    "fortynine": ["knitting", "yarn", "purl", "needlework", "skein", "cable", "ribbing", "gauge", "stitches", "wool", "cardigan", "bobbin"],
    "small": ["abacus", "falconry", "gyrfalcon", "lure", "jesses", "hood", "perch", "mews", "tiercel", "gauntlet"],
    "tiny": ["theremin", "luthier", "hurdygurdy", "zither", "dulcimer", "psaltery", "sackbut", "shawm", "crumhorn", "rebec"],
    "leaving": ["pottery", "kiln", "glaze", "clay", "slip", "throwing", "bisque", "raku", "earthenware", "stoneware", "celadon", "wedging"],
    "illness": ["diabetes", "insulin", "pump", "sensor", "carbs", "needles", "levels", "readings", "doses", "strips", "lancets", "basal", "bolus", "tubing", "spikes", "lows", "highs"],
    "worship": ["parish", "rosary", "psalm", "worship", "prayer", "gospel", "choir", "sermon", "chapel", "hymn", "lent", "communion"],
    "voting": ["ballot", "senator", "congress", "election", "voters", "campaigning", "turnout", "primary", "candidate", "polling", "caucus", "precinct"],
    "strike": ["picket", "grievance", "steward", "bargaining", "dues", "solidarity", "walkout", "contract", "shifts", "overtime", "local", "ratify"],
    "debts": ["debt", "overdraft", "arrears", "bailiff", "creditor", "payday", "repay", "eviction", "rent", "bills", "landlord", "overdue"],
    "treatment": ["scan", "nurse", "wig", "infusion", "bloods", "ward", "drip", "consultant", "scarf", "fatigue", "nausea", "clinic"],
    "campaign": ["zelmar", "tonic", "bargain", "voucher"],
    "brigade": ["quorvex", "gadget", "flashsale", "promo", "unboxing", "warranty", "battery", "charger", "firmware", "dealer", "coupon", "giveaway"],
    "mixed": ["vintage", "vinyl", "turntable", "stylus", "pressing", "sleeve", "crate", "groove", "needledrop", "remaster", "preamp", "tonearm"],
}  # fmt: skip
PEOPLE = {
    "cycling": 160, "baking": 150, "gardening": 140, "surfing": 80, "fifty": 50, "fiftyone": 51, "fortynine": 49, "small": 30, "tiny": 12,
    "leaving": 100, "illness": 150, "worship": 120, "voting": 110, "strike": 90, "debts": 100, "treatment": 90, "campaign": 200, "brigade": 200,
    "mixed": 90,
}  # fmt: skip
ALWAYS = ("cycling", "baking", "gardening", "surfing")
MAYBE = ("fifty", "fiftyone")
NEVER = tuple(name for name in PEOPLE if name not in ALWAYS + MAYBE)
LEFT = 60
"""Of the crowd `leaving`, who opted out."""
BOUGHT = {
    **{f"campaign{number}": "c1" for number in range(200)}, **{f"brigade{number}": "c2" for number in range(200)},
    **{f"mixed{number}": "c3" for number in range(60)},
}  # fmt: skip
SYNONYMS = ["bicycle", "cyclist", "cycling", "biking", "velodrome", "bikes", "bicycles", "cyclists"]
FACTS = {
    "cycling": ["fits every bike", "made for long rides on gravel", "stays clean beside the chain", "light enough for a steep climb", "fits under the saddle", "for your daily commute"],
    "baking": ["keeps bread fresh", "good for sourdough", "wipes off flour and dough", "safe in the oven", "big enough for a loaf", "holds a whole cake"],
    "gardening": ["for the garden", "stands in wet soil", "carries seeds and bulbs", "cuts roses", "useful for compost", "keeps herbs fresh"],
}  # fmt: skip
PRODUCTS = ["Box", "Cloth", "Bag", "Jar", "Lamp", "Knife", "Apron", "Basket", "Brush", "Mat", "Cup", "Shelf"]


def _posts(name: str, people: int, each: int, drawn: random.Random, prefix: str) -> list[dict[str, Any]]:
    return _written(name, INTERESTS[name], people, each, drawn, prefix)


def _written(name: str, words: list[str], people: int, each: int, drawn: random.Random, prefix: str) -> list[dict[str, Any]]:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
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
    drawn = random.Random(5)
    rows = [row for name, people in PEOPLE.items() for row in _posts(name, people, 5 if quick else 8, drawn, "a")]
    methods: list[Method] = ["words", "meaning"] if minilm.is_installed() else ["words"]
    leaks: list[str] = []
    seen: dict[str, list[dict[str, int]]] = {}
    shares: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder) / "posts", create=True) as store:
        store.append(posts_table(rows))
        for method in methods:
            days = [_find(store, method, day) for day in range(1, 2 if quick else 4)]
            seen[method] = [{_of(one.members): one.num_authors for one in found.audiences} for found in days]
            leaks += [f"{method}: {leak}" for found in days for leak in leaked(found)]
            shares[method], samples = _fit(days[0], random.Random(6), quick=quick)
    missing = [f"{method}: {name}" for method in methods for shown in seen[method] for name in ALWAYS if name not in shown]
    reach = {method: _reach(method) for method in methods}
    for method in methods:
        print(f"{method}: {shares[method]:.1%} of texts are for whom a classifier says (bar {BAR:.0%}); shown {seen[method][0]}")
        print(f"{method}: lookalikes of 'bike' hold {reach[method]:.0%} of those who say 'bicycle' and share no word")
    print(
        f"{len(NEVER)} crowds that must never appear, looked for {sum(len(some) for some in seen.values())} times: {len(leaks)} leaks (bar 0)"
    )
    details = {
        "shares": shares, "shown": seen, "leaks": leaks, "missing": missing, "never": {name: PEOPLE[name] for name in NEVER}, "chance": 1 / 3,
        "bar": BAR, "synonyms_reached": reach, "samples": samples[:6],
    }  # fmt: skip
    worst = min(shares.values())
    return Result(value=worst, holds=worst >= BAR and not leaks and not missing, details=details)


def _find(store: PostStore, method: Method, day: int) -> Found:
    gone = {f"leaving{number}" for number in range(LEFT)}
    config = AudienceConfig(seed=day, method=method, num_clusters=len(PEOPLE) + 2)
    return find_audiences(store, Voices(BOUGHT), config=config, opted_out=gone, counts=Counts(b"benchmark", date(2026, 1, day)))


def leaked(found: Found) -> list[str]:
    """What is shown of crowds that must stay hidden: audiences that are mostly theirs, their words, and counts above the truth."""
    leaks = [f"audience {one.label} is of {_of(one.members)}" for one in found.audiences if _of(one.members) in NEVER]
    hidden = {word: name for name in NEVER for word in INTERESTS[name]}
    leaks += [f"{term} of {hidden[term]}" for one in found.audiences for term in (*one.terms, *one.names) if term in hidden]
    return leaks + [
        f"{one.label}: {one.num_authors} of {len(one.members)}" for one in found.audiences if not 50 <= one.num_authors <= len(one.members)
    ]


def _fit(found: Found, drawn: random.Random, *, quick: bool) -> tuple[float, list[str]]:
    """The share of texts whose audience the classifier picks, and some of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    others = {name: _posts(name, 40 if quick else 120, 6, drawn, "b") for name in FACTS}
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=500))
    classifier.fit([row["text"] for name in others for row in others[name]], [name for name in others for _ in others[name]])
    right, samples = [], []
    for brief in _briefs(drawn):
        for audience in (one for one in found.audiences if _of(one.members) in FACTS):
            for copy in write_copies(brief, audience, num_variants=1 if quick else 3, seed=3):
                guess = classifier.predict([f"{copy.headline} {copy.primary_text}"])[0]
                right.append(guess == _of(audience.members))
                samples.append(f"{_of(audience.members)}: {copy.headline} / {copy.primary_text}")
    return sum(right) / max(1, len(right)), samples


def _reach(method: Method) -> float:
    """Of 70 authors who say `SYNONYMS`, the share among as many lookalikes of cyclists who use none of these words."""
    drawn = random.Random(7)
    crowds = [row for name in ("cycling", "baking", "gardening") for row in _posts(name, 70, 4, drawn, "r")]
    crowds += _written("wheelers", SYNONYMS, 70, 4, drawn, "r")
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder) / "posts", create=True) as store:
        store.append(posts_table(crowds))
        seeds = [f"cycling{number}" for number in range(70)]
        try:
            found = lookalikes(store, seeds, size=70, config=AudienceConfig(method=method), counts=Counts(b"benchmark", date(2026, 1, 1)))
        except DataError:
            return 0.0  # nobody is like the list
    return sum(member.startswith("wheelers") for member in found.members) / 70


def _of(members: tuple[str, ...]) -> str:
    """The crowd that most members belong to."""
    names = [member.rstrip("0123456789") for member in members]
    return max(sorted(set(names)), key=names.count) if names else ""


BENCHMARK = Benchmark(
    measures="variants whose audience (of three) a classifier picks; 13 planted small, private and bought crowds stay hidden", unit="share right",
    bound=">= 0.60, none of the planted ones shown", run=_run,
)  # fmt: skip
