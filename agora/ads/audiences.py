"""Audiences found in what people write. Goes in: the post store and its voices. Comes out: interests with a label; none that is too small,
none that is nobody's business.

    found = find_audiences(store, voices)
    found.audiences, found.withheld

Authors of one language are grouped by k-means on their words, and on the meaning of these where the extra `minilm` is installed
(author_vectors.py), weighed by voice (a campaign of N accounts counts once). Labels are class-based TF-IDF (Grootendorst, "BERTopic", 2022,
eq. 1). What is shown:
- only audiences of at least `min_voices` voices (never below 50) and terms that so many of its voices use, both by counts with noise and
  rounded down to tens (counts.py): one person's coming or going shows at most where a rounding edge happens to lie that day;
- none whose members touch a sensitive topic (sensitive.py) in more than `sensitive_share` of their posts, nor with such a term;
- none whose terms are about a private matter together, though each is ordinary (sensitive_groups.py);
- none in a language without a list of sensitive words; nobody who has opted out or deleted their account.
What is withheld is counted by reason and not described.

Not covered: who compares many days averages the noise out and may learn that some authors came or went; topics that no list names.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from agora.ads.author_vectors import Method, author_vectors
from agora.ads.author_words import AuthorWords, Written, read_author_words
from agora.ads.counts import Counts
from agora.ads.opt_outs import account_key, account_keys
from agora.ads.sensitive import any_sensitive, is_sensitive, known_languages
from agora.ads.sensitive_groups import private_matter
from agora.errors import ConfigError, DataError, UsageError
from agora.integrity.voice import Voices, count_voices, voice_weights
from agora.log import Progress, silent
from agora.posts.store import PostStore

log = logging.getLogger(__name__)

TOO_SMALL: Final = "fewer voices than allowed"
SENSITIVE: Final = "sensitive topic"
NO_LIST: Final = "language without a list of sensitive words"
NO_TERMS: Final = "no term that enough voices share"
_LEAST_VOICES: Final = 50
_MOST_SENSITIVE: Final = 0.15
"""Of the posts of a group that is shown, so many at most may touch what is private."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceConfig:
    """`num_clusters` None: one per `voices_per_cluster` voices of a language. `method`: by `words`, by `meaning` too, or `auto`: by
    meaning where MiniLM is installed. What protects people, `min_voices` and `sensitive_share`, can only be made stricter."""

    min_voices: int = 50
    sensitive_share: float = _MOST_SENSITIVE
    num_clusters: int | None = None
    voices_per_cluster: int = 120
    max_clusters: int = 60
    num_terms: int = 12
    posts_per_author: int = 50
    min_posts: int = 2
    method: Method = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_voices < _LEAST_VOICES:
            raise ConfigError(
                f"ads.min_voices={self.min_voices} is below {_LEAST_VOICES}: people could be recognised; give {_LEAST_VOICES} or more"
            )
        if not 0 <= self.sensitive_share <= _MOST_SENSITIVE:
            raise ConfigError(f"ads.sensitive_share={self.sensitive_share} must be from 0 to {_MOST_SENSITIVE}; it can be made stricter")
        for name in ("num_clusters", "voices_per_cluster", "max_clusters", "num_terms", "posts_per_author", "min_posts"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"ads.{name}={value} must be 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """`num_authors` has noise and is rounded down to tens (counts.py).

    `members` are for delivery inside the platform only: no record, report or export has them.
    """

    id: str
    label: str
    terms: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Terms mostly written with a capital: shown to the advertiser, never put into a text."""
    num_authors: int
    language: str
    is_lookalike: bool = False
    members: tuple[str, ...] = field(repr=False, default=())

    def record(self) -> dict[str, Any]:
        """As JSON, without members."""
        return {
            "id": self.id, "label": self.label, "terms": list(self.terms), "names": list(self.names), "num_authors": self.num_authors,
            "language": self.language, "is_lookalike": self.is_lookalike,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What may be shown, the largest first, how many groups may not, by reason, and how many who opted out are no author here."""

    audiences: tuple[Audience, ...]
    withheld: dict[str, int]
    num_unknown_opt_outs: int = 0


def find_audiences(
    store: PostStore, voices: Voices | None = None, *, config: AudienceConfig | None = None, opted_out: Collection[str] = (),
    counts: Counts | None = None, progress: Progress = silent,
) -> Found:  # fmt: skip
    """The interests of a store's authors. Raises MissingExtraError without scikit-learn."""
    chosen, speakers, seen = config or AudienceConfig(), voices or Voices(), counts or Counts()
    written = _read(store, chosen, opted_out, progress)
    by_language: dict[str, list[str]] = defaultdict(list)
    for name, author in written.authors.items():
        by_language[author.language].append(name)
    withheld: Counter[str] = Counter()
    audiences: list[Audience] = []
    with progress.step("grouping authors", total=len(by_language), unit="languages") as step:
        for language, names in sorted(by_language.items()):
            step.advance()
            if language not in known_languages():
                withheld[NO_LIST] += 1
            elif seen.seen(count_voices(names, speakers), language) >= chosen.min_voices:
                for group in _groups(written, sorted(names), speakers, language, chosen):
                    result = _shown(group, written, sorted(names), speakers, language, chosen, seen)
                    if isinstance(result, Audience):
                        audiences.append(result)
                    else:
                        withheld[result] += 1
            else:
                withheld[TOO_SMALL] += 1
    return Found(tuple(sorted(audiences, key=lambda one: (-one.num_authors, one.id))), dict(withheld), written.num_unknown_opt_outs)


def lookalikes(
    store: PostStore, seeds: Iterable[str], voices: Voices | None = None, *, size: int = 1_000, config: AudienceConfig | None = None,
    opted_out: Collection[str] = (), counts: Counts | None = None, progress: Progress = silent,
) -> Audience:  # fmt: skip
    """The authors whose words are nearest to those of a list. Not allowed for special categories: see policy.

    Raises UsageError when the list has too few voices, DataError when it is about a sensitive topic or nobody is like it.
    """
    chosen, speakers, seen = config or AudienceConfig(), voices or Voices(), counts or Counts()
    written = _read(store, chosen, opted_out, progress)
    wanted = account_keys(seeds)
    known = sorted(name for name in written.authors if account_key(name) in wanted)
    if seen.seen(count_voices(known, speakers), "list") < chosen.min_voices:
        raise UsageError(f"the list has fewer than {chosen.min_voices} voices that write here, or too few more; give a longer one")
    voice = voice_weights(known, speakers)
    if _sensitive_share([written.authors[name] for name in known], [voice[name] for name in known]) > chosen.sensitive_share:
        raise DataError("the list is about a sensitive topic: no audience is made like it")
    language = Counter(written.authors[name].language for name in known).most_common(1)[0][0]
    if language not in known_languages():
        raise DataError(f"the list writes in {language!r}, for which there is no list of sensitive words: no audience is made like it")
    names = sorted(name for name, one in written.authors.items() if one.language == language)
    vectors = author_vectors(written, names, speakers, language, method=chosen.method, seed=chosen.seed)
    place = {name: row for row, name in enumerate(names)}
    listed = [name for name in known if name in place]
    rows = [place[name] for name in listed]
    scores = vectors.likeness(rows, [voice[name] for name in listed])
    scores[rows] = -1.0
    near = [names[row] for row in np.argsort(-scores, kind="stable") if scores[row] > 0]
    near = [name for name in near if written.authors[name].sensitive_share <= chosen.sensitive_share][:size]
    result = _shown(near, written, names, speakers, language, chosen, seen, is_lookalike=True)
    if not isinstance(result, Audience):
        raise DataError(f"no audience like the list can be shown: {result}")
    return result


def _read(store: PostStore, config: AudienceConfig, opted_out: Collection[str], progress: Progress) -> Written:
    written = read_author_words(
        store, opted_out=opted_out, posts_per_author=config.posts_per_author, min_posts=config.min_posts, progress=progress
    )
    if written.num_unknown_opt_outs:
        total = len(account_keys(opted_out))
        log.warning("%d of %d accounts that opted out match no author of these posts", written.num_unknown_opt_outs, total)
    return written


def _groups(written: Written, names: Sequence[str], speakers: Voices, language: str, config: AudienceConfig) -> list[list[str]]:
    """Authors by interest."""
    points = author_vectors(written, names, speakers, language, method=config.method, seed=config.seed).points(config.seed)
    from sklearn.cluster import KMeans

    weights = voice_weights(names, speakers)
    rows = np.flatnonzero(points.any(axis=1)).tolist()
    wanted = config.num_clusters or min(config.max_clusters, max(2, count_voices(names, speakers) // config.voices_per_cluster))
    number = min(wanted, len(np.unique(points[rows].round(5), axis=0)))
    if number < 1:
        return []
    model = KMeans(number, n_init=4, random_state=config.seed)
    labels = model.fit_predict(points[rows], sample_weight=np.array([weights[names[row]] for row in rows]))
    found: dict[int, list[str]] = defaultdict(list)
    for row, label in zip(rows, labels, strict=True):
        found[int(label)].append(names[int(row)])
    return [found[label] for label in sorted(found)]


def _shown(
    members: Sequence[str], written: Written, everybody: Sequence[str], speakers: Voices, language: str, config: AudienceConfig,
    counts: Counts, *, is_lookalike: bool = False,
) -> Audience | str:  # fmt: skip
    """The audience that `members` are, or why it is not shown."""
    voices = count_voices(members, speakers)
    judged = _judged_terms(members, written, everybody, speakers)
    group = f"{language}|{is_lookalike}|{' '.join(sorted(judged[:5]))}"
    num_seen = counts.seen(voices, group)
    if num_seen < config.min_voices:
        return TOO_SMALL
    weights = voice_weights(members, speakers)
    share = _sensitive_share([written.authors[name] for name in members], [weights[name] for name in members])
    if share > config.sensitive_share:
        return SENSITIVE
    if private_matter(judged, language):
        return SENSITIVE
    ranked = _ranked_terms(
        members, written, everybody, speakers, lambda users, term: counts.seen(users, f"{group}|{term}") >= config.min_voices
    )
    if any(any_sensitive([term]) or is_sensitive(term) for term in ranked[: config.num_terms]):
        return SENSITIVE
    terms = [term for term in ranked if not any_sensitive([term])][: config.num_terms]
    if not terms:
        return NO_TERMS
    plain = tuple(term for term in terms if not written.is_name(term))
    digest = hashlib.sha256(f"{language}|{is_lookalike}|{' '.join(sorted(terms))}".encode()).hexdigest()[:8]
    first = (plain or tuple(terms))[:3]
    return Audience(
        id="-".join(["like" if is_lookalike else "interest", language, digest]), label=", ".join(first), terms=plain,
        names=tuple(term for term in terms if written.is_name(term)), num_authors=num_seen, language=language,
        is_lookalike=is_lookalike, members=tuple(sorted(set(members) - speakers.labelled)),
    )  # fmt: skip


def _sensitive_share(authors: Sequence[AuthorWords], weights: Sequence[float] | None = None) -> float:
    shares = np.array([author.sensitive_share for author in authors])
    return float(np.average(shares, weights=weights)) if len(shares) else 0.0


def _ranked_terms(
    members: Sequence[str], written: Written, everybody: Sequence[str], speakers: Voices, is_enough: Callable[[int, str], bool]
) -> list[str]:
    """Terms by class-based TF-IDF: log(1 + A / f) * tf, here with voices instead of occurrences, so that nobody's zeal counts."""
    inside, outside = _voices_by_term(members, written, speakers), _voices_by_term(everybody, written, speakers)
    num_inside, num_all = count_voices(members, speakers), count_voices(everybody, speakers)
    scores = {
        term: users / num_inside * np.log(1 + (users / num_inside) / (outside[term] / num_all))
        for term, users in inside.items()
        if is_enough(users, term)
    }
    lift = {term: (inside[term] / num_inside) / (outside[term] / num_all) for term in scores}
    alone = num_inside == num_all
    return sorted((term for term in scores if alone or lift[term] > 1.2), key=lambda term: (-scores[term], term))


def _judged_terms(members: Sequence[str], written: Written, everybody: Sequence[str], speakers: Voices) -> list[str]:
    """Terms by which a group is judged, never shown: those of a tenth of its voices, of all posts, the most telling first."""
    inside = _voices_by_term(members, written, speakers, of_all_posts=True)
    outside = _voices_by_term(everybody, written, speakers, of_all_posts=True)
    num_inside, num_all = count_voices(members, speakers), count_voices(everybody, speakers)
    scores = {
        term: users / num_inside * np.log(1 + (users / num_inside) / (outside[term] / num_all))
        for term, users in inside.items()
        if users * 10 >= num_inside
    }
    return sorted(scores, key=lambda term: (-scores[term], term))


def _voices_by_term(names: Sequence[str], written: Written, speakers: Voices, *, of_all_posts: bool = False) -> dict[str, int]:
    users: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name in names:
        voice = speakers.of(name)
        for word in written.authors[name].all_words if of_all_posts else written.authors[name].words:
            users[word].add(voice)
    return {word: len(some) for word, some in users.items()}


__all__ = ["Audience", "AudienceConfig", "Found", "find_audiences", "lookalikes"]
