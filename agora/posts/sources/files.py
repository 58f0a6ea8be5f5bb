"""The files of an import: a file, a folder or a zip, each opened as a stream of decompressed UTF-8 bytes.

Goes in: a path. Comes out: SourceFile objects in a stable order. Nothing is ever extracted to disk under a name from an archive, and
hostile archives (bombs, paths that climb out, links) are refused as a whole. Not covered: archives inside archives are not entered.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import pyarrow as pa

from agora.errors import SourceError

HEAD_BYTES: Final = 256 * 1024
"""What recognition looks at; a reader must be told apart within it."""
MAX_RATIO: Final = 200
"""Decompressed to compressed size. Exports of posts compress 4 to 40 times; deflate can reach 1,032 and zstd far more."""
RATIO_APPLIES_ABOVE_BYTES: Final = 64 * 2**20
"""Below this size no ratio can hurt."""
MAX_ARCHIVE_BYTES: Final = 256 * 2**30
"""Sum of all files of one archive; the largest personal exports with videos stay under it."""
MAX_ARCHIVE_FILES: Final = 1_000_000
MAX_BESIDE_BYTES: Final = 2**20
"""Largest side file (account.js) that a reader may ask for."""
_COMPRESSED: Final = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_BUFFER_BYTES: Final = 2**20
_DAMAGE: Final = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, pa.ArrowInvalid, NotImplementedError, RuntimeError)
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file of the import that cannot be opened at all. `reason` is `reason: detail`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file, for recognition: base name without compression suffix in lower case, bytes, and the same as text."""

    name: str
    data: bytes
    text: str = field(repr=False, default="")

    def has(self, *keys: str) -> bool:
        """True when every one of `keys` occurs as a quoted JSON name."""
        return all(f'"{key}"' in self.text for key in keys)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read. `open_raw` gives the stored bytes (after a zip's own compression)."""

    name: str
    size_bytes: int
    fingerprint: str
    open_raw: Callable[[], BinaryIO]
    beside: Callable[[str], bytes | None]
    path: Path | None = None

    @property
    def base_name(self) -> str:
        """Lower-case file name without `.gz` or `.zst`."""
        name = PurePosixPath(self.name.replace("!", "/")).name.lower()
        for suffix in _COMPRESSED:
            name = name.removesuffix(suffix)
        return name

    def open(self) -> BinaryIO:
        """The file's content: decompressed, guarded, in UTF-8. Raises SourceError when it is damaged, also later while reading."""
        raw = self.open_plain()
        start = raw.peek(4)[:4]  # type: ignore[attr-defined]
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None) or _encoding_without_mark(start)
        if encoding is None:
            return raw
        return io.BufferedReader(_Transcoded(raw, encoding, self.name), _BUFFER_BYTES)

    def open_plain(self) -> BinaryIO:
        """As `open`, but the bytes as they are (for Parquet and other binary content)."""
        try:
            stored = self.open_raw()
            suffix = PurePosixPath(self.name).suffix.lower()
            stream = _decompress(stored, _COMPRESSED[suffix]) if suffix in _COMPRESSED else stored
        except OSError as error:
            raise SourceError(f"cannot be opened: {error.strerror or error}") from error
        except _DAMAGE as error:
            raise SourceError(f"damaged: {error}") from error
        return io.BufferedReader(_Guarded(stream, stored, self.size_bytes), _BUFFER_BYTES)

    def head(self) -> Head:
        """Its first HEAD_BYTES."""
        with self.open() as stream:
            data = stream.read(HEAD_BYTES)
        return Head(self.base_name, data, data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"))


def _decompress(stored: BinaryIO, codec: str) -> BinaryIO:
    if codec == "gzip":
        return gzip.GzipFile(fileobj=stored)  # type: ignore[return-value]
    return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), codec)  # type: ignore[no-any-return]


def _encoding_without_mark(start: bytes) -> str | None:
    """UTF-16 text that begins with an ASCII character."""
    if len(start) >= 4 and start[0] and not start[1] and start[2] and not start[3]:
        return "utf-16-le"
    if len(start) >= 4 and not start[0] and start[1] and not start[2] and start[3]:
        return "utf-16-be"
    return None


class _Guarded(io.RawIOBase):
    """Turns every way a compressed stream can be damaged into SourceError, and stops bombs."""

    def __init__(self, stream: BinaryIO, stored: BinaryIO, stored_bytes: int) -> None:
        self._stream, self._stored, self._stored_bytes, self._done = stream, stored, max(stored_bytes, 1), 0
        # read1 hands out what there is: a truncated stream gives its beginning before its error.
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._read(len(buffer))
        except (OSError, *_DAMAGE) as error:
            raise SourceError(f"truncated or damaged: {error} (after {self._done} bytes)") from error
        self._done += len(data)
        if self._done > RATIO_APPLIES_ABOVE_BYTES and self._done > MAX_RATIO * self._stored_bytes:
            raise SourceError(
                f"compression bomb: more than {MAX_RATIO} times its {self._stored_bytes} stored bytes; decompress it if it is genuine"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._stored.close()
        super().close()


class _Transcoded(io.RawIOBase):
    """UTF-8 bytes of a stream in another encoding."""

    def __init__(self, stream: BinaryIO, encoding: str, name: str) -> None:
        self._stream, self._name, self._pending, self._read = stream, name, b"", 0
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if encoding == "utf-8-sig" else "strict")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._pending:
            data = self._stream.read(_BUFFER_BYTES // 4)
            try:
                self._pending = self._decoder.decode(data, not data).encode("utf-8", "surrogateescape")
            except UnicodeError as error:
                raise SourceError(f"not {self._encoding}: {error} (near byte {self._read})") from error
            self._read += len(data)
            if not data:
                break
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextlib.contextmanager
def open_files(path: Path) -> Iterator[Iterator[SourceFile | Unreadable]]:
    """The files under `path`. Raises SourceError when `path` is missing, forbidden, empty, or a damaged or hostile archive."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)
        elif stat.S_ISREG(mode):
            with path.open("rb") as probe:
                start = probe.read(4)
        else:
            raise SourceError(f"{path} is neither a file nor a folder")
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist") from error
    except PermissionError as error:
        raise SourceError(f"{path} may not be read by this user (permission denied); change its permissions or copy it") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        yield _folder(path)
    elif path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes)")
    elif start == b"PK\x03\x04" or path.suffix.lower() == ".zip":
        with _open_zip(path) as archive:
            yield _members(archive, path.name, path)
    else:
        yield iter([_plain(path, path.name, path.parent)])


def _folder(root: Path) -> Iterator[SourceFile | Unreadable]:
    """Files in sorted order, without hidden ones; links are named, not followed."""
    for folder, folders, names in os.walk(root, onerror=None):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(folders + names):
            path = here / name
            if path.is_symlink():
                yield Unreadable(str(path.relative_to(root)), "symbolic link: not followed; import its target")
        for name in sorted(name for name in names if not name.startswith(".")):
            path = here / name
            if path.is_symlink():
                continue
            shown = path.relative_to(root).as_posix()
            if not path.is_file() and path.exists():
                yield Unreadable(shown, "not a file: a named pipe, socket or device is never opened")
                continue
            if path.suffix.lower() == ".zip":
                yield from _zip_in_folder(path, shown)
                continue
            try:
                with path.open("rb"):
                    pass
                yield _plain(path, shown, here)
            except OSError as error:
                yield Unreadable(shown, f"cannot be opened: {error.strerror or error}")
        for name in folders[:]:
            if not os.access(here / name, os.R_OK | os.X_OK):
                yield Unreadable((here / name).relative_to(root).as_posix(), "cannot be opened: Permission denied")


def _zip_in_folder(path: Path, shown: str) -> Iterator[SourceFile | Unreadable]:
    try:
        with _open_zip(path) as archive:
            yield from _members(archive, shown, path)
    except SourceError as error:
        yield Unreadable(shown, f"archive refused: {error}")


def _plain(path: Path, shown: str, folder: Path) -> SourceFile:
    found = path.stat()

    def beside(name: str) -> bytes | None:
        target = folder / name
        if not target.is_file() or target.stat().st_size > MAX_BESIDE_BYTES:
            return None
        return target.read_bytes()

    return SourceFile(shown, found.st_size, f"{found.st_size}:{found.st_mtime_ns}", lambda: path.open("rb"), beside, path)


@contextlib.contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except PermissionError as error:
        raise SourceError(f"{path} may not be read by this user (permission denied)") from error
    except (OSError, *_DAMAGE) as error:
        raise SourceError(f"{path} is a truncated or damaged zip archive ({error}); download it again") from error
    with archive:
        _refuse_hostile(archive, path)
        yield archive


def _refuse_hostile(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises SourceError before anything is read."""
    members = archive.infolist()
    if len(members) > MAX_ARCHIVE_FILES:
        raise SourceError(f"{path} holds {len(members)} files; at most {MAX_ARCHIVE_FILES} are read from one archive")
    total = sum(member.file_size for member in members)
    stored = max(path.stat().st_size, 1)
    if total > MAX_ARCHIVE_BYTES or (total > RATIO_APPLIES_ABOVE_BYTES and total > MAX_RATIO * stored):
        raise SourceError(
            f"{path} looks like a zip bomb: {stored} bytes would become {total} (limits: {MAX_RATIO} times, {MAX_ARCHIVE_BYTES} bytes); "
            "unpack it yourself if it is genuine, and import the folder"
        )
    for member in members:
        name = member.orig_filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
            raise SourceError(f"{path} holds the name {member.orig_filename!r}, which climbs out of the archive; it is refused as a whole")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise SourceError(f"{path} holds the symbolic link {member.filename!r}; it is refused as a whole")


def _members(archive: zipfile.ZipFile, shown: str, path: Path) -> Iterator[SourceFile | Unreadable]:
    by_name = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    modified = path.stat().st_mtime_ns
    seen: Counter[str] = Counter()
    for member in sorted((member for member in archive.infolist() if not member.is_dir()), key=lambda member: member.filename):
        name = member.filename
        seen[name] += 1
        place = shown if seen[name] == 1 else f"{shown}#{seen[name]}"  # two members of one name are two files
        if PurePosixPath(name).name.startswith(".") or name.startswith("__MACOSX/"):
            continue
        if member.flag_bits & 1:
            yield Unreadable(f"{place}!{name}", "encrypted: unpack the archive with its password and import the folder")
            continue
        yield SourceFile(
            f"{place}!{name}",
            max(member.compress_size, 1),
            f"{member.file_size}:{member.CRC}:{modified}",
            _opener(archive, member),
            _beside_in(archive, by_name, name),
        )


def _opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    return lambda: archive.open(member)  # type: ignore[return-value]


def _beside_in(archive: zipfile.ZipFile, by_name: dict[str, zipfile.ZipInfo], name: str) -> Callable[[str], bytes | None]:
    def beside(wanted: str) -> bytes | None:
        member = by_name.get(str(PurePosixPath(name).parent / wanted).removeprefix("./"))
        if member is None or member.file_size > MAX_BESIDE_BYTES:
            return None
        try:
            return archive.read(member)
        except (OSError, *_DAMAGE) as error:
            raise SourceError(f"damaged: {error}") from error

    return beside
