"""Bytes around content credentials that no signature covers. Goes in: a picture that Agora signed. Comes out: what was changed there.

The signature covers the picture, the claim and the assertions, not the frames of the boxes around them (JUMBF, ISO 19566-5), the padding
behind the signature and how a file format carries the store. A changed byte there changes nothing that is claimed, and readers pass
over it; but a picture that we signed has exactly one form, so a deviation is found. For pictures of other signers these rules do not hold.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterator
from typing import Final

_ASSERTIONS: Final = re.compile(rb"c2pa\.(actions(\.v2)?|hash\.(data|bmff\.v[23]|boxes)|ingredient\.v3)(__[0-9]+)?")
_LABELS: Final = re.compile(rb"c2pa|urn:c2pa:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|c2pa\.(assertions|claim\.v2|signature)")
_KINDS: Final = {b"c2pa": b"c2pa", b"c2pa.assertions": b"c2as", b"c2pa.claim.v2": b"c2cl", b"c2pa.signature": b"c2cs"}
_KIND_END: Final = bytes.fromhex("00110010800000aa00389b71")  # last 12 bytes of the content types of ISO 19566-5
_WITH_LABEL: Final = 3  # requestable, labelled
_WITH_SALT: Final = 16  # a private box: the salt of an assertion's hash
_PAD: Final = b"\x63pad"
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"


class Deviation(ValueError):
    """Where the bytes differ from the one form."""


def deviation(data: bytes, media_type: str) -> str | None:
    """What is not as it was written; None if all is."""
    try:
        store = {"image/png": _of_png, "image/jpeg": _of_jpeg, "image/svg+xml": _of_svg}[media_type](data)
        boxes = list(_boxes(store, 0, len(store)))
        if len(boxes) != 1:
            raise Deviation("more than one store")
        _superbox(store, *boxes[0])
    except (Deviation, struct.error, binascii.Error) as error:
        return f"bytes around the signed content were changed ({error})"
    return None


def _of_png(data: bytes) -> bytes:
    """The chunk caBX; every chunk has a checksum, which readers of credentials do not look at."""
    if not data.startswith(_PNG_START):
        raise Deviation("no PNG")
    at, found = len(_PNG_START), []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
        if binascii.crc32(kind + body) != checksum:
            raise Deviation(f"chunk at byte {at}")
        if kind == b"caBX":
            found.append(body)
        at += 12 + size
    return _single(found)


def _of_jpeg(data: bytes) -> bytes:
    """Segments APP11 before the picture's data: 'JP', instance, number, box."""
    at, instance = 2, 0
    parts: list[bytes] = []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0xEB:
            kind, number, order = struct.unpack_from(">2sHI", data, at + 4)
            if kind != b"JP" or order != len(parts) + 1 or number != (instance or number) or number not in _INSTANCES:
                raise Deviation(f"segment at byte {at}")
            instance = number
            body = data[at + 12 : at + 2 + size]
            if parts and body[:8] != parts[0][:8]:
                raise Deviation(f"segment at byte {at}")
            parts.append(body)
        at += 2 + size
    return _single([parts[0] + b"".join(part[8:] for part in parts[1:])] if parts else [])


_INSTANCES: Final = (0x0211,)  # the instance number that c2pa-rs writes


def _of_svg(data: bytes) -> bytes:
    found = re.findall(rb"<c2pa:manifest[^>]*>([^<]*)</c2pa:manifest>", data)
    store = base64.b64decode(_single(found), validate=True)
    if base64.b64encode(store) != found[0]:
        raise Deviation("base64")
    return store


def _single(found: list[bytes]) -> bytes:
    if len(found) != 1:
        raise Deviation(f"{len(found)} stores")
    return found[0]


def _boxes(store: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's content; they fill the space exactly."""
    while at < end:
        size, kind = struct.unpack_from(">I4s", store, at)
        if size < 8 or at + size > end:
            raise Deviation(f"box at byte {at}")
        yield kind, at + 8, at + size
        at += size


def _superbox(store: bytes, kind: bytes, start: int, end: int) -> None:
    if kind != b"jumb":
        raise Deviation(f"box at byte {start}")
    (described, *content) = list(_boxes(store, start, end))
    if described[0] != b"jumd" or not content:
        raise Deviation(f"description at byte {start}")
    body = store[described[1] : described[2]]
    label, end_of_label, salt = body[17:].partition(b"\0")
    is_assertion = _ASSERTIONS.fullmatch(label) is not None
    wanted = b"cbor" if is_assertion else _KINDS.get(label, b"c2ma")
    is_known = is_assertion or _LABELS.fullmatch(label) is not None
    toggles = _WITH_LABEL | (_WITH_SALT if salt else 0)
    is_salt_known = not salt or (is_assertion and [kind for kind, *_ in _boxes(salt, 0, len(salt))] == [b"c2sh"])
    if body[:16] != wanted + _KIND_END or body[16] != toggles or not end_of_label or not is_known or not is_salt_known:
        raise Deviation(f"description at byte {start}")
    for box, inner, inner_end in content:
        if box == b"jumb":
            _superbox(store, box, inner, inner_end)
        elif box != b"cbor":
            raise Deviation(f"box at byte {inner}")
        elif label == b"c2pa.signature":
            _padding(store[inner:inner_end])


def _padding(signature: bytes) -> None:
    """COSE_Sign1: the only unprotected header is the padding, and it is zero."""
    at = signature.find(_PAD)
    if at < 0 or signature[at - 1] != 0xA1:
        raise Deviation("unprotected header")
    head = signature[at + len(_PAD)]
    if head == 0x59:
        (size,) = struct.unpack_from(">H", signature, at + len(_PAD) + 1)
        begin = at + len(_PAD) + 3
    elif head == 0x58:
        size, begin = signature[at + len(_PAD) + 1], at + len(_PAD) + 2
    else:
        raise Deviation("padding")
    if any(signature[begin : begin + size]) or signature[begin + size : begin + size + 1] != b"\xf6":
        raise Deviation("padding")
