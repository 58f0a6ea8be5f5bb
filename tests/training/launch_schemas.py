"""What the receivers of launch files accept, written down by us as JSON schemas and lists; core Kubernetes types come from the package
kubernetes-validate (the official OpenAPI of Kubernetes).

JobSet: kubernetes-sigs/jobset, api/jobset/v1alpha2/jobset_types.go. Kubeflow Trainer: kubeflow/trainer,
pkg/apis/trainer/v1alpha1/{trainjob,trainingruntime}_types.go. Slurm: sbatch(1), srun(1) and scancel(1) of Slurm 24/25. torchrun: its own
parser. All read 2026-11-22.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
from referencing import Registry, Resource

VERSION = "v1.37.0-local-strict"  # no field that Kubernetes does not know
DEFINITIONS, JOB_TEMPLATE = "https://kubernetes.io/api/_definitions.json", "https://kubernetes.io/api/jobtemplatespec/batch/v1"
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
COUNT = {"type": "integer", "minimum": 0}


def of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A table with these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


METADATA = of(
    {"name": NAME, "namespace": NAME, "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}}, "name"
)
REPLICATED_JOB = of({"name": NAME, "groupName": NAME, "template": {"$ref": JOB_TEMPLATE}, "replicas": COUNT}, "name", "template")
FAILURE_RULE = of(
    {
        "name": {"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        "action": {"enum": [
            "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "RestartJob", "RestartJobAndIgnoreMaxRestarts",
        ]},
        "onJobFailureReasons": list_of({"type": "string"}),
        "targetReplicatedJobs": list_of(NAME),
    },
    "name", "action",
)  # fmt: skip
JOB_SET_SPEC = of(
    {
        "replicatedJobs": list_of(REPLICATED_JOB),
        "network": of({
            "enableDNSHostnames": {"type": "boolean"}, "subdomain": NAME, "publishNotReadyAddresses": {"type": "boolean"},
        }),
        "successPolicy": of({"operator": {"enum": ["All", "Any"]}, "targetReplicatedJobs": list_of(NAME)}, "operator"),
        "failurePolicy": of({
            "maxRestarts": COUNT, "restartStrategy": {"enum": ["Recreate", "BlockingRecreate", "InPlaceRestart"]},
            "rules": list_of(FAILURE_RULE),
        }),
        "suspend": {"type": "boolean"},
        "coordinator": of({"replicatedJob": NAME, "jobIndex": COUNT, "podIndex": COUNT}, "replicatedJob"),
        "ttlSecondsAfterFinished": COUNT,
    },
)  # fmt: skip
RUNTIME_REF = of(
    {"name": NAME, "apiGroup": {"const": "trainer.kubeflow.org"}, "kind": {"enum": ["TrainingRuntime", "ClusterTrainingRuntime"]}}, "name"
)
TRAINER = of({
    "image": {"type": "string"}, "command": list_of({"type": "string"}), "args": list_of({"type": "string"}), "env": {"type": "array"},
    "numNodes": COUNT, "resourcesPerNode": {"type": "object"}, "numProcPerNode": COUNT,
})  # fmt: skip
SPECS = {
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): JOB_SET_SPEC,
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): of(
        {"runtimeRef": RUNTIME_REF, "trainer": TRAINER, "suspend": {"type": "boolean"}, "runtimePatches": {"type": "array"}}, "runtimeRef"
    ),
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): of({
        "mlPolicy": of({"numNodes": COUNT, "torch": {"type": "object"}, "mpi": {"type": "object"}}),
        "template": of({"metadata": {"type": "object"}, "spec": JOB_SET_SPEC}),
        "podGroupPolicy": {"type": "object"},
    }),
}  # fmt: skip


def check_object(one: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError when Kubernetes would refuse the object, or drop a field that it does not know."""
    spec = SPECS[one["apiVersion"], one["kind"]]
    whole = of({"apiVersion": {}, "kind": {}, "metadata": METADATA, "spec": spec}, "metadata", "spec")
    jsonschema.Draft202012Validator(whole, registry=Registry(retrieve=_core)).validate(one)


@cache
def _core(uri: str) -> Resource[Any]:
    """A schema of the package by the name that it gives itself."""
    file = {DEFINITIONS: "_definitions.json", JOB_TEMPLATE: "jobtemplatespec-batch-v1.json"}[uri]
    place = resources.files("kubernetes_validate") / "kubernetes-json-schema" / VERSION / file
    return Resource.from_contents(json.loads(place.read_text(encoding="utf-8")))


_NAME = r"[A-Za-z0-9_.-]+"
SBATCH = {
    "--job-name": _NAME, "--partition": rf"{_NAME}(,{_NAME})*", "--account": _NAME, "--nodes": r"\d+(-\d+)?", "--ntasks-per-node": r"\d+",
    "--gpus-per-node": rf"({_NAME}:)?\d+", "--exclusive": r"(user|mcs|topo)?", "--mem": r"\d+[KMGT]?", "--cpus-per-task": r"\d+",
    "--time": r"\d+-\d{2}:\d{2}:\d{2}", "--signal": r"([RB]+:)?(USR1|USR2|TERM|INT|\d+)(@\d{1,5})?", "--requeue": "",
    "--open-mode": "append|truncate", "--output": r"[^ ]+", "--error": r"[^ ]+",
}  # fmt: skip


def sbatch_options(script: str) -> dict[str, str]:
    """The options that sbatch reads: those before the first line that is no comment. Raises AssertionError for one that it would refuse."""
    found = {}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            name, _, value = line.removeprefix("#SBATCH ").partition("=")
            assert name in SBATCH, f"sbatch has no option {name}"
            assert re.fullmatch(SBATCH[name], value), f"{name}={value}"
            assert name not in found, f"{name} twice"
            found[name] = value
    assert script.count("#SBATCH") == len(found), "an option stands behind the first command, where sbatch does not look"
    return found
