"""How long collectives take, by algorithm and level of the network. Goes in: groups of ranks and bytes, in arrays. Comes out: seconds.

A group has `size` ranks, of which `inside` share a scale-up domain. A ring that leaves the domain uses the links of all its members inside
(with `inside` ranks of a node in one group, all of their NICs carry one ring each). Large groups use a tree over nodes: flat rings of
100,000 ranks would wait for their latency alone. Leaves and pods may be oversubscribed: a ring crosses their edge once for each of its
rails, traffic between any pair all the time.

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

    up, out: bytes/s of one rank inside and beyond the domain, in a ring; up_any, out_any: the same for traffic between any pair.
    """

    size: Values
    inside: Values
    up: Values
    out: Values
    up_any: Values
    out_any: Values
    up_latency_s: Values
    out_latency_s: Values


def _group(size: Values, stride: Values, hardware: Hardware, constants: Constants) -> Group:
    """`stride` neighbouring ranks lie between two members of the group."""
    span = size * stride
    inside = np.clip(np.floor(_aligned(span, hardware.up_domain) / stride), 1, size)
    rails = np.minimum(inside * stride, hardware.up_domain)  # ranks of a domain whose traffic leaves it together
    out = hardware.out_bytes_per_s * constants.out
    ring: Values = 1.0
    any_pair: Values = 1.0
    levels: Values = 0.0
    for domain, thinner in _levels(hardware):
        is_beyond = span > domain
        levels = levels + is_beyond
        # of the ranks of a leaf or pod only those beside its edge send beyond it in a ring; between any pair most of the traffic does
        ring = np.where(is_beyond, np.minimum(ring, domain / (np.minimum(np.maximum(rails, stride), domain) * thinner)), ring)
        away = 1 - np.maximum(domain / stride, 1) / np.maximum(size, 1)
        any_pair = np.where(is_beyond, np.minimum(any_pair, 1 / np.maximum(away * thinner, 1)), any_pair)
    up = hardware.up_bytes_per_s * constants.up
    near, far = _links_in_use(inside, hardware)
    return Group(
        size, inside, up * near, out * np.minimum(ring, 1), up * far, out * any_pair, hardware.up_latency_s + constants.up_step_s,
        hardware.out_latency_s + levels * hardware.hop_latency_s + constants.up_step_s,
    )  # fmt: skip


def _levels(hardware: Hardware) -> tuple[tuple[Values, Values], ...]:
    """Ranks below each level of the network, and how much thinner the level is than all their NICs."""
    leaf, pod = hardware.leaf_oversubscription, hardware.pod_oversubscription
    return (hardware.leaf_domain, leaf), (hardware.pod_domain, leaf * pod)


def _aligned(span: Values, domain: Values) -> Values:
    """Ranks of a stretch of `span` that surely lie in one domain: groups follow each other, so that some straddle two domains unless one
    size divides the other; their smaller piece is a multiple of the greatest common divisor."""
    whole = (np.fmod(domain, span) == 0) | (np.fmod(span, domain) == 0)
    if np.all(whole):
        return domain
    return np.where(whole, domain, np.gcd(np.asarray(span).astype(np.int64), np.asarray(domain).astype(np.int64)))


def _links_in_use(inside: Values, hardware: Hardware) -> tuple[Values, Values]:
    """Share of a rank's scale-up links that a ring of `inside` members uses, and that traffic between any pair of them can.

    Mesh: the links between the members. Torus of k dimensions: n = e^k members have log2(n) of 2k links until every dimension closes to a
    ring of 4; between any pair the bisection counts: 2 e^(k-1) links carry a quarter of all traffic each way (Dally and Towles 2004,
    chapter 3), 4 / (k e) of a rank's links.
    """
    many = np.maximum(inside, 1)
    mesh = np.where(hardware.mesh_links > 0, np.clip((many - 1) / np.maximum(hardware.mesh_links, 1), 1e-9, 1), 1.0)
    dims = np.maximum(hardware.torus_dims, 1)
    ring = np.where(hardware.torus_dims > 0, np.clip(np.log2(many) / (2 * dims), 1e-9, 1), 1.0)
    bisection = np.where(hardware.torus_dims > 0, 4 / (dims * many ** (1 / dims)), 1.0)
    alone = many == 1
    return np.where(alone, 1.0, mesh * ring), np.where(alone, 1.0, mesh * np.minimum(ring, bisection))


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


def dispatch_s(num_bytes: Values, visits: Values, group: Group, most_domains: Values = 0) -> Values:
    """Every rank sends its tokens (`num_bytes` in all) to `visits` experts each, spread evenly over the group.

    Inside a domain one copy goes to every expert. Between domains one copy goes to every domain that holds an expert of the token, over
    the NIC of the sender, and is passed on inside: of d domains, d (1 - (1 - 1/d)^visits) hold one on average; routing may keep to
    `most_domains` of them (0: any; DeepSeek-V3 report, section 2.1.2: node-limited routing).
    """
    nodes = group.size / group.inside
    reached = nodes * (1 - (1 - 1 / nodes) ** visits)
    reached = np.where(most_domains > 0, np.minimum(reached, np.maximum(most_domains, 1)), reached)
    beyond = reached * (nodes - 1) / nodes
    within = visits * (group.inside - 1) / group.inside
    latency = (group.size > 1) * group.up_latency_s + (nodes > 1) * np.ceil(np.log2(np.maximum(nodes, 1))) * group.out_latency_s
    return np.maximum(within * num_bytes / group.up_any, beyond * num_bytes / group.out_any) + latency


def send_s(num_bytes: Values, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> Values:
    """One message from a rank to its neighbour in the next stage. Stages are the outermost ranks."""
    stage = layouts.data * layouts.tensor * layouts.context
    is_near = stage * 2 <= hardware.up_domain
    share: Values = 1.0
    levels: Values = 0.0
    for domain, thinner in _levels(hardware):
        is_beyond = stage * layouts.pipeline > domain
        levels = levels + is_beyond
        share = np.where(is_beyond, np.minimum(share, domain / (np.minimum(stage, domain) * thinner)), share)
    near, _ = _links_in_use(2, hardware)
    up = hardware.up_bytes_per_s * constants.up * near
    rate = np.where(is_near, up, hardware.out_bytes_per_s * constants.out * np.minimum(share, 1))
    return num_bytes / rate + np.where(is_near, hardware.up_latency_s, hardware.out_latency_s + levels * hardware.hop_latency_s)
