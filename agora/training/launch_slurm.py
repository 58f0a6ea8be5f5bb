"""A Slurm batch script for a Job. Goes in: a Job. Comes out: text for `sbatch`.

One task per node starts torchrun. Before the time limit Slurm sends USR1 to the script alone, which passes TERM on to the ranks; they end
the step, save and end, and the job is queued again. `scancel --signal` reaches job steps and not the script (Slurm manual, scancel,
--batch). After a node failure or preemption Slurm queues it again by itself (--requeue); the same command goes on from the checkpoint.
"""

from __future__ import annotations

from agora.training.launch import WARNED_S, Job, header, quoted, torchrun


def script(job: Job) -> str:
    """The whole script."""
    return "\n".join([
        "#!/usr/bin/env bash",
        *header(job, "sbatch THIS_FILE"),
        *(f"#SBATCH {option}" for option in options(job)),
        _BEGIN.format(workspace=quoted([job.config.workspace or "workspace"]), stop_s=job.stop_s),
        *([job.config.setup, ""] if job.config.setup else []),
        *_start(job),
        _END,
    ])  # fmt: skip


def options(job: Job) -> list[str]:
    """What Slurm is asked for."""
    c, gpus = job.config, [f"--gpus-per-node={job.per_node}"] if job.resource else []
    places = [f"--{name}={value}" for name, value in (("partition", c.partition), ("account", c.account)) if value]
    return [
        f"--job-name={job.name}", *places, f"--nodes={job.num_nodes}", "--ntasks-per-node=1", *gpus, "--exclusive", "--mem=0",
        f"--time={_time(c.hours)}", f"--signal=B:USR1@{job.stop_s + WARNED_S}", "--requeue", "--open-mode=append",
        f"--output={job.name}-%j.log",
    ]  # fmt: skip


def _time(hours: float) -> str:
    """days-hours:minutes:seconds"""
    days, seconds = divmod(round(hours * 3600), 86400)
    return f"{days}-{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


_BEGIN = """set -euo pipefail

WORKSPACE=${{WORKSPACE:-{workspace}}}
logs=$WORKSPACE/logs/$SLURM_JOB_ID # one folder for each start of the ranks, one file for each rank
mkdir -p "$logs"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={stop_s}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-4}}
"""


def _start(job: Job) -> list[str]:
    words = torchrun(job, endpoint="@", identity="@", log_dir="@")
    variables = {"--rdzv-endpoint": '"$head:$port"', "--rdzv-id": '"$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}"', "--log-dir": '"$logs"'}
    start = " ".join(f"{word[:-1]}{variables[word[:-2]]}" if word.endswith("=@") else quoted([word]) for word in words)
    run = f'{quoted(job.command()[:-1])} "$WORKSPACE"'
    return [
        "is_stopping=0",
        "# shellcheck disable=SC2329  # the trap calls it",
        "stop() {",
        "  is_stopping=1",
        '  scancel --signal=TERM "$SLURM_JOB_ID"',
        "}",
        "trap stop USR1",
        "",
        'srun --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --kill-on-bad-exit=1 \\',
        f"  {start} \\",
        f"  {run} &",
        "ranks=$!",
    ]


_END = """
code=0
while true; do
  code=0
  wait "$ranks" || code=$?
  kill -0 "$ranks" 2>/dev/null || break # a trapped signal ends wait before the ranks end
done
if [ "$is_stopping" = 1 ] && [ "$code" -ne 0 ]; then
  echo "the time limit is near: saved, queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
