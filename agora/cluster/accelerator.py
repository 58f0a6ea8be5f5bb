"""Accelerators and networks as the planner sees them. Goes in: a name of `data/accelerators.toml` and one of `data/networks.toml`.
Comes out: Hardware in base units. An unknown name is refused with the nearest that exists."""

from __future__ import annotations

from functools import lru_cache

from agora.cluster.columns import Hardware
from agora.cluster.facts import Table, load_tables, pick
from agora.errors import ConfigError


def accelerator(name: str) -> Table:
    """The accelerator `name`. Raises ConfigError naming the nearest that exists."""
    return pick(load_tables("accelerators"), name, "accelerator")


def network(name: str, accelerator_name: str = "") -> Table:
    """The network `name`; without a name the usual one of the accelerator. Raises ConfigError naming the nearest that exists."""
    if not name:
        is_torus = str(accelerator(accelerator_name).words["topology"]).startswith("torus")
        name = "torus" if is_torus else "infiniband"
    return pick(load_tables("networks"), name, "network")


def check_format(name: str, precision: str) -> None:
    """Raises ConfigError naming the nearest format that the accelerator multiplies."""
    chip = accelerator(name)
    formats = list(chip.words["formats"])
    if precision in formats:
        return
    same_width = [other for other in formats if _BITS[other] == _BITS[precision]]
    nearest = (same_width or [min(formats, key=lambda other: (abs(_BITS[other] - _BITS[precision]), formats.index(other)))])[0]
    raise ConfigError(
        f"{chip.name} does not multiply in precision={precision!r}; the nearest possible is precision={nearest!r} "
        f"(known: {', '.join(formats)})"
    )


_BITS = {"bf16": 16, "fp16": 16, "fp8": 8, "mxfp8": 8, "nvfp4": 4}


@lru_cache
def hardware(accelerator_name: str, network_name: str = "") -> Hardware:
    """What the step-time model needs of one accelerator on one network."""
    chip, net = accelerator(accelerator_name), network(network_name, accelerator_name)
    rate_16 = chip.base("bf16")
    rate_8 = chip.base("fp8", rate_16)
    return Hardware(
        rate_16=rate_16,
        rate_8=rate_8,
        rate_4=chip.base("fp4", rate_8),
        matmul_ceiling=chip.base("matmul_ceiling"),
        attention_ceiling=chip.base("attention_ceiling"),
        compute_units=chip.base("compute_units"),
        memory_bytes=chip.base("memory"),
        memory_bytes_per_s=chip.base("memory_bandwidth"),
        up_bytes_per_s=chip.base("scale_up") / 2,
        up_latency_s=net.base("up_latency"),
        up_domain=chip.base("scale_up_domain"),
        is_mesh=float(chip.words["topology"] == "mesh"),
        out_bytes_per_s=chip.base("scale_out"),
        out_latency_s=net.base("out_latency"),
        leaf_domain=net.base("leaf_domain"),
        oversubscription=net.base("oversubscription"),
    )
