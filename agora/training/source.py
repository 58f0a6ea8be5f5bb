"""What a model is made from, as plain values. Goes in: a corpus folder, a base model, conversations. Comes out: a `ModelSource`, which
stands in run.json from the first step on, so that every export of the run can say it, also when the corpus is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agora.corpus.config import NOT_STATED
from agora.corpus.document_files import read_card


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """Names, and rows for the model card. `licences` maps a part of the data to its licence, empty where it is not known; `base` is
    the model that was tuned."""

    recipe: str = ""
    corpus: str = ""
    base: str = ""
    tokenizer_hash: str = ""
    data: dict[str, str] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()

    @property
    def licence(self) -> str | None:
        """The licence of all the data; None as soon as that of one part is not known."""
        known = list(self.licences.values())
        return "; ".join(dict.fromkeys(known)) if known and all(known) else None


def corpus_source(corpus: Path, *, recipe: str = "", tokenizer_hash: str = "") -> ModelSource:
    """A model that learns a corpus from fresh weights. Raises DataError when the data card is damaged."""
    card = read_card(corpus)
    return ModelSource(
        recipe=recipe, corpus=corpus.name, tokenizer_hash=tokenizer_hash, data=_corpus_rows(card),
        licences={"corpus": _known(card.get("licence"))} if card else {}, languages=_languages(card),
    )  # fmt: skip


def chat_source(
    base: Path, *, conversations: Sequence[str], report: Mapping[str, Any], corpus: Path | None = None, licences: Sequence[str] = (),
    recipe: str = "", tokenizer_hash: str = "",
) -> ModelSource:  # fmt: skip
    """A model tuned from `base` on `conversations`, those of `corpus` among them; `licences` are theirs, `report` counts them.

    Raises DataError when the data card is damaged.
    """
    card = read_card(corpus) if corpus is not None else None
    counts = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in report.items() if isinstance(value, int))
    parts = {"base model": _base_licence(base)}
    if corpus is not None:
        parts["corpus"] = _known(card.get("licence")) if card else ""
    if licences or corpus is None or len(conversations) > 1:
        parts["conversations"] = "; ".join(dict.fromkeys(licences))
    return ModelSource(
        recipe=recipe, corpus=corpus.name if corpus is not None else "", base=base.name, tokenizer_hash=tokenizer_hash,
        data={**_corpus_rows(card), "base model": base.name, "conversations": ", ".join(conversations), "of them": counts},
        licences=parts, languages=_languages(card),
    )  # fmt: skip


def preference_source(
    base: Path, *, origin: str, report: Mapping[str, Any], licences: Sequence[str] = (), recipe: str = "", tokenizer_hash: str = "",
    settings: Mapping[str, Any],
) -> ModelSource:  # fmt: skip
    """A model tuned from `base` by preferences from `origin`; `report` counts them, `settings` are those of their loss."""
    counts = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in report.items() if isinstance(value, int) and key != "steps")
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in report.get("left_out", {}).items() if count) or "none"
    how = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())
    return ModelSource(
        recipe=recipe, base=base.name, tokenizer_hash=tokenizer_hash,
        data={"base model": base.name, "preferences": origin, "of them": counts, "left out": dropped, "preference loss": f"DPO, {how}"},
        licences={"base model": _base_licence(base), "preferences": "; ".join(dict.fromkeys(licences))},
    )  # fmt: skip


def merged(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """`asked`, with `saved` where it says nothing: a resumed run may find its corpus gone, or be told a licence at last."""
    result = dict(saved)
    for key, value in asked.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value or before or value
    return result


def _known(licence: Any) -> str:
    return "" if licence in (None, NOT_STATED) else str(licence)


def _languages(card: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Languages of at least one kept post in a hundred: fewer are mostly mistakes of the detector."""
    counts = card["languages"] if card else {}
    return tuple(language for language, count in counts.items() if language != "und" and count >= 0.01 * sum(counts.values()))


def _corpus_rows(card: Mapping[str, Any] | None) -> dict[str, str]:
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


def _base_licence(base: Path) -> str:
    """The data licence that the card of the base model states: it binds what is tuned from it too."""
    path = base / "README.md"
    if not path.exists():
        return ""
    found = re.search(r"^license(?:_name)?: (.+)$", path.read_text(encoding="utf-8").replace("license: other\n", ""), re.MULTILINE)
    if found is None:
        return ""
    text = found[1].strip()
    return _known(json.loads(text) if text.startswith('"') else text)
