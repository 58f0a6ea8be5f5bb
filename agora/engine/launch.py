"""How to serve an exported model with another engine on GPUs. Goes in: a model folder. Comes out: a command, or a file for Ray Serve.

    agora engine launch main --vllm --gpus 2
    agora engine launch main --vllm --ray-serve --out main.yaml

The folder is read as it is: Qwen3 weights, tokenizer and chat template, which keeps texts from forging roles there too. Such a server is
then any OpenAI-compatible endpoint to Agora (remote.py). Not covered: a launch file for llama.cpp, which first wants the weights in a
format of its own, and whose converter knows tokenizers by name.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agora.engine.remote import KEY_VARIABLE
from agora.errors import UsageError
from agora.model.config import ModelConfig
from agora.model.hf import read_hf_config

Server = Literal["vllm", "sglang"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchConfig:
    """What to start and where. Raises UsageError for numbers that cannot be."""

    server: Server = "vllm"
    name: str | None = None
    """The id by which the model is asked for; None = the folder's name."""
    host: str = "127.0.0.1"
    port: int = 8000
    gpus: int = 1
    """GPUs that share the model's matrices (tensor parallel), for each replica."""
    replicas: int = 1
    """Copies at most, for Ray Serve."""
    context_tokens: int | None = None
    """Prompt and answer together; None = what the model was made for."""

    def __post_init__(self) -> None:
        for field, value in (("gpus", self.gpus), ("replicas", self.replicas), ("context_tokens", self.context_tokens or 1)):
            if value < 1:
                raise UsageError(f"{field}={value} must be at least 1")
        if not 1 <= self.port <= 65535:
            raise UsageError(f"port={self.port} must be from 1 to 65535")


def launch_command(folder: Path, config: LaunchConfig) -> str:
    """The command that serves `folder`, quoted for a shell. Raises UsageError and ModelError for a folder it cannot serve."""
    model, context = _checked(folder, config), str(_context(folder, config))
    name, gpus, port = config.name or model.name, str(config.gpus), str(config.port)
    if config.server == "vllm":
        words = ["vllm", "serve", str(model), "--served-model-name", name, "--host", config.host, "--port", port, "--dtype", "bfloat16"]
        words += ["--max-model-len", context, "--tensor-parallel-size", gpus, "--generation-config", "vllm"]
    else:
        words = ["python", "-m", "sglang.launch_server", "--model-path", str(model), "--served-model-name", name]
        words += ["--host", config.host, "--port", port, "--dtype", "bfloat16", "--context-length", context, "--tp-size", gpus]
    # the key stands in the environment, not in a process list that every user of the machine can read
    return shlex.join(words) + (f' --api-key "${KEY_VARIABLE}"' if config.host not in ("127.0.0.1", "localhost", "::1") else "")


def ray_serve_file(folder: Path, config: LaunchConfig) -> str:
    """The file for `serve run FILE`: one OpenAI-compatible application on vLLM. Raises as `launch_command` does."""
    if config.server != "vllm":
        raise UsageError(f"--ray-serve goes with --vllm, not with --{config.server}: Ray Serve's language model application runs vLLM")
    model = _checked(folder, config)
    language_model: dict[str, Any] = {
        "model_loading_config": {"model_id": config.name or model.name, "model_source": str(model)},
        "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": config.replicas}},
        "engine_kwargs": {
            "dtype": "bfloat16", "max_model_len": _context(folder, config), "tensor_parallel_size": config.gpus,
            "generation_config": "vllm",
        },
    }  # fmt: skip
    application = {
        "name": "agora",
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [language_model]},
    }
    content = {"http_options": {"host": config.host, "port": config.port}, "applications": [application]}
    return "# serve run THIS_FILE, on a Ray cluster with ray[llm]. JSON is YAML too.\n" + json.dumps(content, indent=2) + "\n"


def _model_config(folder: Path) -> ModelConfig:
    config = read_hf_config(folder)
    if config.balance_bias_rate:
        raise UsageError(
            f"{folder} has experts with a bias (balance_bias_rate), which other engines do not compute; serve it with agora serve"
        )
    return config


def _checked(folder: Path, config: LaunchConfig) -> Path:
    shape = _model_config(folder)
    if shape.num_heads % config.gpus:
        fits = [n for n in range(1, shape.num_heads + 1) if shape.num_heads % n == 0]
        raise UsageError(f"gpus={config.gpus} must divide the model's {shape.num_heads} attention heads; try one of {fits}")
    if not (folder / "tokenizer.json").exists():
        raise UsageError(f"{folder} has no tokenizer.json; export the model with its tokenizer: agora model export RUN FOLDER")
    return folder.resolve()


def _context(folder: Path, config: LaunchConfig) -> int:
    most = _model_config(folder).max_seq_len
    if config.context_tokens is not None and config.context_tokens > most:
        raise UsageError(f"context_tokens={config.context_tokens} is more than the model's {most}")
    return config.context_tokens or most
