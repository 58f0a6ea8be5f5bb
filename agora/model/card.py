"""The model card: what a model is made of, what it cost, how well it does, and what it must not be used for. Goes in: facts. Comes out:
Markdown with the header that model hubs read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from agora.errors import ModelError
from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token, kv_bytes_per_token, num_parameters
from agora.units import format_bytes, format_joules, format_seconds, format_si


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """What the card says beside the configuration. Anything unknown stays None (or empty), and the card says that it is not known.

    `data` maps a source to what was taken from it; `data_licence` is the licence of all the training text, which binds the model too.
    `energy_is_measured` False marks an estimate.
    """

    name: str
    data: Mapping[str, str] = field(default_factory=dict)
    data_licence: str | None = None
    tokens: int | None = None
    seq_len: int | None = None
    training: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    energy_joules: float | None = None
    energy_is_measured: bool = False
    evaluation: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()


UNKNOWN = "not known"
NO_LICENCE = f"{UNKNOWN}. Before you share the model, find out what its texts allow"
LIMITS = (
    "It writes text that looks like its training data. It knows no facts reliably, and what it says about people may be false.",
    "It has learned the opinions, insults and mistakes of its sources. Do not let it decide anything about a person.",
    "It was not tested for safety beyond the numbers above.",
)


def model_card(config: ModelConfig, facts: CardFacts) -> str:
    """The card as Markdown. Raises ModelError for a name that is empty."""
    if not facts.name.strip():
        raise ModelError("a model card needs a name; give the model's folder name")
    kind = "sparse decoder (mixture of experts, Qwen3 architecture)" if config.num_experts else "dense decoder (Qwen3 architecture)"
    sections = [_header(facts), f"# {facts.name}", f"A {kind} trained with Agora.", _shape(config)]
    sections += [_table("Training data", facts.data, note=f"Licence of the data: {facts.data_licence or NO_LICENCE}.")]
    sections += [_training(config, facts), _table("Evaluation", facts.evaluation), "## Limits\n\n" + "\n".join(f"- {x}" for x in LIMITS)]
    return "\n\n".join(sections) + "\n"


def _header(facts: CardFacts) -> str:
    # a hub reads `license`: with a licence that is not known the key must be absent, not a made-up name
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if facts.data_licence:
        lines += ["license: other", f"license_name: {json.dumps(facts.data_licence)}"]
    if facts.languages:
        lines += ["language:", *(f"- {json.dumps(language)}" for language in facts.languages)]
    return "\n".join([*lines, "---"])


def _shape(config: ModelConfig) -> str:
    counts = num_parameters(config)
    experts = {
        "experts": f"{config.num_experts} of width {config.expert_dim} in {config.num_expert_layers} layers",
        "experts that a token visits": f"{config.experts_per_token} of each layer",
        "parameters that a token passes": f"{counts.active:,}",
    }
    return _table("Shape", {
        "parameters": f"{counts.total:,} ({counts.non_embedding:,} without embeddings)",
        "layers, width, feed-forward": f"{config.num_layers}, {config.dim}, {config.hidden_dim}",
        **(experts if config.num_experts else {}),
        "heads": f"{config.num_heads} query, {config.num_kv_heads} key-value, {config.head_dim} wide",
        "vocabulary": f"{config.vocab_size:,}{' (tied head)' if config.tie_embeddings else ''}",
        "longest text": f"{config.max_seq_len:,} tokens",
        "key-value cache": f"{format_bytes(kv_bytes_per_token(config))} per token in bfloat16",
    })  # fmt: skip


def _training(config: ModelConfig, facts: CardFacts) -> str:
    rows = {"tokens": UNKNOWN if facts.tokens is None else f"{facts.tokens:,}", "compute": UNKNOWN, "time": UNKNOWN, "energy": UNKNOWN}
    if facts.tokens is not None:
        seq_len = facts.seq_len or config.max_seq_len
        rows["compute"] = f"{format_si(facts.tokens * flops_per_token(config, seq_len), 'FLOP')} (at {seq_len:,} tokens per row)"
    if facts.seconds is not None:
        rows["time"] = format_seconds(facts.seconds)
    if facts.energy_joules is not None:
        rows["energy"] = f"{format_joules(facts.energy_joules)} ({'measured' if facts.energy_is_measured else 'estimated'})"
    return _table("Training", {**rows, **facts.training})


def _table(title: str, rows: Mapping[str, str], *, note: str = "") -> str:
    body = "\n".join(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items())
    table = f"| | |\n| --- | --- |\n{body}" if rows else f"{UNKNOWN.capitalize()}."
    return f"## {title}\n\n{table}" + (f"\n\n{note}" if note else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
