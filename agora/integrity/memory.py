"""Memory that is no longer needed goes back to the system: allocators would keep it, hundreds of megabytes after ten million posts."""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa


def give_back() -> None:
    """Free what Arrow and, where it is glibc, the C library hold in store. Takes milliseconds; changes nothing else."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
