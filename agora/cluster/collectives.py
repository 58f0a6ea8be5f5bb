"""How long collectives take, by algorithm and level of the network. Goes in: groups of ranks and bytes, in arrays. Comes out: seconds.

A group has `size` ranks, of which `inside` share a scale-up domain. A ring that leaves the domain uses the links of all its members inside
(with `inside` ranks of a node in one group, all of their NICs carry one ring each). Large groups use a tree over nodes: flat rings of
100,000 ranks would wait for their latency alone. On a torus every link of a chip carries a part of the ring.

Formulas: ring and tree of Thakur, Rabenseifner, Gropp 2005, sections 3 and 4 (alpha-beta model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agora.cluster.columns import Hardware, LayoutColumns, Values
from agora.cluster.constants import Constants

_TREE_SHARE = 0.85  # of the ring's bandwidth that a pipelined tree reaches (NCCL double trees; recalled, 2025-12)


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks that talk to each other: how many, how many of them in one scale-up domain, and what their links do.

    up, out: bytes/s of one rank inside and beyond the domain. cross_out: the same for traffic between any pair (oversubscription counts).
    """

    size: Values
    inside: Values
    up: Values
    out: Values
    cross_out: Values
    up_latency_s: Values
    out_latency_s: Values


def _group(size: Values, stride: Values, hardware: Hardware, constants: Constants) -> Group:
    """`stride` neighbouring ranks lie between two members of the group."""
    inside = np.clip(np.floor(hardware.up_domain / stride), 1, size)
    spans_leaf = size * stride > hardware.leaf_domain
    out = hardware.out_bytes_per_s * constants.out
    # on a mesh a group of few uses the links between its members only
    reached = np.where(hardware.is_mesh, np.clip((inside - 1) / np.maximum(hardware.up_domain - 1, 1), 1e-9, 1), 1.0)
    up = hardware.up_bytes_per_s * constants.up * np.where(inside > 1, reached, 1.0)
    return Group(
        size, inside, up, out, np.where(spans_leaf, out / hardware.oversubscription, out),
        hardware.up_latency_s + constants.up_step_s, hardware.out_latency_s + constants.up_step_s,
    )  # fmt: skip


def tensor_group(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Group:
    """Tensor ranks are neighbours."""
    return _group(layouts.tensor, 1, hardware, constants)


def context_group(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Group:
    """Context ranks lie around the tensor ranks."""
    return _group(layouts.context, layouts.tensor, hardware, constants)


def expert_group(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Group:
    """Expert ranks take the nearest ranks of a stage."""
    return _group(layouts.expert, 1, hardware, constants)


def shard_group(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Group:
    """Shards of one copy lie around tensor and context ranks; context ranks hold shards too."""
    return _group(layouts.shard * layouts.context, layouts.tensor, hardware, constants)


def replicate_group(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Group:
    """Copies of the model lie around all ranks of a stage of one copy."""
    return _group(layouts.replicate, layouts.tensor * layouts.context * layouts.shard, hardware, constants)


def _hops_s(group: Group) -> tuple[Values, Values]:
    """Latency of one turn round a ring, and of one way up a tree."""
    nodes = np.ceil(group.size / group.inside)
    within = (group.inside - 1) * group.up_latency_s
    tree = np.ceil(np.log2(np.maximum(nodes, 1))) * group.out_latency_s + np.ceil(np.log2(group.inside)) * group.up_latency_s
    return within + (nodes - 1) * group.out_latency_s, tree


def _ring_bytes_per_s(group: Group) -> Values:
    return np.where(group.size > group.inside, np.minimum(group.up, group.inside * group.out), group.up)


def all_gather_s(num_bytes: Values, group: Group) -> Values:
    """Every rank ends with `num_bytes`, of which it began with its part. A reduce-scatter takes the same time."""
    share = (group.size - 1) / group.size
    wire = share * num_bytes / _ring_bytes_per_s(group)
    ring, tree = _hops_s(group)
    return np.minimum(wire + ring, wire / _TREE_SHARE + tree)


def all_reduce_s(num_bytes: Values, group: Group) -> Values:
    """Every rank ends with the sum of `num_bytes`."""
    return 2 * all_gather_s(num_bytes, group)


def ring_pass_s(num_bytes: Values, group: Group) -> Values:
    """Every rank's block of `num_bytes` goes round the whole ring, from neighbour to neighbour (ring attention)."""
    ring, _ = _hops_s(group)
    return (group.size - 1) * num_bytes / _ring_bytes_per_s(group) + ring


def dispatch_s(num_bytes: Values, visits: Values, group: Group) -> Values:
    """Every rank sends its tokens (`num_bytes` in all) to `visits` experts each, spread evenly over the group.

    Inside a domain one copy goes to every expert. Between domains one copy goes to every domain that holds an expert of the token, over
    the NIC of the sender, and is passed on inside: of d domains, d (1 - (1 - 1/d)^visits) hold one on average.
    """
    nodes = group.size / group.inside
    reached = nodes * (1 - (1 - 1 / nodes) ** visits)
    beyond = reached * (nodes - 1) / nodes
    within = visits * (group.inside - 1) / group.inside
    latency = (group.size > 1) * group.up_latency_s + (nodes > 1) * np.ceil(np.log2(np.maximum(nodes, 1))) * group.out_latency_s
    return np.maximum(within * num_bytes / group.up, beyond * num_bytes / group.cross_out) + latency


def send_s(num_bytes: Values, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Values:
    """One message from a rank to its neighbour in the next stage. Stages are the outermost ranks."""
    stage = layouts.data * layouts.tensor * layouts.context
    is_near = stage * 2 <= hardware.up_domain
    rate = np.where(is_near, hardware.up_bytes_per_s * constants.up, hardware.out_bytes_per_s * constants.out)
    return num_bytes / rate + np.where(is_near, hardware.up_latency_s, hardware.out_latency_s)
