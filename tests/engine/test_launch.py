"""Launch commands and files name what the model folder holds, and refuse what the other engine could not serve."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agora.engine.launch import LaunchConfig, launch_command, ray_serve_file
from agora.errors import ModelError, UsageError


@pytest.fixture
def folder(tiny_workspace: Path) -> Path:
    return tiny_workspace / "models" / "tiny"


def options(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return {word: words[index + 1] for index, word in enumerate(words) if word.startswith("--")}


def test_vllm_command_names_folder_context_and_address(folder: Path) -> None:
    command = launch_command(folder, LaunchConfig(gpus=2, port=9000))
    assert shlex.split(command)[:3] == ["vllm", "serve", str(folder.resolve())]
    got = options(command)
    assert got["--max-model-len"] == "128" and got["--tensor-parallel-size"] == "2" and got["--port"] == "9000"
    assert got["--host"] == "127.0.0.1" and "--api-key" not in got


def test_sglang_command_names_the_same(folder: Path) -> None:
    got = options(launch_command(folder, LaunchConfig(server="sglang", context_tokens=64)))
    assert (got["--model-path"], got["--context-length"], got["--served-model-name"]) == (str(folder.resolve()), "64", "tiny")


def test_open_address_asks_for_a_key_that_the_command_does_not_hold(folder: Path) -> None:
    assert launch_command(folder, LaunchConfig(host="0.0.0.0")).endswith('--api-key "$AGORA_ENDPOINT_KEY"')


def test_folder_with_blanks_and_quotes_is_quoted(folder: Path, tmp_path: Path) -> None:
    strange = tmp_path / "a model; 'x'"
    strange.symlink_to(folder)
    command = launch_command(strange, LaunchConfig())
    printed = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[2] == str(folder.resolve())


def test_ray_serve_file_is_what_ray_reads(folder: Path) -> None:
    text = ray_serve_file(folder, LaunchConfig(gpus=2, replicas=3, name="talk"))
    content = json.loads(text.split("\n", 1)[1])
    (application,) = content["applications"]
    (model,) = application["args"]["llm_configs"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    assert model["model_loading_config"] == {"model_id": "talk", "model_source": str(folder.resolve())}
    assert model["engine_kwargs"]["tensor_parallel_size"] == 2 and model["deployment_config"]["autoscaling_config"]["max_replicas"] == 3


@pytest.mark.slow
def test_ray_accepts_the_file(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.serve.schema", reason="needs ray[serve]")
    (tmp_path / "serve.yaml").write_text(ray_serve_file(folder, LaunchConfig()))
    program = (
        "import sys, yaml; from ray.serve.schema import ServeDeploySchema; "
        "print(ServeDeploySchema.parse_obj(yaml.safe_load(open(sys.argv[1]))).applications[0].import_path)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "serve.yaml")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ray.serve.llm:build_openai_app", done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"gpus": 3}, "must divide the model's 4 attention heads"), ({"context_tokens": 4096}, "more than the model's 128")],
)
def test_what_cannot_be_served_is_refused(folder: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        launch_command(folder, LaunchConfig(**settings))  # type: ignore[arg-type]


def test_ray_serve_is_for_vllm(folder: Path) -> None:
    with pytest.raises(UsageError, match="goes with --vllm"):
        ray_serve_file(folder, LaunchConfig(server="sglang"))


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        launch_command(tmp_path, LaunchConfig())
