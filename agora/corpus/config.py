"""What a corpus is made with. Every knob changes the corpus, so all of them are part of its fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from agora.errors import ConfigError
from agora.text.language_codes import ISO_639_1

NOT_STATED: Final = "not stated"


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """Defaults suit posts of a public platform. Characters are Unicode code points."""

    min_characters: int = 20
    max_characters: int = 20_000
    min_own_share: float = 0.2
    """Characters of words among all characters as posted, links and handles included."""
    min_word_share: float = 0.5
    """Characters of words (no links, handles, punctuation) among all characters of the post."""
    max_repeat_share: float = 0.3
    """Characters that repeat the one before, among all."""
    max_word_characters: int = 60
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes to keep; empty keeps all."""
    keep_unknown_language: bool = True
    reposts: Literal["drop", "once"] = "drop"
    """`once` keeps the reposted text one time, as a voice of its author; `drop` leaves it to the original, if that is there."""
    handles: Literal["keep", "mask", "pseudonym"] = "mask"
    pseudonym_salt: str = ""
    links: Literal["keep", "mask", "drop"] = "drop"
    mask_identifiers: bool = True
    """Emails, phone, card and account numbers, IP addresses."""
    exact_duplicates: bool = True
    near_duplicates: bool = True
    near_duplicate_jaccard: float = 0.7
    near_duplicate_min_words: int = 6
    num_bands: int = 8
    rows_per_band: int = 4
    coordinated: Literal["one_voice", "leave_out", "keep"] = "one_voice"
    """Accounts that the workspace's labels name as one campaign: count what they write as the writing of one account, leave out all
    of it and every labelled post, or keep everything."""
    threads: bool = True
    """Replies join the post they answer."""
    timeline_posts: int = 1
    """Posts of one author that no thread holds are joined, in order of time, into documents of up to this many; 1 leaves each by itself."""
    heldout_share: float = 0.01
    """Share of authors, or of posts, kept out of training."""
    heldout_by: Literal["author", "post"] = "author"
    """`post` is for exports of one or a few accounts, which leave nobody to hold out; it judges a model on people it has read."""
    seed: int = 0
    """Chooses the held-out authors and the order of documents."""
    posts_per_file: int = 200_000
    keep_dropped: bool = False
    """Write dropped.parquet with id, reason and text of every dropped post (deleted ones without text)."""
    licence: str = NOT_STATED

    def __post_init__(self) -> None:
        for name in ("min_own_share", "min_word_share", "max_repeat_share", "near_duplicate_jaccard", "heldout_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"CorpusConfig.{name}={getattr(self, name)} must be between 0 and 1")
        for name in ("num_bands", "rows_per_band", "posts_per_file", "near_duplicate_min_words", "max_word_characters", "timeline_posts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"CorpusConfig.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.min_characters <= self.max_characters:
            raise ConfigError(
                f"CorpusConfig.min_characters={self.min_characters} must be between 0 and max_characters={self.max_characters}"
            )
        if unknown := [code for code in self.languages if code not in ISO_639_1]:
            raise ConfigError(f"CorpusConfig.languages: {unknown[0]!r} is not an ISO 639-1 code; write two small letters such as 'en'")
        if self.near_duplicate_jaccard == 0:
            raise ConfigError(
                "CorpusConfig.near_duplicate_jaccard=0 would call any two posts the same; use near_duplicates=false to switch off"
            )
