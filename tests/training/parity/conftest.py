"""Groups of processes for the parity tests, started when the first test needs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.parity.ranks import Ranks


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.close()


@pytest.fixture(scope="session")
def four_ranks() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def eight_ranks() -> Iterator[Ranks]:
    ranks = Ranks(8)
    yield ranks
    ranks.close()
