"""MinHash estimates the Jaccard index that the exact computation gives; shingles agree with sets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from agora.text.minhash import band_keys, jaccard, shingles, signatures

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), max_size=12).map(" ".join)


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, type=pa.large_string())


def pairs_of(text: str) -> set[tuple[str, ...]]:
    """The slow, obvious twin of `shingles`."""
    words = text.split(" ")
    return {(words[0],)} if len(words) == 1 else {tuple(words[i : i + 2]) for i in range(len(words) - 1)}


@given(st.lists(WORDS, min_size=2, max_size=6))
def test_jaccard_agrees_with_python_sets(texts: list[str]) -> None:
    sets = shingles(column(texts))
    left, right = np.zeros(len(texts), dtype=np.int64), np.arange(len(texts))
    expected = [len(pairs_of(texts[0]) & pairs_of(t)) / len(pairs_of(texts[0]) | pairs_of(t)) for t in texts]
    assert np.allclose(jaccard(sets, left, right), expected)


def test_signatures_estimate_the_jaccard_index() -> None:
    rng = np.random.default_rng(3)
    base = [f"w{n}" for n in rng.integers(500, size=60)]
    texts = [" ".join(base), " ".join(base[:30] + [f"x{n}" for n in range(30)])]
    signature = signatures(column(texts), 1024)
    exact = jaccard(shingles(column(texts)), np.array([0]), np.array([1]))[0]
    # 1024 hashes: standard error of at most 0.016; five of them.
    assert abs((signature[0] == signature[1]).mean() - exact) < 0.08


def test_bands_agree_where_and_only_where_their_rows_do() -> None:
    signature = np.array([[1, 2, 3, 4], [1, 2, 9, 4], [1, 2, 3, 4]], dtype=np.uint32)
    keys = band_keys(signature, 2)
    assert keys[0, 0] == keys[1, 0]
    assert keys[0, 1] != keys[1, 1]
    assert (keys[0] == keys[2]).all()
    assert keys[0, 0] != band_keys(signature[:, [2, 3, 0, 1]], 2)[0, 1]


def test_hashes_are_those_of_every_build() -> None:
    """Golden values: the held-out authors and the order of documents rest on them."""
    from agora.text.minhash import hash_strings

    assert hash_strings(column(["", "mira"])).tolist() == [3244421341483603138, 15849686150424875421]
