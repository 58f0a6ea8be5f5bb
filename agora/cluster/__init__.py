"""The planner of training machines: layouts, memory, step time, failures, power, money. Importing this package loads nothing slow.

from agora.cluster.plan import PlanRequest, plan
plan(PlanRequest(model="Llama-3-405B", accelerator="H100", num_accelerators=16_384, tokens=15.6e12)).layout
"""

from agora.cluster.layout import Layout

__all__ = ["Layout"]
