"""Batches on disk between two passes: uncompressed Arrow files in a folder that only lives as long as a build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from agora.files import naming


class Spill:
    """Append batches, then read them back in the same order, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pa.RecordBatchStreamWriter | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Write one batch; all have the schema of the first."""
        with naming(self._path):
            if self._writer is None:
                self._writer = pa.ipc.new_stream(str(self._path), batch.schema)
            self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish writing."""
        if self._writer is not None:
            with naming(self._path):
                self._writer.close()

    def read(self) -> Iterator[pa.RecordBatch]:
        """The batches; none when nothing was appended."""
        if self._writer is not None:
            with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
                yield from reader

    def remove(self) -> None:
        """Free the disk space."""
        self._path.unlink(missing_ok=True)
