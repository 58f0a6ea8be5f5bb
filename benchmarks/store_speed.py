"""Post store: posts per second appended (with the check for ids already there) at a size where the index matters, and scanned.

python -m benchmarks store_speed [--quick]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.registry import Benchmark, Result

_APPEND_BAR, _SCAN_BAR = 50_000.0, 500_000.0


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.simulate import SquareConfig, simulate
    from agora.posts.store import PostStore

    total = 400_000 if quick else 2_000_000
    config = SquareConfig(num_posts=total, num_accounts=20_000)
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder) / "posts", create=True) as store:
        seconds, last, made = 0.0, None, 0
        for last in simulate(config):
            started = time.perf_counter()
            store.append(last)
            seconds += time.perf_counter() - started
            made += last.num_rows
        assert last is not None
        append = made / seconds
        started = time.perf_counter()
        again = store.append(last)
        duplicates = last.num_rows / (time.perf_counter() - started)
        assert again.appended == 0
        started = time.perf_counter()
        scanned = sum(batch.num_rows for batch in store.scan())
        scan = scanned / (time.perf_counter() - started)
        started = time.perf_counter()
        store.delete_authors([last["author"][0].as_py()])
        delete_s = time.perf_counter() - started
        started = time.perf_counter()
        PostStore.open(store.folder)
        open_s = time.perf_counter() - started
        size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    details = {
        "posts": made, "append_posts_per_s": append, "append_again_posts_per_s": duplicates, "scan_posts_per_s": scan,
        "delete_author_s": delete_s, "open_s": open_s, "bytes_per_post": size / made, "scan_bar": _SCAN_BAR,
    }  # fmt: skip
    return Result(value=append, holds=append >= _APPEND_BAR and scan >= _SCAN_BAR, details=details)


BENCHMARK = Benchmark(measures="posts appended per second, with idempotence", unit="posts/s", bound=">= 50000", run=_run)
