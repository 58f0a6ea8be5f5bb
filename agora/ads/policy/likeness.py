"""What a text is near to in meaning. Goes in: English texts. Comes out: the rule whose violations they resemble, with a probability.

Rules know words; this knows sentences: MiniLM vectors (extra `minilm`, agora/text/minilm.py) and a logistic model over the rules and
"nothing", learnt from ads written for it (`python -m benchmarks ads_policy --learn`), stored in data/meaning.json. Without the
extra nothing is found here. What is found is for a person to see, never blocked by itself.

Not covered: languages other than English (MiniLM is English: 43% of clean ads in others were found), numbers, shouting.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.ads.policy.rules import SPECIAL
from agora.text import minilm

CLEAN: Final = "-"
LANGUAGE: Final = "en"
LEAST: Final = 0.92
"""Probability of breaking any rule from which a text is shown to a person: of 471 clean ads that were not learnt from 1% are above it, and
63% of 292 violating ones."""
LEAST_SPECIAL: Final = 0.5
"""Probability of all special categories together from which the likeliest of them holds: 3% of the clean ads, 74% of 137 special ones."""
LEAST_OTHER: Final = 0.25
"""Probability from which a further special category holds beside the nearest."""
LIKENESS_REASON: Final = "In meaning near to texts that break the rule {rule!r}, though no rule knows its words: a person has to look."
FILE: Final = "meaning.json"
_PENALTY: Final = 10.0


@dataclass(frozen=True, slots=True)
class Meaning:
    """Class names, weights (classes x dimensions) and offsets of the logistic model."""

    classes: tuple[str, ...]
    weights: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]

    def of(self, vector: npt.NDArray[np.float64]) -> dict[str, float]:
        """The probability of each class for one vector."""
        scores = self.weights @ vector + self.offsets
        shares = np.exp(scores - scores.max())
        return {name: float(share) for name, share in zip(self.classes, shares / shares.sum(), strict=True)}


def is_available(language: str) -> bool:
    """Whether texts of this language can be looked at here."""
    return language == LANGUAGE and minilm.is_installed()


@functools.lru_cache(maxsize=4096)
def meaning_of(text: str) -> Mapping[str, float]:
    """Probabilities of rules, special categories and CLEAN. Raises MissingExtraError without the extra."""
    import pyarrow as pa

    vector = np.asarray(_model().vectors(pa.array([text])), dtype=np.float64)[0]
    return _learnt().of(vector)


def special_of(statements: Sequence[str]) -> str | None:
    """The special category that the English statements of a brief, read as one text, are near to; None where this is not likely enough.
    Of 12 briefs of ordinary things one was found (a holiday cabin, as housing), of 6 special ones in unusual words all."""
    probabilities = meaning_of(". ".join(statements))
    special = [name for name in probabilities if name.startswith(f"{SPECIAL}:")]
    if sum(probabilities[name] for name in special) < LEAST_SPECIAL:
        return None
    return max(special, key=lambda name: probabilities[name]).removeprefix(f"{SPECIAL}:")


def said_of(languages: Sequence[str]) -> str:
    """For people: whether special categories are looked for by meaning too."""
    if LANGUAGE not in languages:
        return "off: it knows English only; rules alone"
    return "on" if is_available(LANGUAGE) else f"off: rules alone (pip install 'agora[{minilm.EXTRA}]' adds likeness in meaning)"


def nearest_rule(probabilities: Mapping[str, float]) -> str | None:
    """The likeliest rule, where breaking one is likely enough; a special category needs less."""
    special = [name for name in probabilities if name.startswith(f"{SPECIAL}:")]
    if 1 - probabilities[CLEAN] >= LEAST:
        return max((name for name in probabilities if name != CLEAN), key=lambda name: probabilities[name])
    if sum(probabilities[name] for name in special) >= LEAST_SPECIAL:
        return max(special, key=lambda name: probabilities[name])
    return None


def learn(examples: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What data/meaning.json holds. `examples`: rule (or CLEAN) and text."""
    import pyarrow as pa
    from sklearn.linear_model import LogisticRegression

    vectors = np.asarray(_model().vectors(pa.array([text for _, text in examples])), dtype=np.float64)
    model = LogisticRegression(C=_PENALTY, max_iter=3000, class_weight="balanced").fit(vectors, [rule for rule, _ in examples])
    return {
        "model": minilm.PACKAGE, "num_examples": len(examples), "classes": [str(name) for name in model.classes_],
        "weights": [[round(float(one), 3) for one in row] for row in model.coef_],
        "offsets": [round(float(one), 3) for one in model.intercept_],
    }  # fmt: skip


@functools.cache
def _model() -> Any:
    return minilm.load_minilm()


@functools.cache
def _learnt() -> Meaning:
    table = json.loads(files("agora.ads.policy").joinpath(f"data/{FILE}").read_text(encoding="utf-8"))
    return Meaning(tuple(table["classes"]), np.array(table["weights"]), np.array(table["offsets"]))


__all__ = [
    "CLEAN",
    "LEAST_OTHER",
    "LIKENESS_REASON",
    "Meaning",
    "is_available",
    "learn",
    "meaning_of",
    "nearest_rule",
    "said_of",
    "special_of",
]
