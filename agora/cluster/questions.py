"""Ready questions: machines and runs that people ask about. Goes in: a name. Comes out: a PlanRequest to change and to plan.

agora cluster plan --question gigafactory-100k
"""

from __future__ import annotations

from collections.abc import Callable

from agora.cluster.plan import PlanRequest
from agora.config import unknown_value
from agora.errors import ConfigError


def h100_10k() -> PlanRequest:
    """The 10,000-GPU machine of 2023: 10,240 H100 on InfiniBand, a 70B model on 15T tokens."""
    return PlanRequest(model="Llama-3-70B", accelerator="H100", num_accelerators=10_240, tokens=15e12)


def gigafactory_100k() -> PlanRequest:
    """The 100,000-GPU machine: 100,352 H100 on Ethernet, the 405B model on 15.6T tokens."""
    return PlanRequest(
        model="Llama-3-405B", accelerator="H100", num_accelerators=100_352, network="ethernet", tokens=15.6e12, batch_tokens=6_272 * 8192
    )


def b200_100k() -> PlanRequest:
    """The same size with the generation after: 100,352 B200."""
    return PlanRequest(model="Llama-3-405B", accelerator="B200", num_accelerators=100_352, tokens=15.6e12, batch_tokens=6_272 * 8192)


def llama_405b() -> PlanRequest:
    """Llama 3 405B as it was trained: 16,384 H100, 15.6T tokens, 16M tokens a step."""
    return PlanRequest(
        model="Llama-3-405B", accelerator="H100", num_accelerators=16_384, network="ethernet", tokens=15.6e12, batch_tokens=2**24
    )


def deepseek_v3() -> PlanRequest:
    """DeepSeek-V3: 2,048 H800, 14.8T tokens of 4,096, 63M tokens a step, 8-bit products."""
    return PlanRequest(
        model="DeepSeek-V3",
        accelerator="H800",
        num_accelerators=2_048,
        tokens=14.8e12,
        seq_len=4096,
        batch_tokens=15_360 * 4096,
        precision="fp8",
    )


def grok_314b() -> PlanRequest:
    """The open 314B mixture on 8,192 H100, 6T tokens."""
    return PlanRequest(model="Grok-1-314B", accelerator="H100", num_accelerators=8_192, tokens=6e12, batch_tokens=2**23)


def million() -> PlanRequest:
    """A million accelerators for one dense 2T model: what failures and power then mean."""
    return PlanRequest(model="dense-2T", accelerator="GB300", num_accelerators=1_000_000, tokens=40e12, batch_tokens=16_000 * 8192)


QUESTIONS: dict[str, Callable[[], PlanRequest]] = {
    "h100-10k": h100_10k,
    "gigafactory-100k": gigafactory_100k,
    "b200-100k": b200_100k,
    "llama-405b": llama_405b,
    "deepseek-v3": deepseek_v3,
    "grok-314b": grok_314b,
    "million": million,
}


def ready_question(name: str) -> PlanRequest:
    """The request of that name. Raises ConfigError naming the nearest."""
    if name not in QUESTIONS:
        raise ConfigError(unknown_value(name, list(QUESTIONS), "question"))
    return QUESTIONS[name]()
