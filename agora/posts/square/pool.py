"""Posts that the square still reacts to. A Rows table holds one value per post in every column; the pool is the Rows of the
recent past, bounded, so that memory does not grow with the length of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.posts.schema import KINDS, POST, QUOTE, REPLY, REPOST

POST_CODE, REPLY_CODE, REPOST_CODE, QUOTE_CODE = (KINDS.index(kind) for kind in (POST, REPLY, REPOST, QUOTE))
NONE = -1

KEPT_POSTS = 32_768
KEPT_PER_BURST = 48

Column = npt.NDArray[np.generic]


@dataclass(slots=True)
class Rows:
    """Posts as columns of equal length; NONE where there is nothing."""

    number: npt.NDArray[np.int64]  # position in the whole simulation, which makes the id
    time_s: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int8]
    author: npt.NDArray[np.int32]
    burst: npt.NDArray[np.int32]
    wave: npt.NDArray[np.int32]
    leads: npt.NDArray[np.bool_]  # the post that its wave reposts
    act: npt.NDArray[np.int8]  # what the text does, so that replies fit
    topic: npt.NDArray[np.int32]
    subject: npt.NDArray[np.int32]
    tag: npt.NDArray[np.int32]
    second_tag: npt.NDArray[np.int32]
    url: npt.NDArray[np.int64]
    mention: npt.NDArray[np.int32]
    has_image: npt.NDArray[np.bool_]
    parent: npt.NDArray[np.int64]  # number of the post referred to
    parent_author: npt.NDArray[np.int32]
    repost_weight: npt.NDArray[np.float64]
    reply_weight: npt.NDArray[np.float64]

    @classmethod
    def blank(cls, count: int) -> Rows:
        """`count` posts with nothing decided."""
        types = {"time_s": np.float64, "repost_weight": np.float64, "reply_weight": np.float64, "number": np.int64, "parent": np.int64,
                 "url": np.int64, "kind": np.int8, "act": np.int8, "leads": np.bool_, "has_image": np.bool_}  # fmt: skip
        columns: dict[str, Any] = {}
        for field in fields(cls):
            kind = types.get(field.name, np.int32)
            columns[field.name] = np.zeros(count, kind) if kind in (np.float64, np.bool_) else np.full(count, NONE, kind)
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.number)

    def take(self, index: Column) -> Rows:
        """The rows at `index`, or those where a mask is true."""
        return Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def joined(self, other: Rows) -> Rows:
        """These rows and then `other`."""
        return Rows(**{field.name: np.concatenate((getattr(self, field.name), getattr(other, field.name))) for field in fields(self)})


class Pool:
    """Recent posts with their texts (no reposts), oldest first; the first posts of every burst and the leads of waves stay longer."""

    def __init__(self) -> None:
        self.rows = Rows.blank(0)
        self.texts: pa.Array = pa.array([], pa.string())
        self._kept_of_burst: dict[int, int] = {}
        self._lasting = np.zeros(0, np.float64)  # until when a post stays although it is old

    def add(self, rows: Rows, texts: pa.Array, lasting: npt.NDArray[np.float64], now_s: float) -> None:
        """Take in a window's posts and forget what is old. `lasting`: until when each must stay, 0 for ordinary posts."""
        keep = np.flatnonzero(rows.kind != REPOST_CODE)
        rows, texts, lasting = rows.take(keep), texts.take(pa.array(keep)), lasting[keep]
        self.rows, self._lasting = self.rows.joined(rows), np.concatenate((self._lasting, lasting))
        self.texts = pa.concat_arrays([self.texts, texts])
        stays = self._lasting > now_s
        stays[-KEPT_POSTS:] = True
        if not stays.all():
            index = np.flatnonzero(stays)
            self.rows, self._lasting = self.rows.take(index), self._lasting[index]
            self.texts = self.texts.take(pa.array(index))

    def burst_quota(self, bursts: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which posts are among the first of their burst and therefore stay as long as the burst does."""
        first = np.zeros(len(bursts), np.bool_)
        for burst in np.unique(bursts[bursts >= 0]):
            room = KEPT_PER_BURST - self._kept_of_burst.get(int(burst), 0)
            index = np.flatnonzero(bursts == burst)[:room]
            first[index] = True
            self._kept_of_burst[int(burst)] = KEPT_PER_BURST - room + len(index)
        return first
