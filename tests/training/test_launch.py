"""Launch files: what their receivers accept, the same bytes again, and, where that can be had here, what happens when they run."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml as reader
from torch.distributed.run import get_args_parser
from typer.testing import CliRunner

import recipes
from agora.cli import app
from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.settings import Workspace
from agora.training.launch import Job, LaunchConfig, Target, make_job, render
from agora.training.launch_kubernetes import yaml
from agora.training.metrics import read_metrics
from runs import examples
from tests.training.launch_schemas import check_object, sbatch_options
from tests.training.test_pretrain import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
CASES = [("gpu8", 8, 1), ("h100_10k", 10_240, 1280), ("h100_100k", 100_352, 12_544), ("b200_100k", 100_352, 12_544)]


def job(name: str, target: Target, /, **settings: Any) -> Job:
    recipe = recipes.load(name)
    return make_job(
        name, recipe.model, recipe.training, recipe.layout, LaunchConfig(**settings), target=target, made_by="agora train launch",
        usual_accelerator=recipe.accelerator,
    )  # fmt: skip


def torchrun_words(words: list[str]) -> Any:
    """What torchrun itself makes of its words; it ends the process at one that it does not know."""
    return get_args_parser().parse_args(words[words.index("torchrun") + 1 :])


def test_the_committed_files_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    examples.write(tmp_path)
    made = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert made.keys() == examples.COMMANDS.keys()
    for name, content in made.items():
        assert (ROOT / "runs" / name).read_bytes() == content, f"{name}: run python -m runs.examples"


@pytest.mark.parametrize(("name", "num_ranks", "num_nodes"), CASES)
def test_a_batch_script_asks_slurm_for_the_nodes_of_the_layout(tmp_path: Path, name: str, num_ranks: int, num_nodes: int) -> None:
    made = job(name, "slurm", partition="gpu", account="square", setup="module load cuda", name="mine-2")
    script = render(made)
    options = sbatch_options(script)
    assert (int(options["--nodes"]), made.num_ranks) == (num_nodes, num_ranks)
    assert int(options["--nodes"]) * int(options["--gpus-per-node"]) == num_ranks
    assert {"--requeue", "--exclusive", "--partition", "--account"} <= options.keys()
    assert int(options["--signal"].partition("@")[2]) > made.stop_s >= 90  # the save fits between the warning and the limit
    assert f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={made.stop_s}\n" in script
    place = tmp_path / "job.sbatch"
    place.write_text(script)
    for command in (["bash", "-n"], [str(SHELLCHECK)]):
        done = subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_recipe_of_more_than_one_node_asks_for_its_gpus() -> None:
    large = [recipe for name in recipes.names() if (recipe := recipes.load(name)).layout.num_accelerators > 8]
    assert {"h100_10k", "h100_100k", "b200_100k"} <= {recipe.name for recipe in large}
    for recipe in large:
        assert recipe.accelerator, f"recipes/{recipe.name}.py names no accelerator"
        options = sbatch_options(render(job(recipe.name, "slurm")))
        num_ranks = recipe.layout.num_accelerators
        assert (int(options["--nodes"]), int(options["--gpus-per-node"])) == (num_ranks // 8, 8)


def test_a_mistake_in_a_batch_script_is_seen() -> None:
    with pytest.raises(AssertionError, match="no option --node"):
        sbatch_options("#!/bin/bash\n#SBATCH --node=3\n")
    with pytest.raises(AssertionError, match="behind the first command"):
        sbatch_options("#!/bin/bash\nset -e\n#SBATCH --nodes=3\n")


_COMMANDS = {
    "srun": 'exec env SLURM_NODEID=0 "${@:4}"',  # one node: without srun's own three options the rest is the task
    "torchrun": f'exec {sys.executable} "$HERE/ranks.py" "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo node1; else echo "$*" >> "$HERE/scontrol.log"; fi',
    "scancel": 'echo "$*" >> "$HERE/scancel.log"; kill -TERM "$(cat "$HERE/ranks.pid")"',
}
_RANKS = """
import json, os, signal, sys, time
here = os.environ["HERE"]
def save(number, frame):
    time.sleep(0.3)
    open(here + "/saved", "w").close()
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
json.dump({"words": sys.argv[1:], "grace": os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]}, open(here + "/words.json", "w"))
open(here + "/ranks.pid", "w").write(str(os.getpid()))
time.sleep(float(os.environ["LASTS"]))
"""


def start_slurm(folder: Path, lasts: str) -> subprocess.Popen[str]:
    """The script under stand-ins for Slurm's commands."""
    (folder / "ranks.py").write_text(_RANKS)
    for name, line in _COMMANDS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (folder / name).chmod(0o755)
    (folder / "job.sbatch").write_text(render(job("gpu8", "slurm", workspace="a place")))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HERE": str(folder), "SLURM_JOB_ID": "77", "LASTS": lasts}
    environment |= {"SLURM_JOB_NODELIST": "node[1-2]"}
    return subprocess.Popen(["bash", "job.sbatch"], cwd=folder, env=environment, stdout=subprocess.DEVNULL, text=True)


def test_before_the_time_limit_the_ranks_save_and_the_job_is_queued_again(tmp_path: Path) -> None:
    script = start_slurm(tmp_path, "60")
    until = time.monotonic() + 20
    while not (tmp_path / "ranks.pid").exists() and time.monotonic() < until:
        time.sleep(0.05)
    script.send_signal(signal.SIGUSR1)
    assert script.wait(20) == 1 and (tmp_path / "saved").exists()
    assert (tmp_path / "scancel.log").read_text() == "--signal=TERM 77\n" and (tmp_path / "scontrol.log").read_text() == "requeue 77\n"
    seen = json.loads((tmp_path / "words.json").read_text())
    words = torchrun_words(["torchrun", *seen["words"]])
    assert (words.nnodes, words.nproc_per_node, words.rdzv_endpoint, words.rdzv_id) == ("1", "8", "node1:20077", "77.0")
    assert words.training_script == "agora" and words.training_script_args[-2:] == ["--workspace", "a place"]
    assert words.log_dir == "a place/logs/77" and (tmp_path / "a place/logs/77").is_dir()


def test_a_job_that_ends_is_not_queued_again(tmp_path: Path) -> None:
    script = start_slurm(tmp_path, "0")
    assert script.wait(20) == 0 and not (tmp_path / "scontrol.log").exists()


@pytest.mark.parametrize("kind", ["jobset", "trainjob"])
@pytest.mark.parametrize(("name", "num_ranks", "num_nodes"), CASES)
def test_kubernetes_accepts_the_objects_and_they_hold_the_layout(name: str, num_ranks: int, num_nodes: int, kind: Any) -> None:
    made = job(name, "kubernetes", kind=kind)
    objects = list(reader.safe_load_all(render(made)))
    for one in objects:
        check_object(one)
    spec = objects[0]["spec"] if kind == "jobset" else objects[0]["spec"]["template"]["spec"]
    work = spec["replicatedJobs"][0]["template"]["spec"]
    assert work["completions"] == work["parallelism"] == num_nodes and work["completionMode"] == "Indexed"
    pod = work["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > made.stop_s
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] * num_nodes == num_ranks
    words = torchrun_words(container["command"])
    first_pod = f"{objects[-1]['metadata']['name']}-{spec['replicatedJobs'][0]['name']}-0-0.{spec['network']['subdomain']}"
    assert words.rdzv_endpoint == f"{first_pod}:29400" and words.nnodes == str(num_nodes)


def test_kubernetes_refuses_a_field_that_it_does_not_know() -> None:
    (good,) = reader.safe_load_all(render(job("gpu8", "kubernetes")))
    pod = good["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    for place, key in ((good["spec"], "replicas"), (pod, "gracePeriod"), (pod["containers"][0], "cmd")):
        place[key] = 1
        with pytest.raises(jsonschema.ValidationError):
            check_object(good)
        del place[key]
    check_object(good)


@pytest.mark.parametrize(("index", "setup"), [(0, ""), (1279, ""), (0, "export A='b c'")])
def test_the_first_pod_keeps_the_meeting_place_and_torchrun_gets_the_signals(index: int, setup: str, tmp_path: Path) -> None:
    """Whatever names resolve when it starts. The container's command runs with a torchrun that tells its words and its process."""
    (one,) = reader.safe_load_all(render(job("h100_10k", "kubernetes", setup=setup)))
    command = one["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    program = tmp_path / "torchrun"
    program.write_text('#!/usr/bin/env bash\necho "$$"\necho "${A-}"\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        process_id, from_setup, *words = process.communicate(timeout=20)[0].splitlines()
    assert int(process_id) == process.pid and from_setup == ("b c" if setup else "")
    settings = dict(one.split("=") for one in torchrun_words(["torchrun", *words]).rdzv_conf.split(","))
    assert settings == {"join_timeout": "1800", "is_host": "true" if index == 0 else "false"}
    assert words[words.index("-m") :][:4] == ["-m", "agora", "train", "pretrain"]


@pytest.mark.parametrize("value", [
    {"a": {"b": [1, {"c": [], "d": {}}]}, "yes": "no", "n": [["x", "1"], "", " a: b", "1.5", "true", None, True, 2.5, "-", "#", "/x y"]},
    [], "plain", ["10", "0x1", "1e3", "~", "2020-01-01", "é\n", "\U0001f600 \\ud83d", "\u2028\x85\x7f"],
])  # fmt: skip
def test_yaml_is_read_back_as_it_was(value: Any) -> None:
    assert reader.safe_load(yaml(value)) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_node": 3}, r"try launch\.per_node=2"),
        ({"accelerator": "TPU-v5p"}, "training runs on GPUs of NVIDIA and AMD"),
        ({"accelerator": "H10"}, "nearest is"),
        ({"num_accelerators": 12}, "try 16"),
        ({"accelerator": "A100-40"}, "nothing fits"),
        ({"hours": 0}, r"launch\.hours=0"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_written(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job("gpu8", "slurm", **settings)


@pytest.mark.parametrize(
    ("target", "setting", "value", "hint"),
    [
        ("slurm", "partition", "gpu --wrap=id", "partition='gpu --wrap=id' must be letters"),
        ("slurm", "partition", "a, b", "; try launch.partition=a,b"),
        ("slurm", "partition", "-x", "; try launch.partition=x"),
        ("slurm", "account", "x;id", "; try launch.account=x_id"),
        ("slurm", "account", "x\n#SBATCH --wrap=id", r"U\+000A"),
        ("slurm", "setup", "true\rid", r"U\+000D"),
        ("slurm", "workspace", "/a\nrm -rf b", r"U\+000A"),
        ("slurm", "workspace", "~/runs", "write the whole path"),
        ("slurm", "name", "my run", "; try launch.name=myrun"),
        ("slurm", "name", "$(id)", "; try launch.name=id"),
        ("slurm", "name", "日本", "letters, digits"),
        ("slurm", "data", "../x", "plain folder name"),
        ("kubernetes", "name", "My_Run", "; try launch.name=my-run"),
        ("kubernetes", "name", "1st", "; try launch.name=run-1st"),
        ("kubernetes", "name", "a" * 41, "at most 40 characters"),
        ("kubernetes", "namespace", "Team A", "; try launch.namespace=team-a"),
        ("kubernetes", "namespace", "", "DNS label"),
        ("kubernetes", "namespace", "x" * 64, "at most 63 characters"),
        ("kubernetes", "claim", "a..b", "; try launch.claim=a-b"),
        ("kubernetes", "image", "me: 1", "; try launch.image=me:1"),
        ("kubernetes", "image", "", "an image reference"),
        ("kubernetes", "image", "Me/agora:1:2", "an image reference"),
        ("kubernetes", "workspace", "here", "; try launch.workspace=/workspace"),
        ("ray", "name", "a\u2028b", r"U\+2028"),
    ],
)  # fmt: skip
def test_words_that_would_break_out_of_the_file_are_refused(target: Any, setting: str, value: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        job("gpu8", target, **{setting: value})
    assert f"launch.{setting}=" in str(caught.value)


@pytest.mark.parametrize("image", ["agora", "agora:latest", "r.example.org:5000/team/a_b/agora:v1.0-rc1", f"x/y@sha256:{'0a' * 32}", "R/x"])
def test_names_that_are_in_use_are_taken(image: str) -> None:
    assert render(job("gpu8", "kubernetes", name="run-1", image=image, namespace="team-a", claim="agora.data"))
    assert render(job("gpu8", "slurm", name="run-1", partition="gpu,h100_long", account="abc@v100"))


@pytest.mark.parametrize(
    ("target", "setting", "value"),
    [("ray", "setup", "module load cuda"), ("ray", "stop_s", 300.0), ("ray", "per_node", 4), ("kubernetes", "hours", 48.0),
     ("kubernetes", "partition", "gpu"),
     ("slurm", "image", "me/agora:2"), ("slurm", "kind", "trainjob")],
)  # fmt: skip
def test_a_setting_that_the_file_has_no_place_for_is_refused(target: Any, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"launch.{setting}={value} is for --.*; with --{target} nothing would read it"):
        job("gpu8", target, **{setting: value})


def test_a_time_limit_that_ends_before_training_begins_is_refused_with_one_that_does_not() -> None:
    """Warned at once, the job would save nothing new, queue itself again, and so on for ever."""
    with pytest.raises(ConfigError, match=r"told to stop 660 s before its limit.*; try launch.hours=(\S+)$") as caught:
        job("gpu8", "slurm", hours=0.1, stop_s=600)
    hours = float(str(caught.value).rpartition("=")[2])
    options = sbatch_options(render(job("gpu8", "slurm", hours=hours, stop_s=600)))
    assert hours * 3600 >= 2 * int(options["--signal"].partition("@")[2])
    with pytest.raises(ConfigError, match="at most 65000"):
        job("gpu8", "slurm", stop_s=70_000)


def test_a_setting_of_the_recipe_with_a_line_break_is_refused() -> None:
    for words in (["gpu8", "--slurm", "purpose=a\n#SBATCH --wrap=id"], ["gpu8", "--ray", "purpose=a\u2028import os"]):
        refused = CliRunner().invoke(app, ["train", "launch", *words])
        assert isinstance(refused.exception, ConfigError) and "purpose=" in str(refused.exception)


def test_a_file_starts_the_recipe_that_it_was_asked_for() -> None:
    result = CliRunner().invoke(app, ["train", "launch", "gpu8", "--slurm", "name=other"])
    assert "train pretrain gpu8 name=other" in result.output, result.output


WORDS = ["/d/\U0001f600 it's", 'a "b" \\ c', "{x} 100%", "--workspace @", "$HOME `id` 日本", "$(HOSTNAME) $$(HOSTNAME) $$$ $1 $"]


def as_kubernetes_starts(words: list[str]) -> list[str]:
    """What the container gets: $$ is $, and $(NAME) a variable (API reference, Container: command)."""
    return [re.sub(r"\$(\$|\((\w+)\))", lambda found: "$" if found[1] == "$" else f"<{found[2]}>", word) for word in words]


def test_a_shell_line_reaches_the_container_as_it_stands() -> None:
    line = 'export NAME="$(hostname) $$ ${A:-$(id -u)}"; cd $HOME'
    (one,) = reader.safe_load_all(render(job("gpu8", "kubernetes", setup=line)))
    (container,) = one["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert as_kubernetes_starts(container["command"])[2].splitlines()[0] == line
    assert as_kubernetes_starts(["$(A)", "$$(A)", "$A"]) == ["<A>", "$(A)", "$A"]


@pytest.mark.parametrize("workspace", WORDS)
def test_every_program_gets_the_words_as_they_were_typed(workspace: str, tmp_path: Path) -> None:
    recipe = recipes.load("gpu8")
    typed = [f"purpose={word}" for word in WORDS]

    def text(target: Target, where: str) -> str:
        return render(make_job(
            "gpu8", recipe.model, recipe.training, recipe.layout, LaunchConfig(workspace=where), target=target, words=typed,
            usual_accelerator="H200", made_by="",
        ))  # fmt: skip

    places = {
        node.targets[0].id: node.value for node in ast.parse(text("ray", workspace)).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }  # fmt: skip
    command, where = places["COMMAND"], places["WORKSPACE"]
    assert isinstance(command, ast.List) and [ast.literal_eval(word) for word in command.elts[3 : 3 + len(typed)]] == typed
    assert ast.literal_eval(where.func.value.args[0]) == workspace  # type: ignore[attr-defined]

    at = "/w" + workspace.replace(":", "")
    (one,) = reader.safe_load_all(text("kubernetes", at))
    (container,) = one["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    started = as_kubernetes_starts(container["command"])
    assert started[-1] == container["volumeMounts"][0]["mountPath"] == at
    assert [word for word in started if word.startswith("purpose=")] == typed

    script = text("slurm", workspace)
    begin, end = script.index("WORKSPACE=${"), script.index("\nlogs=")
    run = script[script.index("  train pretrain") :].partition(" &\n")[0].strip()
    line = f'{script[begin:end]}\nfor word in {run}; do printf "%s\\n" "$word"; done'
    shown = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[3 : 3 + len(typed)] == typed and shown.stdout.splitlines()[-1] == workspace


def test_more_accelerators_are_more_replicas_and_none_are_processes() -> None:
    assert job("gpu8", "slurm", num_accelerators=32).num_nodes == 4
    recipe = recipes.load("laptop")
    made = make_job("laptop", recipe.model, recipe.training, Layout(), LaunchConfig(accelerator="none"), target="slurm", made_by="")
    assert (made.num_ranks, made.resource) == (1, "") and "--gpus-per-node" not in sbatch_options(render(made))


def test_the_command_writes_the_file_and_says_how_to_start_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "job.yaml"
    result = CliRunner().invoke(
        app, ["train", "launch", "gpu8", "--kubernetes", "training.steps=9", "launch.image=me:1", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "training.steps=9" in out.read_text() and "me:1" in out.read_text() and f"kubectl apply -f {out}" in result.stderr
    for words in (["gpu8"], ["--slurm"], ["gpu8", "--slurm", "--ray"], ["gpu8", "--slurm", "launch.hour=3"]):
        refused = CliRunner().invoke(app, ["train", "launch", *words])
        assert getattr(refused.exception, "exit_code", 0) == 2, words


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_a_ray_program_trains_on_two_workers(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "run.py"
    words = [
        *SETTINGS,
        "training.optimizer.name=adamw",
        "training.compile=off",
        "launch.num_accelerators=2",
        "launch.restarts=1",
        f"launch.workspace={workspace.root}",
    ]
    result = CliRunner().invoke(app, ["train", "launch", "laptop", "--ray", *words, "--out", str(out)])
    assert result.exit_code == 0, result.output
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local", "RAY_TMPDIR": "/tmp"}
    done = subprocess.run([sys.executable, str(out)], env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = workspace.folder("runs", "laptop")
    losses = [[line["loss"] for line in read_metrics(path / "metrics.jsonl")] for path in (folder, folder / "ranks" / "00001")]
    assert len(losses[0]) == 6 and losses[0] == losses[1]
    assert (workspace.folder("models", "laptop") / "model.safetensors").exists()
