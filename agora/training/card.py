"""The card of a trained model, from what its run folder says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agora.config import from_dict
from agora.errors import ConfigError, TrainingError
from agora.model.card import UNKNOWN, CardFacts, model_card
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.run_folder import RunFolder
from agora.training.source import ModelSource
from agora.training.summary import TrainingSummary

_KINDS: Final = {"pretrain": "pretraining from fresh weights", "chat": "chat tuning", "preferences": "tuning by preferences (DPO)"}


def run_card(name: str, folder: RunFolder, run: Mapping[str, Any], summary: TrainingSummary) -> str:
    """The card of a run, out of `run`, the content of its run.json. Raises TrainingError when that is damaged."""
    try:
        model, training = from_dict(ModelConfig, run["model"], "model"), from_dict(TrainingConfig, run["training"], "training")
        source = from_dict(ModelSource, run.get("source") or {}, "source")
    except (KeyError, AttributeError, ConfigError) as error:
        raise TrainingError(f"{folder.path / 'run.json'} is damaged ({error}); start again with --fresh or under another --name") from error
    return training_card(name, summary, model, training, source, kind=str(run.get("kind", "")))


def training_card(
    name: str, summary: TrainingSummary, model: ModelConfig, training: TrainingConfig, source: ModelSource, *, kind: str = ""
) -> str:
    """Markdown. `kind` is that of the run."""
    facts = CardFacts(
        name=name, data={**_names(source), **source.data, **_licences(source)}, data_licence=source.licence,
        tokens=summary.tokens, seq_len=training.seq_len, seconds=summary.elapsed_s, energy_joules=summary.joules,
        energy_is_measured=summary.energy_measured,
        training={
            "recipe": source.recipe or "none", "kind": _KINDS.get(kind) or _KINDS["chat" if source.base else "pretrain"],
            "checkpoint": f"step {summary.step:,} of run {summary.run_dir.name}",
            "steps": f"{summary.step:,} of {summary.steps:,}, {training.batch_tokens:,} tokens each", **_optimizer(training.optimizer),
            "format": f"{summary.dtype} with float32 masters", "device": summary.device,
            "speed": f"{summary.tokens_per_s:,.0f} tokens/s, {summary.limit_share:.0%} of the measured matmul limit",
            "source of the energy figure": summary.energy_source, "seed": str(training.seed),
        },
        evaluation=_evaluation(summary, "pair" if kind == "preferences" else "token"),
        languages=source.languages,
    )  # fmt: skip
    return model_card(model, facts)


def _names(source: ModelSource) -> dict[str, str]:
    rows = {"corpus": source.corpus, "tokenizer": source.tokenizer_hash}
    return {key: value for key, value in rows.items() if value}


def _licences(source: ModelSource) -> Mapping[str, str]:
    """Part by part where there are several: one that is not known leaves the whole not known."""
    return {f"licence of the {part}": licence or UNKNOWN for part, licence in source.licences.items()} if len(source.licences) > 1 else {}


def _optimizer(config: OptimizerConfig) -> dict[str, str]:
    if config.name == "muon":
        return {
            "optimizer": "Muon for hidden matrices, AdamW for embeddings, head and norms",
            "peak rate": f"{config.muon_lr:g} of Muon, {config.lr:g} of AdamW",
        }
    return {"optimizer": "AdamW", "peak rate": f"{config.lr:g}"}


def _evaluation(summary: TrainingSummary, unit: str) -> dict[str, str]:
    rows = {"last training loss": "not known" if summary.loss is None else f"{summary.loss:.4f} nats per {unit}"}
    rows["held-out loss"] = "not measured" if summary.heldout_loss is None else f"{summary.heldout_loss:.4f} nats per {unit}"
    per_byte = summary.heldout_bits_per_byte
    rows["held-out bits per byte"] = "not measured" if per_byte is None else f"{per_byte:.4f} (in rows of the training's length)"
    return rows
