"""Accelerators and networks as the planner sees them. Goes in: a name of `data/accelerators.toml` and one of `data/networks.toml`.
Comes out: Hardware in base units. An unknown name is refused with the nearest that exists."""

from __future__ import annotations

import math
from functools import lru_cache

from agora.cluster.columns import Hardware
from agora.cluster.facts import Table, load_tables, pick
from agora.errors import ConfigError


def accelerator(name: str) -> Table:
    """The accelerator `name`. Raises ConfigError naming the nearest that exists."""
    return pick(load_tables("accelerators"), name, "accelerator")


def network(name: str, accelerator_name: str = "") -> Table:
    """The network `name`; without a name the usual one of the accelerator. Raises ConfigError naming the nearest that exists."""
    kind = _kind_of_links(accelerator(accelerator_name)) if accelerator_name else ""
    nearest = {"torus": "torus", "wafers": "swarmx"}.get(kind, "infiniband")
    found = pick(load_tables("networks"), name or nearest, "network")
    if accelerator_name and found.words.get("joins", "") != kind:
        form = {"torus": "form a torus", "wafers": "lead to a store of weights"}.get(kind, "form no torus and lead to no store of weights")
        raise ConfigError(
            f"network={found.name!r} does not go with {accelerator(accelerator_name).name}, whose links {form}; "
            f"the nearest possible is network={nearest!r}"
        )
    return found


def _kind_of_links(chip: Table) -> str:
    """What a network must join: `torus`, `wafers`, or neither."""
    return "wafers" if chip.words.get("streams_weights") else "torus" if torus_dimensions(chip) else ""


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


def ranks_per_domain(chip: Table, num_accelerators: int) -> int:
    """Ranks of a job in one scale-up domain. A job that does not fill whole domains takes the same number of nodes of each (64 of the 72
    accelerators of a rack, say), so that no group of ranks straddles two; where that would waste half, domains are filled one by one."""
    domain, per_node = int(chip.base("scale_up_domain")), int(chip.base("per_node"))
    if num_accelerators <= domain or num_accelerators % domain == 0:
        return min(domain, num_accelerators)
    even = [ranks for ranks in range(domain, domain // 2, -1) if ranks % per_node == 0 and num_accelerators % ranks == 0]
    return even[0] if even else domain


def num_placed(chip: Table, num_accelerators: int) -> int:
    """Accelerators of the nodes and racks that a job of that many ranks occupies, idle ones included. A torus is cut to size."""
    domain, per_node = int(chip.base("scale_up_domain")), int(chip.base("per_node"))
    if torus_dimensions(chip) or num_accelerators <= domain:
        return per_node * math.ceil(num_accelerators / per_node)
    used = ranks_per_domain(chip, num_accelerators)
    whole, rest = divmod(num_accelerators, used)
    return whole * domain + per_node * math.ceil(rest / per_node)


def torus_dimensions(chip: Table) -> int:
    """2 or 3, or 0 for what is no torus."""
    topology = str(chip.words["topology"])
    return int(topology.removeprefix("torus")) if topology.startswith("torus") else 0


def network_levels(net: Table, num_accelerators: int) -> int:
    """Levels of switches of a fat tree with full bisection: of radix r, L levels join 2 (r/2)^L ports (Al-Fares et al. 2008)."""
    half, levels = net.base("radix") / 2, 1
    while 2 * half**levels < num_accelerators:
        levels += 1
    return levels


@lru_cache
def hardware(accelerator_name: str, network_name: str = "", num_accelerators: int = 0) -> Hardware:
    """What the step-time model needs of one accelerator on one network, for a job of that many ranks (0: many, in whole domains)."""
    chip, net = accelerator(accelerator_name), network(network_name, accelerator_name)
    rate_16 = chip.base("bf16")
    rate_8 = chip.base("fp8", rate_16)
    domain = chip.base("scale_up_domain")
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
        up_domain=float(ranks_per_domain(chip, num_accelerators)) if num_accelerators else domain,
        mesh_links=domain - 1 if chip.words["topology"] == "mesh" else 0.0,
        torus_dims=float(torus_dimensions(chip)),
        out_bytes_per_s=chip.base("scale_out"),
        out_latency_s=net.base("out_latency"),
        hop_latency_s=net.base("hop_latency"),
        leaf_domain=net.base("leaf_domain"),
        leaf_oversubscription=net.base("leaf_oversubscription"),
        pod_domain=net.base("pod_domain"),
        pod_oversubscription=net.base("pod_oversubscription"),
        streams_weights=float(bool(chip.words.get("streams_weights"))),
        scaling_loss=chip.base("scaling_loss", 0.0),
    )
