"""Normal forms. Goes in: text as people typed it. Comes out: `normalise`, the text a model reads, and `comparison_key`, the
text that decides whether two posts say the same.

Policy: what a model reads is NFC, so that fullwidth letters, fractions and styled alphabets stay as written; only the
comparison key is NFKC and lower case, since styled letters are a way around duplicate detection. NFKC runs on rows that
are not ASCII, a column as one text: pyarrow 25.0.1 only decomposes (apache/arrow issue 51225), and one Python call per row
is what made corpora slow (docs/decisions/0002-tables-and-text.md).
"""

from __future__ import annotations

import unicodedata
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.text.codepoints import string_parts
from agora.text.columns import change_where, replace_matches

LINK: Final = r"(?i:https?://|www\.)\S+"
HANDLE: Final = r"@[\pL\pN_]+(?:[.\-][\pL\pN_]+)*(?:@[\pL\pN_]+(?:[.\-][\pL\pN_]+)*)?"

_SPACES: Final = r"[\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]"
_LINE_BREAKS: Final = r"[\x{85}\x{2028}\x{2029}]"
# Zero-width joiner and non-joiner stay: emoji, Persian and Indic scripts need them. Tag characters go: they can hide whole
# sentences, at the price of turning three subdivision flags into a black flag.
_INVISIBLE: Final = (
    r"[\x{80}-\x{9F}\x{AD}\x{34F}\x{61C}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{180B}-\x{180E}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}"
    r"\x{2060}-\x{206F}\x{3164}\x{FEFF}\x{FFA0}\x{FFF9}-\x{FFFB}\x{E0000}-\x{E0FFF}]"
)
_UNTIDY: Final = r"  | \n|\n |\n\n\n"
_IDEOGRAPH: Final = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"


def normalise(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """NFC, line breaks as \\n, other white space as single blanks, no control or invisible characters. Idempotent."""
    texts = change_where(texts, pc.invert(pc.string_is_ascii(texts)), _normalise_unicode)
    texts = change_where(texts, pc.match_substring_regex(texts, r"[\x00-\x09\x0B-\x1F\x7F]"), _normalise_controls)
    texts = change_where(texts, pc.match_substring_regex(texts, _UNTIDY), _tidy)
    return pc.ascii_trim(texts, " \n")


def _normalise_unicode(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    texts = replace_matches(texts, _LINE_BREAKS, "\n")
    texts = replace_matches(texts, _INVISIBLE, "")
    texts = replace_matches(texts, _SPACES, " ")
    return _unicode_form(texts, "NFC")


def _unicode_form(texts: pa.LargeStringArray, form: Literal["NFC", "NFKC"]) -> pa.LargeStringArray:
    """Normal form of a column. NUL parts the rows: it is a starter that composes with nothing, so rows do not touch."""
    if pc.any(pc.match_substring(texts, "\x00")).as_py():
        texts = pc.replace_substring(texts, "\x00", "")
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(texts)]), texts)
    joined = pc.binary_join(whole, pa.scalar("\x00", pa.large_string()))[0].as_py()
    if unicodedata.is_normalized(form, joined):
        return texts
    data = np.frombuffer(unicodedata.normalize(form, joined).encode(), dtype=np.uint8)
    ends = np.append(np.flatnonzero(data == 0), len(data))
    starts = np.append(0, ends - np.arange(len(ends)))
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(starts), pa.py_buffer(data[data != 0]))


def _normalise_controls(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    texts = pc.replace_substring_regex(texts, r"\r\n?|\x0B|\x0C", "\n")
    texts = pc.replace_substring(texts, "\t", " ")
    return pc.replace_substring_regex(texts, r"[\x00-\x08\x0E-\x1F\x7F]", "")


def _tidy(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    texts = pc.replace_substring_regex(texts, " +", " ")
    texts = pc.replace_substring_regex(texts, " ?\n ?", "\n")
    return pc.replace_substring_regex(texts, "\n{3,}", "\n\n")


def comparison_key(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Words in lower case, one blank between them; links, handles, punctuation and symbols gone, NFKC. Scripts that do not
    part their words have a blank after each character. Two posts with equal keys say the same."""
    texts = replace_matches(texts, LINK, " ")
    texts = replace_matches(texts, HANDLE, " ")
    is_ascii = pc.string_is_ascii(texts)
    if is_ascii.true_count == len(texts):
        return _ascii_key(texts)
    plain = change_where(texts, pc.invert(is_ascii), _unicode_key)
    return _ascii_key(plain)


def _unicode_key(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    texts = _unicode_form(pc.utf8_lower(_unicode_form(texts, "NFKC")), "NFKC")
    texts = pc.replace_substring_regex(texts, r"[^\pL\pN\pM]+", " ")
    return replace_matches(texts, _IDEOGRAPH, r" \1 ")


def _key_bytes() -> npt.NDArray[np.uint8]:
    table = np.full(256, ord(" "), dtype=np.uint8)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            table[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
    return table


_KEY_BYTES: Final = _key_bytes()


def _ascii_key(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Lower case, ASCII punctuation as blanks, blanks collapsed and trimmed; bytes from 0x80 on pass."""
    offsets, raw = string_parts(texts)
    mapped = _KEY_BYTES[raw]
    is_word = mapped != ord(" ")
    keep = is_word.copy()
    keep[1:] |= is_word[:-1]  # one blank after a word
    begins = offsets[:-1][np.diff(offsets) > 0]
    keep[begins] = is_word[begins]
    kept_before = np.zeros(len(raw) + 1, dtype=np.int64)
    np.cumsum(keep, out=kept_before[1:])
    starts = kept_before[offsets]
    data = mapped[keep]
    return pc.ascii_rtrim(pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(starts), pa.py_buffer(data)), " ")
