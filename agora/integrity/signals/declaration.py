"""What a signal declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from agora.integrity.batch import Keys, PostBatch

Role = Literal["amplified", "written"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One way in which accounts can do the same.

    id            short name, part of every result
    version       raised when the same posts would give other keys; results of other versions are not mixed
    why           plain words: why two accounts that share it may act together
    inputs        columns of POST_SCHEMA that it reads
    outputs       what one key stands for
    nouns         what one key and several are called in a sentence
    false_alarms  known innocent reasons for sharing it
    organic_bursts  for windows in seconds, the highest share of bursts that organic groups reach, rounded up
                  (benchmarks/integrity_organic.py); in a window that is not named the signal is no evidence of a burst
    role          `amplified`: others' material passed on, which interest alone explains; `written`: their own words or links
    keys          the artefacts of a batch of posts
    recurs        an artefact is pushed again and again: each episode is looked at, in every window, instead of its whole life
    bands         a post with several keys of this signal joins all posts that share one of them (near duplicates)
    surges        keys are words; a post joins those that use one of its words while far more accounts do than usual
    optional      runs only when asked for, since it costs more
    """

    id: str
    version: int
    why: str
    inputs: tuple[str, ...]
    outputs: str
    nouns: tuple[str, str]
    false_alarms: tuple[str, ...]
    role: Role
    keys: Callable[[PostBatch], Keys]
    organic_bursts: Mapping[int, float]
    recurs: bool = False
    bands: bool = False
    surges: bool = False
    optional: bool = False
