"""Posts per second from Parquet to packed shards, and the peak memory of doing it. Both bars must hold.

    python -m benchmarks corpus_speed [--quick] [--posts 2000000] [--keep FOLDER]

Makes short posts with POST_SCHEMA from word lists (replies, reposts, copies, near copies, links, handles, emoji, numbers,
four languages), then runs the real pipeline in a fresh process: normalise, language, filters, masking, exact and near
duplicates, threads, tokenise, pack. The tokenizer is trained before and not counted. Peak memory is the largest sum of
resident memory over the process and its children, sampled every 50 ms. The peer is the obvious way, on a sample: one
Python call per post and Hugging Face `encode_batch`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.registry import Benchmark, Result, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

POSTS = 2_000_000
QUICK_POSTS = 150_000
MIN_POSTS_PER_S = 30_000.0
MAX_PEAK_BYTES = 4 * 1024**3
FILE_ROWS = 250_000
PEER_POSTS = 5_000

_WORDS = {
    "en": "the a to of and in is it you that for on was with this have they at be are from not what all when we there can an your which "
    "if do said will each about how up out them then she many some so these would other into has more her two like him see time make",
    "de": "der die und in den von zu das mit sich des auf ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin sobre este",
    "ru": "и в не на что я с он как это по но из у за то все так его от бы вы мы они для уже или когда только был ещё",
}  # fmt: skip
_SYLLABLES = {
    "en": "ter ing con er an re ate ble ment sta tion mar ket bri dge gar den coun cil tick et har bour play sea son rec ipe win dow",
    "de": "ver ge ung heit keit schaft bahn hof markt brü cke gar ten rat haus spiel rein straß wet ter kon zert zei tung mor",
    "es": "ción dad mien to esta mer ca do puen te jar dín par ti equi po rece ta ca lle tiem bib lio noc he mañ ana",
    "ru": "ние ость ство пере при вок зал ры нок мост сад матч ко ман да ре цепт у ли ца по го да кон церт ве чер",
}  # fmt: skip
_DISTINCT_WORDS = 60_000
_EXTRAS = (
    "", "", "", "", "", "!", "...", " 🎉", " 👍🏽", " #monday", " #OnTheSquare", " https://t.co/Ab3dEf9hIj", " 20:45", " 2:1", " 12.50 EUR",
    "\n\nmore later",
)  # fmt: skip


def _make_posts(num_posts: int, folder: Path) -> list[Path]:
    """Write posts in files of FILE_ROWS; seeded."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(20261122)
    files = []
    for begin in range(0, num_posts, FILE_ROWS):
        rows = min(FILE_ROWS, num_posts - begin)
        table = _posts(rng, begin, rows)
        files.append(folder / f"posts-{begin:09d}.parquet")
        pq.write_table(table, files[-1], compression="zstd")
    assert sum(pa.parquet.read_metadata(file).num_rows for file in files) == num_posts
    return files


def _posts(rng: Any, begin: int, rows: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    from agora.posts.schema import POST_SCHEMA

    languages = rng.choice(["en", "de", "es", "ru"], size=rows, p=[0.7, 0.12, 0.12, 0.06])
    texts = _texts(rng, languages)
    copies = rng.random(rows)
    origin = (rng.random(rows) ** 2 * np.arange(rows)).astype(int)
    for row in np.flatnonzero(copies < 0.06):  # 3% exact copies, 3% with one word changed
        words = texts[origin[row]].split(" ")
        if copies[row] < 0.03 and len(words) > 2:
            words[int(rng.integers(len(words)))] = "today"
        texts[row] = " ".join(words)
    kinds = rng.choice(["post", "reply", "repost", "quote"], size=rows, p=[0.5, 0.3, 0.15, 0.05])
    refs = (begin + np.maximum(np.arange(rows) - rng.geometric(0.02, size=rows), 0)).astype(str)
    has_ref = kinds != "post"
    authors = np.char.add("u", (rng.zipf(1.3, size=rows) % 200_000).astype(str))
    mentions = rng.random(rows) < 0.25
    texts = [f"@{a} {t}" if m else t for a, t, m in zip(authors[::-1], texts, mentions, strict=True)]
    columns: dict[str, Any] = {
        "id": (begin + np.arange(rows)).astype(str), "author": authors,
        "created_at": pa.array(1_700_000_000_000_000 + (begin + np.arange(rows)) * 250_000, type=pa.timestamp("us", tz="UTC")),
        "text": texts,
        "lang": pa.array([lang if known else None for lang, known in zip(languages, rng.random(rows) < 0.5, strict=True)]),
        "kind": kinds, "ref_id": pa.array([r if has else None for r, has in zip(refs, has_ref, strict=True)]),
        "ref_author": pa.nulls(rows, pa.string()), "source": ["benchmark"] * rows, "num_likes": pa.nulls(rows, pa.int64()),
    }  # fmt: skip
    empty: list[list[str]] = [[]] * rows
    columns |= dict.fromkeys(("urls", "hashtags", "mentions", "media"), empty)
    return pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in POST_SCHEMA}, schema=POST_SCHEMA)


def _texts(rng: Any, languages: Any) -> list[str]:
    """Texts of 4 to 24 words, frequent words first (Zipf)."""
    import numpy as np

    texts = np.empty(len(languages), dtype=object)
    for language, words in _WORDS.items():
        rows = np.flatnonzero(languages == language)
        vocabulary = _vocabulary(np.random.default_rng(len(words)), words.split(), _SYLLABLES[language].split())
        lengths = rng.integers(4, 24, size=len(rows))
        # Half the words are function words; the others fall off like 1 / rank over the whole vocabulary.
        num = int(lengths.sum())
        ranks = np.exp(rng.random(num) * np.log(len(vocabulary))).astype(int) - 1
        picks = vocabulary[np.where(rng.random(num) < 0.5, rng.integers(len(words.split()), size=num), ranks)]
        ends = np.cumsum(lengths)
        extras = rng.integers(len(_EXTRAS), size=len(rows))
        for row, start, end, extra in zip(rows, ends - lengths, ends, extras, strict=True):
            texts[row] = " ".join(picks[start:end]) + _EXTRAS[extra]
    return list(texts)


def _vocabulary(rng: Any, function_words: list[str], syllables: list[str]) -> Any:
    """Function words, then words of two to four syllables."""
    import numpy as np

    lengths = rng.integers(2, 5, size=_DISTINCT_WORDS)
    made = ["".join(rng.choice(syllables, size=length)) for length in lengths]
    return np.array([*function_words, *dict.fromkeys(made)], dtype=object)


class _Stages:
    """A `Progress` that notes how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Any]:
        from agora.log import silent

        started = time.perf_counter()
        with silent.step(title) as step:
            yield step
        self.seconds[title] = round(time.perf_counter() - started, 2)


def _pipeline(folder: Path) -> dict[str, Any]:
    """What is measured; runs in its own process."""
    from agora.corpus.build import build_corpus
    from agora.corpus.config import CorpusConfig
    from agora.tokenizer import Tokenizer, pack_shards

    stages = _Stages()
    tokenizer = Tokenizer.load(folder / "tokenizer")
    started, cpu_started = time.perf_counter(), time.process_time()
    card = build_corpus(sorted((folder / "posts").glob("*.parquet")), folder / "corpus", CorpusConfig(), progress=stages)
    manifest = pack_shards(folder / "corpus" / "documents", tokenizer, folder / "shards", progress=stages)
    return {
        "seconds": time.perf_counter() - started, "stages_s": stages.seconds, "posts": card.posts_in, "kept": card.kept,
        "dropped": {name: count for name, count in card.dropped.items() if count}, "documents": card.documents,
        "tokens": manifest.tokens_out, "characters": card.characters, "cpu_s": round(time.process_time() - cpu_started, 1),
    }  # fmt: skip


def _print_pipeline(folder: Path) -> None:
    print(json.dumps(_pipeline(folder)))


def _watched(folder: Path) -> tuple[dict[str, Any], int]:
    """Run `_pipeline` in a fresh process; its answer and the peak of resident memory, children included."""
    import psutil

    program = "import sys; from pathlib import Path; import benchmarks.corpus_speed as b; b._print_pipeline(Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    peak = 0

    def sample() -> None:
        nonlocal peak
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, sum(p.memory_info().rss for p in (watched, *watched.children(recursive=True))))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)

    watcher = threading.Thread(target=sample)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"corpus_speed: the pipeline exited with {process.returncode}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result, peak


def _peer_posts_per_s(folder: Path) -> float:
    """The obvious way for normalising, masking and encoding only: a Python function per post, then `encode_batch`."""
    import unicodedata

    import pyarrow.parquet as pq
    import tokenizers

    from agora.corpus.privacy import mask_text

    hugging_face = tokenizers.Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    table = pq.read_table(min((folder / "posts").glob("*.parquet"))).slice(0, PEER_POSTS)
    started = time.perf_counter()
    texts = [mask_text(" ".join(unicodedata.normalize("NFKC", text).split()))[0] for text in table["text"].to_pylist()]
    hugging_face.encode_batch(texts)
    return PEER_POSTS / (time.perf_counter() - started)


def _run(quick: bool, options: dict[str, str]) -> Result:
    import pyarrow.parquet as pq

    from agora.tokenizer import Tokenizer

    num_posts = whole_number(options, "posts", QUICK_POSTS if quick else POSTS, at_least=1)
    folder = Path(options["keep"]) if "keep" in options else Path(tempfile.mkdtemp(prefix="corpus-speed-"))
    try:
        if not (folder / "posts").exists():
            (folder / "posts").mkdir(parents=True)
            files = _make_posts(num_posts, folder / "posts")
            sample = pq.read_table(files[0], columns=["text"]).slice(0, 40_000)["text"].to_pylist()
            Tokenizer.train(sample, vocab_size=8192).save(folder / "tokenizer")
        for made in ("corpus", "shards"):
            shutil.rmtree(folder / made, ignore_errors=True)
        result, peak = _watched(folder)
        peer = _peer_posts_per_s(folder)
    finally:
        if "keep" not in options:
            shutil.rmtree(folder)
    posts_per_s = result["posts"] / result["seconds"]
    details = {
        **result, "posts_per_s": round(posts_per_s), "peak_bytes": peak, "peak_gib": round(peak / 1024**3, 2), "cores": os.cpu_count(),
        "stages_posts_per_s": {name: round(result["posts"] / max(seconds, 1e-3)) for name, seconds in result["stages_s"].items()},
        "bars": {f">= {MIN_POSTS_PER_S:.0f} posts/s": posts_per_s >= MIN_POSTS_PER_S, "<= 4 GiB": peak <= MAX_PEAK_BYTES},
        "row_by_row_posts_per_s": round(peer),
        "other_load": [round(load, 1) for load in os.getloadavg()],
    }  # fmt: skip
    return Result(value=posts_per_s, holds=posts_per_s >= MIN_POSTS_PER_S and peak <= MAX_PEAK_BYTES, details=details)


BENCHMARK = Benchmark(
    measures="posts from Parquet to packed shards on this machine's cores, peak memory <= 4 GiB",
    unit="posts/s", bound=">= 30000", run=_run, options=("posts", "keep"),
)  # fmt: skip
