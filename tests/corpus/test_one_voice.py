"""Coordinated accounts in the corpus: N accounts get the room of one, whatever they do."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.corpus.build import build_corpus
from agora.corpus.config import CorpusConfig
from agora.corpus.document_files import document_files
from agora.corpus.duplicates import PostKeys, earliest_first
from agora.corpus.one_voice import drop_coordinated
from agora.corpus.steps import KEPT, STEP_NUMBER
from agora.integrity.voice import Voices
from agora.posts.simulate import Campaign, SquareConfig, ground_truth, simulate
from agora.posts.square.config import TextMode
from agora.text.minhash import Shingles, hash_strings
from agora.tokenizer import Tokenizer

Save = Callable[..., Path]
CONFIG = CorpusConfig(heldout_share=0.0, keep_dropped=True)
NO_SHINGLES = Shingles(np.empty(0, dtype=np.uint32), np.zeros(1, dtype=np.int64))


def post(number: int, author: str, text: str, **fields: Any) -> dict[str, Any]:
    created_at = 1_772_000_000_000_000 + number * 60_000_000
    return {"id": f"p{number}", "author": author, "created_at": created_at, "text": text, "kind": "post", "source": "test", **fields}


def own_words(account: int, number: int) -> str:
    """A text that is like no other."""
    rng = np.random.default_rng([account, number])
    return " ".join("".join(chr(97 + letter) for letter in rng.integers(26, size=6)) for _ in range(9))


def members(count: int, campaign: str = "c") -> Voices:
    return Voices({f"m{number}": campaign for number in range(count)})


def reasons(out: Path) -> dict[str, str]:
    dropped = pq.read_table(out / "dropped.parquet") if (out / "dropped.parquet").exists() else pa.table({"id": [], "reason": []})
    return dict(zip(dropped["id"].to_pylist(), dropped["reason"].to_pylist(), strict=True))


def kept_posts(out: Path) -> list[str]:
    return [post_id for file, _ in document_files(out) for ids in pq.read_table(file)["post_ids"].to_pylist() for post_id in ids]


def test_without_labels_the_corpus_is_bit_for_bit_what_it_was(save: Save, tmp_path: Path) -> None:
    posts = [post(number, f"m{number % 5}", own_words(0, number % 17)) for number in range(40)]
    plain = build_corpus([save(posts)], tmp_path / "plain", CONFIG)
    assert plain.content_hash == "39b672f69ca3342853897d2ea21ba6308c754701a3425f775a4a1b3feb0b764d"  # made before there were labels
    assert plain.coordination == {}
    keeping = replace(CONFIG, coordinated="keep")
    for name, voices, config in (
        ("empty", Voices(), CONFIG), ("others", Voices({"somebody": "c"}), CONFIG), ("keep", members(5), keeping),
        ("posts", Voices({}, frozenset({"p3"})), CONFIG),
    ):  # fmt: skip
        card = build_corpus([save(posts)], tmp_path / name, config, voices=voices)
        assert card.content_hash == plain.content_hash, name
        assert card.dropped == plain.dropped, name
    assert (tmp_path / "empty" / "data_card.json").read_bytes() == (tmp_path / "plain" / "data_card.json").read_bytes()


def test_what_all_say_stays_once_and_of_what_each_says_alone_an_nth_stays(save: Save, tmp_path: Path) -> None:
    posts = [
        post(number, f"m{number}", "The tram line to the harbour must be closed now, all of us say so" + "!" * number)
        for number in range(10)
    ]
    posts += [post(100 + number, f"m{number % 10}", own_words(1, number)) for number in range(200)]
    posts += [post(400 + number, f"ordinary{number}", own_words(2, number)) for number in range(30)]
    card = build_corpus([save(posts)], tmp_path / "out", CONFIG, voices=members(10))
    found = reasons(tmp_path / "out")
    assert Counter(found.values()) == {"coordinated_copy": 9, "one_voice": 180}
    assert "p0" in kept_posts(tmp_path / "out")
    assert card.coordination == {
        "labels_sha256": members(10).sha256, "labelled_accounts": 10, "labelled_posts": 0, "accounts": 10, "voices": 1,
        "posts": 210, "kept": 21,
    }  # fmt: skip
    markdown = (tmp_path / "out" / "data_card.md").read_text()
    assert "## Coordinated accounts" in markdown
    assert "| labelled accounts | 10 |" in markdown


def test_the_same_posts_and_labels_give_the_same_documents_in_any_order_of_input(save: Save, tmp_path: Path) -> None:
    posts = [post(number, f"m{number % 12}", own_words(7, number % 70)) for number in range(150)]
    posts += [post(200 + number, f"x{number % 9}", own_words(8, number), kind="reply", ref_id=f"p{number}") for number in range(60)]
    config = replace(CONFIG, heldout_share=0.3, posts_per_file=40)
    card = build_corpus([save(posts)], tmp_path / "one", config, voices=members(10))
    parts = [save(posts[place::3], f"{place}.parquet") for place in (2, 0, 1)]
    again = build_corpus(parts, tmp_path / "two", config, voices=members(10))
    assert card.dropped["one_voice"] > 0
    assert replace(card, fingerprint=None) == replace(again, fingerprint=None)


def test_a_campaign_cannot_take_the_words_from_those_who_say_them_for_themselves(save: Save, tmp_path: Path) -> None:
    """Each of 40 texts is first said by one member, then by an ordinary account."""
    posts = [post(number, f"m{number % 20}", own_words(3, number)) for number in range(40)]
    posts += [post(100 + number, f"ordinary{number}", own_words(3, number)) for number in range(40)]
    build_corpus([save(posts)], tmp_path / "out", CONFIG, voices=members(20))
    kept = kept_posts(tmp_path / "out")
    assert len(kept) == 40
    assert sum(int(name[1:]) >= 100 for name in kept) == 38
    build_corpus([save(posts)], tmp_path / "out", replace(CONFIG, coordinated="leave_out"), voices=members(20))
    assert sorted(kept_posts(tmp_path / "out")) == sorted(f"p{100 + number}" for number in range(40))


def test_labelled_accounts_and_posts_can_be_left_out(save: Save, tmp_path: Path) -> None:
    posts = [post(number, f"m{number}", own_words(4, number)) for number in range(6)]
    voices = Voices({"m1": "c", "m2": "c"}, frozenset({"p2", "p4"}))
    card = build_corpus([save(posts)], tmp_path / "out", replace(CONFIG, coordinated="leave_out"), voices=voices)
    assert reasons(tmp_path / "out") == dict.fromkeys(("p1", "p2", "p4"), "coordinated")
    assert (card.coordination["accounts"], card.coordination["voices"], card.coordination["posts"], card.coordination["kept"]) == (
        3,
        1,
        3,
        0,
    )


def test_books_and_near_copies_of_other_campaigns_are_not_touched(save: Save, tmp_path: Path) -> None:
    texts = tmp_path / "books.parquet"
    pq.write_table(
        pa.table({"text": [own_words(5, number) for number in range(5)], "author": [f"m{number}" for number in range(5)]}), texts
    )
    said = "The tram line to the harbour must be closed now, all of us say so"
    posts = [post(1, "m1", said), post(2, "n1", said)]
    voices = Voices({**members(5).accounts, "n1": "d", "n2": "d"})
    card = build_corpus([save(posts)], tmp_path / "out", CONFIG, extra_texts=[texts], voices=voices)
    assert card.kept == 6
    assert reasons(tmp_path / "out") == {"p2": "exact_duplicate"}


def test_other_labels_build_anew_and_equal_ones_do_not(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = save([post(number, f"m{number % 9}", own_words(6, number)) for number in range(50)])
    first = build_corpus([posts], tmp_path / "out", CONFIG, voices=members(9))
    second = build_corpus([posts], tmp_path / "out", CONFIG, voices=members(4))
    assert second.kept > first.kept
    assert build_corpus([posts], tmp_path / "out", CONFIG).kept == 50
    again = build_corpus([posts], tmp_path / "out", CONFIG, voices=members(9))
    assert again == first
    monkeypatch.setattr("agora.corpus.build._Build", None)
    assert build_corpus([posts], tmp_path / "out", CONFIG, voices=Voices(dict(reversed(members(9).accounts.items())))) == first


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), max_size=60), st.integers(0, 5), st.randoms())
def test_a_campaign_keeps_the_writing_of_its_average_account(said: list[tuple[int, int]], seed: int, random: Any) -> None:
    """Twin in plain Python: the sum over texts of (accounts that said it) / (accounts), rounded up, whatever the order of the input.
    Accounts 0-4 are one campaign, 5-7 another, the others ordinary."""
    voices = Voices({f"a{number}": "first" if number < 5 else "second" for number in range(8)})

    def kept(rows: list[tuple[int, tuple[int, int]]]) -> list[int]:
        size = len(rows)
        number = np.array([row[0] for row in rows], dtype=np.int64)
        authors = hash_strings(pa.array([f"a{account}" for _, (account, _) in rows], pa.large_string()))
        text = np.array([row[1][1] for row in rows], dtype=np.uint64)
        zeros = np.zeros(size, dtype=np.uint64)
        keys = PostKeys(number + 1, number.astype(np.uint64), authors, zeros, text, text, np.zeros((size, 1), dtype=np.uint64),
                        zeros.astype(np.uint32), zeros.astype(np.bool_), zeros.astype(np.uint8))  # fmt: skip
        config = CorpusConfig(near_duplicates=False, seed=seed)
        drop_coordinated(keys, earliest_first(keys), voices, config, lambda posts: NO_SHINGLES)
        assert set(keys.reason.tolist()) <= {KEPT, STEP_NUMBER["coordinated_copy"], STEP_NUMBER["one_voice"]}
        return sorted(number[keys.reason == KEPT].tolist())

    found = kept(list(enumerate(said)))
    assert [number for number in found if said[number][0] >= 8] == [n for n, (account, _) in enumerate(said) if account >= 8]
    for accounts in (range(5), range(5, 8)):
        sayers: defaultdict[int, set[int]] = defaultdict(set)
        for account, text in said:
            if account in accounts:
                sayers[text].add(account)
        mine = [said[number][1] for number in found if said[number][0] in accounts]
        assert len(mine) == len(set(mine)) == math.ceil(sum(map(len, sayers.values())) / len(accounts))
        assert {text for text, who in sayers.items() if len(who) == len(accounts)} <= set(mine)
    shuffled = list(enumerate(said))
    random.shuffle(shuffled)
    assert kept(shuffled) == found


def flooded(num_accounts: int, text: TextMode) -> tuple[pa.Table, Voices]:
    """A square of about 5,000 ordinary posts with a campaign of so many accounts on top, labelled as it is."""
    on_top = round(num_accounts * 30 * 0.7)
    flood = Campaign(name="flood", num_accounts=num_accounts, num_waves=30, jitter_s=600, camouflage=0.0, channel="text", text=text)
    square = SquareConfig(num_posts=5_000 + on_top, num_accounts=600, days=7, seed=3, campaigns=(flood,))
    truth = ground_truth(square)
    labelled = truth.filter(truth["is_coordinated"])["author"].to_pylist()
    return pa.concat_tables(simulate(square)), Voices(dict.fromkeys(labelled, "flood"))


def share_of_tokens(out: Path, voices: Voices, tokenizer: Tokenizer) -> float:
    """Share of the campaign in all tokens; each document is one post here."""
    tables = [pq.read_table(file, columns=["text", "authors"]) for file, _ in document_files(out)]
    rows = pa.concat_tables(tables).to_pylist()
    tokens = np.array([len(ids) for ids in tokenizer.encode_batch([row["text"] for row in rows])])
    mine = np.array([row["authors"][0] in voices.accounts for row in rows])
    return float(tokens[mine].sum() / tokens.sum())


@pytest.mark.parametrize(
    "text",
    ["templated", pytest.param("verbatim", marks=pytest.mark.slow), pytest.param("paraphrased", marks=pytest.mark.slow)],
)
def test_who_floods_the_square_gains_nothing(save: Save, tmp_path: Path, text: TextMode) -> None:
    """Twice the accounts, the same share of the tokens that a model learns from."""
    tokenizer = Tokenizer.train(flooded(20, text)[0]["text"].to_pylist(), vocab_size=600)
    shares: dict[tuple[str, int], float] = {}
    for num_accounts in (20, 40):
        posts, voices = flooded(num_accounts, text)
        for mode in ("keep", "one_voice"):
            config = replace(CONFIG, threads=False, coordinated=mode)
            card = build_corpus([save(posts)], tmp_path / "out", config, voices=voices)
            shares[mode, num_accounts] = share_of_tokens(tmp_path / "out", voices, tokenizer)
            if mode == "one_voice":
                per_account = card.coordination["posts"] / num_accounts
                assert 0 < card.coordination["kept"] <= np.ceil(per_account)
    print(text, {f"{mode} {accounts}": round(share, 4) for (mode, accounts), share in shares.items()})  # shown by pytest -s
    assert shares["keep", 40] > (1.1 if text == "verbatim" else 1.4) * shares["keep", 20]  # verbatim: copies counted once before, too
    # About 20 posts stay; which of the longer and shorter ones they are changes their tokens by some 10%.
    assert shares["one_voice", 40] < 1.2 * shares["one_voice", 20]
    assert shares["one_voice", 40] < shares["keep", 40] * (0.8 if text == "verbatim" else 0.1)
