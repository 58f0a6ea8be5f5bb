"""Repository exports and firehose frames, with blocks encoded here; and the real ones against what Jetstream made of the same events."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import RecordError, SourceError
from agora.posts.sources import bluesky_jetstream, bluesky_repo, recognise
from agora.posts.sources.bluesky_repo import Link, decode_cbor
from agora.posts.sources.files import SourceFile, open_files
from agora.posts.sources.record import Broken, Deletion, Skipped

POST = {"$type": "app.bsky.feed.post", "text": "from my own store", "createdAt": "2025-01-02T03:04:05Z"}


def encode(value: Any) -> bytes:
    """DAG-CBOR of a value: the obvious twin of `decode_cbor`."""
    if isinstance(value, Link):
        return head(6, 42) + encode(b"\0" + bytes(value))
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, (bytes, str)):
        data = value if isinstance(value, bytes) else value.encode()
        return head(2 if isinstance(value, bytes) else 3, len(data)) + data
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(encode, value))
    return head(5, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())


def head(major: int, count: int) -> bytes:
    if count < 24:
        return bytes([major << 5 | count])
    size = next(size for size in (1, 2, 4, 8) if count < 1 << (8 * size))
    return bytes([major << 5 | 24 + size.bit_length() - 1]) + count.to_bytes(size, "big")


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def cid(block: bytes) -> Link:
    return Link(b"\x01\x71\x12\x20" + hashlib.sha256(block).digest())


def car(blocks: list[bytes], root: Link) -> bytes:
    header = encode({"roots": [root], "version": 1})
    return varint(len(header)) + header + b"".join(varint(36 + len(block)) + bytes(cid(block)) + block for block in blocks)


def repository(*, records: dict[str, Any], did: str = "did:plc:me") -> bytes:
    """A repository whose tree is one node."""
    blocks = [encode(record) for record in records.values()]
    entries, before = [], b""
    for path, block in zip(records, blocks, strict=True):
        key = path.encode()
        shared = next((n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), min(len(before), len(key)))
        entries.append({"p": shared, "k": key[shared:], "v": cid(block), "t": None})
        before = key
    node = encode({"l": None, "e": entries})
    commit = encode({"did": did, "rev": "x", "data": cid(node), "version": 3, "sig": b"s"})
    return car([commit, node, *blocks], cid(commit))


def items_of(path: Path) -> list[Any]:
    with open_files(path) as files:
        file = next(files)
        assert isinstance(file, SourceFile)
        assert recognise(file.head()) is bluesky_repo.SOURCE
        return list(bluesky_repo.read(file))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=40,
)


@given(VALUES)
def test_cbor_round_trip(value: Any) -> None:
    data = encode(value)
    assert decode_cbor(data) == (value, len(data))


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_record_error(data: bytes) -> None:
    with contextlib.suppress(RecordError):
        decode_cbor(data)


def test_deep_cbor_and_huge_announcements_are_refused() -> None:
    for data, reason in ((b"\x81" * 5000, "nested too deeply"), (b"\x9b" + b"\xff" * 8, "invalid CBOR")):
        with pytest.raises(RecordError, match=reason):
            decode_cbor(data)


def test_records_of_a_repository(tmp_path: Path) -> None:
    records = {
        "app.bsky.feed.like/1": {"$type": "app.bsky.feed.like"},
        "app.bsky.feed.post/3aaa": POST,
        "app.bsky.feed.post/3aab": POST | {"text": "second", "langs": ["de"]},
    }
    (tmp_path / "repo.car").write_bytes(repository(records=records))
    like, first, second = items_of(tmp_path / "repo.car")
    assert like == Skipped("like record, not a post")
    assert (first["id"], first["author"]) == ("at://did:plc:me/app.bsky.feed.post/3aaa", "did:plc:me")
    assert (second["id"], second["text"], second["lang"]) == ("at://did:plc:me/app.bsky.feed.post/3aab", "second", "de")


def test_one_broken_record_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    records = {"app.bsky.feed.post/1": {"$type": "app.bsky.feed.post"}, "app.bsky.feed.post/2": POST}
    (tmp_path / "repo.car").write_bytes(repository(records=records))
    broken, good = items_of(tmp_path / "repo.car")
    assert isinstance(broken, Broken) and broken.place.endswith("app.bsky.feed.post/1") and good["text"] == POST["text"]


def test_truncated_repository_is_refused(tmp_path: Path) -> None:
    data = repository(records={"app.bsky.feed.post/1": POST})
    (tmp_path / "repo.car").write_bytes(data[:-10])
    with pytest.raises(SourceError, match="truncated"):
        items_of(tmp_path / "repo.car")


def frame(operations: list[dict[str, Any]], blocks: list[bytes]) -> bytes:
    body = {
        "repo": "did:plc:me",
        "time": "2025-01-02T03:04:06Z",
        "ops": operations,
        "blocks": car(blocks, cid(blocks[0]) if blocks else Link(b"")),
    }
    data = encode({"t": "#commit", "op": 1}) + encode(body)
    return struct.pack("<I", len(data)) + data


def test_frames_of_the_firehose(tmp_path: Path) -> None:
    block = encode(POST)
    create = {"path": "app.bsky.feed.post/1", "action": "create", "cid": cid(block)}
    delete = {"path": "app.bsky.feed.post/0", "action": "delete", "cid": None}
    (tmp_path / "frames.bin").write_bytes(frame([create, delete], [block]) + frame([create], [block])[:-7])
    row, deletion, broken = items_of(tmp_path / "frames.bin")
    assert (row["text"], row["source"]) == (POST["text"], "bluesky_repo")
    assert deletion == Deletion("post", "at://did:plc:me/app.bsky.feed.post/0")
    assert broken.reason == "truncated file"


@pytest.mark.shared
def test_real_frames_give_what_the_production_jetstream_made_of_them(shared_data: Path) -> None:
    folder = shared_data / "raw" / "bluesky_jetstream"
    with open_files(folder / "expected_v1.jsonl") as files:
        expected = list(bluesky_jetstream.read(next(files)))  # type: ignore[arg-type]
    found = items_of(folder / "frames.bin.zst")

    def known(items: list[Any]) -> list[str]:
        # Claims later than the event are cut at the relay's time here and at Jetstream's, half a second later, there.
        return sorted(str({**item, "source": "", "created_at": ""} if isinstance(item, dict) else item) for item in items)

    assert known(found) == known(expected) and len(found) == 152


@pytest.mark.shared
def test_real_repository_holds_the_listed_records(shared_data: Path) -> None:
    folder = shared_data / "raw" / "bluesky_jetstream"
    listed = [line.split("\t") for line in (folder / "car_expected_records.tsv").read_text().splitlines()]
    blocks = bluesky_repo.read_car((folder / "repo.car").read_bytes())
    commit = decode_cbor(blocks[1][blocks[0][0]][1])[0]
    walked = [[path, str(link)] for path, link in bluesky_repo.walk_tree(blocks[1], commit["data"])]
    assert sorted(walked) == sorted(listed)
