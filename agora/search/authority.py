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

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import DataError
from agora.files import replacing
from agora.integrity.voice import Voices

COLUMNS: Final = ("author", "ref_author")
FULL: Final = 10_000
"""Voices from which an account has all the authority there is."""
_LEAST: Final = 3
"""Accounts that fewer voices refer to are not kept: they would be most of the file and move nothing."""


def authority(posts: Iterable[pa.RecordBatch], voices: Voices) -> dict[str, float]:
    """Authority of accounts, from posts with the columns author and ref_author."""
    pairs = [_pairs(batch) for batch in posts]
    if not pairs:
        return {}
    distinct = pa.concat_tables(pairs).group_by(list(COLUMNS)).aggregate([])
    counts: dict[str, set[tuple[str, str]]] = {}
    for author, referred in zip(distinct["author"].to_pylist(), distinct["ref_author"].to_pylist(), strict=True):
        counts.setdefault(referred, set()).add(voices.of(author))
    return {
        account: min(math.log(len(known)) / math.log(FULL), 1.0)
        for account, known in counts.items()
        if len(known) >= _LEAST and account not in voices.accounts
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


def _pairs(batch: pa.RecordBatch) -> pa.Table:
    table = pa.table([batch.column(name).cast(pa.string()) for name in COLUMNS], names=list(COLUMNS))
    refers = pc.and_(pc.is_valid(table["ref_author"]), pc.fill_null(pc.not_equal(table["author"], table["ref_author"]), False))
    return table.filter(refers).group_by(list(COLUMNS)).aggregate([])
