"""Posts to documents. Goes in: posts (Parquet files or a Daft dataframe) and extra texts. Comes out: a corpus folder.

    agora corpus build min_characters=30

out/documents/part-*.parquet (see DOCUMENT_SCHEMA), out/data_card.json and .md. The same posts give the same documents
whatever the number of workers, the order of the input or its division into files.

1. read      each post alone: normalise, mask, language, filters, hashes (Daft); rows spill to disk, keys stay in memory
2. compare   all posts at once: equal ids, coordinated accounts, equal texts, near duplicates, threads, held-out authors (numpy on keys)
3. assemble  documents in order, part by part
A build that is killed leaves the corpus that was there; the next run starts anew. The data card is written last and
names the files, so a reader sees the old corpus or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.config import to_dict
from agora.corpus import assemble, duplicates, one_voice, threads
from agora.corpus.assemble import DocumentFile
from agora.corpus.card import DataCard
from agora.corpus.config import CorpusConfig
from agora.corpus.document_files import CARD_FILE, DOCUMENTS, read_card
from agora.corpus.prepare import num_parquet_rows, prepared, read_posts
from agora.corpus.privacy import MASK_KINDS
from agora.corpus.reading import Gathered, batched, counted, keys_of, read_texts
from agora.corpus.spill import Spill
from agora.corpus.steps import KEPT, STEP_NUMBER, STEPS
from agora.errors import StoreError
from agora.files import file_sha256, sync, write_atomically
from agora.integrity.voice import Voices
from agora.log import Progress, silent
from agora.posts.sealing import read_head
from agora.posts.store import PostStore
from agora.text.minhash import Shingles, shingles
from agora.text.ranges import ranges

logger = logging.getLogger(__name__)

FORMAT: Final = 2
"""Raise when the same posts and settings give other documents than before: old corpora are then rebuilt."""
DROPPED_FILE: Final = "dropped.parquet"
_SHINGLE_ROWS: Final = 100_000


def build_corpus(
    posts: Any, out: Path, config: CorpusConfig | None = None, *, extra_texts: Sequence[Path] = (), deletions: pa.Table | None = None,
    voices: Voices | None = None, fingerprint: str | None = None, num_posts: int | None = None,
    verify: Callable[[], object] | None = None, num_threads: int = 2, progress: Progress = silent,
) -> DataCard:  # fmt: skip
    """Build the corpus of `posts` (a list of Parquet files, or a Daft dataframe) in `out`; returns at once when it is there.

    `deletions`: a table with kind ('post' or 'author') and key, honoured even where the posts still hold them.
    `voices`: who speaks as one, by the labels (agora/integrity/voice.py); `config.coordinated` says what that means here.
    `fingerprint` names the state of a dataframe (a store's version); without it a dataframe is always read again.
    `verify` is called before a dataframe is read and raises where it is damaged; `num_posts` is how many posts it must give,
    since an error inside a query may just end it (Daft 0.7 does so for sources in Python).
    Raises DataError for files that are not Parquet or lack a column, StoreError when another build is writing to `out` or
    when not all posts could be read; the corpus that was there then stays.
    """
    config = config or CorpusConfig()
    files = None if hasattr(posts, "column_names") else [Path(path) for path in posts]
    dataframe = posts if files is None else read_posts(files)
    for path in extra_texts:
        num_parquet_rows(path, "extra texts")
    voices = one_voice.labels_that_count(voices, config)
    state = _fingerprint(config, files, extra_texts, deletions, voices, fingerprint)
    out.mkdir(parents=True, exist_ok=True)
    with _only_one(out):
        if state is not None and (card := _valid(out, state)) is not None:
            return card
        with tempfile.TemporaryDirectory(prefix=".building-", dir=out) as folder:
            build = _Build(config, voices, Path(folder), num_threads, progress)
            if verify is not None:
                verify()
            if files is not None:
                num_posts = sum(num_parquet_rows(file, "posts file") for file in files)
            build.read(dataframe, extra_texts, deletions, num_posts)
            build.compare()
            written = build.write()
            card = build.card(written, state, 0 if deletions is None else deletions.num_rows)
            _publish(out, Path(folder), card)
    if not card.kept and any(card.dropped.values()):
        reason, number = max(card.dropped.items(), key=lambda item: item[1])
        logger.warning("corpus %s keeps nothing; %s of its posts were dropped as %s (docs/corpus.md)", out, f"{number:,}", reason)
    return card


def build_corpus_from_store(
    store: PostStore, out: Path, config: CorpusConfig | None = None, *, extra_texts: Sequence[Path] = (),
    voices: Voices | None = None, progress: Progress = silent,
) -> DataCard:  # fmt: skip
    """`build_corpus` of a store's live posts; returns at once when neither the store nor `config` nor `voices` has changed.

    Raises StoreError naming the damaged file, or when the store changes while it is read.
    """
    head = read_head(store.folder)
    state = hashlib.sha256(json.dumps([head.version, sorted(head.files.items())]).encode()).hexdigest()
    deletions = store.deletions()
    return build_corpus(
        store.to_daft(),
        out,
        config,
        extra_texts=extra_texts,
        deletions=deletions,
        voices=voices,
        fingerprint=state,
        num_posts=head.num_posts,
        verify=store.verify,
        progress=progress,
    )


class _Build:
    """One build and what its stages hand on."""

    def __init__(self, config: CorpusConfig, voices: Voices | None, folder: Path, num_threads: int, progress: Progress) -> None:
        self.config, self.folder, self.num_threads, self.progress = config, folder, num_threads, progress
        self.voices = voices
        self.gathered = Gathered(Spill(folder / "posts.arrow"))
        self.concerned = one_voice.Concerned(np.empty(0, dtype=np.int64), 0, 0)

    def read(self, dataframe: Any, extra_texts: Sequence[Path], deletions: pa.Table | None, total: int | None) -> None:
        deleted = [_deleted(deletions, kind) for kind in ("post", "author")]
        gathered = self.gathered
        with self.progress.step("read and filter", total=total, unit="posts") as step:
            for batch in prepared(dataframe, self.config, *deleted):
                gathered.add(batch, step)
                gathered.posts_in += batch.num_rows
            read_texts(extra_texts, self.config, gathered, step)
        gathered.spill.close()
        if total is not None and gathered.posts_in != total:
            raise StoreError(f"{gathered.posts_in:,} posts could be read instead of {total:,}; build again once nobody writes to them")

    def compare(self) -> None:
        """Find duplicates, held-out authors, coordinated accounts and threads; sets `keys` and `plan`."""
        if not self.gathered.columns:
            return
        self.keys = keys = self.gathered.keys()
        order = duplicates.earliest_first(keys)
        with self.progress.step("compare", total=self.config.num_bands + 2, unit="passes") as step:
            duplicates.drop_equal_ids(keys, order)
            if self.voices:
                self.concerned = one_voice.drop_coordinated(keys, order, self.voices, self.config, self._shingles)
            duplicates.drop_equal_texts(keys, order, self.config)
            step.advance()
            if self.config.near_duplicates:
                candidates = duplicates.near_candidates(keys, order, self.config)
                duplicates.drop_near(keys, candidates, self._shingles(candidates), self.config, step.advance)
            drawn_by = keys.author_hash if self.config.heldout_by == "author" else keys.id_hash
            heldout = threads.draw_heldout(drawn_by, self.config.heldout_share, self.config.seed)
            pairs = duplicates.quotes_of_heldout(keys, heldout)
            rows = np.unique(np.concatenate(pairs))
            texts = [text for part in keys_of(self.gathered, rows) for text in part.to_pylist()]
            duplicates.drop_quotes_of_heldout(keys, *pairs, dict(zip(rows.tolist(), texts, strict=True)))
            self.plan = self._plan(order[keys.reason[order] == KEPT], heldout)
            step.advance()

    def _shingles(self, candidates: duplicates.Index) -> Shingles:
        """Shingles of the candidates, row i for candidate i."""
        by_row = np.argsort(candidates)
        parts = [shingles(keys) for keys in batched(keys_of(self.gathered, candidates[by_row]), _SHINGLE_ROWS)]
        if not parts:
            return Shingles(np.empty(0, dtype=np.uint32), np.zeros(1, dtype=np.int64))
        hashes = np.concatenate([part.hashes for part in parts])
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        starts = np.cumsum(counts) - counts
        place = np.empty(len(by_row), dtype=np.int64)
        place[by_row] = np.arange(len(by_row))
        counts, starts = counts[place], starts[place]
        return Shingles(hashes[ranges(starts, counts)], np.append(0, np.cumsum(counts)))

    def _plan(self, kept: duplicates.Index, heldout: npt.NDArray[np.bool_]) -> assemble.Plan:
        """`kept`: posts that stay, earliest first. `heldout` is for all posts."""
        keys, config, num_posts = self.keys, self.config, len(self.keys.reason)
        id_hash, author_hash = keys.id_hash[kept], keys.author_hash[kept]
        is_reply = keys.is_reply[kept] if config.threads else np.zeros(len(kept), dtype=np.bool_)
        parent = threads.find_parents(id_hash, keys.ref_hash[kept], is_reply, keys.created_at[kept], heldout[kept])
        chains = threads.find_chains(parent, author_hash, np.arange(len(kept)))
        is_post = keys.created_at[kept] != 0  # extra texts have no time
        group = author_hash ^ heldout[kept].astype(np.uint64)  # one author's timelines, apart where posts are held out one by one
        chains = threads.join_timelines(chains, group, is_post, np.arange(len(kept)), config.timeline_posts)
        order, key = threads.document_order(chains.head, chains.place, id_hash, config.seed)
        num_parts = max(1, -(-len(kept) // config.posts_per_file))
        share = (key >> np.uint64(11)).astype(np.float64) / 2.0**53
        part, place = np.full(num_posts, -1, dtype=np.int32), np.zeros(num_posts, dtype=np.int64)
        begins, other = np.zeros(num_posts, dtype=np.bool_), np.zeros(num_posts, dtype=np.bool_)
        part[kept] = np.minimum((share * num_parts).astype(np.int32), num_parts - 1)
        place[kept[order]] = np.arange(len(kept))
        begins[kept] = chains.place == 0
        authors = author_hash[order]
        other[kept[order[1:]]] = authors[1:] != authors[:-1]
        return assemble.Plan(part, place, begins, other, heldout, num_parts)

    def write(self) -> list[DocumentFile]:
        """Write the documents into the build folder."""
        (self.folder / DOCUMENTS).mkdir()
        if not self.gathered.columns:
            return []
        kept = int((self.keys.reason == KEPT).sum())
        with self.progress.step("assemble", total=len(self.keys.reason) + kept, unit="posts") as step:
            if self.config.keep_dropped:
                _write_dropped(self.gathered, self.keys, self.folder / DROPPED_FILE)
            parts = assemble.deal(self.gathered.spill, self.plan, self.folder, step)
            self.gathered.spill.remove()
            return list(assemble.write_parts(parts, self.folder / DOCUMENTS, self.num_threads, step))

    def _num_heldout_authors(self, authors: npt.NDArray[np.uint64]) -> int:
        config = self.config
        return int(threads.draw_heldout(authors, config.heldout_share, config.seed).sum()) if config.heldout_by == "author" else 0

    def _coordination(self) -> dict[str, Any]:
        """What the labels did, for the card; empty without labels."""
        if not self.voices:
            return {}
        posts = self.concerned.posts
        return {
            "labels_sha256": self.voices.sha256, "labelled_accounts": len(self.voices.labelled), "labelled_posts": len(self.voices.posts),
            "accounts": self.concerned.num_accounts, "voices": self.concerned.num_voices, "posts": len(posts),
            "kept": int((self.keys.reason[posts] == KEPT).sum()) if len(posts) else 0,
        }  # fmt: skip

    def card(self, files: list[DocumentFile], state: str | None, num_deletions: int) -> DataCard:
        """Add everything up."""
        gathered = self.gathered
        kept = self.keys.reason == KEPT if gathered.columns else np.zeros(0, dtype=np.bool_)
        counts = np.bincount(self.keys.reason, minlength=len(STEPS) + 1) if gathered.columns else np.zeros(len(STEPS) + 1, dtype=np.int64)

        def masked(kind: str) -> int:
            return int(gathered.column(f"masked_{kind}")[kept].sum(dtype=np.int64)) if gathered.columns else 0

        def names(name: str) -> dict[str, int]:
            return counted(gathered.column(name)[kept], gathered.names[name]) if gathered.columns else {}

        authors = np.unique(self.keys.author_hash[kept]) if gathered.columns else np.empty(0, dtype=np.uint64)
        times = self.keys.created_at[kept & (self.keys.created_at != 0)] if gathered.columns else np.empty(0, dtype=np.int64)
        return DataCard(
            format=FORMAT, posts_in=gathered.posts_in, texts_in=gathered.texts_in, kept=int(kept.sum()),
            dropped={name: int(counts[number]) for name, number in STEP_NUMBER.items()},
            documents=sum(file.documents for file in files), heldout_documents=sum(file.heldout_documents for file in files),
            heldout_posts=int((self.plan.heldout & kept).sum()) if gathered.columns else 0, authors=len(authors),
            heldout_authors=self._num_heldout_authors(authors),
            characters=sum(file.characters for file in files),
            first_post=_iso(times.min()) if len(times) else None, last_post=_iso(times.max()) if len(times) else None,
            languages=names("lang"), sources=names("source"),
            masked={kind: masked(kind) for kind in MASK_KINDS},
            coordination=self._coordination(), licence=self.config.licence, config=_plain(self.config), fingerprint=state,
            content_hash=hashlib.sha256("".join(file.content_sha256 for file in files).encode()).hexdigest(), files=tuple(files),
            deletions=num_deletions,
        )  # fmt: skip


def _plain(config: CorpusConfig) -> dict[str, Any]:
    """The configuration for the card; the salt would undo the pseudonyms, so only its hash is written."""
    table = to_dict(config)
    if config.pseudonym_salt:
        table["pseudonym_salt"] = "sha256:" + hashlib.sha256(config.pseudonym_salt.encode()).hexdigest()[:16]
    return table


def _fingerprint(
    config: CorpusConfig, files: list[Path] | None, extra_texts: Sequence[Path], deletions: pa.Table | None, voices: Voices | None,
    given: str | None,
) -> str | None:  # fmt: skip
    """What decides the corpus, or None when that cannot be known."""
    if files is None and given is None:
        return None
    gone = sorted(zip(*(deletions[name].to_pylist() for name in ("kind", "key")), strict=True)) if deletions is not None else []
    inputs = sorted(file_sha256(file) for file in files or ())
    content = [FORMAT, to_dict(config), inputs, sorted(file_sha256(Path(path)) for path in extra_texts), gone, given]
    if voices is not None:
        content.append(voices.sha256)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _valid(out: Path, state: str) -> DataCard | None:
    """The card in `out` when it belongs to `state` and its files are all there."""
    table = read_card(out)
    if table is None or table.get("fingerprint") != state or not all((out / DOCUMENTS / f["name"]).exists() for f in table["files"]):
        return None
    if table.get("deletions") is None:
        return None  # of an older version, which did not say what it heeded
    return DataCard.from_table(table, str(out / CARD_FILE))


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Hold the folder's lock (it ends with the process) and clear what a killed build left."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another build is writing to {out}; wait for it or choose another --name") from error
        for leftover in out.glob(".building-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _publish(out: Path, built: Path, card: DataCard) -> None:
    """Move the documents into place; the card makes them the corpus; then the files it does not name go."""
    (out / DOCUMENTS).mkdir(exist_ok=True)
    for file in card.files:
        sync(built / DOCUMENTS / file.name)
        os.replace(built / DOCUMENTS / file.name, out / DOCUMENTS / file.name)
    sync(out / DOCUMENTS)
    write_atomically(out / "data_card.md", card.to_markdown().encode())
    write_atomically(out / CARD_FILE, card.to_json().encode())
    names = {file.name for file in card.files}
    for old in (out / DOCUMENTS).glob("*.parquet"):
        if old.name not in names:
            old.unlink()
    if (built / DROPPED_FILE).exists():
        os.replace(built / DROPPED_FILE, out / DROPPED_FILE)
    else:
        (out / DROPPED_FILE).unlink(missing_ok=True)


def _write_dropped(gathered: Gathered, keys: duplicates.PostKeys, path: Path) -> None:
    """Every dropped post with its reason, for audit. What its author deleted is listed without its text."""
    names = pa.array(["", *(step.name for step in STEPS)])
    schema = pa.schema([("id", pa.large_string()), ("reason", pa.string()), ("text", pa.large_string())])
    deleted = [STEP_NUMBER["deleted_author"], STEP_NUMBER["deleted_post"]]
    begin = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in gathered.spill.read():
            reason = keys.reason[begin : begin + batch.num_rows]
            begin += batch.num_rows
            rows = np.flatnonzero(reason != KEPT)
            text = pc.if_else(pa.array(np.isin(reason[rows], deleted)), None, batch.column("text").take(pa.array(rows)))
            columns = [batch.column("id").take(pa.array(rows)), names.take(pa.array(reason[rows].astype(np.int64))), text]
            writer.write_table(pa.table(columns, schema=schema))


def _deleted(deletions: pa.Table | None, kind: str) -> pa.Array:
    if deletions is None:
        return pa.array([], type=pa.large_string())
    names = pc.and_(pc.equal(deletions["kind"], kind), pc.not_equal(deletions["key"], ""))  # an empty key names nothing
    return deletions.filter(names)["key"].combine_chunks().cast(pa.large_string())


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=int(microseconds))).isoformat()


def load_card(folder: Path) -> DataCard | None:
    """The data card of a corpus folder, or None when nothing has been built there."""
    table = read_card(folder)
    return None if table is None else DataCard.from_table(table, str(folder / CARD_FILE))


__all__ = ["FORMAT", "build_corpus", "build_corpus_from_store", "load_card"]
