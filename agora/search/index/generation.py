"""One generation of the embedded index: its files, what of them is in memory, how they change together. Goes in: posts. Comes out:
snapshots.

Order of a change: rows, ids and vectors are flushed, then tantivy commits, then the seal is replaced. Until the seal says so, nobody sees
a new row; a deleted row is hidden from the moment it is marked.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.posts.schema import REPLY, REPOST
from agora.search.index import files
from agora.search.index.columns import KIND, ROW, Columns, Engagement, Hashes, Lookup, Rows, View, name_hash
from agora.search.index.files import AppendedFile, State
from agora.search.index.filters import Filters, Snapshot
from agora.search.index.near import Near
from agora.search.index.text import ReadPost, TextIndex, is_stored, language, rows_of, stored_post
from agora.text.embeddings import Embeddings
from agora.text.words import account_key

_HEAP_BYTES: Final = 192 << 20
_VECTOR_ROWS: Final = 4096
_MAX_LIKES: Final = (1 << 31) - 1
_GONE: Final = np.dtype("<i8")


class Generation:
    """Files, columns and texts that belong together."""

    def __init__(self, root: Path, state: State) -> None:
        self.root, self.state = root, state
        self.folder = state.folder(root)
        self.key = bytes.fromhex(state.key)
        self.columns = Columns()
        self.columns.append(np.frombuffer(files.read_sealed(self.folder / "rows.bin", state.num_rows * ROW.itemsize), ROW))
        self.columns.alive[np.frombuffer(files.read_sealed(self.folder / "gone.bin", state.num_gone * _GONE.itemsize), _GONE)] = False
        self._id_text = bytearray(files.read_sealed(self.folder / "ids.txt", state.id_bytes))
        self.text = TextIndex(self.folder / "text")
        self.ids, self.refs = Lookup("id"), Lookup("ref")
        self._authors, self._ref_authors = Lookup("author"), Lookup("ref_author")
        self.engagement = Engagement(self.ids, self.refs)
        self.filters = Filters(self.text, self.key, self.ids, self.refs, self.engagement)
        self.near = Near(self._near_folder(), state.dim, state.num_vectors) if state.dim else None
        self._languages = {code: number for number, code in enumerate(state.languages)}
        self._files: dict[str, AppendedFile] = {}
        self._num_gone, self._fresh, self._touched = state.num_gone, state.num_rows, list[Rows]()
        self.num_hidden = 0
        self.snapshot = self._taken()

    def begin(self) -> None:
        """Open for writing; what a killed writer left unsealed is cut off."""
        if not self._files:
            self.folder.mkdir(parents=True, exist_ok=True)
            state = self.state
            sealed = {"rows.bin": state.num_rows * ROW.itemsize, "ids.txt": state.id_bytes, "gone.bin": state.num_gone * _GONE.itemsize}
            self._files = {name: AppendedFile(self.folder / name, length) for name, length in sealed.items()}
            self.text.begin(state.num_rows, _HEAP_BYTES)

    def close(self) -> None:
        """Close for writing."""
        try:
            self.text.close()
        finally:
            for file in self._files.values():
                file.close()
            self._files = {}
            if self.near is not None:
                self.near.close()

    def follow(self, state: State) -> bool:
        """Show what another process has sealed since. Only what is new is read; searches under way end on the snapshot they have. False
        when the seal is not of these files, which then have to be opened anew."""
        before = self.state
        if (state.generation, state.key) != (before.generation, before.key) or _is_behind(state, before):
            return False
        rows = np.frombuffer(
            files.read_sealed(self.folder / "rows.bin", state.num_rows * ROW.itemsize, start=before.num_rows * ROW.itemsize), ROW
        )
        gone = np.frombuffer(
            files.read_sealed(self.folder / "gone.bin", state.num_gone * _GONE.itemsize, start=before.num_gone * _GONE.itemsize), _GONE
        )
        self._id_text += files.read_sealed(self.folder / "ids.txt", state.id_bytes, start=before.id_bytes)
        self._languages = {code: number for number, code in enumerate(state.languages)}
        self.columns.append(rows)
        self.columns.alive[gone] = False
        self.state, self._num_gone, self._fresh, self._touched = state, state.num_gone, state.num_rows, []
        self.num_hidden = self.num_hidden if self.num_hidden > state.num_tombstones else 0
        if self.near is not None and (state.vectors, state.dim) == (before.vectors, before.dim):
            self.near.follow(state.num_vectors)
        else:
            self.near = Near(self._near_folder(), state.dim, state.num_vectors) if state.dim else None
        touched = np.concatenate([gone, np.arange(before.num_rows, state.num_rows)])
        if len(touched):
            self.engagement.changed(touched, self.columns.view())
        self.snapshot = self._taken()
        return True

    def hide(self, tombstones: pa.Table) -> None:
        """Hide what tombstones name, in memory alone: the files are a writer's. `num_hidden`: tombstones of the store that show so."""
        view = self.columns.view()
        first = max(self.num_hidden, self.state.num_tombstones)
        found = [self._named(kind, keys, view) for kind, keys in by_kind(tombstones.slice(first)).items() if keys]
        self.num_hidden = tombstones.num_rows
        if found and len(rows := np.unique(np.concatenate(found))):
            self.columns.alive[rows] = False
            self.engagement.changed(rows, view)

    def hashes(self, names: Sequence[str]) -> Hashes:
        """Keyed hashes of ids or authors."""
        return np.fromiter((name_hash(name, self.key) for name in names), np.uint64, len(names))

    def id_strings(self, rows: Rows) -> list[str]:
        """The ids of rows."""
        ends = self.columns.view().numbers("id_end")
        starts = np.where(rows > 0, ends[rows - 1], 0).tolist()
        text = self._id_text
        return [text[start:end].decode() for start, end in zip(starts, ends[rows].tolist(), strict=True)]

    def add(self, posts: Sequence[dict[str, Any]]) -> int:
        """Add posts (times in microseconds); they can be found after `seal`. A post that is here is put in the place of its earlier
        version, at the end. Returns how many are new."""
        view = self.columns.view()
        hashes = self.hashes([post["id"] for post in posts])
        rows = self.ids.rows(hashes, view)
        is_here = view.alive[rows]
        here = dict(zip(view.hashes("id")[rows[is_here]].tolist(), rows[is_here].tolist(), strict=True))
        gone = set(view.hashes("id")[rows].tolist()) - here.keys()
        wanted = {number: post for number, post in zip(hashes.tolist(), posts, strict=True) if number not in gone}
        edited = {number: row for number, row in here.items() if self._is_edited(row, wanted[number])}
        self._hide(np.array(sorted(edited.values()), np.int64))
        added = [(number, ReadPost.of(post)) for number, post in wanted.items() if number not in here or number in edited]
        self._append(added)
        return len(added) - len(edited)

    def _is_edited(self, row: int, post: Mapping[str, Any]) -> bool:
        """Whether the post of a row is another version than this one; the same may come twice."""
        if row >= self.state.num_rows:  # of this very change, which sees each post once
            return False
        hits = self.snapshot.searcher.search(self.text.row(row), 1, count=False).hits
        return not hits or not is_stored(self.snapshot.searcher, hits[0][1], post)

    def _append(self, fresh: Sequence[tuple[int, ReadPost]]) -> None:
        """Write posts, with the hashes of their ids, behind the others."""
        view = self.columns.view()
        rows = np.zeros(len(fresh), ROW)
        end = len(self._id_text)
        names = [read.post["id"].encode() for _, read in fresh]
        for place, ((number, read), name) in enumerate(zip(fresh, names, strict=True)):
            end += len(name)
            rows[place] = self._row(number, read, end)
            self.text.add(view.num_rows + place, read)
        self._files["rows.bin"].append(rows.tobytes())
        self._files["ids.txt"].append(b"".join(names))
        self._id_text += b"".join(names)
        self.columns.append(rows)

    def delete(self, kind: str, keys: Sequence[str]) -> int:
        """Hide posts or authors, and reposts of them, at once. Returns the number of posts."""
        rows = self._named(kind, keys, self.columns.view())
        self._hide(rows)
        return len(rows)

    def _named(self, kind: str, keys: Sequence[str], view: View) -> Rows:
        """The living rows of these posts or authors, and of reposts of them."""
        hashes = self.hashes(keys)
        own, referred = (self.ids, self.refs) if kind == "post" else (self._authors, self._ref_authors)
        reposts = referred.rows(hashes, view)
        rows: Rows = np.union1d(own.rows(hashes, view), reposts[view.arrays["kind"][reposts] == KIND[REPOST]])
        return rows[view.alive[rows]]

    def _hide(self, rows: Rows) -> None:
        if len(rows):
            self.columns.alive[rows] = False
            self._files["gone.bin"].append(rows.astype(_GONE).tobytes())
            self._num_gone += len(rows)
            self.text.delete(rows)
            self._touched.append(rows)

    def seal(self, position: State) -> None:
        """Make everything durable, then visible. `position` says how far the store was seen."""
        for file in self._files.values():
            file.sync()
        if self.near is not None:
            self.near.sync()
        self.text.commit()
        view = self.columns.view()
        state = replace(
            position,
            num_rows=view.num_rows,
            id_bytes=len(self._id_text),
            num_gone=self._num_gone,
            languages=tuple(self._languages),
            num_vectors=self.near.num_rows if self.near is not None else 0,
        )
        files.write_state(self.root, state)
        self.state = state
        touched = np.concatenate([*self._touched, np.arange(self._fresh, view.num_rows)])
        self._fresh, self._touched = view.num_rows, []
        if len(touched):
            self.engagement.changed(touched, view)
        self.snapshot = self._taken()

    def embed(self, embeddings: Embeddings, most: int) -> Iterator[int]:
        """Give vectors to the first `most` rows that lack them, a block at a time; yields the number of each. Vectors of another name are
        removed."""
        if embeddings.name != self.state.vectors:
            self._forget_vectors(embeddings)
        near = self.near
        assert near is not None
        end = min(near.num_rows + most, self.state.num_rows)
        while near.num_rows < end:
            first = near.num_rows
            last = min(first + _VECTOR_ROWS, end)
            texts = [""] * (last - first)
            for row, post in self.stored(first, last):
                texts[row - first] = post["text"]
            near.append(embeddings.vectors(pa.array(texts, pa.large_string())))
            yield last - first

    def stored(self, first: int, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """The living posts of the rows `first` to `last` (without it), in order."""
        searcher = self.snapshot.searcher
        hits = searcher.search(self.text.row_range(first, last), last - first, count=False).hits
        rows = rows_of(searcher, hits)
        for place in np.argsort(rows).tolist():
            if self.columns.alive[rows[place]]:
                yield int(rows[place]), stored_post(searcher, hits[place][1])

    def keep_places(self, other: Generation) -> None:
        """Take over what deleted replies of another generation replied to, hashed, where something is still below them: nothing else of
        them is kept."""
        view = other.columns.view()
        ids, refs, is_reply = view.hashes("id"), view.hashes("ref"), view.arrays["kind"] == KIND[REPLY]
        gone = np.flatnonzero(is_reply & ~view.alive & (refs != 0))
        gone = gone[~np.isin(ids[gone], ids[view.alive])]
        needed, above = np.empty(0, np.int64), refs[is_reply & view.alive]
        while len(more := np.setdiff1d(gone[np.isin(ids[gone], above)], needed)):
            needed, above = np.union1d(needed, more), refs[more]
        rows = np.zeros(len(needed), ROW)
        rows["id"], rows["ref"], rows["kind"], rows["id_end"] = ids[needed], refs[needed], KIND[REPLY], len(self._id_text)
        first = self.columns.num_rows
        self._files["rows.bin"].append(rows.tobytes())
        self.columns.append(rows)
        self._hide(np.arange(first, self.columns.num_rows))

    def copy_vectors(self, other: Generation, rows: Rows) -> None:
        """Take over the vectors of these rows of another generation; the rows of this one are they, in order."""
        if other.near is None:
            return
        self.state = replace(self.state, vectors=other.state.vectors, dim=other.state.dim)
        self._near_folder().mkdir(parents=True, exist_ok=True)
        self.near = Near(self._near_folder(), other.state.dim, 0)
        self.near.copy(other.near, rows[rows < other.near.num_rows])

    def _row(self, number: int, read: ReadPost, end: int) -> tuple[int, ...]:
        post, key = read.post, self.key
        ref, ref_author = post["ref_id"], post["ref_author"]
        code = self._languages.setdefault(language(post["lang"]), len(self._languages))
        return (
            number, name_hash(post["author"], key), name_hash(account_key(post["author"]), key), name_hash(ref, key) if ref else 0,
            name_hash(ref_author, key) if ref_author else 0, read.at, end, min(max(post.get("num_likes") or 0, 0), _MAX_LIKES), code,
            KIND[post["kind"]], read.flags,
        )  # fmt: skip

    def _forget_vectors(self, embeddings: Embeddings) -> None:
        if self.near is not None:
            self.near.close()
            shutil.rmtree(self._near_folder(), ignore_errors=True)
        state = replace(self.state, vectors=embeddings.name, dim=embeddings.dim, num_vectors=0)
        self.state, self.near = state, None
        shutil.rmtree(self._near_folder(), ignore_errors=True)
        self._near_folder().mkdir(parents=True)
        self.near = Near(self._near_folder(), embeddings.dim, 0)
        self.seal(state)

    def _near_folder(self) -> Path:
        """Vectors of one name: never mixed with those of another."""
        return self.folder / ("near-" + hashlib.sha256(self.state.vectors.encode()).hexdigest()[:12])

    def _taken(self) -> Snapshot:
        return Snapshot(self.text.searcher(), self.columns.view(), tuple(self._languages))


def by_kind(tombstones: pa.Table) -> dict[str, list[str]]:
    """The posts and the authors that tombstones name."""
    return {kind: tombstones.filter(pc.equal(tombstones["kind"], kind))["key"].to_pylist() for kind in ("post", "author")}


def _is_behind(state: State, other: State) -> bool:
    """Whether files with this seal would have to be shorter: somebody made them anew under the same name."""
    lengths = ("num_rows", "id_bytes", "num_gone") + (("num_vectors",) if state.vectors == other.vectors else ())
    return any(getattr(state, name) < getattr(other, name) for name in lengths)
