"""A collection with judgements, as the search benchmarks use it. Goes in: a folder with queries, corpus and qrels (Parquet). Comes out:
what agora/search/judgements.py reads there, and vectors that are kept.

Vectors are kept in .bench-cache beside the benchmarks, by the hash of the text: making them takes minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.files import replacing
from agora.search import judgements
from agora.search.judgements import NOW, TOP, Collection, average_precision, indexed
from agora.text.embeddings import Embeddings
from agora.text.minilm import load_minilm
from benchmarks.registry import REPOSITORY, data_folder

CACHE = REPOSITORY / ".bench-cache" / "search"
DEVELOPMENT = "search/clef2020"
SPLITS = ("train", "dev", "test")


def read_collection(options: dict[str, str]) -> Collection:
    """The collection at --data, or the development one. Raises UsageError when a file or column is missing."""
    folder = data_folder(options, *(() if "data" in options else (DEVELOPMENT,)))
    return judgements.read_collection(folder if "data" in options else folder / DEVELOPMENT)


class KeptEmbeddings:
    """Vectors of another maker, kept on disk."""

    def __init__(self, make: Callable[[], Embeddings], name: str) -> None:
        self._make, self._path = make, CACHE / f"{name}.npz"
        self._made: Embeddings | None = None
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self._is_new = False
        if self._path.is_file():
            with np.load(self._path, allow_pickle=False) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))
        self.dim, self.name = 384, name

    def vectors(self, texts: pa.Array) -> npt.NDArray[np.float32]:
        """One unit row per text."""
        listed = [text or "" for text in texts.to_pylist()]
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in listed]
        missing = sorted(
            {key: text for key, text in zip(keys, listed, strict=True) if key not in self._known}.items(), key=lambda one: len(one[1])
        )
        if missing:
            self._made = self._made or self._make()
            made = self._made.vectors(pa.array([text for _, text in missing], pa.large_string()))
            self._known |= dict(zip((key for key, _ in missing), made, strict=True))
            self._is_new = True
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, self.dim), np.float32)

    def keep(self) -> None:
        """Write what is new."""
        if self._is_new:
            CACHE.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as part, part.open("wb") as file:
                np.savez(file, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))


def minilm() -> KeptEmbeddings:
    """MiniLM with its vectors kept."""
    return KeptEmbeddings(load_minilm, "all-minilm-l6-v2")


__all__ = ["NOW", "SPLITS", "TOP", "Collection", "KeptEmbeddings", "average_precision", "indexed", "minilm", "read_collection"]
