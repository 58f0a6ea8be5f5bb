"""Time and memory of layouts on any machine: accelerators that hold their weights, or wafers that stream them. Goes in: a shape, a batch,
layouts, hardware. Comes out: StepTimes, MemoryBytes."""

from __future__ import annotations

import numpy as np

from agora.cluster.columns import Hardware, LayoutColumns
from agora.cluster.constants import Constants
from agora.cluster.memory import MemoryBytes, Optimizer, memory_bytes
from agora.cluster.step_time import Batch, StepTimes, step_times
from agora.cluster.wafer import streaming_memory, streaming_times
from agora.model.shape import ModelShape


def times_on(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> StepTimes:
    """Seconds of one step by cause."""
    price = streaming_times if np.any(hardware.streams_weights) else step_times
    return price(shape, batch, layouts, hardware, constants)


def memory_on(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, optimizer: Optimizer = "adamw") -> MemoryBytes:
    """Bytes of the fullest rank."""
    if np.any(hardware.streams_weights):
        return streaming_memory(shape, batch, layouts)
    return memory_bytes(shape, batch, layouts, optimizer=optimizer)
