"""A scan for other programs. Goes in: a scan, what people ruled, the labels. Comes out: one file (CSV: two).

.json       everything: campaigns with members, evidence, explanations and artefacts; verdicts, appeals, labels
.csv        members, one per line; beside it NAME-artefacts.csv. What a spreadsheet would run as a formula (a text, a name, an id) gets a
            leading '
.graphml    accounts and artefacts as nodes, "shared it so many times" as weighted edges (networkx, Gephi, igraph)
.stix.json  STIX 2.1, see stix.py
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa

from agora.errors import UsageError
from agora.files import write_atomically
from agora.integrity.records import STATES, ScanResult
from agora.integrity.results import record_fields
from agora.integrity.rulings import VERDICT_STATES, Rulings
from agora.integrity.stix import stix_bundle

STATEMENT: Final = "Coordination is measured; whether it is inauthentic is a person's verdict."
MEMBER_COLUMNS: Final = (
    "campaign", "state", "account", "q_value", "num_actions", "num_posts", "is_source", "is_labelled", "is_automatic", "verdict", "appeal",
)  # fmt: skip
ARTEFACT_COLUMNS: Final = (
    "campaign", "signal", "key", "text", "num_members", "num_outsiders", "gap_s", "first_at", "last_at", "posts",
)  # fmt: skip
Row = dict[str, Any]

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def export_scan(result: ScanResult, rulings: Rulings, labels: pa.Table, path: Path, *, scanned_at: str) -> list[Path]:
    """Write a scan in the format that the name of `path` ends in. Returns the files. Raises UsageError for another ending or folder."""
    suffix = next((known for known in FORMATS if path.name.lower().endswith(known)), None)
    if suffix is None:
        raise UsageError(f"{path} does not end in one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path} lies in no existing folder; make {path.parent} first")
    written = []
    for name, text in FORMATS[suffix](result, rulings, labels, scanned_at).items():
        target = path.with_name(path.name[: -len(suffix)] + name + suffix)
        write_atomically(target, text)
        written.append(target)
    return written


def scan_json(result: ScanResult, rulings: Rulings, labels: pa.Table, scanned_at: str) -> dict[str, str]:
    """Everything as one JSON object."""

    def plain(value: Any) -> Any:
        return sorted(value) if isinstance(value, frozenset) else record_fields(value)

    whole = {
        "statement": STATEMENT,
        "states": dict((*STATES.items(), *VERDICT_STATES.items())),
        "scanned_at": scanned_at,
        "scan": result,
        "verdicts": rulings.verdicts,
        "appeals": rulings.appeals,
        "automatic_labels_stopped": rulings.is_stopped,
        "labels": labels.to_pylist(),
    }
    return {"": json.dumps(whole, ensure_ascii=False, indent=1, default=plain) + "\n"}


def scan_csv(result: ScanResult, rulings: Rulings, labels: pa.Table, scanned_at: str) -> dict[str, str]:
    """Members and artefacts as two tables."""
    labelled = {(row["campaign"], row["id"]): row for row in labels.to_pylist() if row["kind"] == "account"}
    members: list[Row] = []
    artefacts: list[Row] = []
    for campaign in result.campaigns:
        verdict, appeals = rulings.verdict(campaign), rulings.appeals_on(campaign)
        for member in campaign.members:
            row: Row = record_fields(member) | {"is_labelled": False, "is_automatic": False}
            if label := labelled.get((campaign.id, member.account)):
                row |= {"is_labelled": True, "is_automatic": label["is_automatic"]}
            row |= {
                "verdict": verdict.state if verdict else "",
                "appeal": appeals[member.account].state if member.account in appeals else "",
            }
            members.append({"campaign": campaign.id, "state": campaign.state, **row, "account": _not_a_formula(member.account)})
        for artefact in campaign.artefacts:
            times = [action.at for action in artefact.actions]
            row = record_fields(artefact) | {"text": _not_a_formula(artefact.text)}
            row |= {"first_at": min(times, default=""), "last_at": max(times, default="")}
            row |= {"posts": _not_a_formula(" ".join(action.post for action in row.pop("actions") if action.is_member))}
            artefacts.append({"campaign": campaign.id, **row})
    return {"": _table(MEMBER_COLUMNS, members), "-artefacts": _table(ARTEFACT_COLUMNS, artefacts)}


def scan_graphml(result: ScanResult, rulings: Rulings, labels: pa.Table, scanned_at: str) -> dict[str, str]:
    """Accounts and artefacts as a weighted graph."""
    labelled = {row["id"] for row in labels.to_pylist() if row["kind"] == "account"}
    nodes: dict[str, dict[str, Any]] = {}
    edges: Counter[tuple[str, str]] = Counter()
    for campaign in result.campaigns:
        for member in campaign.members:
            node = nodes.setdefault(f"account {member.account}", {"kind": "account", "name": member.account, "campaigns": []})
            node["campaigns"].append(campaign.id)
            node["labelled"] = member.account in labelled
        for artefact in campaign.artefacts:
            name = f"{artefact.signal} {artefact.key}"
            node = nodes.setdefault(name, {"kind": artefact.signal, "name": artefact.text or artefact.key, "campaigns": []})
            node["campaigns"].append(campaign.id)
            edges.update(
                {
                    (f"account {account}", name): 0 if (f"account {account}", name) in edges else times
                    for account, times in Counter(action.account for action in artefact.actions if action.is_member).items()
                }
            )
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
        '<key id="kind" for="node" attr.name="kind" attr.type="string"/>',
        '<key id="name" for="node" attr.name="name" attr.type="string"/>',
        '<key id="campaigns" for="node" attr.name="campaigns" attr.type="string"/>',
        '<key id="labelled" for="node" attr.name="labelled" attr.type="boolean"/>',
        '<key id="weight" for="edge" attr.name="weight" attr.type="double"/>',
        '<graph edgedefault="undirected">',
    ]
    for name, node in nodes.items():
        values = {**node, "campaigns": " ".join(dict.fromkeys(node["campaigns"])), "labelled": str(node.get("labelled", False)).lower()}
        data = "".join(f'<data key="{key}">{_xml(value)}</data>' for key, value in values.items())
        lines.append(f"<node id={_xml_name(name)}>{data}</node>")
    for (account, artefact_name), weight in edges.items():
        ends = f"source={_xml_name(account)} target={_xml_name(artefact_name)}"
        lines.append(f'<edge {ends}><data key="weight">{weight}</data></edge>')
    return {"": "\n".join([*lines, "</graph>", "</graphml>"]) + "\n"}


def scan_stix(result: ScanResult, rulings: Rulings, labels: pa.Table, scanned_at: str) -> dict[str, str]:
    """The labelled part of a scan as a STIX 2.1 bundle."""
    return {"": json.dumps(stix_bundle(result, rulings, labels, scanned_at=scanned_at), ensure_ascii=False, indent=1) + "\n"}


Writer = Callable[[ScanResult, Rulings, pa.Table, str], Mapping[str, str]]
FORMATS: Final[dict[str, Writer]] = {".stix.json": scan_stix, ".json": scan_json, ".csv": scan_csv, ".graphml": scan_graphml}
"""Writers by the ending of a file's name, longer endings first. Each gives texts by what is added to the name."""


def _table(columns: tuple[str, ...], rows: list[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _not_a_formula(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _xml(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _xml_name(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
