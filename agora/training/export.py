"""From a finished run to a model folder for everything else: weights, tokenizer, model card. What is exported already stays as it is.

Goes in: a `Trained` run. Comes out: models/NAME, whole or absent, and RUN/export.json that says what it holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from agora.config import to_dict
from agora.files import file_sha256
from agora.log import Progress, silent
from agora.model.hf import WEIGHTS, save_hf
from agora.training.card import run_card
from agora.training.loop import Trained
from agora.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def export_run(trained: Trained, model_dir: Path, *, progress: Progress = silent) -> bool:
    """Write `model_dir` unless it already holds exactly this run. Returns whether it wrote. Raises TrainingError for a damaged run.json."""
    folder = RunFolder(trained.summary.run_dir)
    run, known, weights = folder.read("run.json"), folder.read("export.json"), model_dir / WEIGHTS
    source = hashlib.sha256(json.dumps(run.get("source"), sort_keys=True).encode()).hexdigest()
    key = {"step": trained.summary.step, "weights_sha256": _weights_sha256(trained), "source_sha256": source}
    if known.get("run") == key and weights.exists() and known.get("exported_sha256") == file_sha256(weights):
        logger.info("%s already holds this run", model_dir)
        return False
    with progress.step("export the model", total=1, unit="models") as step:
        card = run_card(model_dir.name, folder, run, trained.summary)
        save_hf(trained.model, model_dir, tokenizer_dir=folder.path / "tokenizer", model_card=card)
        record = {"run": key, "model_dir": str(model_dir), "exported_sha256": file_sha256(weights)}
        folder.write("export.json", {**record, "summary": to_dict(trained.summary)})
        step.advance()
    return True


def _weights_sha256(trained: Trained) -> str:
    digest = hashlib.sha256()
    for name, tensor in trained.model.state_dict().items():
        digest.update(name.encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))
    return digest.hexdigest()
