"""`agora evaluate`: bits per byte on text that the model never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command, terminal_progress
from agora.errors import UsageError
from agora.settings import DEFAULT_NAME, Workspace


def evaluate(
    model: Annotated[str | None, typer.Option(help="Name in the workspace or a folder.", show_default=False)] = None,
    text: Annotated[list[Path] | None, typer.Option(help="Text file to score; may be repeated.", show_default=False)] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of --text is a document of its own, not the whole file.")] = False,
    corpus: Annotated[str | None, typer.Option(help="Corpus whose held-out authors to score (default: main).", show_default=False)] = None,
    max_documents: Annotated[int | None, typer.Option(min=1, help="Score this many, evenly spaced.", show_default=False)] = None,
    dtype: Annotated[str, typer.Option(help="Number format to compute in: float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda or mps.")] = "cpu",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bits per byte of a model on held-out text, next to xz -9e and zstd -19 on the same bytes.

    Example: agora evaluate --model main --corpus main
    """
    if text and corpus:
        raise UsageError("give --text or --corpus, not both")
    from agora.config import to_dict
    from agora.engine import load_model_folder, parse_device, parse_dtype
    from agora.model.find import find_model
    from agora.training.evaluate import bits_per_byte, evenly_spaced, file_texts, heldout_texts

    place = Workspace.find(workspace)
    folder = find_model(place, model)
    number_format, where = parse_dtype(dtype), parse_device(device)
    texts = file_texts(text, lines=lines) if text else heldout_texts(place.folder("corpus", corpus or DEFAULT_NAME))
    network, tokenizer = load_model_folder(folder, dtype=number_format, device=where)
    result = bits_per_byte(network, tokenizer, evenly_spaced(texts, max_documents), progress=terminal_progress)
    source = ", ".join(map(str, text)) if text else f"held-out authors of corpus {corpus or DEFAULT_NAME}"
    numbers = {key: round(value, 4) if isinstance(value, float) else value for key, value in to_dict(result).items()}
    emit({"model": str(folder), "text": source, **numbers, "below_xz": round(result.below_xz or 0.0, 4)}, as_json=as_json)
    next_command(f"agora chat --model {model or folder.name}")
