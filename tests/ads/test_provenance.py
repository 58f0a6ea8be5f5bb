"""Content credentials: signed pictures verify, changed ones do not, and nobody is told that the issuer is known."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

pytest.importorskip("c2pa")
from PIL import Image

from agora.ads.manifest_bytes import deviation
from agora.ads.provenance import (
    KEY_FILE,
    TERMS,
    Signer,
    SourceType,
    known_source_type,
    own_signer,
    sign,
    sign_file,
    signer_from_files,
    source_type_named,
    verify,
    verify_file,
)  # fmt: skip
from agora.errors import DataError, UsageError


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return own_signer(tmp_path_factory.mktemp("signing"))


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="5" height="5" fill="#f00"/></svg>'
KINDS = {"image/png": lambda: picture("PNG"), "image/jpeg": lambda: picture("JPEG"), "image/svg+xml": lambda: SVG}


@pytest.mark.parametrize("media_type", list(KINDS))
def test_signed_picture_verifies_and_any_of_its_bytes_matters(media_type: str, signer: Signer) -> None:
    signed = sign(KINDS[media_type](), media_type, signer=signer, source_type="compositeWithTrainedAlgorithmicMedia")
    found = verify(signed, media_type)
    assert found.is_valid and not found.is_trusted and "untrusted issuer" in found.in_words and found.generator == "Agora"
    assert found.source_type.endswith("/compositeWithTrainedAlgorithmicMedia") and deviation(signed, media_type) is None
    for place in range(0, len(signed), max(1, len(signed) // 60)):
        changed = bytearray(signed)
        changed[place] ^= 0x15
        assert not verify(bytes(changed), media_type).is_valid, (media_type, place)


@pytest.mark.parametrize("label", [b"c2pa.actions.v2\0", b"c2pa.hash.data\0"])
def test_every_byte_that_describes_an_assertion_matters(label: bytes, signer: Signer) -> None:
    signed = sign(picture("JPEG"), "image/jpeg", signer=signer, source_type="compositeWithTrainedAlgorithmicMedia")
    toggles = signed.index(b"\x13" + label)
    for mask in (0x20, 0x40, 0x80, 0x04, 0x08, 0x10, 0x01):
        changed = bytearray(signed)
        changed[toggles] ^= mask
        assert not verify(bytes(changed), "image/jpeg").is_valid, mask
    for place in range(toggles - 24, toggles + len(label) + 25):
        changed = bytearray(signed)
        changed[place] ^= 0x20
        assert not verify(bytes(changed), "image/jpeg").is_valid, place - toggles


def test_every_character_of_the_frames_in_an_svg_matters(signer: Signer) -> None:
    signed = sign(SVG, "image/svg+xml", signer=signer, source_type="compositeWithTrainedAlgorithmicMedia")
    start = signed.index(b">", signed.index(b"<c2pa:manifest")) + 1
    for place in range(start, start + 400):
        changed = bytearray(signed)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        assert not verify(bytes(changed), "image/svg+xml").is_valid, place - start


@pytest.mark.parametrize("term", TERMS)
def test_a_picture_says_how_it_was_made_as_it_was_told(term: SourceType, signer: Signer) -> None:
    signed = sign(SVG, "image/svg+xml", signer=signer, source_type=term)
    assert verify(signed, "image/svg+xml").source_type == f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}"


def test_how_a_picture_of_the_studio_was_made_is_known_and_of_others_it_has_to_be_said(tmp_path: Path) -> None:
    for writer, term in (("grammar", "composite"), ("qwen", "compositeWithTrainedAlgorithmicMedia")):
        (tmp_path / "copy.json").write_text(json.dumps({"written_by": writer}))
        (tmp_path / "square.json").write_text(json.dumps({"layout": {}, "checks": {}}))
        assert known_source_type(tmp_path / "square.png") == term
    with pytest.raises(UsageError, match=r"holiday\.jpg was made is not known; say it with --source-type: digitalCapture"):
        known_source_type(tmp_path / "holiday.jpg")
    (tmp_path / "square.json").write_text("[]")
    with pytest.raises(UsageError, match="not known"):
        known_source_type(tmp_path / "square.png")


def test_a_term_is_known_by_name_and_address_and_another_one_is_refused() -> None:
    assert source_type_named("http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits") == source_type_named("humanedits") == "humanEdits"
    with pytest.raises(UsageError, match="did you mean 'digitalCapture'"):
        source_type_named("digitalCaptured")


def test_padding_behind_the_signature_is_looked_at(signer: Signer) -> None:
    signed = bytearray(sign(picture("JPEG"), "image/jpeg", signer=signer, source_type="trainedAlgorithmicMedia"))
    place = signed.rfind(b"\x63pad") + 40
    assert signed[place] == 0
    signed[place] = 7
    found = verify(bytes(signed), "image/jpeg")
    assert not found.is_valid and "padding" in found.problems[0]


def test_picture_without_credentials_says_so() -> None:
    found = verify(picture("PNG"), "image/png")
    assert not found.is_valid and found.problems == ("it holds no content credentials",)


def test_what_is_no_picture_cannot_be_signed(signer: Signer) -> None:
    with pytest.raises(DataError, match="cannot be signed"):
        sign(b"hello", "image/png", signer=signer, source_type="compositeWithTrainedAlgorithmicMedia")


def test_key_is_kept_private_and_used_again(tmp_path: Path) -> None:
    first = own_signer(tmp_path)
    assert own_signer(tmp_path) == first
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert "BEGIN" not in repr(first)


def test_files_are_signed_in_place_and_others_refused(tmp_path: Path, signer: Signer) -> None:
    path = tmp_path / "a.svg"
    path.write_bytes(SVG)
    assert sign_file(path, signer, source_type="trainedAlgorithmicMedia").source_type.endswith("/trainedAlgorithmicMedia")
    assert verify_file(path).is_valid
    with pytest.raises(UsageError, match=r"ending '.gif'"):
        verify_file(tmp_path / "a.gif")
    with pytest.raises(UsageError, match="does not exist"):
        signer_from_files(tmp_path / "none.pem", tmp_path / "none.key")
