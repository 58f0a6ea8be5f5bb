"""A Bluesky account's whole repository (`repo.car`, what the network gives an account's owner as export), and recorded firehose frames
([length as u32 little endian][frame]... as written by relays' recorders).

A CAR file holds blocks of DAG-CBOR: records, and the tree (MST) that names them. Records become items as in bluesky.py. The blocks of
one file are held in memory, so a file may have MAX_CAR_BYTES. Not covered: signatures and hashes are not verified.

Command: `agora posts import repo.car`
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.errors import RecordError, SourceError
from agora.posts.sources.bluesky import POST, REPOST, record_to_post
from agora.posts.sources.bluesky_jetstream import event_to_item
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.record import Broken, Item, attempt, broken
from agora.posts.sources.source import Source

NAME: Final = "bluesky_repo"
MAX_CAR_BYTES: Final = 512 * 2**20
"""An account with a million records takes about 300 MB."""
MAX_FRAME_BYTES: Final = 16 * 2**20
"""The protocol allows 5 MB per frame."""
_MAX_DEPTH: Final = 64
_CID_TAG: Final = 42
_FRAME_MARK: Final = b"bop\x01at"
"""Every frame's header is the map {op: 1, t: ...}: its key order puts `t` and `op` first."""


def recognise(head: Head) -> bool:
    """A CAR header (its first block says roots and version), or a length followed by a frame header."""
    return _is_car(head.data) or _is_frames(head.data)


def _is_car(data: bytes) -> bool:
    return b"eroots" in data[:64] and b"gversion" in data[:128]


def _is_frames(data: bytes) -> bool:
    if len(data) < 24:
        return False
    size = struct.unpack("<I", data[:4])[0]
    return 16 < size <= MAX_FRAME_BYTES and data[4:5] == b"\xa2" and b"at" in data[5:12] and b"bop" in data[5:24]


def read(file: SourceFile) -> Iterator[Item]:
    """One item per record of the repository, or per operation of the frames."""
    with file.open_plain() as stream:
        start = stream.peek(128)[:128]  # type: ignore[attr-defined]
        if _is_car(start):
            data = stream.read(MAX_CAR_BYTES + 1)
            if len(data) > MAX_CAR_BYTES:
                raise SourceError(f"file too large: a repository over {MAX_CAR_BYTES} bytes")
            yield from _repository(data)
            return
        offset = 0
        while prefix := stream.read(4):
            size = struct.unpack("<I", prefix)[0] if len(prefix) == 4 else 0
            frame = stream.read(size) if 0 < size <= MAX_FRAME_BYTES else b""
            if len(frame) != size or not size:
                yield broken(f"truncated file: a frame of {size} bytes is not whole", f"byte {offset}", prefix + frame)
                return
            yield from _frame(frame, f"byte {offset}")
            offset += 4 + size


class Link(bytes):
    """A CID: the name of another block."""

    def __str__(self) -> str:
        return "b" + base64.b32encode(bytes(self)).decode().lower().rstrip("=")


def decode_cbor(data: bytes, start: int = 0, depth: int = 0) -> tuple[Any, int]:
    """One DAG-CBOR value and where it ends (RFC 8949 section 3, restricted as in the DAG-CBOR specification). Raises RecordError."""
    if depth > _MAX_DEPTH:
        raise RecordError(f"nested too deeply: more than {_MAX_DEPTH} levels of CBOR")
    if start >= len(data):
        raise RecordError("invalid CBOR: the block ends inside a value")
    major, info = data[start] >> 5, data[start] & 31
    start += 1
    if major == 7:
        return _simple(data, start, info)
    if info < 24:
        count = info
    elif info <= 27:
        size = 1 << (info - 24)
        count, start = int.from_bytes(data[start : start + size], "big"), start + size
    else:
        raise RecordError(f"invalid CBOR: length code {info}")
    if major == 0:
        return count, start
    if major == 1:
        return -1 - count, start
    if count > len(data) - start and major != 6:
        raise RecordError(f"invalid CBOR: {count} bytes or items announced, {len(data) - start} bytes left")
    if major in (2, 3):
        piece = data[start : start + count]
        return (piece if major == 2 else piece.decode("utf-8", "surrogateescape")), start + count
    return _container(data, start, major, count, depth)


def _simple(data: bytes, start: int, info: int) -> tuple[Any, int]:
    if info in (20, 21, 22):
        return {20: False, 21: True, 22: None}[info], start
    if info == 27 and start + 8 <= len(data):
        return struct.unpack(">d", data[start : start + 8])[0], start + 8
    raise RecordError(f"invalid CBOR: simple value {info}")


def _container(data: bytes, start: int, major: int, count: int, depth: int) -> tuple[Any, int]:
    if major == 4:
        items = []
        for _ in range(count):
            item, start = decode_cbor(data, start, depth + 1)
            items.append(item)
        return items, start
    if major == 5:
        pairs = {}
        for _ in range(count):
            key, start = decode_cbor(data, start, depth + 1)
            if not isinstance(key, str):
                raise RecordError("invalid CBOR: a map key is not text")
            pairs[key], start = decode_cbor(data, start, depth + 1)
        return pairs, start
    value, start = decode_cbor(data, start, depth + 1)
    if count != _CID_TAG or not isinstance(value, bytes):
        raise RecordError(f"invalid CBOR: tag {count}")
    return Link(value[1:]), start


def read_car(data: bytes) -> tuple[list[Any], dict[Link, tuple[int, bytes]]]:
    """Roots, and (offset, bytes) of every block by its CID. Raises SourceError when the file ends inside a block."""
    size, position = _varint(data, 0)
    header, _ = decode_cbor(data[position : position + size])
    position += size
    blocks: dict[Link, tuple[int, bytes]] = {}
    while position < len(data):
        begun = position
        size, position = _varint(data, position)
        end = position + size
        if end > len(data):
            raise SourceError(f"truncated: the block at byte {begun} needs {size} bytes, {len(data) - position} are left")
        body = _cid_end(data, position)
        blocks[Link(data[position:body])] = (begun, data[body:end])
        position = end
    return header["roots"], blocks


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(start, min(start + 9, len(data))):
        value |= (data[position] & 127) << shift
        shift += 7
        if data[position] < 128:
            return value, position + 1
    raise SourceError(f"truncated or damaged: no length at byte {start}")


def _cid_end(data: bytes, start: int) -> int:
    """CID version 1: version, codec, hash function, hash length, hash."""
    position = start
    for _ in range(3):
        _, position = _varint(data, position)
    size, position = _varint(data, position)
    return position + size


def _repository(data: bytes) -> Iterator[Item]:
    try:
        roots, blocks = read_car(data)
        commit, _ = decode_cbor(blocks[roots[0]][1])
        author, tree = commit["did"], commit["data"]
    except (RecordError, KeyError, IndexError, TypeError) as error:
        raise SourceError(f"damaged: not a readable repository ({type(error).__name__} {error})") from error
    for path, link in walk_tree(blocks, tree):
        if link not in blocks:
            yield broken(f"missing block: {link}", path, b"")
            continue
        offset, block = blocks[link]
        item = attempt(lambda raw, path=path: _record(raw, f"at://{author}/{path}", author), block, f"byte {offset}, {path}")  # type: ignore[misc]
        yield broken(f"{item.reason}: {item.detail}", item.place, block) if isinstance(item, Broken) else item


def _record(block: bytes, uri: str, author: str) -> Item:
    return record_to_post(plain(decode_cbor(block)[0]), uri=uri, author=author, seen_at=None, source=NAME)


def walk_tree(blocks: Mapping[Link, tuple[int, bytes]], root: Any) -> Iterator[tuple[str, Link]]:
    """(collection/rkey, CID) of every record, in key order (atproto repository specification, MST nodes). Raises SourceError."""
    waiting: list[tuple[str, Any, bool]] = [("", root, True)]
    seen: set[Link] = set()
    while waiting:
        path, link, is_node = waiting.pop()
        if not is_node:
            yield path, link
            continue
        if link is None:
            continue
        if link not in blocks or link in seen:
            raise SourceError(f"damaged: the tree's node {link} is {'named twice' if link in seen else 'missing'}")
        seen.add(link)
        try:
            waiting.extend(reversed(_node_children(decode_cbor(blocks[link][1])[0])))
        except (RecordError, KeyError, TypeError) as error:
            raise SourceError(f"damaged: the tree's node {link} cannot be read ({error})") from error


def _node_children(node: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    children: list[tuple[str, Any, bool]] = [("", node["l"], True)]
    key = b""
    for entry in node["e"]:
        key = key[: entry["p"]] + entry["k"]
        children += [(key.decode("utf-8", "replace"), entry["v"], False), ("", entry["t"], True)]
    return children


def plain(value: Any) -> Any:
    """CBOR values as the JSON that the API writes: links as {"$link": ...}."""
    if isinstance(value, Link):
        return {"$link": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _frame(frame: bytes, place: str) -> Iterator[Item]:
    """The operations of one firehose message, as the Jetstream events that they become there."""
    outcome: Any = attempt(lambda raw: list(_events(raw)), frame, place)  # type: ignore[arg-type,return-value]
    if isinstance(outcome, Broken):
        yield broken(f"{outcome.reason}: {outcome.detail}", place, frame)
        return
    for event in outcome:
        item = attempt(event_to_item, event, place)
        yield {**item, "source": NAME} if isinstance(item, dict) else item


def _events(frame: bytes) -> Iterator[dict[str, Any]]:
    header, end = decode_cbor(frame)
    body, _ = decode_cbor(frame, end)
    kind = str(header.get("t") or "#error").removeprefix("#")
    if kind != "commit":
        yield {"kind": kind, "did": body.get("did"), kind: body}
        return
    blocks = read_car(body["blocks"])[1]
    for operation in body["ops"]:
        collection, _, key = operation["path"].partition("/")
        commit = {"collection": collection, "rkey": key, "operation": operation["action"]}
        if operation["action"] != "delete" and collection in (POST, REPOST):
            commit["record"] = plain(decode_cbor(blocks[operation["cid"]][1])[0])
        yield {"kind": "commit", "did": body["repo"], "time_us": body["time"], "commit": commit}


SOURCE: Final = Source(NAME, "Bluesky repository export (repo.car) and recorded firehose frames", recognise, read)
