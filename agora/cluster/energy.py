"""Power, energy, heat, carbon and money of a run. Goes in: a machine, hours, activity. Comes out: both ways of counting energy, and costs.

Energy is given twice: accelerators at their TDP for all hours, which is what model cards publish, and metered-like, which is what a
meter at the hall would show: nodes at the power of their activity, network, cooling. Not covered: manufacturing, storage halls, staff.
"""

from __future__ import annotations

from dataclasses import dataclass

from agora.cluster.accelerator import network_levels
from agora.cluster.facts import Table, load_tables

J_PER_MWH = 3.6e9


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerDraw:
    """Watts of the whole machine. `facility_w` enters the hall on average while it trains and must leave it as heat; `build_w` is what
    the hall must be built for: all nodes at their rating, network and cooling. `rated_w` and `nodes_w` count idle nodes too."""

    tdp_w: float
    rated_w: float
    nodes_w: float
    network_w: float
    cooling_w: float
    build_w: float

    @property
    def it_w(self) -> float:
        """Nodes and network."""
        return self.nodes_w + self.network_w

    @property
    def facility_w(self) -> float:
        """Everything."""
        return self.it_w + self.cooling_w


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyUse:
    """Joules and kilograms of a run."""

    tdp_j: float
    metered_j: float
    carbon_tdp_kg: float
    carbon_metered_kg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Dollars of a run: rented, or on a bought machine (its share of the lifetime, with electricity). None where no price is known."""

    rent_usd: float | None
    own_usd: float | None
    machine_usd: float | None
    electricity_usd: float


def node_power_w(chip: Table, activity: float, power_cap: float = 1.0) -> float:
    """Watts of one node whose accelerators are active for the share `activity` of the time, each held to `power_cap` of its TDP."""
    node = load_tables("power")["node"]
    rated, per_node, tdp = chip.base("node_power"), chip.base("per_node"), chip.base("tdp")
    uncapped = rated * (node.base("idle") + (node.base("busy") - node.base("idle")) * activity)
    # accelerators at work draw the share `busy` of their TDP, as the node of its rating: a cap above that takes nothing away
    busy, idle = node.base("busy"), node.base("accelerator_idle")
    return uncapped - per_node * tdp * max(busy - max(power_cap, idle), 0.0) * activity


def clock_share(power_cap: float) -> float:
    """Clock of matrix products under a cap of `power_cap` x TDP: ((cap - static) / (busy - static))^(1/exponent), 1 above `busy`."""
    node = load_tables("power")["node"]
    static = node.base("cap_static")
    dynamic = min(max((power_cap - static) / (node.base("busy") - static), 1e-3), 1.0)
    return float(dynamic ** (1 / node.base("cap_exponent")))


def power_draw(
    chip: Table, network: Table, num_accelerators: int, activity: float, *, power_cap: float = 1.0, pue: float | None = None,
    num_idle: int = 0,
) -> PowerDraw:  # fmt: skip
    """Watts while training; `num_idle` accelerators are there beside the job (spares, racks that it does not fill)."""
    nodes, idle_nodes = num_accelerators / chip.base("per_node"), num_idle / chip.base("per_node")
    nodes_w = nodes * node_power_w(chip, activity, power_cap) + idle_nodes * node_power_w(chip, 0.0, power_cap)
    ports = max(chip.base("scale_out") * 8 / 400e9, 0.1)
    # a port's share of optics and switches grows with the levels of the network
    levels = network_levels(network, num_accelerators + num_idle) / 3
    network_w = (num_accelerators + num_idle) * ports * network.base("port_power") * levels
    factor = load_tables("power")["facility"].base("pue") if pue is None else pue
    rated_w = (nodes + idle_nodes) * chip.base("node_power")
    return PowerDraw(
        tdp_w=num_accelerators * chip.base("tdp") * power_cap,
        rated_w=rated_w,
        nodes_w=nodes_w,
        network_w=network_w,
        cooling_w=(nodes_w + network_w) * (factor - 1),
        build_w=(rated_w + network_w) * factor,
    )


def energy_use(draw: PowerDraw, seconds: float, *, carbon_kg_per_j: float | None = None) -> EnergyUse:
    """Energy = power x time, both ways."""
    carbon = load_tables("power")["electricity"].base("carbon") if carbon_kg_per_j is None else carbon_kg_per_j
    tdp, metered = draw.tdp_w * seconds, draw.facility_w * seconds
    return EnergyUse(tdp_j=tdp, metered_j=metered, carbon_tdp_kg=tdp * carbon, carbon_metered_kg=metered * carbon)


def cost(
    chip: Table, network: Table, num_accelerators: int, draw: PowerDraw, seconds: float, *, rent_usd_per_h: float | None = None,
    electricity_usd_per_j: float | None = None,
) -> Cost:  # fmt: skip
    """Dollars of `seconds` on the machine of `num_accelerators`, idle ones included. Prices are those of the data files unless given."""
    power = load_tables("power")
    price = power["electricity"].base("price") if electricity_usd_per_j is None else electricity_usd_per_j
    electricity = draw.facility_w * seconds * price
    rent_rate = rent_usd_per_h / 3600 if rent_usd_per_h is not None else (chip.base("price_rent") if "price_rent" in chip.facts else None)
    rent = None if rent_rate is None else num_accelerators * rent_rate * seconds
    if "price_buy" not in chip.facts:
        return Cost(rent_usd=rent, own_usd=None, machine_usd=None, electricity_usd=electricity)
    hosts = power["facility"].base("host_price")
    machine = num_accelerators * (chip.base("price_buy") * hosts + network.base("price") * network_levels(network, num_accelerators) / 3)
    machine += draw.rated_w * power["facility"].base("building_price")
    share = seconds / power["facility"].base("lifetime")
    return Cost(rent_usd=rent, own_usd=machine * share + electricity, machine_usd=machine, electricity_usd=electricity)
