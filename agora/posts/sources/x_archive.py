"""The archive that X gives an account's owner: monthly `YYYY_MM.js` (until 2018, `Grailbird.data.tweets_... = [...]`) and `tweets.js`
(since 2019, `window.YTD.tweets.part0 = [...]`, also tweet.js and community-tweet.js). `deleted-tweets.js` becomes deletions.

The newer tweets do not name their author: it is read from `account.js` beside them; without it from tweets that answer other tweets of
the same file (all of them are the owner's); else it is a name made from the file, and a warning says so.

Command: `agora posts import twitter-archive.zip`
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from agora.errors import RecordError, SourceError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import JsonArrays, convert_values, parse
from agora.posts.sources.record import Broken, Item, Skipped, make_deletion
from agora.posts.sources.source import Source
from agora.posts.sources.x_tweet import is_tweet, tweet_to_post

NAME: Final = "x_archive"
_PARTS: Final = re.compile(r"window\.YTD\.(\w+)\.part\d+\s*=\s*")
_MONTHS: Final = re.compile(r"Grailbird\.data\.tweets_\d{4}_\d\d\s*=")
_SIDE_FILES: Final = re.compile(r"var (?:tweet_index|user_details|payload_details)\s*=|window\.__THAR_CONFIG\s*=")
_TWEET_PARTS: Final = frozenset(["tweets", "tweet", "community_tweet"])
_OWNER_SCAN_TWEETS: Final = 20_000
"""Tweets searched for an answer to the owner's own tweets; a person's archive holds the first within a few hundred."""

log = logging.getLogger(__name__)


def recognise(head: Head) -> bool:
    """By the assignment that the file begins with."""
    return any(pattern.match(head.text) for pattern in (_PARTS, _MONTHS, _SIDE_FILES))


def read(file: SourceFile) -> Iterator[Item]:
    """One item per tweet."""
    text = file.head().text
    part = _PARTS.match(text)
    if _SIDE_FILES.match(text) or (part and part[1] not in _TWEET_PARTS and part[1] != "deleted_tweets"):
        yield Skipped("file of the archive without posts")
        return
    if part and part[1] == "deleted_tweets":
        convert: Callable[[Any], Item] = _deletion
    else:
        owner = _owner(file) if part else None
        convert = _converter(owner)
    with file.open() as stream:
        yield from convert_values(JsonArrays(stream, is_record=_is_record), convert)


def _is_record(value: Any) -> bool:
    return is_tweet(_unwrapped(value))


def _unwrapped(value: Any) -> Any:
    return value["tweet"] if isinstance(value, dict) and isinstance(value.get("tweet"), dict) else value


def _converter(owner: str | None) -> Callable[[Any], Item]:
    return lambda value: tweet_to_post(_unwrapped(value), source=NAME, author=owner)


def _deletion(value: Any) -> Item:
    return make_deletion("post", _unwrapped(value).get("id_str"))


def _owner(file: SourceFile) -> str:
    try:
        account = file.beside("account.js")
        if account:
            return str(parse(account.partition(b"=")[2])[0]["account"]["accountId"])
    except (RecordError, SourceError, KeyError, IndexError, TypeError) as error:
        log.warning("%s: account.js beside it cannot be read (%s); looking for the owner in the tweets", file.name, error)
    found = _owner_from_answers(file)
    if found:
        return found
    with file.open() as stream:
        name = "x-archive-" + hashlib.sha256(stream.read(4096)).hexdigest()[:16]
    log.warning("%s does not say whose archive it is (no account.js beside it); its author is called %s", file.name, name)
    return name


def _owner_from_answers(file: SourceFile) -> str | None:
    """Whoever is answered in an answer to a tweet of this file is its owner. Newest tweets come first, so answers are kept until found."""
    ids: set[str] = set()
    answered: dict[str, str] = {}
    with file.open() as stream:
        for number, value in enumerate(JsonArrays(stream, is_record=_is_record)):
            tweet = _unwrapped(value)
            if number >= _OWNER_SCAN_TWEETS:
                break
            if isinstance(value, Broken) or not isinstance(tweet, dict):
                continue
            ids.add(str(tweet.get("id_str")))
            if tweet.get("in_reply_to_status_id_str") and tweet.get("in_reply_to_user_id_str"):
                answered[str(tweet["in_reply_to_status_id_str"])] = str(tweet["in_reply_to_user_id_str"])
    owners = {answered[key] for key in ids & answered.keys()}
    return owners.pop() if len(owners) == 1 else None


SOURCE: Final = Source(NAME, "X archive: tweets.js or monthly YYYY_MM.js, as zip, folder or single file", recognise, read)
