"""What a step was made of that went wrong. Goes in: where the data stood and what the step said. Comes out: a file of the run folder
with every document of the batch and how each begins, and the error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agora.errors import DataError, TrainingError
from agora.tokenizer.bpe import Tokenizer
from agora.training.data import Batches, Beginning
from agora.training.optimizers import OptimizerConfig
from agora.training.run_folder import RunFolder
from agora.training.step import StepResult

SHOWN_CHARACTERS: Final = 200


def keep_broken_batch(
    folder: RunFolder,
    step: int,
    result: StepResult,
    batches: Batches,
    before: Mapping[str, Any],
    num_batches: int,
    data: Mapping[str, Any],
    kind: str = "not a number",
) -> str:
    """Write RUN/not-a-number-step-N.json (or spike-step-N.json, by `kind`) about the `num_batches` micro-batches after `before`; returns
    what an error says of it."""
    beginning = _beginning(folder.path / "tokenizer")
    documents = batches.describe(before, num_batches, beginning)
    name = f"{kind.replace(' ', '-')}-step-{step}.json"
    folder.write(name, {
        "step": step, "loss": str(result.loss), "grad_norm": str(result.grad_norm), "data_state": dict(before), "data": dict(data),
        "documents": documents,
    })  # fmt: skip
    shown = ", ".join(" ".join(f"{key}={value}" for key, value in document.items() if key != "text") for document in documents[:3])
    kept = "how each begins" if beginning else "no texts, for want of a tokenizer"
    more = ", ..." if len(documents) > 3 else ""
    return f"The batch ({len(documents)} pieces: {shown}{more}; {kept}) is written to {folder.path / name}"


def refusal(step: int, result: StepResult, more: str, kept: str, optimizer: OptimizerConfig) -> TrainingError:
    """The error to raise."""
    muon = f" training.optimizer.muon_lr={optimizer.muon_lr / 2:g}" if optimizer.name == "muon" else ""
    return TrainingError(
        f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}{more}. {kept}. "
        f"Train under another --name with a lower rate, e.g. training.optimizer.lr={optimizer.lr / 2:g}{muon}"
    )


def _beginning(folder: Path) -> Beginning | None:
    """Token ids to the first characters of their text; None where there is no tokenizer that can be used."""
    try:
        tokenizer = Tokenizer.load(folder)
    except (DataError, KeyError):
        return None
    return lambda ids: tokenizer.decode(ids)[:SHOWN_CHARACTERS]
