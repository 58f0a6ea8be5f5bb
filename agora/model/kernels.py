"""Builds and loads `kernels.c` and `products.c`. Goes in: these sources and the machine's C compiler. Comes out: a library that
`fast.py` and `products.py` call, or None where there is no compiler; then the plain operations do the work.

The build takes a moment and is kept in the user's cache folder, named by a hash of
source, flags and processor. AGORA_KERNELS=off keeps to the plain operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agora.errors import UsageError

logger = logging.getLogger(__name__)

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "products.c"))
HEADERS = (Path(__file__).with_name("numbers.h"),)
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
WIDE_VECTORS = "-mprefer-vector-width=512"  # gcc and clang on x86 otherwise keep to 256 bits


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels of training, built on first use. Raises UsageError for a value of AGORA_KERNELS other than on and off."""
    return load(SOURCES)


def load(sources: tuple[Path, ...]) -> ctypes.CDLL | None:
    """The library made of `sources`, built on first use; None where it cannot be. Raises UsageError as `library` does."""
    setting = os.environ.get("AGORA_KERNELS", "on")
    if setting not in ("on", "off"):
        raise UsageError(f"AGORA_KERNELS={setting!r} must be on or off")
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if setting == "off" or compiler is None or platform.system() != "Linux":
        logger.info("fused kernels are not used (AGORA_KERNELS=%s, compiler %s, %s)", setting, compiler, platform.system())
        return None
    flags = (*FLAGS, WIDE_VECTORS) if platform.machine() == "x86_64" else FLAGS
    try:
        return ctypes.CDLL(str(_built(sources, compiler, flags)))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("fused kernels could not be built, work will be slower: %s", getattr(error, "stderr", None) or error)
        return None


def call(name: str, *arguments: Any) -> int:
    """Call a kernel; tensors go as addresses (None as NULL), integers as int64 and the number of threads last. Returns what it returns.
    A profile shows it as agora::NAME.
    """
    built = library()
    assert built is not None
    converted: list[Any] = []
    for argument in arguments:
        if argument is None:
            converted.append(ctypes.c_void_p())
        elif isinstance(argument, Tensor):
            assert argument.is_contiguous() and argument.device.type == "cpu"
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            converted.append(ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument))
    kernel = functools.partial(getattr(built, name), *converted, ctypes.c_int(torch.get_num_threads()))
    if not torch.autograd.profiler._is_profiler_enabled:
        return int(kernel())
    with torch.profiler.record_function(f"agora::{name}"):
        return int(kernel())


def _built(sources: tuple[Path, ...], compiler: str, flags: tuple[str, ...]) -> Path:
    """The compiled library in the cache folder, compiled now if it is not there."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in (*sources, *HEADERS)))
    digest.update(" ".join((compiler, *flags, platform.machine(), _processor())).encode())
    target = _cache_folder() / f"{sources[0].stem}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(suffix=".so", dir=target.parent)
        os.close(handle)
        try:
            subprocess.run(
                [compiler, *flags, "-o", draft, *map(str, sources), "-lm"], check=True, capture_output=True, text=True, timeout=120
            )
            os.replace(draft, target)
        finally:
            Path(draft).unlink(missing_ok=True)
    return target


def _processor() -> str:
    """What -march=native depends on: the processor's feature flags."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("flags", "Features")):
            return line
    return platform.processor()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agora"
