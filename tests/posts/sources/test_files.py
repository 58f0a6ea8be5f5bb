"""Opening files: compression, encodings, and archives that mean harm."""

from __future__ import annotations

import gzip
import json
import os
import stat
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from agora.errors import SourceError
from agora.posts.sources import files
from agora.posts.sources.files import SourceFile, Unreadable, open_files

TEXT = '{"id": 1, "text": "grün \U0001f33f"}\n'


def contents(path: Path) -> dict[str, bytes | str]:
    """File name -> its bytes, or the reason why it cannot be read."""
    found: dict[str, bytes | str] = {}
    with open_files(path) as entries:
        for entry in entries:
            if isinstance(entry, Unreadable):
                found[entry.name] = entry.reason
            else:
                with entry.open() as stream:
                    found[entry.name] = stream.read()
    return found


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".zip"])
def test_compressed_files_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    data = TEXT.encode()
    if suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    elif suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    elif suffix == ".zip":
        zip_of(path, {"a.jsonl": data})
    else:
        path.write_bytes(data)
    assert list(contents(path).values()) == [data]


def test_compressed_member_of_a_zip_is_decompressed(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"in/a.jsonl.gz": gzip.compress(TEXT.encode())})
    assert contents(path) == {"a.zip!in/a.jsonl.gz": TEXT.encode()}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_arrive_as_utf8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT.encode(encoding))
    assert contents(path) == {"a.jsonl": TEXT.encode()}


def test_broken_utf16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe" + b"\x00\xd8\x00\xd8" + b"a\0")
    with pytest.raises(SourceError, match="not utf-16"):
        contents(path)


def test_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.jsonl": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceError, match=r"truncated or damaged zip archive .*download it again"):
        contents(path)


def test_damaged_zip_member_is_named_while_reading(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.jsonl": TEXT.encode() * 1000})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(SourceError, match="truncated or damaged"):
        contents(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncated_stream_gives_its_beginning_then_an_error(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    data = b"".join(os.urandom(10).hex().encode() + b"\n" for _ in range(200_000))
    if suffix == ".gz":
        whole.write_bytes(gzip.compress(data, 1))
    else:
        with pa.output_stream(str(whole), compression="zstd") as stream:
            stream.write(data)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    with open_files(path) as entries:
        entry = next(entries)
        assert isinstance(entry, SourceFile)
        lines = 0
        with pytest.raises(SourceError, match="truncated or damaged"), entry.open() as stream:
            for _ in stream:
                lines += 1
    assert lines > 10_000


@pytest.mark.parametrize("name", ["../evil.js", "/etc/evil.js", "a/../../evil.js", "..\\evil.js", "C:evil.js"])
def test_archive_with_a_path_that_climbs_out_is_refused_as_a_whole(tmp_path: Path, name: str) -> None:
    path = zip_of(tmp_path / "a.zip", {"good.jsonl": b"{}", name: b"x"})
    with pytest.raises(SourceError, match="climbs out"):
        contents(path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.zip"]


def test_archive_with_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.js")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="symbolic link"):
        contents(path)


def test_zip_bomb_is_refused_before_reading(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.jsonl": b"\0" * (70 * 2**20)})
    assert path.stat().st_size < 200_000
    with pytest.raises(SourceError, match="zip bomb"):
        contents(path)


def test_gzip_bomb_is_stopped_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"\0" * (70 * 2**20), 1))
    with open_files(path) as entries:
        entry = next(entries)
        assert isinstance(entry, SourceFile)
        with pytest.raises(SourceError, match="compression bomb"), entry.open() as stream:
            while stream.read(2**20):
                pass


def test_zip_whose_members_are_too_large_together_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "a.zip", {"a": os.urandom(600), "b": os.urandom(600)})
    monkeypatch.setattr(files, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(SourceError, match="zip bomb"):
        contents(path)


def test_encrypted_member_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a.jsonl": TEXT.encode()})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    assert str(contents(path)["a.zip!a.jsonl"]).startswith("encrypted: unpack")


def test_links_in_folders_are_named_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text(TEXT)
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "link.jsonl").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    found = contents(folder)
    assert set(found) == {"loop", "sub/link.jsonl"}
    assert all(str(reason).startswith("symbolic link: not followed") for reason in found.values())


def test_hidden_files_are_left_out_and_order_is_stable(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", ".DS_Store", "c/d.json", ".git/x.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert list(contents(tmp_path)) == ["a.json", "b.json", "c/d.json"]


def test_damaged_zip_inside_a_folder_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "b.json").write_text("{}")
    found = contents(tmp_path)
    assert str(found["a.zip"]).startswith("archive refused: ") and found["b.json"] == b"{}"


def test_missing_empty_and_special_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("absent", "does not exist"), ("empty", "is empty"), ("pipe", "neither a file nor a folder")):
        with pytest.raises(SourceError, match=message):
            contents(tmp_path / name)


def test_permission_denied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake `open`: the suite may run as root, whom no permission stops."""
    path = tmp_path / "a.json"
    path.write_text("{}")

    def denied(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SourceError, match="permission denied"):
        contents(path)
    assert contents(tmp_path) == {"a.json": "cannot be opened: Permission denied"}


def test_side_file_is_found_in_folder_and_zip(tmp_path: Path) -> None:
    zip_of(tmp_path / "a.zip", {"data/tweets.js": b"x", "data/account.js": b"account"})
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "tweets.js").write_bytes(b"x")
    (folder / "account.js").write_bytes(b"account")
    for path in (tmp_path / "a.zip", folder):
        with open_files(path) as entries:
            found = {entry.base_name: entry for entry in entries}
            assert found["tweets.js"].beside("account.js") == b"account"  # type: ignore[union-attr]
            assert found["tweets.js"].beside("other.js") is None  # type: ignore[union-attr]


def test_json_survives_the_whole_way_through_a_zip(tmp_path: Path) -> None:
    records = [{"id": number, "text": "x" * number} for number in range(2000)]
    data = "\n".join(json.dumps(record) for record in records).encode()
    found = contents(zip_of(tmp_path / "a.zip", {"deep/er/a.jsonl": data}))
    assert found == {"a.zip!deep/er/a.jsonl": data}
