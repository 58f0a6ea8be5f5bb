"""Export of a checkpoint: tensor by tensor, whatever the checkpoint was divided into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agora.config import to_dict
from agora.errors import CheckpointError
from agora.model.config import ModelConfig
from agora.model.hf import load_hf
from agora.model.transformer import Transformer
from agora.training.checkpoint import save_checkpoint
from agora.training.export_checkpoint import export_checkpoint
from agora.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(
    vocab_size=4096, dim=512, num_layers=12, num_heads=8, num_kv_heads=4, head_dim=64, hidden_dim=2048, max_seq_len=64, tie_embeddings=False
)  # fmt: skip
MEASURE = """
import sys, threading
from pathlib import Path
from agora.training.export_checkpoint import export_checkpoint
import agora.model.hf, torch, psutil
torch.set_num_threads(1)
process, stop, seen = psutil.Process(), threading.Event(), []
before = process.memory_info().rss
def watch():
    while not stop.wait(0.002):
        seen.append(process.memory_info().rss)
thread = threading.Thread(target=watch); thread.start()
export_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), dtype="bfloat16")
stop.set(); thread.join()
print(max(seen) - before)
"""


def make_run(folder: Path, config: ModelConfig, weights: dict[str, torch.Tensor]) -> Path:
    run = RunFolder(folder / "run")
    run.path.mkdir()
    run.write("run.json", {"model": to_dict(config)})
    save_checkpoint(run.checkpoints, 1, {"step": {f"weight.{name}": weight for name, weight in weights.items()}})
    return run.path


@pytest.mark.slow
def test_an_export_needs_memory_for_a_tensor_and_not_for_the_model(tmp_path: Path) -> None:
    model = Transformer(CONFIG)
    weights = dict(model.named_parameters())
    total_bytes, largest_bytes = sum(w.nbytes for w in weights.values()), max(w.nbytes for w in weights.values())
    run = make_run(tmp_path, CONFIG, weights)
    command = [sys.executable, "-c", MEASURE, str(run), str(tmp_path / "model")]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    # a tensor as read, and in the new dtype; the rest is Python's
    assert int(measured.stdout) < 2 * largest_bytes + 30e6 < total_bytes / 3
    loaded = load_hf(tmp_path / "model", dtype=torch.bfloat16)
    assert all(torch.equal(one, weights[name].bfloat16()) for name, one in loaded.named_parameters())


def test_numbers_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=64, dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, hidden_dim=32, max_seq_len=32)
    weights = dict(Transformer(config).state_dict())
    weights["layers.0.attention.out.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"weight layers\.0\.attention\.out\.weight of the checkpoint holds numbers"):
        export_checkpoint(make_run(tmp_path, config, weights), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_of_another_model_is_named(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=64, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, hidden_dim=32, max_seq_len=32)
    weights = {name: weight for name, weight in Transformer(config).state_dict().items() if not name.startswith("layers.1")}
    with pytest.raises(CheckpointError, match=r"lacks weight layers\.1"):
        export_checkpoint(make_run(tmp_path, config, weights), tmp_path / "model")
