"""The models that a server answers with, of which one may be replaced while it runs. Goes in: models, and the workspace's promotions. Comes
out: a mapping from names to models that every part of the server shares.

Who began an answer with the model before ends it with that: its engine lives as long as its streams. A model that was replaced is still
asked for by its old name, and the one that took its place answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agora.engine import LanguageModel
from agora.errors import AgoraError, UsageError
from agora.server.promotion import Promoted, Promotions

WATCH_S: Final = 1.0
log = logging.getLogger(__name__)


class Served(Mapping[str, LanguageModel]):
    """Names to models. Threads may share it."""

    def __init__(self, models: Sequence[LanguageModel], promoted: Promoted | None = None) -> None:
        """Raises UsageError for two models of one name."""
        if len({model.name for model in models}) != len(models):
            raise UsageError(f"models to serve must have names of their own, not {[model.name for model in models]}")
        self._state: tuple[dict[str, LanguageModel], Promoted | None] = ({model.name: model for model in models}, promoted)

    def __getitem__(self, name: str) -> LanguageModel:
        models, promoted = self._state
        if name not in models and promoted is not None and name in promoted.earlier_names and promoted.name in models:
            return models[promoted.name]
        return models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state[0])

    def __len__(self) -> int:
        return len(self._state[0])

    @property
    def promoted(self) -> Promoted | None:
        """The promotion that is served, if one is."""
        return self._state[1]

    def about(self, name: str) -> dict[str, Any]:
        """What /v1/models says beside OpenAI's fields."""
        promoted = self._state[1]
        if promoted is None or promoted.name != name:
            return {}
        others = [other for other in promoted.earlier_names if other != name]
        return {"promotion": {"number": promoted.number, "at": promoted.at, "by": promoted.by, "aliases": others}}

    def replace(self, model: LanguageModel, promoted: Promoted) -> None:
        """Serve `model` in the place of the one that was promoted before, or of the only one."""
        models, before = self._state
        gone = before.name if before is not None else next(iter(models), None)
        self._state = ({**{name: one for name, one in models.items() if name != gone}, model.name: model}, promoted)


class PromotionWatch:
    """Looks every second, and at once after `wake`, whether another model was promoted; loads it beside the one that answers and then
    puts it in its place. A model that cannot be loaded leaves the old one where it is, and the log says so."""

    def __init__(self, promotions: Promotions, served: Served, load: Callable[[Path, str], LanguageModel]) -> None:
        self._promotions, self._served, self._load = promotions, served, load
        self._woken, self._ended = threading.Event(), threading.Event()
        self._failed: object = None
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="promotions", daemon=True)

    def __enter__(self) -> PromotionWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._woken.set()
        self._thread.join()

    def wake(self) -> None:
        """Look now, also at a promotion that could not be loaded before."""
        self._failed, self._told = None, ""
        self._woken.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._woken.wait(WATCH_S)
            self._woken.clear()

    def look(self) -> bool:
        """Whether another model is served from now on."""
        try:
            now = self._promotions.current()
            before = self._served.promoted
            if now is None or now == self._failed or (before is not None and before.number == now.number):
                return False
            model = self._load(now.folder, now.name)
        except Exception as error:
            if str(error) != self._told:  # a damaged pointer is met again every second
                has_trace = not isinstance(error, (AgoraError, OSError))
                log.error("the promoted model cannot be served, the one before stays: %s", error, exc_info=has_trace)
            self._told, self._failed = str(error), self._promotions.current_or_none()
            return False
        self._told = ""
        self._served.replace(model, now)
        log.info("promotion %d is served: %s", now.number, now.name)
        return True
