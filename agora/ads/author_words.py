"""What authors write about, as counts of words. Goes in: the post store. Comes out: per author the words of some of their posts.

Reposts are others' words and are left out, as are links, mentions and function words. Words are folded by case only; how often a word is
written with a capital is kept, since names must not get into texts. Scripts without blanks give pairs of characters and runs of katakana.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import regex

from agora.ads.opt_outs import account_key, account_keys
from agora.ads.sensitive import any_sensitive, is_sensitive
from agora.ads.sensitive_groups import is_private_post
from agora.log import Progress, silent
from agora.posts.schema import REPOST
from agora.posts.store import PostStore
from agora.text.language import UNKNOWN, detect_languages, function_words
from agora.text.normalise import comparison_key

_LINK: Final = regex.compile(r"https?://\S+|www\.\S+|[@]\S+")
_WORD: Final = regex.compile(r"[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*")
_UNSPACED: Final = regex.compile(r"[\p{Han}]{2,}|[\p{Katakana}ー]{2,}")
_HAS_UNSPACED: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_BATCH: Final = 8_192
MIN_LETTERS: Final = 3


@dataclass(slots=True)
class AuthorWords:
    """One author. `languages`: posts per language; `num_sensitive`: posts that touch a sensitive topic (their words are not
    counted in `words`); `num_private`: posts whose words are about a private matter together; `all_words`: the words of all posts."""

    words: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    num_posts: int = 0
    num_sensitive: int = 0
    num_private: int = 0
    all_words: set[str] = field(default_factory=set)

    @property
    def language(self) -> str:
        """The language of most posts, 'und' where none is known."""
        known = [one for one in self.languages.most_common() if one[0] != UNKNOWN]
        return known[0][0] if known else UNKNOWN

    @property
    def sensitive_share(self) -> float:
        """Share of the posts that touch a sensitive topic, by one word or by several together."""
        return (self.num_sensitive + self.num_private) / self.num_posts if self.num_posts else 0.0


@dataclass(slots=True)
class Written:
    """All authors; how often a word stands with a capital and altogether, where a language has capitals; and how many of those who opted
    out are no author here."""

    authors: dict[str, AuthorWords] = field(default_factory=dict)
    capitals: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    num_unknown_opt_outs: int = 0

    def is_name(self, word: str) -> bool:
        """Whether a word is mostly written with a capital."""
        return self.capitals[word] * 2 > self.total[word]


def read_author_words(
    store: PostStore, *, opted_out: Collection[str] = (), posts_per_author: int = 50, min_posts: int = 2, progress: Progress = silent
) -> Written:
    """The words of every author with at least `min_posts` posts who has not opted out (names compared by `account_key`)."""
    written, seen = Written(), defaultdict[str, set[str]](set)
    keys = account_keys(opted_out)
    out: dict[str, bool] = {}
    with progress.step("reading posts", unit="posts") as step:
        for batch in store.scan(columns=["author", "text", "lang", "kind"], batch_rows=_BATCH):
            if keys:
                out |= {name: account_key(name) in keys for name in batch.column("author").unique().to_pylist() if name not in out}
            rows = [
                (author, text, lang)
                for author, text, lang, kind in zip(
                    *(batch.column(name).to_pylist() for name in ("author", "text", "lang", "kind")), strict=True
                )
                if kind != REPOST and not out.get(author) and text and len(seen[author]) < posts_per_author
            ]
            unknown = [text for _, text, lang in rows if not lang]
            guesses = iter(detect_languages(comparison_key(pa.array(unknown, pa.large_string()))).to_pylist() if unknown else ())
            for author, text, lang in rows:
                spoken = (lang or next(guesses) or UNKNOWN).split("-")[0]
                plain = _LINK.sub(" ", text)
                if plain not in seen[author] and len(seen[author]) < posts_per_author:
                    seen[author].add(plain)
                    _count(written, author, plain, spoken)
            step.advance(batch.num_rows)
    written.num_unknown_opt_outs = len(keys - {account_key(name) for name, is_out in out.items() if is_out})
    written.authors = {name: one for name, one in written.authors.items() if one.num_posts >= min_posts}
    return written


def _count(written: Written, author: str, text: str, language: str) -> None:
    one = written.authors.setdefault(author, AuthorWords())
    one.num_posts += 1
    one.languages[language] += 1
    raw = _WORD.findall(text)
    folded = [word.casefold().replace("’", "'") for word in raw]
    pieces = _pieces(text) if _HAS_UNSPACED.search(text) else folded
    one.all_words.update(word for word in pieces if word not in function_words())
    if any_sensitive(folded) or (_HAS_UNSPACED.search(text) and is_sensitive(text)):
        one.num_sensitive += 1
        return
    one.num_private += is_private_post(pieces, language)
    if _HAS_UNSPACED.search(text):
        one.words.update(pieces)
        return
    for at, (word, plain) in enumerate(zip(raw, folded, strict=True)):
        if len(plain) >= MIN_LETTERS and plain not in function_words():
            one.words[plain] += 1
            if at:
                written.total[plain] += 1
                written.capitals[plain] += word[0].isupper()


def _pieces(text: str) -> list[str]:
    found = []
    for run in _UNSPACED.findall(text):
        is_han = regex.match(r"\p{Han}", run) is not None
        found += [run[at : at + 2] for at in range(len(run) - 1)] if is_han else [run]
    return found


__all__ = ["AuthorWords", "Written", "read_author_words"]
