"""Matrix products in 8-bit floating point, by torchao (extra: float8). Goes in: a network's layers. Comes out: the same layers, whose
products round input, weight and gradient to float8 with a scale, for each tensor or each row, and sum up in float32; weights, gradients
between layers, attention, norms, experts, embedding and head stay as they were.

    use_float8(layer, "rowwise", torch.device("cuda"))

Which products: those whose sizes are multiples of 16 (the device's product needs it). tensorwise is quicker; rowwise is nearer to bfloat16.
Not covered: experts, float8 between ranks (weights are gathered in bfloat16).
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from agora.errors import ConfigError, MissingExtraError

Recipe = Literal["off", "tensorwise", "rowwise"]
_MULTIPLE: Final = 16
_LEAST_CAPABILITY: Final = {"tensorwise": (8, 9), "rowwise": (9, 0)}  # Ada, Hopper: what torchao's README asks of the device


def float8_problem(recipe: str, device: torch.device) -> str:
    """Why float8 cannot work on `device`; empty when it can. Raises MissingExtraError without torchao."""
    if importlib.util.find_spec("torchao") is None:
        raise MissingExtraError("torchao", "float8", f"training.float8={recipe}")
    if device.type != "cuda":
        return f"{device.type} has no float8 products; they need an NVIDIA GPU (H100 or newer) or an AMD MI300"
    if torch.version.hip is not None:
        return ""
    found, needed = torch.cuda.get_device_capability(device), _LEAST_CAPABILITY[recipe]
    if found < needed:
        return (
            f"{torch.cuda.get_device_name(device)} has compute capability {found[0]}.{found[1]} and {recipe} needs {needed[0]}.{needed[1]}"
        )
    return ""


def refuse_float8(recipe: str, device: torch.device) -> None:
    """Raises ConfigError with the reason where `recipe` cannot work."""
    if problem := float8_problem(recipe, device):
        raise ConfigError(f"training.float8={recipe} cannot work here: {problem}; use training.float8=off")


def use_float8(module: nn.Module, recipe: str, device: torch.device, *, emulate: bool = False) -> int:
    """Let the products inside `module` work in float8; returns how many will. `emulate` does the same roundings in float32 on any device,
    slowly: for tests. Raises ConfigError where the device has no such products."""
    if not emulate:
        refuse_float8(recipe, device)
    product, count = _Float8Product(recipe, emulate=emulate), 0
    for child in module.modules():
        weights = [parameter for parameter in child.parameters() if parameter.ndim == 2] if hasattr(child, "product") else []
        if weights and all(_fits(weight) for weight in weights):
            child.product = product  # type: ignore[assignment]
            count += 1
    return count


def _fits(weight: Tensor) -> bool:
    return all(size % _MULTIPLE == 0 for size in (weight.to_local() if hasattr(weight, "to_local") else weight).shape)


class _Float8Product:
    """The twin of fast.linear."""

    def __init__(self, recipe: str, *, emulate: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of torchao that are built for other devices
            from torchao.float8 import Float8LinearConfig
            from torchao.float8.float8_linear import Float8Linear
        config = Float8LinearConfig.from_recipe_name(recipe)
        if emulate:
            object.__setattr__(config, "emulate", True)
        with torch.device("meta"):
            self._linear: Any = Float8Linear(_MULTIPLE, _MULTIPLE, bias=False, config=config)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., I), (O, I) -> (..., O)."""
        from torchao.float8.float8_linear import matmul_with_hp_or_float8_args

        flat = x.reshape(-1, x.shape[-1])
        rows = -flat.shape[0] % _MULTIPLE  # the weight's gradient sums over rows, which must be a multiple too
        padded = nn.functional.pad(flat, (0, 0, 0, rows)) if rows else flat
        out = matmul_with_hp_or_float8_args.apply(padded, weight.t(), self._linear.linear_mm_config, self._linear.config)
        result: Tensor = out[: flat.shape[0]].unflatten(0, x.shape[:-1])
        return result
