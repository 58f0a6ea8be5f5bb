"""config.json of Hugging Face folders. Goes in: a ModelConfig. Comes out: the table of Qwen3ForCausalLM or Qwen3MoeForCausalLM, and back.

Qwen3-MoE knows no bias on the choice of experts. A model that has one (balance_bias_rate above 0) gets a model_type of our own, so that
other programs refuse it instead of computing something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from agora.errors import ConfigError, ModelError
from agora.model.config import ModelConfig

# Hugging Face key -> ModelConfig field
_SIZES = {
    "vocab_size": "vocab_size", "hidden_size": "dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim", "intermediate_size": "hidden_dim",
    "max_position_embeddings": "max_seq_len", "rms_norm_eps": "norm_eps",
}  # fmt: skip
_DENSE, _SPARSE, _BIASED = "qwen3", "qwen3_moe", "agora_moe"
_ARCHITECTURES = {_DENSE: "Qwen3ForCausalLM", _SPARSE: "Qwen3MoeForCausalLM", _BIASED: "AgoraMoeForCausalLM"}
# Hugging Face key -> (ModelConfig field, what transformers takes when it is absent; None = it must be there)
_EXPERTS: dict[str, tuple[str, Any]] = {
    "num_experts": ("num_experts", None), "num_experts_per_tok": ("experts_per_token", None), "moe_intermediate_size": ("expert_dim", None),
    "norm_topk_prob": ("norm_topk_prob", False), "decoder_sparse_step": ("sparse_step", 1), "mlp_only_layers": ("dense_layers", []),
    "router_aux_loss_coef": ("balance_loss_weight", 0.001),
}  # fmt: skip
# what the network does not have, and the only value it can take
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": tuple(_ARCHITECTURES), "hidden_act": ("silu",), "attention_bias": (False, None), "use_sliding_window": (False, None),
    "quantization_config": (None,),
}  # fmt: skip


def config_to_hf(config: ModelConfig, *, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The content of config.json. Rotary settings are written in the old and the new form, for readers of either."""
    kind = _DENSE if not config.num_experts else _SPARSE if not config.balance_bias_rate else _BIASED
    experts = {key: getattr(config, field) for key, (field, _) in _EXPERTS.items()} if config.num_experts else {}
    if experts:
        experts |= {"mlp_only_layers": list(config.dense_layers), "output_router_logits": False}
    if kind == _BIASED:
        experts["balance_bias_rate"] = config.balance_bias_rate
    return {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        **experts,
        **{key: getattr(config, field) for key, field in _SIZES.items()},
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.init_std,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "use_cache": True,
        "dtype": str(dtype).removeprefix("torch."),
    }


def config_from_hf(table: Mapping[str, Any]) -> ModelConfig:
    """Read config.json. Raises ModelError naming the key and value of anything this network cannot do."""
    for key, allowed in _FIXED.items():
        if table.get(key, allowed[0]) not in allowed:
            raise ModelError(
                f"config.json: {key}={table[key]!r} is not supported, only {' or '.join(map(repr, allowed))}; this is a Qwen3 decoder"
            )
    layer_types = table.get("layer_types") or []
    if not isinstance(layer_types, list):
        raise ModelError(f"config.json: layer_types={layer_types!r} must be a list")
    for kind in layer_types:
        if kind != "full_attention":
            raise ModelError(f"config.json: layer_types has {kind!r}; only 'full_attention' is supported")
    missing = sorted(key for key in ("model_type", *_SIZES) if table.get(key) is None)
    if missing:
        raise ModelError(f"config.json: missing {', '.join(missing)}")
    tied = table.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise ModelError(f"config.json: tie_word_embeddings={tied!r} must be true or false")
    sizes = {field: _number(key, table[key], whole=key != "rms_norm_eps") for key, field in _SIZES.items()}
    init_std = _number("initializer_range", table.get("initializer_range", 0.02))
    try:
        return ModelConfig(**sizes, **_experts(table), rope_theta=_rope_theta(table), tie_embeddings=tied, init_std=init_std)
    except ConfigError as error:
        raise ModelError(f"config.json cannot be used: {error}") from error


def _experts(table: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the mixture of experts; none for a dense model. transformers 5 writes num_experts as num_local_experts."""
    table = {**table, "num_experts": table.get("num_experts") or table.get("num_local_experts")}
    if table["model_type"] == _DENSE:
        if table["num_experts"]:
            raise ModelError(f"config.json: num_experts={table['num_experts']!r} does not go with model_type={_DENSE!r}, only {_SPARSE!r}")
        return {}
    result: dict[str, Any] = {}
    for key, (field, default) in _EXPERTS.items():
        value = default if table.get(key) is None else table[key]
        if value is None:
            raise ModelError(f"config.json: missing {key}")
        if field == "norm_topk_prob":
            if not isinstance(value, bool):
                raise ModelError(f"config.json: {key}={value!r} must be true or false")
        elif field == "dense_layers":
            if not isinstance(value, list):
                raise ModelError(f"config.json: {key}={value!r} must be a list")
            value = tuple(_number(key, layer, whole=True) for layer in value)
        else:
            value = _number(key, value, whole=field != "balance_loss_weight")
        result[field] = value
    if table["model_type"] == _BIASED:
        result["balance_bias_rate"] = _number("balance_bias_rate", table.get("balance_bias_rate"))
    return result


def _number(key: str, value: Any, *, whole: bool = False) -> Any:
    """`value` itself. Raises ModelError for anything but a finite number (of type int when `whole`)."""
    if type(value) is int or (type(value) is float and math.isfinite(value) and not whole):
        return value
    raise ModelError(f"config.json: {key}={value!r} must be a {'whole ' if whole else ''}number")


def _rope_theta(table: Mapping[str, Any]) -> float:
    """`rope_parameters` (transformers >= 5), else `rope_theta`. Scaled rotary is refused, also in `rope_scaling` (before 5)."""
    theta = table.get("rope_theta", 10_000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = table.get(key)
        if rope is None:
            continue
        if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
            raise ModelError(f"config.json: {key}={rope!r} must be one object of plain values")
        for kind in (rope.get("rope_type", "default"), rope.get("type", "default")):
            if kind != "default":
                raise ModelError(f"config.json: rope_type={kind!r} in {key} is not supported, only 'default'")
        theta = rope.get("rope_theta", theta)
    return float(_number("rope_theta", theta))
