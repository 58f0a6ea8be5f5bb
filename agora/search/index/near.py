"""The vectors of the embedded index. Goes in: vectors, one per row. Comes out: the rows with the largest inner products.

On disk a vector is 8 bits per dimension and one scale. A search looks at all of them in a short form, 4 bits for two or three dimensions
(product quantization: Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", 2011; scanned in registers: Andre,
Kermarrec, Le Scouarnec, "Quicker ADC", 2019; the library is faiss), and ranks the best of these again by the 8 bits. Recall and time:
docs/decisions/0005-search-index.md. What few posts pass is looked at in 8 bits at once, without the short form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.errors import MissingExtraError, PostIndexError
from agora.files import replacing
from agora.search.index.columns import Mask, Rows
from agora.search.index.files import AppendedFile
from agora.search.index.text import EXTRA

Vectors = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]

VECTORS_FILE: Final = "vectors.bin"
_SCALE_BYTES: Final = 4
_LEVELS: Final = 127  # of 8 bits with sign
_EXACT_ROWS: Final = 8_192  # so many are ranked without the short form
_CODE_FROM: Final = 20_000  # vectors from which on the short form pays
_TAIL_ROWS: Final = 8_192  # vectors without a short form are looked at in 8 bits until there are so many
_TRAINING_ROWS: Final = 32_768
_RETRAIN_GROWTH: Final = 8  # the short form is learned anew when there are so many times the vectors
_CANDIDATES: Final = 400  # ranked again, at least ...
_CANDIDATES_PER_HIT: Final = 8  # ... or so many per hit asked for


def packed(vectors: Vectors) -> Packed:
    """Vectors as they are kept, a row each: the scale (float32), then 8 bits per dimension."""
    scale = (np.abs(vectors).max(axis=1, initial=0.0) / _LEVELS).astype("<f4")
    values = np.rint(vectors / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    return np.concatenate([scale.view(np.uint8).reshape(-1, _SCALE_BYTES), values.view(np.uint8)], axis=1)


def unpacked(some: Packed) -> tuple[Vectors, Vectors]:
    """The 8 bits as float32, and the scales."""
    return some[:, _SCALE_BYTES:].view(np.int8).astype(np.float32), some[:, :_SCALE_BYTES].copy().view("<f4")[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """faiss's index over the first `num_rows` vectors, learned from `learned_from` of them."""

    index: Any
    num_rows: int
    learned_from: int


class Near:
    """Vectors of the rows 0 .. `num_rows`."""

    def __init__(self, folder: Path, dim: int, num_rows: int) -> None:
        self.folder, self.dim, self.num_rows = folder, dim, num_rows
        self._file: AppendedFile | None = None
        self._map = self._mapped()
        self._codes = self._read_codes()

    def append(self, vectors: Vectors) -> None:
        """Add vectors of the rows that follow. The writer's; durable after `sync`."""
        self._append(packed(vectors))

    def copy(self, other: Near, rows: Rows) -> None:
        """Add vectors of another index of the same dimension, as they lie there."""
        for start in range(0, len(rows), _TRAINING_ROWS):
            self._append(other._map.take(rows[start : start + _TRAINING_ROWS], axis=0))

    def _append(self, some: Packed) -> None:
        if self._file is None:
            self._file = AppendedFile(self.folder / VECTORS_FILE, self.num_rows * (_SCALE_BYTES + self.dim))
        self._file.append(some.tobytes())
        self.num_rows += len(some)

    def sync(self) -> None:
        """Flush to the disk, and show what was added."""
        if self._file is not None:
            self._file.sync()
        self._map = self._mapped()

    def follow(self, num_rows: int) -> None:
        """Show vectors, and their short form, that another process has added."""
        if num_rows != self.num_rows:
            self.num_rows = num_rows
            self._map = self._mapped()
        done = self._codes.num_rows if self._codes else 0
        if num_rows >= _CODE_FROM and num_rows - done >= _TAIL_ROWS:
            found = self._read_codes()
            self._codes = found if found is not None and found.num_rows > done else self._codes

    def code(self) -> None:
        """Give the short form to vectors that lack it, when there are enough. Searches go on meanwhile."""
        done = self._codes.num_rows if self._codes else 0
        if self.num_rows < _CODE_FROM or self.num_rows - done < _TAIL_ROWS:
            return
        faiss = _faiss()
        if self._codes is None or self.num_rows > _RETRAIN_GROWTH * self._codes.learned_from:
            index, done, learned_from = self._learned(), 0, self.num_rows
        else:
            index, learned_from = faiss.clone_index(self._codes.index), self._codes.learned_from
        for start in range(done, self.num_rows, _TRAINING_ROWS):
            index.add(self._values(np.arange(start, min(start + _TRAINING_ROWS, self.num_rows))))
        with replacing(self.folder / f"codes-{self.num_rows}-{learned_from}.faiss") as part:
            faiss.write_index(index, str(part))
        self._codes = _Codes(index, self.num_rows, learned_from)
        for path in self._code_files()[:-1]:
            path.unlink(missing_ok=True)

    def search(self, vector: Vectors, mask: Mask, limit: int) -> tuple[Rows, Vectors]:
        """The best `limit` rows of the mask and their inner products, best first."""
        known, codes = self._map, self._codes
        allowed = np.flatnonzero(mask[: len(known)])
        if codes is not None and len(allowed) > _EXACT_ROWS:
            found = self._candidates(codes, vector, mask, len(allowed), limit)
            if found is not None:
                allowed = np.concatenate([found, allowed[np.searchsorted(allowed, codes.num_rows) :]])
        scores = np.concatenate(
            [
                np.zeros(0, np.float32),
                *(self._scores(known, allowed[i : i + _EXACT_ROWS], vector) for i in range(0, len(allowed), _EXACT_ROWS)),
            ]
        )
        best = np.argpartition(-scores, limit)[:limit] if len(scores) > limit else np.arange(len(scores))
        best = best[np.lexsort((allowed[best], -scores[best]))]
        best = best[np.isfinite(scores[best])]
        return allowed[best], scores[best]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _candidates(self, codes: _Codes, vector: Vectors, mask: Mask, num_allowed: int, limit: int) -> Rows | None:
        """Rows to rank again, by the short form: so many that enough of them pass. None when the mask hides too many of the best."""
        enough = max(_CANDIDATES, _CANDIDATES_PER_HIT * limit)
        wanted = int(enough * len(mask) / num_allowed)
        _faiss()
        while wanted < codes.num_rows // 4:
            rows = codes.index.search(vector[None].astype(np.float32), wanted)[1][0]
            rows = rows[(rows >= 0) & (rows < len(mask))]  # the short form may know rows that came after the mask was made
            passing = rows[mask[rows]]
            if len(passing) >= enough // 2:
                return np.asarray(passing)
            wanted *= 4
        return None

    @staticmethod
    def _scores(known: Packed, rows: Rows, vector: Vectors) -> Vectors:
        """Inner products; -inf for a text without words, which has no vector. (A product of the BLAS wakes threads: 25 ms, not 1.5.)"""
        values, scale = unpacked(known.take(rows, axis=0))
        products = np.einsum("ij,j->i", values, vector.astype(np.float32)) * scale
        return np.where(scale > 0, products, np.float32(-np.inf))

    def _values(self, rows: Rows) -> Vectors:
        values, scale = unpacked(self._map.take(rows, axis=0))
        return values * scale[:, None]

    def _learned(self) -> Any:
        faiss = _faiss()
        part = 3 if self.dim % 3 == 0 else 2 if self.dim % 2 == 0 else 1
        index = faiss.index_factory(self.dim, f"PQ{self.dim // part}x4fs", faiss.METRIC_INNER_PRODUCT)
        rows = np.random.default_rng(0).choice(self.num_rows, min(_TRAINING_ROWS, self.num_rows), replace=False)
        index.train(self._values(np.sort(rows)))
        return index

    def _mapped(self) -> Packed:
        shape = (self.num_rows, _SCALE_BYTES + self.dim)
        return np.memmap(self.folder / VECTORS_FILE, np.uint8, "r", shape=shape) if self.num_rows else np.empty(shape, np.uint8)

    def _code_files(self) -> list[Path]:
        return sorted(self.folder.glob("codes-*.faiss"), key=lambda path: int(path.stem.split("-")[1]))

    def _read_codes(self) -> _Codes | None:
        """The short forms on disk: of the sealed vectors at most, since what lies beyond may be written anew."""
        for path in reversed(self._code_files()):
            _, num_rows, learned_from = path.stem.split("-")
            if int(num_rows) > self.num_rows:
                continue
            try:
                return _Codes(_faiss().read_index(str(path)), int(num_rows), int(learned_from))
            except RuntimeError as error:
                if path.exists():
                    raise PostIndexError(
                        f"{path} cannot be read: {error}; delete the index folder, it is made anew from the posts"
                    ) from error
        return None  # or the writer, who has a newer one, has just removed it: the next look finds that


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss", EXTRA, "search by meaning over many posts") from error
    faiss.omp_set_num_threads(1)  # of the calling thread: clients are the parallel ones, and threads that wait in a spin slow all others
    return faiss
