"""Privacy masking: what identifies a person in the text of a post, replaced by a name in brackets.

Covered: email addresses; phone numbers in international (+49 ..., 0049 ...), North American and trunk-prefix (0151 ...)
form, and digits after a word such as "call"; IBANs and payment cards with a valid checksum; IPv4 and IPv6 addresses;
handles by policy. A number without such a form or checksum stays: dates, prices, scores and ids are what posts are about.

Not covered: names, street addresses, birth dates, licence plates, national identity numbers, account numbers other than
IBAN, phone numbers written as bare digits or as words, lower-case IBANs with blanks, anything inside images. A pseudonym
hides a handle from readers, not from whoever has the salt or can match the texts.

Digits of other scripts, fullwidth and styled signs count as the plain sign that they are a form of; what is not masked
stays as written. A number in the form of a phone number is masked whatever it counts ("vote 020 1234567 times"): the
words around it do not tell reliably, and a masked count costs a model nothing while a passed number costs a person.

Cost: rows are preselected by column-wide patterns; only the few that may hold an
identifier are looked at one by one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.corpus.config import CorpusConfig
from agora.text.columns import change_where, replace_matches
from agora.text.normalise import HANDLE, LINK

EMAIL, PHONE, CARD, IBAN, IP, HANDLES, LINKS = "email", "phone", "card", "iban", "ip_address", "handle", "link"
MASK_KINDS: Final = (EMAIL, PHONE, CARD, IBAN, IP, HANDLES, LINKS)
HANDLE_MASK: Final = "@user"
LINK_MASK: Final = "[link]"

_CANDIDATE: Final = (
    r"[\pL\pN]@[\pL\pN_\-]+\.\pL|[0-9](?:[ ().\-/]{0,3}[0-9]){6}|[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
    r"|[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{4} ?[A-Za-z0-9]{4}|[0-9A-Fa-f]:[0-9A-Fa-f:]*:"
)
_WIDE_AT: Final = r"[\x{FF20}\x{FE6B}]"
_DASHES: Final = dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
_STYLED: Final = (  # signs that have a plain form: digits and numbers of all kinds, fullwidth and small forms, styled letters, dashes
    r"[^\PN0-9]|[\x{FE50}-\x{FE6B}\x{FF01}-\x{FF5E}\x{1D400}-\x{1D7FF}\x{2460}-\x{24FF}\x{1F100}-\x{1F189}"
    r"\x{2000}-\x{2013}\x{2024}\x{202F}\x{205F}\x{2070}-\x{209C}\x{2100}-\x{214F}\x{2212}\x{A0}\x{AA}\x{BA}\x{17F}\x{2B0}-\x{2E3}"
    r"\x{37E}\x{1D2C}-\x{1DBB}\x{1FEF}\x{2C7C}\x{2C7D}\x{3000}\x{A7F2}-\x{A7F4}\x{FB29}\x{FE10}-\x{FE4F}\x{107A5}]"
)
_EMAIL: Final = re.compile(r"(?<![\w.+%@-])[\w.+%-]+@(?:[\w-]+\.)+[^\W\d_]{2,24}(?![\w@-])")
_IBAN: Final = re.compile(
    r"(?<!\w)(?:[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?|[a-z]{2}\d{2}[a-z0-9]{11,30})(?!\w)", re.ASCII
)
_CARD: Final = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){13,15}(?![\w-]|\.\d)")
_IPV4: Final = re.compile(r"(?<![\w.])(?<!version )(?<!Version )\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6: Final = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|[0-9A-Fa-f]{1,4})(?::?[0-9A-Fa-f]{1,4})*(?![\w:])")
_PHONE: Final = re.compile(
    r"(?<![\w.+/-])(?<!\d )(?:"
    r"\+(?!1[ ().\-/]{0,2}[01])\d(?:[ ().\-/]{0,2}\d){7,14}"  # international; North American area codes begin with 2 to 9
    r"|00[1-9]\d?(?:[ ().\-/]{0,2}\d){7,12}"
    r"|(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]{1,2}[2-9]\d{2}[ .-]\d{4}"  # North American numbering plan
    r"|\(?0[1-9]\d{1,4}\)?[ /-]{1,3}\d{3,}(?:[ -]\d{2,}){0,3}"  # trunk prefix, checked for length
    r")(?![\w-]|[.,:/]\d)"
)
_CALL: Final = re.compile(
    r"(?i)(\b(?:call|phone|tel|telephone|mobile|cell|whatsapp|sms|text me(?: at)?|ring|fon|telefon|handy|mobil|тел)\b[.:]?\s{0,2}"
    r"(?:me |us |at |on |nr\.? |no\.? ){0,2})(\d(?:[ .-]?\d){6,13})(?![\w-]|[.,:/]\d)"
)
_CHAT_LINK: Final = re.compile(r"(\bwa\.me/\+?)(\d{7,15})(?!\w)")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}|(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
_CARD_PREFIX: Final = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6011|65|35|30|36|38")
_IBAN_LENGTHS: Final = range(15, 35)
_MIN_TRUNK_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Masked:
    """Texts after masking, and for each kind of MASK_KINDS how many were replaced per row."""

    texts: pa.LargeStringArray
    counts: dict[str, npt.NDArray[np.uint16]]


def mask_text(text: str) -> tuple[str, dict[str, int]]:
    """Mask the identifiers of one text (not handles or links); the slow, obvious part of `mask`."""
    reading = _Reading(text)
    reading.mask(_EMAIL, EMAIL)
    reading.mask(_IBAN, IBAN, _is_iban)
    reading.mask(_CARD, CARD, _is_card)
    reading.mask(_IPV4, IP, _is_ip)
    reading.mask(_IPV6, IP, _is_ip)
    reading.mask(_PHONE, PHONE, _is_phone)
    reading.mask(_CALL, PHONE, lambda number: not _DATE.fullmatch(number), group=2)
    reading.mask(_CHAT_LINK, PHONE, group=2)
    return reading.text, reading.counts


class _Plain(dict[int, str]):
    """For `str.translate`: every sign as the ASCII sign that it is a form of (fullwidth, styled, another script's digit), or as itself.
    One sign for one sign, so that places in a text stay."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        digit = unicodedata.decimal(sign, None)
        plain = unicodedata.normalize("NFKC", sign) if digit is None else str(digit)
        self[code] = _DASHES.get(sign) or (plain if len(plain) == 1 and plain.isascii() else sign)
        return self[code]


_PLAIN: Final = _Plain()


class _Reading:
    """A text, and `view`, the same in plain signs, in which the patterns look."""

    def __init__(self, text: str) -> None:
        self.text, self.view = text, text if text.isascii() else text.translate(_PLAIN)
        self.counts = dict.fromkeys((EMAIL, IBAN, CARD, IP, PHONE), 0)

    def mask(self, pattern: re.Pattern[str], kind: str, is_one: Callable[[str], bool] = bool, *, group: int = 0) -> None:
        """Put `[kind]` in the place of every `group` of `pattern` that `is_one`."""
        spans = [match.span(group) for match in pattern.finditer(self.view) if is_one(match[group])]
        self.counts[kind] += len(spans)
        if spans:
            self.text, self.view = _replaced(self.text, spans, f"[{kind}]"), _replaced(self.view, spans, f"[{kind}]")


def _replaced(text: str, spans: list[tuple[int, int]], mask: str) -> str:
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return mask.join(text[start:end] for start, end in zip(starts, ends, strict=True))


def mask(texts: pa.LargeStringArray, config: CorpusConfig) -> Masked:
    """Apply the policy of `config` to a column."""
    counts = {kind: np.zeros(len(texts), dtype=np.uint16) for kind in MASK_KINDS}
    texts = _mask_links(texts, config, counts[LINKS])
    if config.mask_identifiers:
        texts = _mask_identifiers(texts, counts)
    return Masked(_mask_handles(texts, config, counts[HANDLES]), counts)


def _mask_identifiers(texts: pa.LargeStringArray, counts: dict[str, npt.NDArray[np.uint16]]) -> pa.LargeStringArray:
    views = change_where(texts, pc.match_substring_regex(texts, _STYLED), _plain_column)
    rows = np.flatnonzero(np.asarray(pc.match_substring_regex(views, _CANDIDATE)))
    if not len(rows):
        return texts
    changed = []
    for row, text in zip(rows, texts.take(pa.array(rows)).to_pylist(), strict=True):
        text, found = mask_text(text)
        changed.append(text)
        for kind, number in found.items():
            counts[kind][row] = min(number, np.iinfo(np.uint16).max)
    chosen = np.zeros(len(texts), dtype=np.bool_)
    chosen[rows] = True
    return pc.replace_with_mask(texts, pa.array(chosen), pa.array(changed, type=pa.large_string()))


def _plain_column(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    return pa.array([text.translate(_PLAIN) for text in texts.to_pylist()], type=pa.large_string())


def _mask_links(texts: pa.LargeStringArray, config: CorpusConfig, counts: npt.NDArray[np.uint16]) -> pa.LargeStringArray:
    if config.links == "keep":
        return texts
    has = pc.match_substring_regex(texts, LINK)
    counts[np.asarray(has)] = np.asarray(pc.count_substring_regex(texts.filter(has), LINK))
    if config.links == "mask":
        return change_where(texts, has, lambda rows: pc.replace_substring_regex(rows, LINK, LINK_MASK))

    def drop(rows: pa.LargeStringArray) -> pa.LargeStringArray:
        rows = pc.replace_substring_regex(rows, rf" ?{LINK}", "")
        return pc.ascii_trim(pc.replace_substring_regex(rows, "\n{3,}", "\n\n"), " \n")

    return change_where(texts, has, drop)


def _mask_handles(texts: pa.LargeStringArray, config: CorpusConfig, counts: npt.NDArray[np.uint16]) -> pa.LargeStringArray:
    if config.handles == "keep":
        return texts
    bordered = rf"(^|[^\pL\pN_/@])(?:{HANDLE})"
    texts = replace_matches(texts, rf"{_WIDE_AT}([\pL\pN_])", r"@\1")
    has = pc.match_substring(texts, "@")
    found = np.asarray(pc.count_substring_regex(texts.filter(has), bordered))
    counts[np.asarray(has)] = found
    if config.handles == "mask":
        return change_where(texts, has, lambda rows: pc.replace_substring_regex(rows, bordered, rf"\1{HANDLE_MASK}"))
    names: dict[str, str] = {}

    def pseudonyms(rows: pa.LargeStringArray) -> pa.LargeStringArray:
        changed = [_HANDLE.sub(lambda match: _pseudonym(match[0], config.pseudonym_salt, names), text) for text in rows.to_pylist()]
        return pa.array(changed, type=pa.large_string())

    return change_where(texts, has, pseudonyms)


_HANDLE: Final = re.compile(r"(?<![\w/@])@\w+(?:[.\-]\w+)*(?:@\w+(?:[.\-]\w+)*)?")


def _pseudonym(handle: str, salt: str, known: dict[str, str]) -> str:
    """The same handle gets the same name in the whole corpus; 40 bits of a keyed hash."""
    key = handle.lower()
    if key not in known:
        digest = hashlib.blake2b(key.encode(), key=salt.encode()[:64], digest_size=5)
        known[key] = f"@user_{digest.hexdigest()}"
    return known[key]


def _is_iban(text: str) -> bool:
    """ISO 13616: letters as two digits, the first four characters last, remainder 1 modulo 97."""
    compact = text.replace(" ", "")
    if len(compact) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    """A known issuer prefix and a valid Luhn check digit (ISO/IEC 7812-1). Platform ids are longer than 16 digits."""
    digits = [int(character) for character in text if character.isdigit()]
    if not _CARD_PREFIX.match("".join(map(str, digits))):
        return False
    doubled = [digit if index % 2 else sum(divmod(2 * digit, 10)) for index, digit in enumerate(reversed(digits), start=1)]
    straight = [digit for index, digit in enumerate(reversed(digits)) if index % 2 == 0]
    return (sum(straight) + sum(d for index, d in enumerate(doubled, start=1) if index % 2 == 0)) % 10 == 0


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    if _DATE.fullmatch(text):
        return False
    digits = sum(character.isdigit() for character in text)
    is_trunk = text.lstrip("(").startswith("0") and not text.startswith("00")
    return not is_trunk or _MIN_TRUNK_DIGITS <= digits <= 13
