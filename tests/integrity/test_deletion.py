"""What is deleted from the store leaves the saved scan, the ledger and the labels."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agora.errors import DataError, StoreError
from agora.integrity import folder
from agora.integrity.config import IntegrityConfig
from agora.integrity.deletion import Deleted, deleted_from, forget, mentions
from agora.integrity.folder import IntegrityFolder
from agora.integrity.labels import read_labels
from agora.integrity.records import Action, Campaign, ScanResult
from agora.integrity.results import load_origin, save_scan
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

MakeCampaign = Callable[..., Campaign]
MakeResult = Callable[..., ScanResult]
RING = ["ring0", "ring1", "ring2"]
NOW = datetime(2026, 3, 20, 12, tzinfo=timezone.utc)


def test_a_deleted_author_leaves_members_evidence_and_texts(campaign: MakeCampaign, result: MakeResult) -> None:
    left = forget(result(campaign("c", RING)), Deleted(frozenset({"ring0"}))).campaigns[0]
    assert [member.account for member in left.members] == RING[1:]
    assert all(action.account != "ring0" for artefact in left.artefacts for action in artefact.actions)
    assert {(artefact.num_members, artefact.num_outsiders, artefact.text) for artefact in left.artefacts} == {(2, 1, "")}
    assert "2 accounts are left" in left.sentences[0] and "1 were deleted" in left.sentences[0]


def test_a_deleted_post_leaves_the_evidence_and_its_author_stays(campaign: MakeCampaign, result: MakeResult) -> None:
    left = forget(result(campaign("c", RING)), Deleted(posts=frozenset({"ring1-0"}))).campaigns[0]
    assert len(left.members) == 3
    first, second = left.artefacts
    assert (first.num_members, second.num_members) == (2, 3) and (first.text, second.text) == ("", campaign("c", RING).artefacts[1].text)


def test_an_outsiders_deletion_counts_too(campaign: MakeCampaign, result: MakeResult) -> None:
    left = forget(result(campaign("c", RING)), Deleted(frozenset({"outsider"}))).campaigns[0]
    assert {artefact.num_outsiders for artefact in left.artefacts} == {0} and len(left.members) == 3


def test_nothing_deleted_changes_nothing_and_one_account_is_no_group(campaign: MakeCampaign, result: MakeResult) -> None:
    scan = result(campaign("c", RING), campaign("d", ["x", "y"]))
    assert forget(scan, Deleted()) == scan
    assert forget(scan, Deleted(frozenset({"elsewhere"}), frozenset({"elsewhere-1"}))) == scan
    assert [one.id for one in forget(scan, Deleted(frozenset({"x"}))).campaigns] == ["c"]


def test_an_explanation_that_names_a_deleted_account_loses_its_words(campaign: MakeCampaign, result: MakeResult) -> None:
    left = forget(result(campaign("c", RING)), Deleted(frozenset({"leader"}))).campaigns[0]
    assert "leader" not in left.explanations[0].text and left.members == campaign("c", RING).members


def test_names_are_found_as_whole_words() -> None:
    assert mentions("see (@ring3).", {"ring3"}) and mentions("did:plc:abc, and", {"did:plc:abc"}) and not mentions("ring30", {"ring3"})


def scanned(workspace: Path) -> tuple[IntegrityFolder, PostStore]:
    place, store = IntegrityFolder(workspace / "integrity"), PostStore.open(workspace / "posts")
    place.scan_store(store, IntegrityConfig())
    with place.ledger() as ledger:
        place.publish(ledger)
    return place, store


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_deletions_reach_scan_ledger_and_labels_on_the_disk(workspace: Path, fake_scan: list[dict[str, Any]]) -> None:
    place, store = scanned(workspace)
    with place.ledger() as ledger:
        ledger.appeal(place.load().campaigns[0], "ring1", name="ring1", reason="no")
    assert not place.forget_deleted(store)
    store.delete_authors(["ring1"])
    store.delete_posts(["ring2-0"])
    assert place.forget_deleted(store) and not place.forget_deleted(store)
    assert "ring1" not in str(place.load()) and "ring2-0" not in str(place.load())
    ids = read_labels(workspace)["id"].to_pylist()
    assert "ring2" in ids and "ring2-1" in ids and not {"ring1", "ring1-0", "ring2-0"} & set(ids)
    assert b"ring1-" not in everything(place.scan_folder)


def test_evidence_that_went_without_a_tombstone_of_its_own_leaves_too(workspace: Path, fake_scan: list[dict[str, Any]]) -> None:
    """Reposts go with their original; only the original has a tombstone."""
    with PostStore.open(workspace / "posts") as store:
        repost = {
            "id": "ring0-9",
            "author": "ring0",
            "created_at": NOW,
            "text": "x",
            "kind": "repost",
            "ref_id": "outsider-0",
            "source": "t",
        }
        store.append(posts_table([repost]))
    place, store = scanned(workspace)
    scan = place.load()
    action = Action(post="ring0-9", account="ring0", at="2026-03-20T12:00:00Z", is_member=True)
    artefact = dataclasses.replace(scan.campaigns[0].artefacts[0], actions=(*scan.campaigns[0].artefacts[0].actions, action))
    one = dataclasses.replace(scan.campaigns[0], artefacts=(artefact,))
    save_scan(dataclasses.replace(scan, campaigns=(one,)), place.scan_folder, origin=load_origin(place.scan_folder))
    store.delete_posts(["outsider-0"])
    assert place.forget_deleted(store) and "ring0-9" not in str(place.load())


def test_a_scan_that_ends_while_deletions_are_noted_is_not_lost(
    workspace: Path, fake_scan: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, store = scanned(workspace)
    store.delete_posts(["ring2-0"])
    newcomer = {"id": "ring9-0", "author": "ring9", "created_at": NOW, "text": "x", "kind": "post", "source": "t"}
    store.append(posts_table([newcomer]))
    again = threading.Thread(target=lambda: place.scan_store(store, IntegrityConfig()))

    def while_a_scan_ends(*read: Any) -> Deleted:
        again.start()
        again.join(timeout=0.5)
        return deleted_from(*read)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "deleted_from", while_a_scan_ends)
        assert place.forget_deleted(store)
    again.join()
    assert "ring9" in str(place.load()) and load_origin(place.scan_folder).num_deletions == 1


def test_an_append_alone_costs_no_second_look(workspace: Path, fake_scan: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    place, store = scanned(workspace)
    monkeypatch.setattr(PostStore, "scan", lambda *a, **k: pytest.fail("the store was read"))
    assert not place.forget_deleted(store)
    store.delete_posts(["ring2-0"])
    assert place.forget_deleted(store)


def test_a_killed_scan_goes_on_and_its_work_is_removed_after(workspace: Path, fake_scan: list[dict[str, Any]]) -> None:
    place, store = IntegrityFolder(workspace / "integrity"), PostStore.open(workspace / "posts")
    with pytest.raises(KeyboardInterrupt):
        place.scan_store(store, IntegrityConfig(seed=13))
    assert not place.scan_folder.exists()
    place.scan_store(store, IntegrityConfig())
    assert fake_scan[1]["work"] == fake_scan[0]["work"] and fake_scan[1]["left"] == ["keys-000000.arrow"]
    assert not list(place.root.glob("work-*"))
    assert load_origin(place.scan_folder).store_version == store.version


def test_work_of_another_state_of_the_store_is_not_used(workspace: Path, fake_scan: list[dict[str, Any]]) -> None:
    place, store = IntegrityFolder(workspace / "integrity"), PostStore.open(workspace / "posts")
    with pytest.raises(KeyboardInterrupt):
        place.scan_store(store, IntegrityConfig(seed=13))
    store.delete_authors(["ring0"])
    place.scan_store(store, IntegrityConfig())
    assert fake_scan[1]["left"] == [] and not list(place.root.glob("work-*"))


def test_two_scans_at_once_are_refused(workspace: Path, fake_scan: list[dict[str, Any]]) -> None:
    place, store = IntegrityFolder(workspace / "integrity"), PostStore.open(workspace / "posts")
    with place._locked("scan.lock"), pytest.raises(StoreError, match="another scan runs"):
        place.scan_store(store, IntegrityConfig())


def test_without_a_scan_there_is_nothing_to_forget_or_publish(workspace: Path) -> None:
    place = IntegrityFolder(workspace / "integrity")
    assert not place.forget_deleted(PostStore.open(workspace / "posts"))
    with place.ledger() as ledger, pytest.raises(DataError, match="no scan at"):
        place.publish(ledger)
    assert isinstance(read_labels(workspace), pa.Table)
