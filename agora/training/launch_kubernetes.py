"""Kubernetes objects for a Job. Goes in: a Job. Comes out: YAML for `kubectl apply`: a JobSet (jobset.x-k8s.io/v1alpha2), or for Kubeflow
Trainer a TrainingRuntime that holds the same JobSet, and the TrainJob that starts it (trainer.kubeflow.org/v1alpha1).

One pod per node with a fixed index; the set's headless service gives each a name, and the first one is where the ranks meet. A pod that
is evicted or preempted is replaced without counting as a failure; other failures restart the set, and the run goes on from its checkpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agora.training.launch import RENDEZVOUS, Job, header, torchrun

_PORT: Final = 29400
_ROLE: Final = "node"  # the name that Kubeflow Trainer expects of job and container
_WORKSPACE: Final = "/workspace"
# Left alone, torchrun finds out by the endpoint's address whether it keeps the meeting place, once; the service's names may be
# there only seconds later, and then nobody would. exec: TERM must reach torchrun, not a shell.
_START: Final = (
    '[ "$JOB_COMPLETION_INDEX" = 0 ] && is_host=true || is_host=false',
    f'exec "$1" "{RENDEZVOUS},is_host=$is_host" "${{@:2}}"',
)
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def manifest(job: Job) -> str:
    """All objects, as one YAML stream."""
    objects = [_job_set(job)] if job.config.kind == "jobset" else [_runtime(job), _train_job(job)]
    return "\n".join([*header(job, "kubectl apply -f THIS_FILE"), *("---\n" + yaml(one).rstrip() for one in objects), ""])


def _metadata(job: Job) -> dict[str, Any]:
    return {"name": job.name, "namespace": job.config.namespace, "labels": {"app.kubernetes.io/name": "agora", "agora/recipe": job.recipe}}


def _job_set(job: Job) -> dict[str, Any]:
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": _metadata(job), "spec": job_set_spec(job)}


def job_set_spec(job: Job) -> dict[str, Any]:
    """The set of one job with a pod on each node."""
    template: dict[str, Any] = {"spec": {
        "completions": job.num_nodes, "parallelism": job.num_nodes, "completionMode": "Indexed", "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]},
        "template": {"spec": pod_spec(job)},
    }}  # fmt: skip
    if job.config.kind == "trainjob":
        template = {"metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}, **template}
    return {
        "network": {"enableDNSHostnames": True, "subdomain": job.name, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": job.restarts},
        "replicatedJobs": [{"name": _ROLE, "replicas": 1, "template": template}],
    }


def pod_spec(job: Job) -> dict[str, Any]:
    """A pod that fills its node. It is killed only after the ranks had time to save."""
    tolerations = [{"key": job.resource, "operator": "Exists", "effect": "NoSchedule"}] if job.resource else []
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.stop_s + 30,
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [_container(job)],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": job.config.claim}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},  # NCCL and data loading outgrow the usual 64 MiB
        ],
    }


def _container(job: Job) -> dict[str, Any]:
    where = job.config.workspace or _WORKSPACE
    endpoint = f"{job.name}-{_ROLE}-0-0.{job.name}:{_PORT}"
    start = torchrun(job, endpoint=endpoint, identity=job.name, log_dir=f"{where}/logs/{job.name}")
    environment = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(job.stop_s), "OMP_NUM_THREADS": "4", "PYTHONUNBUFFERED": "1"}
    words = [*(word for word in start if word != RENDEZVOUS), *job.command(where)]
    command = ["bash", "-c", "\n".join([*filter(None, [job.config.setup]), *_START]), "bash", *words]
    return {
        "name": _ROLE,
        "image": job.config.image,
        "command": [_as_written(word) for word in command],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"containerPort": _PORT, "name": "rendezvous"}],
        **({"resources": {"limits": {job.resource: job.per_node}}} if job.resource else {}),
        "volumeMounts": [{"name": "workspace", "mountPath": where}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }


def _as_written(word: str) -> str:
    """Kubernetes replaces $(NAME) in commands by a variable of the container, and $$ by $ (API reference, Container: command); a shell's
    $NAME it leaves alone."""
    return re.sub(r"\$(?=[$(])", "$$", word)


def _runtime(job: Job) -> dict[str, Any]:
    # no torch policy: it would number nodes once and for all (static rendezvous), and a replaced pod could not join
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime", "metadata": _metadata(job),
        "spec": {"mlPolicy": {"numNodes": job.num_nodes}, "template": {"spec": job_set_spec(job)}},
    }  # fmt: skip


def _train_job(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": _metadata(job),
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": job.name},
            "trainer": {"numNodes": job.num_nodes},
        },
    }  # fmt: skip


def yaml(value: Any) -> str:
    """Plain values as YAML: mappings and lists in blocks, text quoted as JSON wherever a reader could take it for something else."""
    return "".join(line + "\n" for line in _lines(value))


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines = []
        for key, item in value.items():
            inner = _lines(item)
            is_block = isinstance(item, (Mapping, list)) and bool(item)
            lines += [f"{_scalar(key)}:", *(f"  {line}" for line in inner)] if is_block else [f"{_scalar(key)}: {inner[0]}"]
        return lines
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        lines = []
        for item in value:
            first, *rest = _lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    return [_scalar(value)]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, str):  # YAML has one escape for a character beyond the first 65,536, where JSON has two
        return '"' + "".join(f"\\U{ord(one):08X}" if ord(one) > 0xFFFF else json.dumps(one)[1:-1] for one in value) + '"'
    return json.dumps(value)
