#!/usr/bin/env bash
# A search for coordinated accounts whose reading is spread over a Ray cluster. The result is that of one machine, exactly.
#
#   bash runs/integrity_ray.sh                                       proof on this machine: two Ray nodes, simulated posts, about a minute
#   RAY=ray://head:10001 POSTS=/mnt/posts bash runs/integrity_ray.sh a real cluster
#
# A real cluster needs, on every node, the same Python and `pip install 'agora[integrity,ray]'` (the same versions), and the posts under the
# same path (a network mount). Nodes are started once, by hand, by Slurm or by Kubernetes (KubeRay):
#
#   head         RAY_USAGE_STATS_ENABLED=0 DAFT_ANALYTICS_ENABLED=0 ray start --head --port=6379 --ray-client-server-port=10001
#   every other  RAY_USAGE_STATS_ENABLED=0 DAFT_ANALYTICS_ENABLED=0 ray start --address=HEAD:6379
#
# Run this on the head (RAY=HEAD:6379) or on a machine that reaches it (RAY=ray://HEAD:10001). Ray has no password: keep its ports inside the
# cluster's network. Only the keys of posts and their texts come back to where this runs; tests and evidence are worked out there.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
export RAY_USAGE_STATS_ENABLED=0 DAFT_ANALYTICS_ENABLED=0

if [ -z "${RAY:-}" ]; then
  exec "$PYTHON" -m benchmarks integrity_cluster --quick
fi

export RAY
export POSTS=${POSTS:?integrity_ray.sh: POSTS names a folder of Parquet files of posts, or a post store, that every node sees}
export WORK=${WORK:-workspace/integrity_ray}                      # keys of all posts lie here meanwhile: about the size of the posts
export PARTITIONS=${PARTITIONS:-64}                               # pieces of work: three or more per node
export OUT=${OUT:-$WORK/campaigns.jsonl}                          # one campaign per line, with all its evidence

exec "$PYTHON" - <<'SCAN'
import json
import os
from dataclasses import asdict
from pathlib import Path

from agora.cli.output import terminal_progress
from agora.files import write_atomically
from agora.integrity.cluster import cluster_scan, read_posts, use_ray
from agora.posts.store import PostStore

posts, work, out = (Path(os.environ[name]).resolve() for name in ("POSTS", "WORK", "OUT"))
use_ray(os.environ["RAY"])
is_folder = any(posts.glob("*.parquet"))
store = None if is_folder else PostStore.open(posts)
frame, num_posts = (read_posts(posts), None) if store is None else (store.to_daft(), store.num_posts)
found = cluster_scan(frame, work, num_posts=num_posts, num_partitions=int(os.environ["PARTITIONS"]), progress=terminal_progress)
out.parent.mkdir(parents=True, exist_ok=True)
write_atomically(out, "".join(json.dumps(asdict(one)) + "\n" for one in found.campaigns))
labelled = sum(len(one.labelled) for one in found.campaigns)
print(f"{found.num_posts:,} posts, {len(found.campaigns):,} groups, {labelled:,} accounts labelled: {out}")
SCAN
