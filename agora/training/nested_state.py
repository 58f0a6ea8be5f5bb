"""A nested state as a checkpoint keeps it. Goes in: tables, lists and tuples of tensors and plain values. Comes out: the tensors by name
and a JSON value that says where each belongs; and the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from agora.errors import CheckpointError


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into named tensors and a JSON value that says where each belongs. Where all values of a table are tensors, it
    says only where they lie: another process may hold others. Raises CheckpointError for other types."""
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value
            return {"$tensor": path}
        if isinstance(value, Mapping):
            items = [[key, plain(item, f"{path}/{key}")] for key, item in value.items()]
            is_table = bool(value) and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
            return {"$tensors": path} if is_table else {"$items": items}
        if isinstance(value, tuple):
            return {"$tuple": [plain(item, f"{path}/{index}") for index, item in enumerate(value)]}
        if isinstance(value, list):
            return [plain(item, f"{path}/{index}") for index, item in enumerate(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise CheckpointError(f"the state holds {type(value).__name__} at {path}, which a checkpoint cannot hold")

    return tensors, plain(state, "")


def unflatten(tensors: Mapping[str, Tensor] | None, plain: Any) -> dict[str, Any]:
    """Inverse of `flatten`; without `tensors`, None stands for each. Raises KeyError for a tensor that is missing."""

    def nested(value: Any) -> Any:
        if isinstance(value, list):
            return [nested(item) for item in value]
        if isinstance(value, dict):
            if "$tensor" in value:
                return tensors[value["$tensor"]] if tensors is not None else None
            if "$tensors" in value:
                start = value["$tensors"] + "/"
                return {name.removeprefix(start): tensor for name, tensor in (tensors or {}).items() if name.startswith(start)}
            if "$tuple" in value:
                return tuple(nested(item) for item in value["$tuple"])
            return {key: nested(item) for key, item in value["$items"]}
        return value

    result = nested(plain)
    if not isinstance(result, dict):
        raise ValueError("its state is not a table")
    return result
