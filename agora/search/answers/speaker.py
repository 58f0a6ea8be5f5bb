"""Whose words a post holds. Goes in: an account, a text and the keys of a name. Comes out: whether the account is named so, or the text
tells what that person said.

An account is taken for Trump's when its name ends with the name and nothing before it denies that ("realDonaldTrump", not "NeverTrump" or
"trumpfan"). Not covered: who is behind an account; one with the name of somebody else passes, and the answer names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agora.search.answers.tokens import keys_of, split_sentences, stem, tokens, word_list

_SAYING: Final = word_list("say")
_NO_OWN: Final = word_list("no_own")
_LEAST: Final = 4
"""A shorter name must be the whole of an account's name."""
_NEAR: Final = 3


def is_by(author: str, name: Sequence[str]) -> bool:
    """Whether the account is named so."""
    plain = "".join(character for character in author.casefold().split("@")[0].split(".")[0] if character.isalnum())
    wanted = "".join(character for part in name for character in part if character.isalnum())
    if not wanted or not plain.endswith(wanted):
        return False
    before = plain.removesuffix(wanted)
    return not before or (len(wanted) >= _LEAST and not any(before.endswith(word) or before.startswith(word) for word in _NO_OWN))


def is_by_or_quotes(author: str, text: str, name: Sequence[str]) -> bool:
    """Whether the post is by such an account or tells what that person said."""
    return is_by(author, name) or any(_quotes(text[low:high], name) for low, high in split_sentences(text))


def _quotes(sentence: str, name: Sequence[str]) -> bool:
    """The name beside a word of saying, or before a colon."""
    found = tokens(sentence)
    last = stem(name[-1])
    places = [place for place, token in enumerate(found) if last in keys_of(token)]
    said = [place for place, token in enumerate(found) if token.key in _SAYING]
    told = any(0 < saying - place <= _NEAR or 0 < place - saying <= 2 for place in places for saying in said)
    return told or any(sentence[found[place].end :].lstrip().startswith(":") for place in places)
