"""Peak memory of a scan of many posts, streamed from the simulator: what is kept lies on disk and is mapped when read.

python -m benchmarks integrity_memory [--quick] [--posts 10000000]

The scan runs in a process of its own, whose peak resident memory counts, mapped pages included; the simulator runs in it too. Accounts are
a hundredth of the posts. Fewer posts than in full are held to a share of the bar: a fixed 0.4 GB, the rest by their number.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from agora.errors import AgoraError
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number

MAX_BYTES: Final = 2e9
FULL_POSTS: Final = 10_000_000
FIXED_BYTES: Final = 0.4e9
_TAIL_CHARACTERS = 500

_SCAN = """
import json, resource, sys, tempfile, time
from pathlib import Path
from agora.integrity.collect import collect
from agora.integrity.config import IntegrityConfig
from agora.integrity.scan import examine
from agora.integrity.shared import shared
from agora.posts.simulate import SquareConfig, simulate
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
num_posts = int(sys.argv[1])
config = SquareConfig(num_posts=num_posts, num_accounts=num_posts // 100, seed=901)
with tempfile.TemporaryDirectory() as folder:
    started, found = time.perf_counter(), {}
    posts = collect((batch for table in simulate(config) for batch in table.to_batches()), Path(folder))
    found["read"] = peak()
    shares = shared(posts)
    found["who_shared_what"] = peak()
    result = examine(posts, shares, config=IntegrityConfig())
    found["tests_and_evidence"] = peak()
    size = sum(path.stat().st_size for path in Path(folder).iterdir())
print(json.dumps({"peak_after": found, "posts": result.num_posts, "accounts": result.num_accounts, "disk_bytes": size,
                  "seconds": time.perf_counter() - started, "tests": result.num_tests}))
"""


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_posts = whole_number(options, "posts", 500_000 if quick else FULL_POSTS, at_least=10_000)
    done = subprocess.run([sys.executable, "-c", _SCAN, str(num_posts)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AgoraError(f"the scan of {num_posts} posts ended with {done.returncode}: {done.stderr[-_TAIL_CHARACTERS:]}")
    details: dict[str, Any] = json.loads(done.stdout)
    peak = max(details["peak_after"].values())
    bar = FIXED_BYTES + (MAX_BYTES - FIXED_BYTES) * num_posts / FULL_POSTS
    details |= {"bar_bytes": bar, "bytes_per_post_above_fixed": (peak - FIXED_BYTES) / num_posts}
    return Result(value=peak / 1e9, holds=peak <= bar, details=details)


BENCHMARK = Benchmark(
    measures="peak memory of a scan of 10 million simulated posts (fewer in --quick, held to their share)", unit="GB",
    bound="<= 2", run=_run, options=("posts",),
)  # fmt: skip
