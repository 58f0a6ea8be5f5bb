"""The pictures of a job, in the order in which they are asked for, drawn by several processes where there are enough of them.

    with drawn(asked, processes=2) as pictures:
        first = next(pictures)

Who draws writes nothing: pictures come back to the caller. An interrupt cancels what is not begun and waits for the pictures in the making;
processes whose parent was killed end by themselves. The same pictures come out whatever the number of processes.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agora.ads.brief import Brief
from agora.ads.copywriting import Copy

if TYPE_CHECKING:
    from agora.ads.images import Picture
    from agora.ads.images.product import Product

CREDENTIALS_KB: Final = 20
"""What a signed manifest with its certificates takes at most (measured: 13 kB with a self-made chain)."""
_LONGEST_UNDER: Final = 60
"""Characters below a headline that still read in a picture."""
_FEW: Final = 6
"""Pictures per process below which another process would cost more than it saves: starting one takes as long as drawing about four."""
_AHEAD: Final = 4
"""Pictures per process that are drawn ahead of what is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One picture. `with_credentials`: leave room in the file for them."""

    brief: Brief
    copy: Copy
    placement: str
    seed: int
    with_credentials: bool = False


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw(asked: Asked) -> Picture:
    """One picture. Raises as agora.ads.images.render does."""
    from agora.ads.images import render
    from agora.ads.placements import placement_named

    brief, copy = asked.brief, asked.copy
    place = placement_named(asked.placement)
    if asked.with_credentials:
        place = replace(place, max_kb=place.max_kb - CREDENTIALS_KB)
    path = brief.brand.product_picture
    texts = texts_shown(brief, copy)
    return render(
        headline=texts["headline"], description=texts["description"], call_to_action=texts["call_to_action"], brand=brief.brand,
        product_picture=None if path is None else _product(path, path.stat().st_mtime_ns if path.is_file() else 0), placement=place,
        seed=asked.seed, language=copy.language,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def _product(path: Path, changed_ns: int) -> Product:
    """The product of a file as it was at a time, cut out once."""
    from agora.ads.images.product import read_product

    return read_product(path)


def texts_shown(brief: Brief, copy: Copy) -> dict[str, str]:
    """The texts of a picture by their place in it."""
    return {"headline": _headline(brief, copy), "description": _under(brief, copy), "call_to_action": copy.call_to_action}


def _headline(brief: Brief, copy: Copy) -> str:
    """The headline for a picture: without the brand in front, which stands there as logo or wordmark."""
    rest = re.sub(rf"^{re.escape(brief.brand.name)}\s*[:：]\s*", "", copy.headline)
    return rest if rest == copy.headline else rest[:1].upper() + rest[1:]


def _under(brief: Brief, copy: Copy) -> str:
    """What stands below the headline in a picture: what neither the headline nor logo or wordmark says."""
    shown = re.split(r"[:：]", copy.headline.casefold())[-1].strip(" .!")
    named = {brief.brand.name.casefold(), brief.product.casefold(), brief.short_name.casefold()}
    for text in (copy.short_description, copy.description):
        said = text.casefold().strip(" .!")
        if said not in named and said not in shown and shown not in said and len(text) <= _LONGEST_UNDER:
            return text
    return ""


@contextmanager
def drawn(asked: Sequence[Asked], *, processes: int = 1) -> Iterator[Iterator[Picture]]:
    """The pictures in the order of `asked`; each is drawn when it is taken, or ahead by up to `processes` processes."""
    number = min(processes, len(asked) // _FEW)
    if number < 2:
        yield map(draw, asked)
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(number, mp_context=context, initializer=_begin_worker)
    try:
        yield _in_order(executor, asked, number * _AHEAD)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(executor: ProcessPoolExecutor, asked: Sequence[Asked], ahead: int) -> Iterator[Picture]:
    waiting = deque[Future["Picture"]]()
    for one in asked:
        waiting.append(executor.submit(draw, one))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _begin_worker() -> None:
    """An interrupt is for the parent to answer; without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


__all__ = ["CREDENTIALS_KB", "Asked", "draw", "drawn", "texts_shown", "usable_cores"]
