# ruff: noqa: E501 - lists of words
"""Crowds that talk of private matters in ordinary words are withheld; ordinary crowds that share a few of these words are shown."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agora.ads.audiences import SENSITIVE, AudienceConfig, Found, find_audiences
from agora.ads.sensitive import known_languages
from agora.ads.sensitive_groups import is_private_post, matters, private_matter
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from benchmarks.ads_audience import TALK

pytest.importorskip("sklearn")

PRIVATE = {
    "cancer": ("en", "nausea scan infusion bloods radiation nurse wig waiting tired scarf soup strength results"),
    "recovery": ("en", "chip clean sponsor sober coffee honest folding-chair gratitude days newcomer"),
    "faith": ("en", "jesus worship scripture ministry amen blessed disciple youth morning guitar"),
    "gambling": ("en", "casino bailout betting relapse promise wife account lied machines losses"),
    "dialysis": ("fr", "aiguilles branchement greffon fatigue lundi fauteuil attente machine poids liste"),
    "pregnancy": ("en", "trimester midwife ultrasound kicks names cot bump heartburn pillow"),
    "union": ("en", "bargaining grievance dues strike plant floor contract supervisor vote flyers"),
    "pupils": ("en", "detention homework roblox sleepover bus mum lunch teacher friends annoying"),
    "politics": ("en", "borders patriots stolen tyranny ballot country truth wake traitors media"),
    "krebs": ("de", "übelkeit infusion perücke blutwerte schwester sofa tee müdigkeit warten termin"),
    "fe": ("es", "señor alabanza bendecido discípulos amén coro domingo jóvenes gracias palabra"),
    "gravidanza": ("it", "ostetrica ecografia pancione bimbo nomi cuscino culla notti ansie settimane"),
    "jogo": ("pt", "apostas cassino recaída prometi dinheiro esposa perdas madrugada celular"),
}
ORDINARY = {
    "cooking": "recipe oven garlic butter simmer sauce pan onions chip clean steps roast pasta whisk",
    "hiking": "trail summit boots ridge map borders steps valley backpack tent peak stream recover",
    "football": "match goal keeper penalty sponsor strike coach league season striker derby fans stolen",
    "photography": "lens tripod shutter film scan exposure portrait aperture develop grain negatives raw",
    "knitting": "yarn needles stitch wool purl cast borders pattern scarf row gauge sleeve hat",
    "coding": "compiler python bug refactor clean chip commit merge server thread function port types",
    "gardening": "soil tomato seedlings compost prune borders roses mulch harvest weeds bulbs greenhouse",
    "gaming": "strike clean chip boss raid loot quest console level controller speedrun map patch",
}


def crowd(name: str, words: str, language: str, people: int, drawn: random.Random) -> list[dict[str, object]]:
    own, start = words.split(), datetime(2026, 1, 1, tzinfo=timezone.utc)
    return [
        {"id": f"{name}{person}-{number}", "author": f"{name}{person}", "created_at": start + timedelta(minutes=person), "lang": language, "kind": "post", "source": "t",
         "text": f"{' '.join(drawn.sample(own, 2))} {' '.join(drawn.sample(TALK, 3))} my {drawn.choice(own)} {number}"}
        for person in range(people) for number in range(4)
    ]  # fmt: skip


def found_in(folder: Path, crowds: dict[str, tuple[str, str]], seed: int) -> Found:
    drawn = random.Random(seed)
    with PostStore.open(folder / f"posts{seed}", create=True) as store:
        store.append(posts_table([row for name, (language, words) in crowds.items() for row in crowd(name, words, language, 85, drawn)]))
        return find_audiences(store, config=AudienceConfig(seed=seed, voices_per_cluster=85, method="words"))


@pytest.mark.parametrize("seed", [1, 2])
def test_private_crowds_in_ordinary_words_are_never_shown(seed: int, tmp_path: Path) -> None:
    found = found_in(tmp_path, PRIVATE, seed)
    assert not found.audiences and found.withheld.get(SENSITIVE, 0) >= 6


@pytest.mark.parametrize("seed", [1, 2])
def test_ordinary_crowds_with_some_of_these_words_stay_visible(seed: int, tmp_path: Path) -> None:
    found = found_in(tmp_path, {name: ("en", words) for name, words in ORDINARY.items()}, seed)
    assert {member.rstrip("0123456789") for one in found.audiences for member in one.members} >= ORDINARY.keys()
    assert not found.withheld.get(SENSITIVE)


def test_a_private_crowd_among_ordinary_ones_is_withheld_alone(tmp_path: Path) -> None:
    some = {name: ("en", ORDINARY[name]) for name in ("cooking", "football", "coding")}
    found = found_in(tmp_path, {**some, "recovery": PRIVATE["recovery"]}, 5)
    for one in found.audiences:
        assert sum(member.startswith("recovery") for member in one.members) <= len(one.members) / 10
    assert found.audiences and found.withheld.get(SENSITIVE)


def test_one_word_says_nothing_and_several_do() -> None:
    assert private_matter(["scan", "film", "lens"], "en") is None
    assert private_matter(["film", "scan", "nurse", "wig"], "en") == "cancer"
    assert is_private_post(["the", "nurse", "infusion"], "en") and not is_private_post(["strike", "boss", "clean"], "en")
    assert private_matter(["点滴", "看護", "料理"], "ja") == "cancer"


def test_every_matter_has_words_in_every_language_whose_audiences_are_shown() -> None:
    from agora.ads import sensitive_groups

    for matter in matters():
        assert sensitive_groups._tables()[matter].keys() >= known_languages(), matter
