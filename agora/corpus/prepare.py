"""The part of the corpus that looks at each post alone, as one Daft query, so that it can also run on a Ray cluster (not tried yet).

Goes in: posts (a Daft dataframe). Comes out: batches of PREPARED columns: masked text, comparison key, language, reason to
drop, 64-bit hashes, MinHash band keys and counts of what was masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.corpus.config import CorpusConfig
from agora.corpus.privacy import MASK_KINDS, mask
from agora.corpus.steps import Rows, first_objection
from agora.errors import DataError
from agora.posts.schema import REPOST
from agora.text.codepoints import large_strings
from agora.text.columns import change_where
from agora.text.language import UNKNOWN, detect_languages
from agora.text.minhash import band_keys, hash_strings, signatures
from agora.text.normalise import comparison_key, normalise
from agora.text.quiet_daft import daft

NEEDED: Final = ("id", "author", "created_at", "text", "kind")
_OPTIONAL: Final = ("lang", "ref_id", "ref_author", "source")
_REPOST_MARK: Final = r"(?s)(^|\s)RT @.*$"
_REPOST_HEAD: Final = r"^\s*RT @[^\s:]+:?\s*"
_REPOST_NAME: Final = r"^\s*RT @(?P<name>[^\s:]+)"
_QUOTED_LINES: Final = r"(?m)^>+ .*\n?"
BATCH_ROWS: Final = 65_536

_TEXT = daft.DataType.string()
_HASH = daft.DataType.uint64()


def _result_type(config: CorpusConfig) -> Any:
    fields = {"author": _TEXT, "text": _TEXT, "key": _TEXT, "lang": _TEXT}
    fields |= {"reason": daft.DataType.uint8(), "num_words": daft.DataType.uint32()}
    fields |= {"id_hash": _HASH, "author_hash": _HASH, "text_hash": _HASH, "key_hash": _HASH}
    fields["bands"] = daft.DataType.fixed_size_list(_HASH, config.num_bands)
    return daft.DataType.struct(fields | {f"masked_{kind}": daft.DataType.uint16() for kind in MASK_KINDS})


def read_posts(paths: list[Path]) -> Any:
    """A Daft dataframe over Parquet files of posts. Raises DataError for one that is missing or is not Parquet."""
    for path in paths:
        num_parquet_rows(path, "posts file")
    return daft.read_parquet([str(path) for path in paths])


def num_parquet_rows(path: Path, what: str) -> int:
    """Rows of a Parquet file. Raises DataError, beginning with `what`, when there is no such file."""
    if not path.is_file():
        raise DataError(f"{what} {path} " + ("is a folder; give the Parquet files in it" if path.is_dir() else "does not exist"))
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{what} {path} cannot be read as Parquet: {error}; other formats are for: agora posts import") from error


def prepared(posts: Any, config: CorpusConfig, deleted_ids: pa.Array, deleted_authors: pa.Array) -> Iterator[pa.RecordBatch]:
    """Run the query and yield its batches in no particular order. Raises DataError when a column is missing."""
    names = set(posts.column_names)
    if missing := [name for name in NEEDED if name not in names]:
        raise DataError(f"posts have no column {missing[0]!r}; they have {', '.join(sorted(names))} (see docs on the Post schema)")
    columns = [daft.col(name) for name in NEEDED]
    columns += [daft.col(name) if name in names else daft.lit(None).cast(_TEXT).alias(name) for name in _OPTIONAL]

    @daft.func.batch(return_dtype=_result_type(config), batch_size=BATCH_ROWS)  # type: ignore[untyped-decorator]
    def prepare(
        ids: daft.Series, authors: daft.Series, texts: daft.Series, kinds: daft.Series, langs: daft.Series, ref_ids: daft.Series,
        ref_authors: daft.Series,
    ) -> pa.StructArray:  # fmt: skip
        batch = {"id": ids, "author": authors, "text": texts, "kind": kinds, "lang": langs, "ref_id": ref_ids, "ref_author": ref_authors}
        return prepare_batch({name: series.to_arrow() for name, series in batch.items()}, config, deleted_ids, deleted_authors)

    inputs = [daft.col(name) for name in ("id", "author", "text", "kind", "lang", "ref_id", "ref_author")]
    query = posts.select(*columns).with_column("made", prepare(*inputs))
    made = [daft.col("made").get(name).alias(name) for name in _result_type(config).to_arrow_dtype().names]
    kept = [daft.col("id"), daft.col("created_at"), daft.col("source"), daft.col("ref_id").hash().alias("ref_hash")]
    kept.append((daft.col("ref_id").not_null() & (daft.col("kind") == "reply")).alias("is_reply"))
    yield from query.select(*kept, *made).to_arrow_iter()


def prepare_batch(batch: Mapping[str, pa.Array], config: CorpusConfig, deleted_ids: pa.Array, deleted_authors: pa.Array) -> pa.StructArray:
    """Everything that one post alone decides. `batch`: columns id, author, text, kind, lang, ref_id, ref_author."""
    ids = large_strings(batch["id"])
    raw = normalise(large_strings(batch["text"]))
    own, is_repost, authors = _own_words(raw, batch, config)
    masked = mask(own, config)
    key = comparison_key(masked.texts)
    lang = _languages(batch["lang"], key)
    referred = large_strings(batch["ref_id"])
    names_post = pc.and_(pc.equal(large_strings(batch["kind"]), REPOST), pc.not_equal(referred, ""))
    reposted = pc.if_else(names_post, referred, pa.scalar(None, type=pa.large_string()))
    rows = Rows(ids, reposted, authors, is_repost, raw, masked.texts, key, lang, deleted_ids, deleted_authors)
    reason = first_objection(rows, config)
    bands = band_keys(signatures(key, config.num_bands * config.rows_per_band), config.num_bands)
    num_words = np.asarray(pc.count_substring(key, " ")).astype(np.uint32) + 1
    columns = {
        "author": authors, "text": masked.texts, "key": key, "lang": lang, "reason": reason, "num_words": num_words,
        "id_hash": hash_strings(ids), "author_hash": hash_strings(authors), "text_hash": hash_strings(masked.texts),
        "key_hash": hash_strings(key), "bands": pa.FixedSizeListArray.from_arrays(pa.array(bands.reshape(-1)), config.num_bands),
        **{f"masked_{kind}": masked.counts[kind] for kind in MASK_KINDS},
    }  # fmt: skip
    arrays = [pa.array(value) if isinstance(value, np.ndarray) else value for value in columns.values()]
    return pa.StructArray.from_arrays(arrays, list(columns))


def _own_words(
    raw: pa.LargeStringArray, batch: Mapping[str, pa.Array], config: CorpusConfig
) -> tuple[pa.LargeStringArray, npt.NDArray[np.bool_], pa.LargeStringArray]:
    """What the author wrote: `my words RT @x: theirs` -> `my words`; lines beginning with `> ` quote somebody else and go. A repost
    without such a mark has no words of its own. Extra texts (kind empty) keep their lines.

    Returns the text, whether it repeats somebody (in whole or part), and whose voice it is: with reposts=once that of the
    reposted author, by `ref_author` or else by the name after RT @.
    """
    authors, ref_authors = large_strings(batch["author"]), large_strings(batch["ref_author"])
    kinds = large_strings(batch["kind"])
    is_repost = np.asarray(pc.equal(kinds, REPOST))
    quoting = pc.and_(pc.not_equal(kinds, ""), pc.match_substring_regex(raw, _QUOTED_LINES))
    raw = change_where(raw, quoting, lambda rows: pc.ascii_trim(pc.replace_substring_regex(rows, _QUOTED_LINES, ""), " \n"))
    marked = np.asarray(pc.match_substring_regex(raw, _REPOST_MARK))
    if config.reposts == "once":
        starts = np.asarray(pc.match_substring_regex(raw, _REPOST_HEAD))
        text = raw
        if starts.any():
            named = pc.struct_field(pc.extract_regex(raw, _REPOST_NAME), "name").cast(pa.large_string())
            unknown = pa.array(starts & np.asarray(pc.equal(ref_authors, "")))
            ref_authors = pc.if_else(unknown, pc.fill_null(named, ""), ref_authors)
            text = pc.if_else(pa.array(starts), pc.replace_substring_regex(raw, _REPOST_HEAD, ""), raw)
        others = pa.array((is_repost | starts) & np.asarray(pc.not_equal(ref_authors, "")))
        return text, np.asarray(quoting), pc.if_else(others, ref_authors, authors)
    text = raw
    if marked.any():
        text = pc.if_else(pa.array(marked), pc.ascii_trim(pc.replace_substring_regex(raw, _REPOST_MARK, ""), " \n"), raw)
    if (silent := is_repost & ~marked).any():
        text = pc.if_else(pa.array(silent), "", text)
    return text, is_repost | marked | np.asarray(quoting), authors


def _languages(declared: pa.Array, key: pa.LargeStringArray) -> pa.LargeStringArray:
    """The declared language (its primary subtag, lower case), detected where there is none or it is `und`."""
    lang = pc.utf8_lower(pc.replace_substring_regex(declared.cast(pa.large_string()), r"[-_].*$", ""))
    unknown = pc.or_(pc.is_null(lang), pc.is_in(lang, value_set=pa.array(["", UNKNOWN], type=pa.large_string())))
    if not unknown.true_count:
        return lang
    if unknown.true_count == len(lang):
        return detect_languages(key)
    return pc.replace_with_mask(lang, unknown, detect_languages(key.filter(unknown)))
