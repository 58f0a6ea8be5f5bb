"""Working files that start a run on a cluster. Goes in: a recipe's network, training and layout, and facts of the machine. Comes out: the
text of a Slurm batch script, of Kubernetes objects, or of a Ray Train program, the same for the same input.

    agora train launch h100_10k --slurm --out h100_10k.sbatch

How many nodes there are follows from the layout and agora/cluster/data/accelerators.toml; how long a stop may take (finish the step, save)
from the planner. A layout that cannot be divided so, or does not fit the accelerator's memory, is refused here and not by the cluster.
The three writers are launch_slurm.py, launch_kubernetes.py and launch_ray.py.
"""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from agora.cluster.accelerator import accelerator
from agora.cluster.layout import Layout
from agora.cluster.plan import Plan, PlanRequest, plan
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.shape import shape_of
from agora.training.config import TrainingConfig
from agora.training.launch_names import check_kubernetes, check_settings, check_words, dns_label
from agora.training.parallelize import check
from agora.units import format_bytes, format_seconds

Target = Literal["slurm", "kubernetes", "ray"]
NO_ACCELERATOR: Final = "none"
_RESOURCES: Final = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu"}  # names that the vendors' device plugins give their GPUs
_PROCESSORS_STOP_S: Final = 120.0  # without an accelerator nothing is predicted
_LEAST_STOP_S: Final = 90.0  # starting python's handlers, the agent, the last log lines
RENDEZVOUS: Final = "--rdzv-conf=join_timeout=1800"
_MOST_STOP_S: Final = 65_000  # Slurm holds seconds before the limit in 16 bits (manual of sbatch, --signal)
WARNED_S: Final = 60  # Slurm looks at limits now and then, so that its warning may come a minute late (same place)
_ONLY: Final[dict[str, tuple[Target, ...]]] = {
    "hours": ("slurm",), "partition": ("slurm",), "account": ("slurm",),
    "setup": ("slurm", "kubernetes"), "stop_s": ("slurm", "kubernetes"), "per_node": ("slurm", "kubernetes"),
    "image": ("kubernetes",), "claim": ("kubernetes",), "namespace": ("kubernetes",), "kind": ("kubernetes",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """What a job needs beside the recipe. Raises ConfigError for values that cannot be.

    accelerator       a name of accelerators.toml; empty takes that of the recipe, none trains on processors
    num_accelerators  ranks; 0 takes those of the layout, another number gets as many replicas as fit
    per_node          accelerators (or processes) of a node; 0 takes what accelerators.toml says; Ray decides by itself
    name              name of the run; empty takes that of the recipe
    data              shards and tokenizer in the workspace
    workspace         folder that all nodes see; Kubernetes mounts the volume there
    hours             Slurm's time limit; the job saves before it and is queued again
    restarts          how often lost ranks are replaced without a person; 0 takes twice what failures.toml predicts
    stop_s            seconds for the step and the save after SIGTERM; 0 takes the planner's prediction
    partition         Slurm's partition; empty leaves it out
    account           Slurm's account; empty leaves it out
    setup             a shell line before training, e.g. "module load cuda; source .venv/bin/activate"
    image             container image of Kubernetes, with agora installed
    claim             Kubernetes volume claim (ReadWriteMany) that holds the workspace
    namespace         of Kubernetes
    kind              Kubernetes objects: jobset, or trainjob for Kubeflow Trainer
    """

    accelerator: str = ""
    num_accelerators: int = 0
    per_node: int = 0
    name: str = ""
    data: str = "main"
    workspace: str = ""
    hours: float = 24.0
    restarts: int = 0
    stop_s: float = 0.0
    partition: str = ""
    account: str = ""
    setup: str = ""
    image: str = "agora:latest"
    claim: str = "agora"
    namespace: str = "default"
    kind: Literal["jobset", "trainjob"] = "jobset"

    def __post_init__(self) -> None:
        for name in ("num_accelerators", "per_node", "restarts", "stop_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"launch.{name}={getattr(self, name)} must be 0 or more")
        if not 0.1 <= self.hours <= 24 * 365:
            raise ConfigError(f"launch.hours={self.hours} must be from 0.1 to {24 * 365}")
        if self.stop_s > _MOST_STOP_S:
            raise ConfigError(f"launch.stop_s={self.stop_s} must be at most {_MOST_STOP_S}")
        check_settings(asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as every writer needs it. `resource` is the name of its accelerators in Kubernetes, empty on processors; `stop_s` the seconds
    between SIGTERM and the end of the last save; `made_by` the command that makes the file again; `facts` lines for people."""

    recipe: str
    words: tuple[str, ...]
    name: str
    config: LaunchConfig
    num_nodes: int
    per_node: int
    resource: str
    restarts: int
    stop_s: int
    made_by: str
    facts: tuple[str, ...]
    target: Target

    @property
    def num_ranks(self) -> int:
        """Processes that train."""
        return self.num_nodes * self.per_node

    def command(self, workspace: str | None = None) -> list[str]:
        """The words after `agora` that each rank runs."""
        where = self.config.workspace if workspace is None else workspace
        names = ["--name", self.config.name or self.recipe, "--data", self.config.data]
        return ["train", "pretrain", self.recipe, *self.words, *names, "--workspace", where]


def make_job(
    recipe: str, model: ModelConfig, training: TrainingConfig, layout: Layout, config: LaunchConfig, *,
    target: Target, words: Iterable[str] = (), made_by: str = "", usual_accelerator: str = "",
) -> Job:  # fmt: skip
    """Work out nodes, restarts and the time to stop. `words` are the recipe's settings as typed; `usual_accelerator` is that of the recipe.

    Raises ConfigError with the nearest possible thing for a layout that does not divide, or that the accelerator's memory cannot hold.
    """
    check_words(words := tuple(words))
    _refuse_unused(config, target)
    if target == "kubernetes":
        check_kubernetes(config.name, config.workspace)
    name = config.accelerator or usual_accelerator or NO_ACCELERATOR
    layout = _spread(replace(layout, micro_batch=training.micro_batch), config.num_accelerators)
    check(model, layout, seq_len=training.seq_len, global_batch=training.batch_tokens // training.seq_len)
    per_node, resource = _node(name, config)
    fitting = max(number for number in range(1, per_node + 1) if layout.num_accelerators % number == 0)
    if target == "ray":
        per_node = fitting  # Ray decides
    elif (per_node := min(per_node, layout.num_accelerators)) != fitting:
        raise ConfigError(
            f"launch.per_node={per_node} does not divide the layout's {layout.num_accelerators:,} ranks; try launch.per_node={fitting}"
        )
    predicted = None if name == NO_ACCELERATOR else _predict(name, model, training, layout)
    restarts, stop_s = _patience(config, predicted, target)
    if target == "slurm" and config.hours * 3600 < 2 * (stop_s + WARNED_S):
        raise ConfigError(
            f"launch.hours={config.hours} leaves no time to train: the job is told to stop {stop_s + WARNED_S} s before its limit, "
            f"and queued again; try launch.hours={math.ceil(2 * (stop_s + WARNED_S) / 360) / 10}"
        )
    return Job(
        recipe=recipe, words=words, name=dns_label(config.name or recipe), config=config,
        num_nodes=layout.num_accelerators // per_node, per_node=per_node, resource=resource, restarts=restarts, stop_s=stop_s,
        made_by=made_by, facts=_facts(layout, name, predicted, None if target == "ray" else stop_s), target=target,
    )  # fmt: skip


def _refuse_unused(config: LaunchConfig, target: Target) -> None:
    """Raises ConfigError for a setting that the file has no place for."""
    usual = LaunchConfig()
    for name, targets in _ONLY.items():
        value = getattr(config, name)
        if target not in targets and value != getattr(usual, name):
            raise ConfigError(
                f"launch.{name}={value} is for {' and '.join('--' + one for one in targets)}; with --{target} nothing would read it, so "
                "leave it out"
            )


def _spread(layout: Layout, num_accelerators: int) -> Layout:
    """As the run itself will do (world.layout_for)."""
    if not num_accelerators or num_accelerators == layout.num_accelerators:
        return layout
    return replace(layout, shard=num_accelerators) if layout.num_accelerators == 1 else layout.with_accelerators(num_accelerators)


def _node(name: str, config: LaunchConfig) -> tuple[int, str]:
    """Ranks of a node, and what Kubernetes calls its accelerators."""
    if name == NO_ACCELERATOR:
        return config.per_node or 1, ""
    chip = accelerator(name)
    vendor = str(chip.words["vendor"])
    if vendor not in _RESOURCES:
        raise ConfigError(
            f"launch.accelerator={name!r}: training runs on GPUs of {' and '.join(_RESOURCES)} and on processors, not {vendor}"
        )
    return config.per_node or int(chip.base("per_node")), _RESOURCES[vendor]


def _predict(name: str, model: ModelConfig, training: TrainingConfig, layout: Layout) -> Plan:
    return plan(PlanRequest(
        model="", shape=shape_of(model), accelerator=name, num_accelerators=layout.num_accelerators, seq_len=training.seq_len,
        batch_tokens=training.batch_tokens, tokens=training.num_tokens, layout=layout, precision=layout.precision,
        optimizer=training.optimizer.name, recovery="restart",
    ))  # fmt: skip


def _patience(config: LaunchConfig, predicted: Plan | None, target: Target) -> tuple[int, int]:
    """Restarts of one start of the job (of the whole run without a time limit), and seconds to stop: twice the longest step and save that
    are predicted, so that neither is a close thing."""
    if predicted is None:
        return config.restarts or 3, math.ceil(config.stop_s or _PROCESSORS_STOP_S)
    lasts_s = min(config.hours * 3600, predicted.duration_s) if target == "slurm" else predicted.duration_s
    expected = lasts_s / predicted.failures.mean_time_s
    wanted = 2 * (predicted.interval_s[1] + predicted.failures.stall_s + predicted.failures.write_s)
    stop_s = config.stop_s or max(_LEAST_STOP_S, 30 * math.ceil(wanted / 30))
    return config.restarts or 3 + math.ceil(2 * expected), math.ceil(stop_s)


def _facts(layout: Layout, name: str, predicted: Plan | None, stop_s: int | None) -> tuple[str, ...]:
    facts = [f"layout: {layout.describe()}; {layout.num_accelerators:,} ranks"]
    if predicted is not None:
        memory = format_bytes(predicted.chosen.memory_bytes)
        facts += [
            f"predicted on {name}: {format_seconds(predicted.chosen.step_s)} a step, {memory} on the fullest rank, "
            f"{predicted.duration_s / 86400:.1f} days in all (agora cluster plan)",
            f"an interruption every {format_seconds(predicted.failures.mean_time_s)} is to be expected",
        ]
    return tuple(facts) if stop_s is None else (*facts, f"{stop_s} s from SIGTERM to the end of the save")


def torchrun(job: Job, *, endpoint: str, identity: str, log_dir: str, num_nodes: str | None = None) -> list[str]:
    """The words of torchrun on each node, shell words where the caller expands variables. Ranks are numbered by host name and within a node
    (c10d sorts the hosts), so that the ranks of a node are neighbours. Every rank's output goes to a file of its own below `log_dir`; that
    of each node's first rank also to the screen. TORCH_ELASTIC_SHUTDOWN_TIMEOUT must be set beside it: torchrun kills after 30 s."""
    return [
        "torchrun", f"--nnodes={num_nodes or job.num_nodes}", f"--nproc-per-node={job.per_node}", f"--max-restarts={job.restarts}",
        "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={identity}", RENDEZVOUS,
        f"--log-dir={log_dir}", "--redirects=3", "--tee=0:3", "-m", "agora",
    ]  # fmt: skip


def header(job: Job, how: str) -> list[str]:
    """Comment lines for the top of a file."""
    nodes = f"on {job.num_nodes:,} node{'s' if job.num_nodes > 1 else ''}, {job.per_node} each"
    where = "which Ray packs on as few nodes as it can" if job.target == "ray" else nodes
    lines = [f"{job.recipe}: {job.num_ranks:,} processes {where}", *job.facts]
    lines += [f"Made by: {job.made_by}", f"Start:   {how}"]
    return [f"# {part}" for line in lines for part in textwrap.wrap(line, 118, break_long_words=False, break_on_hyphens=False)]


def render(job: Job) -> str:
    """The text of the file."""
    from agora.training import launch_kubernetes, launch_ray, launch_slurm

    writers = {"slurm": launch_slurm.script, "kubernetes": launch_kubernetes.manifest, "ray": launch_ray.program}
    return writers[job.target](job)


def quoted(words: Iterable[str]) -> str:
    """Words for a shell."""
    return shlex.join(words)
