"""What `agora model` shows. Goes in: a configuration or a model folder. Comes out: plain facts for printing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agora.config import to_dict
from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token, kv_bytes_per_token, num_parameters
from agora.units import format_bytes, format_si


def describe_counts(config: ModelConfig, seq_len: int) -> dict[str, Any]:
    """Parameters, FLOPs per token and cache bytes of a shape, rows being `seq_len` tokens long."""
    counts = num_parameters(config)
    return {
        "model": to_dict(config),
        "parameters": counts.total,
        "active_parameters": counts.active,
        "embedding_parameters": counts.embedding,
        "non_embedding_parameters": counts.non_embedding,
        "seq_len": seq_len,
        "forward_flops_per_token": round(flops_per_token(config, seq_len, training=False)),
        "training_flops_per_token": round(flops_per_token(config, seq_len)),
        "training_flops_for_20_tokens_per_active_parameter": format_si(20 * counts.active * flops_per_token(config, seq_len), "FLOP"),
        "kv_cache_bytes_per_token": kv_bytes_per_token(config),
        "kv_cache_of_one_row": format_bytes(kv_bytes_per_token(config) * seq_len),
    }


def inspect_folder(folder: Path) -> dict[str, Any]:
    """Load the folder (which checks every weight) and say what it is. Raises ModelError."""
    from agora.model.hf import load_hf, weight_files

    model = load_hf(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    num_bad = sum(int((~parameter.isfinite()).sum()) for parameter in model.parameters())
    return {
        **describe_counts(model.config, model.config.max_seq_len),
        "weights": format_bytes(sum(path.stat().st_size for path in weight_files(folder))),
        "weights_that_are_not_finite": num_bad,
        "has_tokenizer": (folder / "tokenizer.json").is_file(),
        "has_model_card": (folder / "README.md").is_file(),
        "files": ", ".join(path.name for path in files),
    }
