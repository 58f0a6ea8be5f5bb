"""A PlanRequest out of words. Goes in: a model's name, `key=value` words, a ready question. Comes out: a checked PlanRequest.

`layout.tensor=8` gives (part of) a layout instead of a search; `shape.dim=8192` changes sizes of the named model; `model.dim=512`
plans for a ModelConfig of Agora itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from agora.cluster.accelerator import accelerator
from agora.cluster.calibrate import load_calibration
from agora.cluster.layout import Layout
from agora.cluster.models import model_shape
from agora.cluster.plan import PlanRequest
from agora.cluster.questions import ready_question
from agora.cluster.wafer import is_wafer
from agora.config import apply_overrides, parse_assignments, unknown_key
from agora.errors import ConfigError, UsageError
from agora.model.config import ModelConfig
from agora.model.shape import ModelShape, shape_of

_WHERE = "command line"
_GROUPS = ("layout", "shape", "model")
_HIDDEN = {"layout", "shape", "calibration"}


def request_from_words(words: Sequence[str], *, question: str | None = None, calibration: Path | None = None) -> PlanRequest:
    """Raises UsageError for words that are neither a model nor key=value, ConfigError for what cannot be."""
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise UsageError(f"{names[1]!r} is neither key=value nor the first name; give one model, then key=value words")
    groups: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
    plain: dict[str, Any] = {}
    for key, value in parse_assignments([word for word in words if "=" in word]).items():
        group, dot, rest = key.partition(".")
        if dot and group in groups:
            groups[group][rest] = value
        else:
            plain[key] = value
    request = PlanRequest() if question is None else ready_question(question)
    if names:
        request = replace(request, model=names[0], shape=None)
    model_shape(request.model)
    request = _with_settings(request, plain)
    if groups["model"]:
        request = replace(request, shape=shape_of(apply_overrides(ModelConfig(), groups["model"], _WHERE)))
    if groups["shape"]:
        request = replace(request, shape=_changed_shape(request.resolve_shape(), groups["shape"]))
    if groups["layout"]:
        request = _with_layout(request, groups["layout"])
    return request if calibration is None else replace(request, calibration=load_calibration(calibration))


def _with_settings(request: PlanRequest, settings: Mapping[str, Any]) -> PlanRequest:
    known = [field.name for field in fields(PlanRequest) if field.name not in _HIDDEN]
    for key in settings:
        if key not in known:
            raise ConfigError(unknown_key(key, known, "PlanRequest", _WHERE))
    whole = {
        key: int(value) if key in ("num_accelerators", "seq_len") and isinstance(value, float) and value.is_integer() else value
        for key, value in settings.items()
    }
    return apply_overrides(request, whole, _WHERE)


def _changed_shape(shape: ModelShape, changes: Mapping[str, Any]) -> ModelShape:
    known = {field.name for field in fields(ModelShape)}
    for key, value in changes.items():
        if key not in known:
            raise ConfigError(unknown_key(key, sorted(known), "ModelShape", _WHERE))
        if not isinstance(value, (int, bool)) and key != "name":
            raise ConfigError(f"{_WHERE}: shape.{key}={value!r} must be a whole number")
    return replace(shape, **changes)


def _with_layout(request: PlanRequest, changes: Mapping[str, Any]) -> PlanRequest:
    """The layout of the words; ranks that they leave open become shards, and on wafers replicas."""
    start = Layout(precision=request.precision, kernels=request.kernels) if request.layout is None else request.layout
    if changes.get("virtual", 1) != 1 and "schedule" not in changes:
        changes = {**changes, "schedule": "interleaved"}
    layout = apply_overrides(start, changes, f"{_WHERE}: layout")
    name = "replicate" if is_wafer(accelerator(request.accelerator)) else "shard"
    if name not in changes and request.num_accelerators % layout.num_accelerators == 0:
        layout = replace(layout, **{name: request.num_accelerators // layout.num_accelerators * getattr(layout, name)})
    return replace(request, layout=layout, precision=layout.precision, kernels=layout.kernels)
