"""How much accounts are referred to. Goes in: posts and who speaks as one. Comes out: a number between 0 and 1 per account.

An account is worth the number of voices that replied to it, reposted or quoted it, on a logarithmic scale: a thousand accounts of one
campaign are one voice, so nobody makes himself important. Who is labelled has none. It is kept as workspace/search/authority.parquet.

Not covered: what an account knows, and who follows whom (posts do not say).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import DataError
from agora.files import replacing
from agora.integrity.voice import Voices
from agora.posts.distinct import Distinct
from agora.search.voice_counts import VoiceCounts

COLUMNS: Final = ("author", "ref_author")
FULL: Final = 10_000
"""Voices from which an account has all the authority there is."""
_LEAST: Final = 3
"""Accounts that fewer voices refer to are not kept: they would be most of the file and move nothing."""


def authority(posts: Iterable[pa.RecordBatch], voices: Voices) -> dict[str, float]:
    """Authority of accounts, from posts with the columns author and ref_author."""
    counts, names = VoiceCounts(voices), Distinct()
    for batch in posts:
        author, referred = (batch.column(name).cast(pa.string()) for name in COLUMNS)
        refers = pc.fill_null(pc.not_equal(author, referred), False)
        counts.add(author.filter(refers), referred.filter(refers))
        names.add(referred.filter(refers))
    accounts = names.values()
    known = counts.of(accounts)
    kept = np.flatnonzero(known >= _LEAST)
    return {
        account: min(math.log(number) / math.log(FULL), 1.0)
        for account, number in zip(accounts.take(pa.array(kept)).to_pylist(), known[kept].tolist(), strict=True)
        if account not in voices.accounts
    }


def write_authority(known: Mapping[str, float], path: Path) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        pq.write_table(pa.table({"account": list(known), "authority": pa.array(list(known.values()), pa.float64())}), part)


def read_authority(path: Path) -> dict[str, float]:
    """What `write_authority` wrote; empty where nothing was written. Raises DataError for a damaged file."""
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
        return dict(zip(table["account"].to_pylist(), table["authority"].to_pylist(), strict=True))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}; make it anew: agora search index") from error
