"""Exports open in the programs that they are for."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import networkx
import pytest

from agora.errors import UsageError
from agora.integrity.export import export_scan
from agora.integrity.labels import labels
from agora.integrity.records import Campaign, ScanResult
from agora.integrity.rulings import Rulings, Verdict, VerdictState

stix2 = pytest.importorskip("stix2")

RING = ["ring0", "ring1", "ring2", "ring\x02&<é"]
SCANNED_AT = "2026-03-20T12:00:00Z"
Write = Callable[..., Path]


def rulings(state: VerdictState) -> Rulings:
    given = Verdict(
        number=1, campaign="c-ring", state=state, explanation=None, name="Ada", reason="looked", at=SCANNED_AT, accounts=frozenset(RING)
    )
    return Rulings((given,))


@pytest.fixture
def write(campaign: Callable[..., Campaign], result: Callable[..., ScanResult], now: datetime, tmp_path: Path) -> Write:
    scan = result(campaign("c-ring", RING, source="ring1"), campaign("c-fans", ["fan0", "fan1"], state="explained"))

    def do(name: str, ruled: Rulings = Rulings()) -> Path:  # noqa: B008
        export_scan(scan, ruled, labels(scan, ruled, now), tmp_path / name, scanned_at=SCANNED_AT)
        return tmp_path / name

    return do


def test_json_holds_everything(write: Write) -> None:
    found = json.loads(write("out.json", rulings("coordinated")).read_text())
    assert [one["id"] for one in found["scan"]["campaigns"]] == ["c-ring", "c-fans"]
    assert found["verdicts"][0]["accounts"] == sorted(RING) and len(found["labels"]) == 9
    assert "a person's verdict" in found["statement"]


def test_csv_lists_members_and_artefacts_and_runs_no_formula(write: Write) -> None:
    path = write("out.csv")
    with path.open(newline="") as file:
        members = list(csv.DictReader(file))
    assert [row["account"] for row in members] == [*RING, "fan0", "fan1"]
    assert [row["is_labelled"] for row in members] == ["True", "False", "True", "True", "False", "False"]
    with (path.parent / "out-artefacts.csv").open(newline="") as file:
        artefacts = list(csv.DictReader(file))
    assert len(artefacts) == 4 and all(row["text"].startswith("'=vote") for row in artefacts)
    assert artefacts[0]["posts"].split()[0] == "ring0-0"


def test_names_in_a_csv_run_no_formula(
    campaign: Callable[..., Campaign], result: Callable[..., ScanResult], now: datetime, tmp_path: Path
) -> None:
    scan = result(campaign("c", ["=cmd()", "+1"]))
    export_scan(scan, Rulings(), labels(scan, Rulings(), now), tmp_path / "out.csv", scanned_at=SCANNED_AT)
    members, artefacts = ((tmp_path / name).read_text() for name in ("out.csv", "out-artefacts.csv"))
    assert "'=cmd()" in members and "'=cmd()-0 +1-0" in artefacts
    assert not [
        cell for table in (members, artefacts) for row in csv.reader(table.splitlines()) for cell in row if cell.startswith(("=", "+"))
    ]


def test_graphml_opens_in_networkx(write: Write) -> None:
    graph = networkx.read_graphml(write("out.graphml"))
    assert graph.number_of_nodes() == 6 + 2 and all(data["weight"] == 1 for *_, data in graph.edges(data=True))
    assert graph.nodes["account ring0"] == {"kind": "account", "name": "ring0", "campaigns": "c-ring", "labelled": True}
    assert graph.nodes["account ring\ufffd&<é"]["name"] == "ring\ufffd&<é" and not graph.nodes["account fan0"]["labelled"]
    assert networkx.is_bipartite(graph)


def bundle(path: Path) -> dict[str, Any]:
    text = path.read_text()
    stix2.parse(text, allow_custom=False)
    found: dict[str, Any] = json.loads(text)
    ids = [one["id"] for one in found["objects"]]
    assert len(ids) == len(set(ids))
    for one in found["objects"]:
        kind, _, number = one["id"].partition("--")
        assert kind == one["type"] and one["spec_version"] == "2.1" and uuid.UUID(number).version == 5
        assert "created" not in one or one["created"] <= one["modified"]
        for name in ("object_refs", "source_ref", "target_ref", "created_by_ref"):
            refs = one.get(name, [])
            assert set([refs] if isinstance(refs, str) else refs) <= set(ids)
    return found


def test_stix_is_valid_and_carries_labelled_accounts_only(write: Write) -> None:
    found = bundle(write("out.stix.json"))["objects"]
    assert [one["user_id"] for one in found if one["type"] == "user-account"] == ["ring0", "ring2", "ring\x02&<é"]
    assert not [one for one in found if one["type"] in ("campaign", "threat-actor", "opinion")]
    note = next(one for one in found if one["type"] == "note")
    assert "does not measure intent" in note["content"]
    links = [one for one in found if one["type"] == "relationship"]
    assert len(links) == 3 and all(one["confidence"] == 100 for one in links)


def test_stix_says_campaign_only_after_a_person_said_inauthentic(write: Write) -> None:
    found = bundle(write("out.stix.json", rulings("inauthentic")))["objects"]
    assert [one["name"] for one in found if one["type"] == "campaign"] == ["Inauthentic campaign c-ring"]
    opinion = next(one for one in found if one["type"] == "opinion")
    assert opinion["opinion"] == "agree" and opinion["authors"] == ["Ada"]
    assert not [one for one in bundle(write("x.stix.json", rulings("coordinated")))["objects"] if one["type"] == "campaign"]
    assert [one["type"] for one in bundle(write("y.stix.json", rulings("not_coordinated")))["objects"]] == ["identity"]


def test_stix_ids_are_the_standards_and_do_not_change(write: Write) -> None:
    one, two = write("a.stix.json").read_text(), write("b.stix.json").read_text()
    assert one == two
    account = next(one for one in json.loads(one)["objects"] if one["type"] == "user-account")
    assert account["id"] == stix2.v21.UserAccount(user_id=account["user_id"]).id


def test_stix_reads_times_of_any_form(campaign: Callable[..., Campaign], result: Callable[..., ScanResult], now: datetime) -> None:
    from agora.integrity.stix import stix_bundle

    one = dataclasses.replace(campaign("c-ring", RING), first_at="2026-03-02T01:00:00.123456+01:00", last_at="2026-03-02 09:00:00")
    scan = result(one)
    found = stix_bundle(scan, rulings("inauthentic"), labels(scan, rulings("inauthentic"), now), scanned_at=SCANNED_AT)
    made = next(one for one in found["objects"] if one["type"] == "campaign")
    assert (made["first_seen"], made["last_seen"]) == ("2026-03-02T00:00:00.123Z", "2026-03-02T09:00:00.000Z")


def test_an_unknown_ending_is_refused(write: Write) -> None:
    with pytest.raises(UsageError, match=re.escape("does not end in one of .stix.json, .json, .csv, .graphml")):
        write("out.xlsx")
