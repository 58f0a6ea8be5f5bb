"""Hugging Face folders: a Transformer goes out as Qwen3ForCausalLM or Qwen3MoeForCausalLM, and such folders come in.

    save_hf(model, Path("models/mine"), tokenizer_dir=Path("tokenizer/main")); model = load_hf(Path("models/mine"))

A folder holds config.json, generation_config.json, model.safetensors (or shards with an index), the tokenizer's files and
README.md, the model card. It is written beside its place and moved there whole. Never reads pickle.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from agora.errors import ModelError
from agora.files import replacing_folder
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.experts import routers
from agora.model.hf_config import config_from_hf, config_to_hf
from agora.model.tensor_files import write_tensors
from agora.model.transformer import Transformer, linear_maps

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FILE_BYTES: Final = 5_000_000_000  # as large as transformers makes them
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
PAD_TOKEN = "<|pad|>"

# our parameter of a layer -> Hugging Face modules, in the order of their rows
_LAYER_NAMES = {
    "attention_norm.weight": ("input_layernorm",),
    "attention.qkv.weight": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.query_norm.weight": ("self_attn.q_norm",),
    "attention.key_norm.weight": ("self_attn.k_norm",),
    "attention.out.weight": ("self_attn.o_proj",),
    "feed_forward_norm.weight": ("post_attention_layernorm",),
    "feed_forward.gate_up.weight": ("mlp.gate_proj", "mlp.up_proj"),
    "feed_forward.down.weight": ("mlp.down_proj",),
    "feed_forward.router.weight": ("mlp.gate",),
    "feed_forward.experts.gate": ("mlp.experts.{}.gate_proj",),
    "feed_forward.experts.up": ("mlp.experts.{}.up_proj",),
    "feed_forward.experts.down": ("mlp.experts.{}.down_proj",),
}
_BIAS = "mlp.gate.e_score_correction_bias"  # as DeepSeek-V3 names it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Hugging Face weight lies in ours: rows of a parameter, or, of a stack of experts, one matrix."""

    name: str
    parameter: str
    first_row: int
    shape: tuple[int, ...]
    expert: int | None = None

    def of(self, parameter: Tensor) -> Tensor:
        """The weight as a view of `parameter`."""
        return parameter[self.expert] if self.expert is not None else parameter[self.first_row : self.first_row + self.shape[0]]


def hf_places(model: Transformer) -> Iterator[Place]:
    """Every weight of the folder, with its Hugging Face name; `model` may be on the meta device. A tied head is left out."""
    for name, parameter in (("model.embed_tokens.weight", "embedding"), ("model.norm.weight", "norm.weight"), ("lm_head.weight", "head")):
        weight = model.norm.weight if parameter == "norm.weight" else getattr(model, parameter)
        if weight is not None:
            yield Place(name, parameter, 0, tuple(weight.shape))
    for index, layer in enumerate(model.layers):
        for parameter, weight in layer.named_parameters():
            first_row = 0
            for place, part in zip(_LAYER_NAMES[parameter], linear_maps(model.config, parameter, weight.detach()), strict=True):
                experts: Iterable[int | None] = range(part.shape[0]) if part.ndim == 3 else (None,)
                shape = tuple(part.shape[1:] if part.ndim == 3 else part.shape)
                for expert in experts:
                    title = f"model.layers.{index}.{place.format(expert)}.weight"
                    yield Place(title, f"layers.{index}.{parameter}", first_row, shape, expert)
                first_row += part.shape[0]
    for name, bias_E in model.named_buffers():
        if name.endswith("router.bias_E"):
            yield Place(f"model.layers.{name.split('.')[1]}.{_BIAS}", name, 0, tuple(bias_E.shape))


def hf_weights(model: Transformer) -> dict[str, Tensor]:
    """The parameters under their Hugging Face names; fused matrices and experts are cut into views. A tied head is left out."""
    parameters = {**{name: parameter.detach() for name, parameter in model.named_parameters()}, **dict(model.named_buffers())}
    return {place.name: place.of(parameters[place.parameter]) for place in hf_places(model)}


def save_hf(
    model: Transformer, folder: Path, *, tokenizer_dir: Path | None = None, model_card: str | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the folder, replacing an older one whole. `dtype` converts the weights; None keeps theirs.

    Raises ModelError when the tokenizer folder has no tokenizer.json, and as `refuse_other_content` does.
    """
    weights = hf_weights(model)
    save_hf_weights(
        model, lambda place: weights[place.name], folder, dtype=dtype or model.embedding.dtype, tokenizer_dir=tokenizer_dir,
        model_card=model_card,
    )  # fmt: skip


def save_hf_weights(
    model: Transformer,
    weight_of: Callable[[Place], Tensor],
    folder: Path,
    *,
    dtype: torch.dtype,
    tokenizer_dir: Path | None = None,
    model_card: str | None = None,
    file_bytes: int = FILE_BYTES,
) -> None:
    """As `save_hf`, but the weights come one after the other from `weight_of`; `model` may be on the meta device. One of them is in memory
    at a time. What is more than `file_bytes` is written in several files with an index."""
    refuse_other_content(folder)
    if tokenizer_dir is not None and not (tokenizer_dir / "tokenizer.json").is_file():
        raise ModelError(f"tokenizer folder {tokenizer_dir} has no tokenizer.json")
    with replacing_folder(folder) as draft:
        _write_weights(draft, {place.name: place for place in hf_places(model)}, weight_of, dtype, file_bytes)
        _write_json(draft / "config.json", config_to_hf(model.config, dtype=dtype))
        _write_json(draft / "generation_config.json", _generation_config(tokenizer_dir))
        if model_card is not None:
            (draft / "README.md").write_text(model_card, encoding="utf-8")
        for name in TOKENIZER_FILES if tokenizer_dir is not None else ():
            assert tokenizer_dir is not None
            if (tokenizer_dir / name).is_file():
                shutil.copyfile(tokenizer_dir / name, draft / name)


def _write_weights(
    draft: Path, places: Mapping[str, Place], weight_of: Callable[[Place], Tensor], dtype: torch.dtype, file_bytes: int
) -> None:
    dtypes = {name: torch.float32 if name.endswith(_BIAS) else dtype for name in places}
    num_bytes = {name: math.prod(place.shape) * dtypes[name].itemsize for name, place in places.items()}
    files: list[list[str]] = [[]]
    filled = 0
    for name, size in num_bytes.items():
        if files[-1] and filled + size > file_bytes:
            files.append([])
            filled = 0
        files[-1].append(name)
        filled += size
    titles = (
        [WEIGHTS] if len(files) == 1 else [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    )
    for title, names in zip(titles, files, strict=True):
        with (draft / title).open("wb") as stream:
            announced = {name: (dtypes[name], places[name].shape) for name in names}
            write_tensors(stream, announced, lambda name: weight_of(places[name]).to("cpu", dtypes[name]), {"format": "pt"})
    if len(files) > 1:
        weight_map = {name: title for title, names in zip(titles, files, strict=True) for name in names}
        _write_json(draft / INDEX, {"metadata": {"total_size": sum(num_bytes.values())}, "weight_map": dict(sorted(weight_map.items()))})


def refuse_other_content(folder: Path) -> None:
    """Raises ModelError when `folder` is there and holds anything but the files of a model: writing a model replaces it whole."""
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder} is a file; give the name of a new folder for the model")
    known = {"config.json", "generation_config.json", "README.md", INDEX, *TOKENIZER_FILES}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() or (path.name not in known and path.suffix != ".safetensors"):
            raise ModelError(
                f"{folder} holds {path.name}, which is no part of a model and would be lost; give a new folder, or move it away"
            )


def _generation_config(tokenizer_dir: Path | None) -> dict[str, Any]:
    """Where generation stops, by the ids that the tokenizer gives to the known stop tokens."""
    result: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "top_p": 0.95}
    if tokenizer_dir is not None:
        added = _read_json(tokenizer_dir / "tokenizer.json").get("added_tokens", [])
        ids = {token["content"]: token["id"] for token in added}
        stops = [ids[token] for token in STOP_TOKENS if token in ids]
        if stops:
            result["eos_token_id"] = stops
        if PAD_TOKEN in ids:
            result["pad_token_id"] = ids[PAD_TOKEN]
    return result


def read_hf_config(folder: Path) -> ModelConfig:
    """The configuration of a model folder, without its weights. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder with config.json")
    if not (folder / "config.json").is_file():
        hint = "models stand in WORKSPACE/models"
        if (folder / "run.json").is_file():
            hint = f"it is a training run; write its model with: agora model export {folder} FOLDER"
        raise ModelError(f"{folder} is not a model folder: it has no config.json; {hint}")
    return config_from_hf(_read_json(folder / "config.json"))


def load_hf(folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Transformer:
    """Read a model folder. Raises ModelError for a missing or damaged file, an unsupported setting, and weights that are
    missing, unknown or of the wrong shape."""
    config = read_hf_config(folder)
    files = weight_files(folder)
    model = _empty_model(config, files, folder).to_empty(device=device).to(dtype)
    for router in routers(model):
        if router.bias_E is not None:
            router.bias_E = router.bias_E.float()  # rounded to 8 bits it would choose other experts
    expected = hf_weights(model)
    for path in files:
        for name, tensor in _load_weights(path).items():
            if name in expected:
                expected[name].copy_(tensor)
    return model.eval()


def _empty_model(config: ModelConfig, files: list[Path], folder: Path) -> Transformer:
    """The network without memory, after every name and shape in the files was compared with it: sizes in config.json that the
    weights do not bear out cost neither time nor memory. Raises ModelError."""
    shapes = {path: _shapes(path) for path in files}
    present = sum(math.prod(shape) for found in shapes.values() for shape in found.values())
    wanted = num_parameters(config).total
    if wanted > 2 * present:
        raise ModelError(
            f"{folder}: config.json describes {wanted} parameters, but the weights hold {present}; they do not belong together"
        )
    with torch.device("meta"):
        model = Transformer(config)
    missing = {name: list(tensor.shape) for name, tensor in hf_weights(model).items()}
    expected = dict(missing)
    for path, found in shapes.items():
        for name, shape in found.items():
            if name == "lm_head.weight" and config.tie_embeddings:
                continue
            if name not in expected:
                raise ModelError(f"{path}: unknown weight {name!r} for this configuration")
            if expected[name] != shape:
                raise ModelError(f"{path}: {name} has shape {shape}, but must be {expected[name]}")
            missing.pop(name, None)
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing, first {min(missing)!r}")
    return model


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, by its index when there is one. Raises ModelError when there is none."""
    if (folder / INDEX).is_file():
        places = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise ModelError(f"{folder / INDEX}: weight_map must be an object of file names")
        names = sorted(set(places.values()))
        for name in names:
            if Path(name).name != name:
                raise ModelError(f"{folder / INDEX} names {name!r}, which is not a file of this folder")
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    raise ModelError(f"model folder {folder} has no {WEIGHTS} (pickle files such as pytorch_model.bin are never read)")


def _shapes(path: Path) -> dict[str, list[int]]:
    """From the file's header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _load_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
        return weights
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(table).__name__}")
    return table


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
