"""The card of a trained model, from what the run and its data say of themselves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agora.corpus.document_files import read_card
from agora.model.card import CardFacts, model_card
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.loop import TrainingSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """What a model was made from. `corpus` is the folder with the data card; `base` the model that was tuned on `conversations`."""

    recipe: str = ""
    corpus: Path | None = None
    base: Path | None = None
    conversations: tuple[str, ...] = ()
    conversation_report: dict[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()


def training_card(name: str, summary: TrainingSummary, model: ModelConfig, training: TrainingConfig, source: ModelSource) -> str:
    """Markdown. Raises DataError when the data card is damaged."""
    card = read_card(source.corpus) if source.corpus is not None else None
    licences = [licence for licence in (card.get("licence") if card else None, _base_licence(source.base), *source.licences) if licence]
    loss = "not known" if summary.loss is None else f"{summary.loss:.4f} nats per token"
    heldout = "not measured" if summary.heldout_loss is None else f"{summary.heldout_loss:.4f} nats per token"
    facts = CardFacts(
        name=name, data={**_corpus_rows(card), **_conversation_rows(source)}, data_licence="; ".join(dict.fromkeys(licences)) or None,
        tokens=summary.tokens, seq_len=training.seq_len, seconds=summary.elapsed_s, energy_joules=summary.joules,
        energy_is_measured=summary.energy_measured,
        training={
            "recipe": source.recipe or "none", "kind": "chat tuning" if source.base else "pretraining from fresh weights",
            "steps": f"{summary.step:,} of {training.batch_tokens:,} tokens", "optimizer": training.optimizer.name,
            "peak rate": f"{training.optimizer.lr:g}", "format": f"{summary.dtype} with float32 masters", "device": summary.device,
            "speed": f"{summary.tokens_per_s:,.0f} tokens/s, {summary.limit_share:.0%} of the measured matmul limit",
            "source of the energy figure": summary.energy_source, "seed": str(training.seed),
        },
        evaluation={"last training loss": loss, "held-out loss": heldout},
        languages=_languages(card),
    )  # fmt: skip
    return model_card(model, facts)


def _languages(card: dict[str, Any] | None) -> tuple[str, ...]:
    """Languages of at least one kept post in a hundred: fewer are mostly mistakes of the detector."""
    counts = card["languages"] if card else {}
    return tuple(language for language, count in counts.items() if language != "und" and count >= 0.01 * sum(counts.values()))


def _corpus_rows(card: dict[str, Any] | None) -> dict[str, str]:
    if card is None:
        return {}
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in card["dropped"].items() if count) or "none"
    return {
        "posts and texts read": f"{card['posts_in']:,} posts, {card['texts_in']:,} texts",
        "kept": f"{card['kept']:,}, as {card['documents']:,} documents of {card['authors']:,} authors",
        "dropped": dropped,
        "held out": f"{card['heldout_authors']:,} authors with {card['heldout_documents']:,} documents",
        "period": f"{card['first_post'] or 'unknown'} to {card['last_post'] or 'unknown'}",
        "sources": ", ".join(f"{name} {count:,}" for name, count in card["sources"].items()),
        "corpus hash": str(card["content_hash"]),
    }


def _conversation_rows(source: ModelSource) -> dict[str, str]:
    if source.base is None:
        return {}
    report = {key: value for key, value in source.conversation_report.items() if isinstance(value, int)}
    return {
        "base model": source.base.name,
        "conversations": ", ".join(source.conversations),
        "of them": ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in report.items()),
    }


def _base_licence(base: Path | None) -> str | None:
    """The data licence that the card of the base model states: it binds what is tuned from it too."""
    path = base / "README.md" if base is not None else None
    if path is None or not path.exists():
        return None
    found = re.search(r"^license(?:_name)?: (.+)$", path.read_text(encoding="utf-8").replace("license: other\n", ""), re.MULTILINE)
    if found is None:
        return None
    text = found[1].strip()
    return str(json.loads(text)) if text.startswith('"') else text
