"""From a finished run to a model folder for everything else: weights, tokenizer, model card. What is exported already stays as it is.

Goes in: a `Trained` run and where its data came from. Comes out: models/NAME, whole or absent, and RUN/export.json that says what it holds.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from agora.config import to_dict
from agora.log import Progress, silent
from agora.model.hf import WEIGHTS, save_hf
from agora.training.card import ModelSource, training_card
from agora.training.config import TrainingConfig
from agora.training.loop import Trained
from agora.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def export_run(
    trained: Trained, model_dir: Path, source: ModelSource, *, training_config: TrainingConfig, progress: Progress = silent
) -> bool:
    """Write `model_dir` unless it already holds exactly this run. Returns whether it wrote."""
    folder = RunFolder(trained.summary.run_dir)
    known = folder.read("export.json")
    key = {"step": trained.summary.step, "weights_sha256": _weights_sha256(trained)}
    if known.get("run") == key and known.get("exported_sha256") == _file_sha256(model_dir / WEIGHTS):
        logger.info("%s already holds this run", model_dir)
        return False
    with progress.step("export the model", total=1, unit="models") as step:
        card = training_card(model_dir.name, trained.summary, trained.model.config, training_config, source)
        save_hf(trained.model, model_dir, tokenizer_dir=folder.path / "tokenizer", model_card=card)
        record = {"run": key, "model_dir": str(model_dir), "exported_sha256": _file_sha256(model_dir / WEIGHTS)}
        folder.write("export.json", {**record, "summary": to_dict(trained.summary)})
        step.advance()
    return True


def _weights_sha256(trained: Trained) -> str:
    digest = hashlib.sha256()
    for name, tensor in trained.model.state_dict().items():
        digest.update(name.encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
    return digest.hexdigest()


def _file_sha256(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
