"""A workspace with a tokenizer and packed shards of small posts, as the stages before training leave it."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from agora.settings import Workspace
from agora.tokenizer.bpe import Tokenizer
from agora.tokenizer.shards import pack_shards

torch.set_num_threads(1)  # tiny products: a second thread only waits for the first, for long when the machine is busy

WHO = ("the baker", "our team", "a neighbour", "the mayor", "my sister", "the band", "a stray cat")
DOES = ("opened late", "won again", "lost the keys", "sang all night", "missed the tram", "found a coin", "asked for rain")
WHEN = ("today", "on monday", "before dawn", "after the match", "in the rain", "at the market")


def small_posts(count: int, seed: int = 0) -> list[str]:
    """Sentences a tiny model can learn."""
    rng = random.Random(seed)
    return [f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHEN)}" for _ in range(count)]


def make_workspace(root: Path) -> Workspace:
    """Tokenizer and shards named main."""
    workspace = Workspace(root).create()
    documents = workspace.folder("corpus", "main") / "documents"
    documents.mkdir(parents=True)
    texts = small_posts(1500)
    splits = ["heldout" if index % 10 == 0 else "train" for index in range(len(texts))]
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string()), "split": splits}), documents / "documents-00000.parquet")
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    tokenizer.save(workspace.folder("tokenizer", "main"))
    for split, name in (("train", "main"), ("heldout", "main-heldout")):
        pack_shards(documents, tokenizer, workspace.folder("shards", name), split=split)
    return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace")
