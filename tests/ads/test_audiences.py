# ruff: noqa: E501 - lists of words
"""Audiences: what is shown, and what never is."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agora.ads import author_vectors
from agora.ads.audiences import SENSITIVE, TOO_SMALL, AudienceConfig, find_audiences, lookalikes
from agora.ads.author_words import read_author_words
from agora.ads.counts import Counts, workspace_counts
from agora.ads.opt_outs import read_opt_outs
from agora.errors import ConfigError, DataError, MissingExtraError, UsageError
from agora.integrity.voice import Voices
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.text import minilm
from benchmarks.ads_audience import BOUGHT as BRIGADES
from benchmarks.ads_audience import INTERESTS, LEFT, PEOPLE, SYNONYMS, _posts, _written, leaked

pytest.importorskip("sklearn")
SQUARE = ("cycling", "baking", "gardening", "small", "illness", "campaign")


@pytest.fixture(scope="module", autouse=True)
def by_words() -> Iterator[None]:
    """As without the extra: loading MiniLM takes longer than all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minilm, "is_installed", lambda: False)
        yield


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> PostStore:
    """Three crowds, a group of 30, a crowd about an illness, a campaign of 200 accounts."""
    drawn = random.Random(2)
    store = PostStore.open(tmp_path_factory.mktemp("square") / "posts", create=True)
    store.append(posts_table([row for name in SQUARE for row in _posts(name, PEOPLE[name], 5, drawn, "t")]))
    store.close()
    return store


BOUGHT = Voices({f"campaign{number}": "c1" for number in range(PEOPLE["campaign"])})


@pytest.fixture(scope="module")
def shown(square: PostStore) -> Any:
    """What the square shows when the campaign is known."""
    return find_audiences(square, BOUGHT)


def everything_shown(found: Any) -> str:
    return json.dumps([one.record() for one in found.audiences])


def test_interests_are_found_and_small_ill_and_bought_crowds_are_not(shown: Any) -> None:
    found = shown
    crowds = [{member.rstrip("0123456789") for member in one.members} for one in found.audiences]
    assert sorted(name for crowd in crowds for name in crowd) == ["baking", "cycling", "gardening"]
    for hidden in ("small", "illness", "campaign"):
        assert not any(word in everything_shown(found) for word in INTERESTS[hidden])
    assert found.withheld.get(SENSITIVE) and found.withheld.get(TOO_SMALL)


def test_counts_are_rounded_down_to_tens_and_no_record_names_members(shown: Any) -> None:
    for one in shown.audiences:
        assert one.num_authors % 10 == 0 and 50 <= one.num_authors <= len(one.members) + 9
        assert "members" not in one.record() and one.members[0] not in repr(one)


def test_accounts_that_act_as_one_make_no_audience_however_many_they_are(square: PostStore, shown: Any) -> None:
    free = find_audiences(square, Voices())
    assert "zelmar" in everything_shown(free)  # 200 accounts without a label are a crowd
    assert "zelmar" not in everything_shown(shown)


def test_who_opts_out_is_in_no_audience(square: PostStore) -> None:
    gone = {f"cycling{number}" for number in range(0, 160, 2)}
    found = find_audiences(square, BOUGHT, opted_out=gone)
    assert not any(gone & set(one.members) for one in found.audiences)
    everybody = {f"cycling{number}" for number in range(115)}
    assert "bike" not in everything_shown(find_audiences(square, BOUGHT, opted_out=everybody))


def test_opt_outs_are_read_as_people_write_them_and_a_file_adds_to_the_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ads").mkdir()
    kept = "\ufeff# who asked\n@cycling1\nCYCLING2\n  cycling3 # by mail\n\n#cycling4\n@Nobody\n"
    (tmp_path / "ads" / "opt_outs.txt").write_text(kept, encoding="utf-8")
    (tmp_path / "more.txt").write_text("@@Cycling5\nnobody\nCYCLING2\nsomeone\n")
    square = PostStore.open(tmp_path / "posts", create=True)
    square.append(posts_table(_posts("cycling", 6, 2, random.Random(1), "t")))
    accounts = read_opt_outs(tmp_path, tmp_path / "more.txt")
    written = read_author_words(square, opted_out=accounts)
    gone = {f"cycling{number}" for number in (1, 2, 3, 5)}
    assert read_author_words(square).authors.keys() - written.authors.keys() == gone
    assert written.num_unknown_opt_outs == 2
    find_audiences(square, BOUGHT, opted_out=accounts)
    assert "2 of 6 accounts that opted out match no author" in caplog.text
    with pytest.raises(UsageError, match=r"none\.txt"):
        read_opt_outs(tmp_path, tmp_path / "none.txt")


def test_the_same_posts_and_seed_give_the_same_audiences(square: PostStore, shown: Any) -> None:
    assert find_audiences(square, BOUGHT) == shown


def test_lookalikes_write_like_the_list_and_are_not_of_it(square: PostStore) -> None:
    seeds = [f"baking{number}" for number in range(60)]
    found = lookalikes(square, seeds, BOUGHT, size=70)
    assert found.is_lookalike and not set(seeds) & set(found.members)
    assert all(member.startswith("baking") for member in found.members)


def test_a_campaign_on_the_list_is_one_voice_of_it(square: PostStore) -> None:
    bought = Voices({f"cycling{number}": "c2" for number in range(100)})
    seeds = [f"baking{number}" for number in range(70)] + sorted(bought.accounts)
    assert {member.rstrip("0123456789") for member in lookalikes(square, seeds, bought, size=70).members} == {"baking"}
    with pytest.raises(DataError, match="the list is about a sensitive topic"):
        lookalikes(square, [f"illness{number}" for number in range(80)] + sorted(BOUGHT.accounts), BOUGHT)


class Synonyms:
    """Vectors in which bike and bicycle words are near each other and far from bread."""

    def vectors(self, words: pa.Array) -> np.ndarray:
        return np.array([[1.0, 0.1] if word in SYNONYMS or word in INTERESTS["cycling"] else [0.0, 1.0] for word in words.to_pylist()])


def test_lookalikes_by_meaning_share_no_word_with_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(7)
    rows = [row for name in ("cycling", "baking") for row in _posts(name, 64, 3, drawn, "m")]
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows + _written("wheelers", SYNONYMS, 64, 3, drawn, "m")))
        seeds, counts = [f"cycling{number}" for number in range(64)], Counts(b"secret", date(2026, 1, 1))
        with pytest.raises(DataError, match="fewer voices than allowed"):  # all that is shared is small talk
            lookalikes(store, seeds, config=AudienceConfig(method="words"), counts=counts)
        with pytest.raises(MissingExtraError, match="minilm"):
            lookalikes(store, seeds, config=AudienceConfig(method="meaning"))
        monkeypatch.setattr(minilm, "is_installed", lambda: True)
        monkeypatch.setattr(author_vectors, "_model", Synonyms)
        found = lookalikes(store, seeds, config=AudienceConfig(method="meaning"), counts=counts)
    assert {member.rstrip("0123456789") for member in found.members} == {"wheelers"} and len(found.members) == 64


@pytest.mark.parametrize(("people", "days"), [(49, 0), (50, 6), (51, 8), (59, 27), (60, 28)])
def test_a_crowd_is_shown_with_fifty_voices_and_the_noise_of_the_day(people: int, days: int) -> None:
    shown = sum(Counts(b"secret", date(2026, 1, day)).seen(people, "crowd") >= 50 for day in range(1, 29))
    assert shown == days


def test_the_crowds_that_the_benchmark_hides_never_appear(tmp_path: Path) -> None:
    drawn = random.Random(5)
    hidden = ("fortynine", "leaving", "treatment", "mixed")
    with PostStore.open(tmp_path / "posts", create=True) as store:
        rows = [row for name in hidden for row in _posts(name, PEOPLE[name], 3, drawn, "n")]
        store.append(posts_table(rows + _posts("surfing", PEOPLE["surfing"], 6, drawn, "n")))
        gone = {f"leaving{number}" for number in range(LEFT)}
        config = AudienceConfig(num_clusters=len(hidden) + 2)
        found = find_audiences(store, Voices(BRIGADES), config=config, opted_out=gone, counts=Counts(b"secret", date(2026, 1, 1)))
    assert leaked(found) == []
    assert any(member.startswith("surfing") for one in found.audiences for member in one.members)


def test_a_short_list_and_a_list_about_an_illness_give_no_lookalikes(square: PostStore) -> None:
    with pytest.raises(UsageError, match="fewer than 50"):
        lookalikes(square, [f"baking{number}" for number in range(20)], BOUGHT)
    with pytest.raises(DataError, match="sensitive"):
        lookalikes(square, [f"illness{number}" for number in range(80)], BOUGHT)


def test_the_least_size_cannot_be_set_to_nearly_nobody() -> None:
    for number in (3, 10, 49):
        with pytest.raises(ConfigError, match=f"min_voices={number}"):
            AudienceConfig(min_voices=number)
    for name, value in (("sensitive_share", 0.5), ("sensitive_share", float("nan")), ("num_terms", -1), ("posts_per_author", 0)):
        with pytest.raises(ConfigError, match=rf"ads\.{name}={value} "):
            AudienceConfig(**{name: value})


def test_counts_have_a_noise_of_the_day_that_never_makes_them_larger(tmp_path: Path) -> None:
    first = workspace_counts(tmp_path)
    assert workspace_counts(tmp_path).secret == first.secret and (tmp_path / "ads" / "count_noise.key").stat().st_mode & 0o77 == 0
    counts = Counts(b"secret", date(2026, 1, 1))
    assert all(70 <= counts.seen(83, f"group{at}") <= 80 and counts.seen(83, f"group{at}") % 10 == 0 for at in range(50))
    edges = {next(count for count in range(100) if counts.seen(count, f"group{at}") == 50) for at in range(50)}
    assert len(edges) > 5 and min(edges) >= 50 and max(edges) <= 60  # where a group begins to be shown is not known
    assert len({Counts(b"secret", date(2026, 1, day)).seen(84, "group") for day in range(1, 29)}) == 2


def test_a_word_that_only_a_few_use_is_never_a_term(tmp_path: Path) -> None:
    rows = [
        {"id": f"{author}-{number}", "author": f"a{author}", "created_at": "2026-01-01T00:00:00Z", "lang": "en", "kind": "post", "source": "t",
         "text": f"the harbour lights and boats {number} {'quixotry' if author < 30 else 'evening'}"}
        for author in range(90) for number in range(3)
    ]  # fmt: skip
    from datetime import datetime, timezone

    for row in rows:
        row["created_at"] = datetime(2026, 1, 1, tzinfo=timezone.utc)
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows))
        assert "quixotry" not in everything_shown(find_audiences(store, config=AudienceConfig(num_clusters=1)))


JARGON = {
    "fertility": ("en", "follicles transfer embryo beta retrieval tww clinic trigger lining blastocyst stims fertility"),
    "recovery": ("en", "sponsor meetings sober days chip relapse steps fellowship cravings detox recovery rehab"),
    "transition": ("en", "drag closet pronouns hrt binder dysphoria ballroom coming-out pride egg deadname"),
    "faith": ("en", "sabbath kosher shul rabbi minyan torah shabbat mitzvah seder challah kippah psalm"),
    "kidneys": ("de", "dialyse schwester werte kreatinin niere spender station shunt termin nephro phosphat"),
    "strike": ("fr", "grève syndicat piquet cortège délégué manif cgt tract négociation préavis lutte"),
}


@pytest.mark.parametrize(("topic", "seed"), [(topic, seed) for seed, topic in enumerate(JARGON, start=11)])
def test_crowds_that_speak_of_private_things_in_their_own_words_never_appear(
    topic: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    language, words = JARGON[topic]
    monkeypatch.setitem(INTERESTS, topic, words.split())
    drawn = random.Random(seed)
    rows = [row for name in ("cycling", topic) for row in _posts(name, 70, 3, drawn, "j")]
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table([row | ({"lang": language} if row["author"].startswith(topic) else {}) for row in rows]))
        found = find_audiences(store, Voices(), config=AudienceConfig(seed=seed))
    assert not any(word in everything_shown(found) for word in words.split() if len(word) > 4)
    for one in found.audiences:  # one of them may be in a crowd of cyclists; no crowd is theirs
        assert sum(member.startswith(topic) for member in one.members) <= len(one.members) / 10
