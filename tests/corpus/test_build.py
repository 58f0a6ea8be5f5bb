"""The whole corpus: conservation, determinism, threads, deletions, and builds that are killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from agora.corpus import assemble, steps
from agora.corpus import build as build_module
from agora.corpus.build import build_corpus, build_corpus_from_store, load_card
from agora.corpus.config import CorpusConfig
from agora.corpus.document_files import document_files
from agora.corpus.prepare import prepare_batch
from agora.corpus.threads import draw_heldout
from agora.errors import ConfigError, DataError, StoreError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.text.minhash import hash_strings
from agora.text.quiet_daft import daft

Save = Callable[..., Path]
CONFIG = CorpusConfig(heldout_share=0.0)
TOPICS = ["the tram to the harbour", "the new bakery", "our match on Sunday", "the library roof", "this weird weather", "the council vote"]
VERBS = ["surprised me", "was late again", "deserves more people", "costs too much", "made my evening", "looks better than last year"]


def post(number: int, author: str, text: str, **fields: Any) -> dict[str, Any]:
    base = {"id": f"p{number}", "author": author, "created_at": 1_772_000_000_000_000 + number * 60_000_000, "text": text, "kind": "post"}
    return {"source": "test", **base, **fields}


def reply(number: int, author: str, text: str, to: int) -> dict[str, Any]:
    return post(number, author, text, kind="reply", ref_id=f"p{to}")


def square(num_posts: int = 600) -> pa.Table:
    """Posts, replies, reposts and copies by 40 authors."""
    rng = np.random.default_rng(11)
    rows: list[dict[str, Any]] = []
    for number in range(num_posts):
        author = f"a{rng.integers(40)}"
        text = f"{TOPICS[rng.integers(6)]} {VERBS[rng.integers(6)]}, {rng.integers(1000)} of us and {rng.integers(1000)} others said so"
        chance = rng.random()
        target = int(rng.integers(max(number - 20, 0), number)) if number else 0
        if chance < 0.4 and number:
            rows.append(reply(number, author, text, target))
        elif chance < 0.5 and number:
            rows.append(post(number, author, f"RT @x: {text}", kind="repost", ref_id=f"p{target}"))
        elif chance < 0.55 and number:
            rows.append(post(number, author, rows[target]["text"].upper() + "!"))
        elif chance < 0.6:
            rows.append(post(number, author, "hm"))
        else:
            rows.append(post(number, author, text))
    return posts_table(rows)


def documents(out: Path) -> list[dict[str, Any]]:
    return [row for file, _ in document_files(out) for row in pq.read_table(file).to_pylist()]


def texts(out: Path) -> list[str]:
    return [row["text"] for row in documents(out)]


def content(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file, _ in document_files(out)}


def test_every_post_is_kept_once_or_dropped_for_one_reason(save: Save, tmp_path: Path) -> None:
    table = square()
    card = build_corpus([save(table)], tmp_path / "out", replace(CONFIG, keep_dropped=True, heldout_share=0.1))
    kept = [post_id for row in documents(tmp_path / "out") for post_id in row["post_ids"]]
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet")
    assert sorted([*kept, *dropped["id"].to_pylist()]) == sorted(table["id"].to_pylist())
    assert card.posts_in == len(table) == card.kept + sum(card.dropped.values())
    assert card.kept == len(kept)
    counts = {row["values"]: row["counts"] for row in pc.value_counts(dropped["reason"]).to_pylist()}
    assert counts == {name: count for name, count in card.dropped.items() if count}
    assert {"repost", "exact_duplicate", "too_short"} <= set(counts)
    assert card.documents == len(documents(tmp_path / "out")) < card.kept
    assert card.characters == sum(map(len, texts(tmp_path / "out")))
    assert sum(card.languages.values()) == sum(card.sources.values()) == card.kept


def test_the_same_posts_give_the_same_files_however_they_come(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = square()
    config = replace(CONFIG, heldout_share=0.2, posts_per_file=150)
    card = build_corpus([save(table)], tmp_path / "one", config)
    rng = np.random.default_rng(2)
    shuffled = table.take(pa.array(rng.permutation(len(table))))
    parts = [save(shuffled.slice(begin, 170), f"part-{begin}.parquet") for begin in range(0, len(table), 170)]
    monkeypatch.setattr("agora.corpus.prepare.BATCH_ROWS", 64)
    other = build_corpus(parts[::-1], tmp_path / "two", config, num_threads=1)
    assert len(card.files) > 2
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert replace(card, fingerprint=None) == replace(other, fingerprint=None)


def test_without_labels_the_documents_are_what_they_were_before_there_were_labels(save: Save, tmp_path: Path) -> None:
    card = build_corpus([save(square())], tmp_path / "out", CONFIG)
    assert (card.content_hash, card.kept) == ("25bec78c0d5a74ab5dd45f7b36d74797079cdd60e4742ae6b0986d2e66b32cfc", 464)
    assert {card.dropped[name] for name in ("coordinated", "coordinated_copy", "one_voice")} == {0}


def test_a_dataframe_of_any_partitioning_gives_what_files_give(save: Save, tmp_path: Path) -> None:
    table = square(300)
    card = build_corpus([save(table)], tmp_path / "files", CONFIG)
    frame = daft.from_arrow([table.slice(200), table.slice(0, 70), table.slice(70, 130)])
    assert build_corpus(frame, tmp_path / "frame", CONFIG).content_hash == card.content_hash


def test_threads_read_from_the_root_down_with_authors_told_apart(save: Save, tmp_path: Path) -> None:
    rows = [
        post(1, "mira", "Does anybody know when the tram runs again?"), reply(2, "bob", "Not before Monday, says the notice.", 1),
        reply(3, "mira", "That is a long walk to work then.", 2), reply(4, "mira", "And it rains the whole weekend too.", 3),
        reply(5, "kim", "There is a bus from the harbour at six.", 1),
    ]  # fmt: skip
    build_corpus([save(rows)], tmp_path / "out", CONFIG)
    found = {tuple(row["post_ids"]): row for row in documents(tmp_path / "out")}
    thread = found["p1", "p2", "p3", "p4"]
    assert thread["text"] == (
        "Does anybody know when the tram runs again?\n> Not before Monday, says the notice.\n> That is a long walk to work then."
        "\nAnd it rains the whole weekend too."
    )
    assert thread["authors"] == ["mira", "bob", "mira", "mira"]
    assert found["p5",]["text"] == "There is a bus from the harbour at six."
    assert thread["weight"] == 1.0
    build_corpus([save(rows)], tmp_path / "out", replace(CONFIG, threads=False))
    assert len(documents(tmp_path / "out")) == 5


def test_no_text_of_a_held_out_author_is_in_training(save: Save, tmp_path: Path) -> None:
    table = square()
    build_corpus([save(table)], tmp_path / "out", replace(CONFIG, heldout_share=0.3))
    authors = table["author"].unique()
    held = draw_heldout(hash_strings(authors.cast(pa.large_string())), 0.3, 0)
    heldout = {author for author, out in zip(authors.to_pylist(), held, strict=True) if out}
    assert 3 < len(heldout) < 25
    seen = set()
    for row in documents(tmp_path / "out"):
        seen.add(row["split"])
        assert {author in heldout for author in row["authors"]} == {row["split"] == "heldout"}
    assert seen == {"train", "heldout"}


@pytest.mark.parametrize("timeline_posts", [1, 4])
def test_single_posts_can_be_held_out_and_never_share_a_document_with_training(save: Save, tmp_path: Path, timeline_posts: int) -> None:
    table = square()
    config = replace(CONFIG, heldout_share=0.3, heldout_by="post", timeline_posts=timeline_posts)
    card = build_corpus([save(table)], tmp_path / "out", config)
    held = draw_heldout(hash_strings(table["id"].cast(pa.large_string())), 0.3, 0)
    heldout = {post_id for post_id, out in zip(table["id"].to_pylist(), held, strict=True) if out}
    rows = documents(tmp_path / "out")
    for row in rows:
        assert {post_id in heldout for post_id in row["post_ids"]} == {row["split"] == "heldout"}
    assert {row["split"] for row in rows} == {"train", "heldout"}
    assert card.heldout_authors == 0 and card.heldout_posts > 50


def test_timelines_lose_and_repeat_no_post(save: Save, tmp_path: Path) -> None:
    single = build_corpus([save(square())], tmp_path / "single", CONFIG)
    joined = build_corpus([save(square())], tmp_path / "joined", replace(CONFIG, timeline_posts=4))
    posts = [sorted(post_id for row in documents(tmp_path / name) for post_id in row["post_ids"]) for name in ("single", "joined")]
    assert posts[0] == posts[1] and joined.kept == single.kept
    assert joined.documents < single.documents
    for row in documents(tmp_path / "joined"):
        if row["text"].count("\n> ") == 0:
            assert len(set(row["authors"])) == 1


@pytest.mark.parametrize(
    ("reason", "text", "fields"),
    [
        ("repost", "RT @mira: the bakery opens at seven tomorrow", {"kind": "repost"}),
        ("repost", "the bakery opens at seven", {"kind": "repost"}),
        ("repost", "RT @mira: the bakery opens at seven", {}),
        ("mostly_links", "@a @b @c https://example.org/a/long/link/to/somewhere !!", {}),
        ("too_short", "hello you", {}),
        ("too_long", "long words and longer words " * 1000, {}),
        ("symbols", "okay then " + "/\\_" * 10, {}),
        ("repeated_characters", "nooooooooooooooooooooooooooo way", {}),
        ("gibberish", "look " + "qx7" * 30, {}),
        ("language", "Ich weiß nicht, ob wir heute noch auf den Markt gehen", {}),
        ("language", "some text that says it is French", {"lang": "fr-CA"}),
    ],
)  # fmt: skip
def test_each_filter_names_its_reason(save: Save, tmp_path: Path, reason: str, text: str, fields: dict[str, Any]) -> None:
    card = build_corpus([save([post(1, "a", text, **fields)])], tmp_path / "out", replace(CONFIG, languages=("en",)))
    assert {name: count for name, count in card.dropped.items() if count} == {reason: 1}
    assert card.documents == 0


def test_words_before_a_repost_mark_are_the_authors_own(save: Save, tmp_path: Path) -> None:
    build_corpus([save([post(1, "a", "This is exactly what I said! RT @mira: the tram is late", kind="repost")])], tmp_path / "out", CONFIG)
    assert texts(tmp_path / "out") == ["This is exactly what I said!"]


def test_reposts_can_count_once_as_the_voice_of_their_author(save: Save, tmp_path: Path) -> None:
    rows = [post(n, f"a{n}", "RT @mira: the bakery opens at seven tomorrow", kind="repost", ref_author="mira") for n in range(5)]
    build_corpus([save(rows)], tmp_path / "out", replace(CONFIG, reposts="once"))
    assert [(row["text"], row["authors"]) for row in documents(tmp_path / "out")] == [("the bakery opens at seven tomorrow", ["mira"])]


SECRET = "the ferry captain hums a tune about seven grey geese"


@pytest.mark.parametrize("reposts", ["drop", "once"])
@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (f"> {SECRET}\nno, that is wrong and I can prove it with numbers", {"kind": "reply", "ref_id": "p0"}),
        (f"so true and worth reading again: {SECRET.upper()}!", {"kind": "quote", "ref_id": "p0"}),
        (f"RT @{{held}}: {SECRET[:40]}…", {}),
    ],
)
def test_quoted_words_of_held_out_authors_are_not_in_training(
    save: Save, tmp_path: Path, reposts: Any, text: str, fields: dict[str, Any]
) -> None:
    names = [f"a{number}" for number in range(20)]
    held = draw_heldout(hash_strings(pa.array(names, pa.large_string())), 0.5, 0)
    sealed, trained = names[int(np.flatnonzero(held)[0])], names[int(np.flatnonzero(~held)[0])]
    rows = [post(0, sealed, SECRET), post(1, trained, text.format(held=sealed), **fields), post(2, trained, "An answer of my own words")]
    build_corpus([save(rows)], tmp_path / "out", CorpusConfig(heldout_share=0.5, reposts=reposts))
    training = " ".join(row["text"] for row in documents(tmp_path / "out") if row["split"] == "train").lower()
    assert "an answer of my own" in training
    assert "captain hums" not in training
    assert SECRET in texts(tmp_path / "out")


def test_lines_of_books_that_look_like_quotes_stay(save: Save, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["> A line of a play.\nAnd the one after it, long enough."]}), tmp_path / "play.parquet")
    build_corpus([save([])], tmp_path / "out", CONFIG, extra_texts=[tmp_path / "play.parquet"])
    assert texts(tmp_path / "out") == ["> A line of a play.\nAnd the one after it, long enough."]


def test_a_corpus_that_keeps_nothing_warns_and_is_refused_with_the_reasons(
    save: Save, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = build_corpus([save(square(20))], tmp_path / "out", replace(CONFIG, min_characters=5000))
    with pytest.raises(DataError, match=r"corpus here keeps none of 20 posts and texts: dropped \d+ as too_short"):
        card.require_documents("here")
    assert "keeps nothing" in caplog.text and "too_short" in caplog.text


def test_a_store_without_posts_gives_an_empty_corpus(save: Save, tmp_path: Path) -> None:
    card = build_corpus([save([])], tmp_path / "out", CONFIG)
    card.require_documents("here")
    assert card.kept == 0


@pytest.mark.parametrize("reposts", ["drop", "once"])
def test_an_empty_tombstone_drops_nothing(save: Save, tmp_path: Path, reposts: Any) -> None:
    rows = [post(0, "a", f"{TOPICS[0]} {VERBS[0]}"), post(1, "b", f"{TOPICS[1]} {VERBS[1]}", kind="repost", ref_id=None, ref_author=None)]
    gone = pa.table({"kind": ["post", "author"], "key": ["", ""], "at": [None, None]})
    card = build_corpus([save(rows)], tmp_path / "out", replace(CONFIG, reposts=reposts), deletions=gone)
    assert card.kept >= 1 and not card.dropped["deleted_post"] and not card.dropped["deleted_author"]


def test_what_a_repost_repeats_is_null_where_it_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing can match it, not even an empty tombstone."""
    seen: list[Any] = []
    monkeypatch.setattr(
        "agora.corpus.prepare.first_objection", lambda rows, config: (seen.append(rows), steps.first_objection(rows, config))[1]
    )
    columns = {"id": "123", "author": "aaa", "text": ["one two three"] * 3, "kind": ["post", "repost", "repost"], "lang": ["en"] * 3}
    columns |= {"ref_id": ["x", None, "y"], "ref_author": [None] * 3}
    batch = {name: pa.array(list(values), pa.large_string()) for name, values in columns.items()}
    empty = pa.array([""], pa.large_string())
    made = prepare_batch(batch, CONFIG, empty, empty)
    assert seen[0].reposted_ids.to_pylist() == [None, None, "y"]
    assert steps.STEP_NUMBER["deleted_post"] not in made.field("reason").to_pylist()


def test_deletions_are_honoured_even_where_the_posts_are_still_there(save: Save, tmp_path: Path) -> None:
    rows = [post(n, f"a{n % 2}", f"{TOPICS[n]} {VERBS[n]} number {n}") for n in range(4)]
    gone = pa.table({"kind": ["post", "author"], "key": ["p0", "a1"], "at": [None, None]})
    card = build_corpus([save(rows)], tmp_path / "out", replace(CONFIG, keep_dropped=True), deletions=gone)
    assert card.dropped["deleted_post"] == 1
    assert card.dropped["deleted_author"] == 2
    assert [row["post_ids"] for row in documents(tmp_path / "out")] == [["p2"]]
    assert pq.read_table(tmp_path / "out" / "dropped.parquet")["text"].to_pylist() == [None] * 3


def test_a_store_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    store = PostStore.open(tmp_path / "posts", create=True)
    store.append(square(120))
    first = build_corpus_from_store(store, tmp_path / "out", CONFIG)
    stamp = (tmp_path / "out" / "data_card.json").stat().st_mtime_ns
    assert build_corpus_from_store(store, tmp_path / "out", CONFIG) == first
    assert (tmp_path / "out" / "data_card.json").stat().st_mtime_ns == stamp
    author = documents(tmp_path / "out")[0]["authors"][0]
    store.delete_authors([author])
    second = build_corpus_from_store(store, tmp_path / "out", CONFIG)
    assert second.content_hash != first.content_hash
    assert all(author not in row["authors"] for row in documents(tmp_path / "out"))


def test_a_damaged_store_is_named_and_the_old_corpus_stays(tmp_path: Path) -> None:
    store = PostStore.open(tmp_path / "posts", create=True)
    store.append(square(120))
    build_corpus_from_store(store, tmp_path / "out", CONFIG)
    before = content(tmp_path / "out")
    victim = max((tmp_path / "posts").glob("posts_1.lance/data/*"), key=lambda path: path.stat().st_size)
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    victim.write_bytes(raw)
    with pytest.raises(StoreError, match=victim.name):
        build_corpus_from_store(PostStore.open(tmp_path / "posts"), tmp_path / "out", replace(CONFIG, min_characters=22))
    assert content(tmp_path / "out") == before


def test_posts_that_get_lost_on_the_way_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="20 posts could be read instead of 21"):
        build_corpus(daft.from_arrow(square(20)), tmp_path / "out", CONFIG, num_posts=21)
    assert not (tmp_path / "out" / "data_card.json").exists()


def test_reposts_of_what_was_deleted_go_with_it(save: Save, tmp_path: Path) -> None:
    rows = [post(1, "a", "RT @mira: the bakery opens at seven tomorrow", kind="repost", ref_id="p0", ref_author="mira")]
    gone = pa.table({"kind": ["post"], "key": ["p0"], "at": [None]})
    card = build_corpus([save(rows)], tmp_path / "out", replace(CONFIG, reposts="once"), deletions=gone)
    assert card.dropped["deleted_post"] == 1 and card.kept == 0


def test_a_valid_corpus_is_not_built_again_but_another_setting_is(save: Save, tmp_path: Path) -> None:
    posts = save(square(100))
    card = build_corpus([posts], tmp_path / "out", CONFIG)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.joinpath("out", "documents").iterdir()}
    assert build_corpus([posts], tmp_path / "out", CONFIG) == card == load_card(tmp_path / "out")
    assert stamps == {file: file.stat().st_mtime_ns for file in tmp_path.joinpath("out", "documents").iterdir()}
    build_corpus([posts], tmp_path / "out", replace(CONFIG, min_characters=70))
    assert not any(file.exists() for file in stamps)


def test_extra_texts_join_as_documents_of_their_own(save: Save, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["A very long book. " * 2000, "Short."], "author": ["A. Writer", "B. Writer"]}), tmp_path / "books.parquet"
    )
    card = build_corpus([save(square(50))], tmp_path / "out", CONFIG, extra_texts=[tmp_path / "books.parquet"])
    books = [row for row in documents(tmp_path / "out") if row["source"] == "books"]
    assert [(row["authors"], row["text"][:17]) for row in books] == [(["A. Writer"], "A very long book.")]
    assert card.texts_in == 2
    assert card.posts_in == 50
    assert card.first_post is not None and card.first_post.startswith("2026")


def test_what_identifies_a_person_is_not_in_the_documents(save: Save, tmp_path: Path) -> None:
    card = build_corpus([save([post(1, "a", "Write to jo@mail.example or ask @mira, it is about the roof")])], tmp_path / "out", CONFIG)
    assert texts(tmp_path / "out") == ["Write to [email] or ask @user, it is about the roof"]
    assert (card.masked["email"], card.masked["handle"]) == (1, 1)


def test_the_salt_of_pseudonyms_is_not_in_the_card(save: Save, tmp_path: Path) -> None:
    build_corpus([save(square(20))], tmp_path / "out", replace(CONFIG, handles="pseudonym", pseudonym_salt="very-secret-salt"))
    for name in ("data_card.json", "data_card.md"):
        assert "very-secret-salt" not in (tmp_path / "out" / name).read_text()


def test_the_markdown_card_shows_every_number_of_the_json_card(save: Save, tmp_path: Path) -> None:
    card = build_corpus([save(square())], tmp_path / "out", replace(CONFIG, licence="CC BY 4.0"))
    markdown = (tmp_path / "out" / "data_card.md").read_text()
    assert json.loads((tmp_path / "out" / "data_card.json").read_text())["kept"] == card.kept
    for shown in (
        f"{card.posts_in:,}",
        f"{card.kept:,}",
        f"{card.characters:,}",
        "CC BY 4.0",
        card.content_hash,
        *card.dropped,
        *card.config,
    ):
        assert str(shown) in markdown


def test_no_posts_give_an_empty_corpus_and_missing_columns_an_error(save: Save, tmp_path: Path) -> None:
    card = build_corpus([save([])], tmp_path / "out", CONFIG)
    assert (card.posts_in, card.documents, card.files and card.files[0].documents) == (0, 0, 0) or card.files == ()
    with pytest.raises(DataError, match="no column 'author'"):
        build_corpus([save(pa.table({"id": ["1"]}))], tmp_path / "out", CONFIG)
    with pytest.raises(DataError, match="does not exist"):
        build_corpus([tmp_path / "nowhere.parquet"], tmp_path / "out", CONFIG)
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="no column 'text'"):
        build_corpus([save(square(5))], tmp_path / "out", CONFIG, extra_texts=[tmp_path / "bad.parquet"])


def test_impossible_settings_are_refused() -> None:
    for bad in ({"heldout_share": 2.0}, {"min_characters": 10, "max_characters": 5}, {"num_bands": 0}, {"near_duplicate_jaccard": 0.0}):
        with pytest.raises(ConfigError, match="CorpusConfig"):
            CorpusConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["english", "EN", "xx", "eng"])
def test_languages_are_iso_codes(code: str) -> None:
    with pytest.raises(ConfigError, match="ISO 639-1"):
        CorpusConfig(languages=("de", code))


def test_a_second_build_into_the_same_folder_is_refused(save: Save, tmp_path: Path) -> None:
    posts = save(square(20))
    (tmp_path / "out").mkdir()
    with build_module._only_one(tmp_path / "out"), pytest.raises(StoreError, match="another build"):
        build_corpus([posts], tmp_path / "out", CONFIG)


def test_a_build_that_fails_leaves_the_old_corpus(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = save(square(60))
    build_corpus([posts], tmp_path / "out", CONFIG)
    before = content(tmp_path / "out")

    def fails(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(assemble, "deal", fails)
    with pytest.raises(OSError, match="disk full"):
        build_corpus([posts], tmp_path / "out", replace(CONFIG, min_characters=50))
    assert content(tmp_path / "out") == before
    assert not list((tmp_path / "out").glob(".building-*"))


def test_a_build_killed_at_any_moment_leaves_a_whole_corpus(save: Save, tmp_path: Path) -> None:
    posts, out = save(square(400)), tmp_path / "out"
    build_corpus([posts], out, CONFIG)
    old = load_card(out)
    program = (
        "import sys; from pathlib import Path; from agora.corpus.build import build_corpus; from agora.corpus.config import CorpusConfig\n"
        "print('ready', flush=True)\n"
        "posts, out = map(Path, sys.argv[1:])\n"
        "for n in range(1000): build_corpus([posts], out, CorpusConfig(heldout_share=0.0, min_characters=30 + n % 30))"
    )
    for delay in (0.05, 0.11, 0.23, 0.37):
        process = subprocess.Popen([sys.executable, "-c", program, str(posts), str(out)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        card = load_card(out)
        assert card is not None
        rows = documents(out)
        assert len(rows) == card.documents
        assert sum(len(row["text"]) for row in rows) == card.characters
    assert build_corpus([posts], out, CONFIG) == old
    assert not list(out.glob(".building-*"))
    assert {file.name for file in (out / "documents").iterdir()} == {file.name for file in old.files} if old else False


def test_pages_of_any_size_hold_the_same_documents(save: Save, tmp_path: Path) -> None:
    posts = save(square(300))
    found = []
    for per_file in (1000, 70, 33):
        build_corpus([posts], tmp_path / "out", replace(CONFIG, posts_per_file=per_file))
        found.append(texts(tmp_path / "out"))
    assert all(left == right for left, right in itertools.pairwise(found))
