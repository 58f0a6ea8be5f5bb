"""Masking: what must go, and what must stay."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.corpus.config import CorpusConfig
from agora.corpus.privacy import _PLAIN, _STYLED, EMAIL, HANDLES, LINKS, PHONE, mask, mask_text

CONFIG = CorpusConfig()


def masked(text: str, config: CorpusConfig = CONFIG) -> str:
    return str(mask(pa.array([text], type=pa.large_string()), config).texts[0].as_py())


@pytest.mark.parametrize(
    ("posted", "kept"),
    [
        ("write to jo.doe+x@mail.example.org.", "write to [email]."), ("ünal@bücher.example", "[email]"),
        ("call +49 30 1234567 now", "call [phone] now"), ("+1 (415) 555-2671!", "[phone]!"), ("0049 30 1234567", "[phone]"),
        ("415-555-2671 or (415) 555-2671", "[phone] or [phone]"), ("1-415-555-2671", "[phone]"), ("0151 23456789", "[phone]"),
        ("030/123 45 67", "[phone]"), ("tel: 5552671234", "tel: [phone]"), ("whatsapp me 5552671", "whatsapp me [phone]"),
        ("DE89 3704 0044 0532 0130 00 please", "[iban] please"), ("GB82WEST12345698765432", "[iban]"),
        ("card 4111 1111 1111 1111 exp", "card [card] exp"), ("5555-5555-5555-4444", "[card]"), ("378282246310005", "[card]"),
        ("host 192.168.1.17 down", "host [ip_address] down"), ("at 2001:db8::ff00:42:8329 ok", "at [ip_address] ok"),
        ("2001:0db8:0000:0000:0000:ff00:0042:8329", "[ip_address]"),
        ("\uff0b\uff14\uff19 \uff13\uff10 \uff11\uff12\uff13\uff14\uff15\uff16\uff17 \uff01", "[phone] \uff01"),
        ("jo\uff20x\uff0eexample", "[email]"),
        ("\u0967\u096f\u0968.\u0967\u096c\u096e.\u0967.\u0967", "[ip_address]"), ("415\u2013555\u20132671", "[phone]"),
        ("card \u0664\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661", "card [card]"),
        ("\U0001d7db\U0001d7d8 call +49 \U0001d7db\U0001d7d8 1234567", "\U0001d7db\U0001d7d8 call [phone]"),
        ("\uff20bob hi", "@user hi"), ("vote 020 1234567 times", "vote [phone] times"),
        ("pay de89370400440532013000 today", "pay [iban] today"), ("wa.me/4915123456789", "wa.me/[phone]"),
    ],
)  # fmt: skip
def test_identifiers_are_masked(posted: str, kept: str) -> None:
    assert masked(posted) == kept


@pytest.mark.parametrize(
    "text",
    [
        "on 2015-08-07 and 07.08.2015 and 8/7/15 and 07-08-2015", "from 10:30 to 12:45:10", "2015-08-07T10:30:00+00:00",
        "it costs 1,299.99 EUR or $1 000 000",
        "won 3-2, 21-19 21-17 and 6:4 7:5", "population 1234567890 and 8,000,000,000", "id 629479643809124352",
        "DE is 83 million", "v1.2.3.4.5 of 1.2.3",
        "chapter 1.2.3", "pi is 3.14159265358979", "2014 2015 2016 2017",
        "4111 1111 1111 1112 fails the check digit", "DE89 3704 0044 0532 0130 01 too",
        "std::vector and ratio 16:9", "999.999.999.999", "call 911", "call me at 7", "+5 -3 +100", "me @ home",
        "1/2 + 3/4 = 5/4", "room 0123", "1998-2003",
        "version 1.2.3.4 is out", "+1000000000 aura", "call 20240101 the day",
        "year 2000-2001-2002", "1920x1080 60 Hz", "10000000 people",
        "\uff12\uff10\uff12\uff14\u5e74\uff11\u6708\uff01", "\u0662\u0660\u0662\u0664 \u0662\u0660\u0662\u0665",
        "10\u00b2\u00b3 m, 1998\u20132003",
    ],
)  # fmt: skip
def test_dates_prices_scores_and_other_numbers_stay(text: str) -> None:
    assert masked(text) == text


def test_handles_follow_the_policy() -> None:
    text = "@Mira hi .@bob_2, (@alice.bsky.social) and @kim@social.example, not a@b"
    assert masked(text) == "@user hi .@user, (@user) and @user, not a@b"
    assert masked(text, replace(CONFIG, handles="keep")) == text
    first = masked("@Mira meets @mira and @bob", replace(CONFIG, handles="pseudonym", pseudonym_salt="s"))
    names = [word for word in first.split() if word.startswith("@")]
    assert names[0] == names[1] != names[2]
    assert "mira" not in first.lower()
    assert first != masked("@Mira meets @mira and @bob", replace(CONFIG, handles="pseudonym", pseudonym_salt="t"))


def test_links_follow_the_policy() -> None:
    text = "see https://t.co/x1?phone=+4930123456 and www.example.org now"
    assert masked(text) == "see and now"
    assert masked(text, replace(CONFIG, links="mask")) == "see [link] and [link] now"
    assert "www.example.org" in masked(text, replace(CONFIG, links="keep"))


def test_every_replacement_is_counted_in_its_row() -> None:
    found = mask(pa.array(["a@x.example b@x.example", "nothing", "@a @b https://x.example +49 30 1234567"], type=pa.large_string()), CONFIG)
    assert found.counts[EMAIL].tolist() == [2, 0, 0]
    assert found.counts[HANDLES].tolist() == [0, 0, 2]
    assert found.counts[LINKS].tolist() == [0, 0, 1]
    assert found.counts[PHONE].tolist() == [0, 0, 1]


PIECES = st.sampled_from(
    [
        "a@x.example",
        "+49 30 1234567",
        "192.168.1.17",
        "2015-08-07",
        "hello",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "::1",
        "@x",
        "\uff14\uff11\uff15-555-2671",
        "\u0661\u0669\u0662.168.1.1",
    ]
)
TEXTS = st.lists(
    PIECES | st.text(alphabet="0123456789 .-+()/@:aZ\uff10\uff13\u0665\uff20\uff0e\u2013\u00b2\u2460", max_size=15), max_size=5
).map(" ".join)


@given(TEXTS)
def test_the_preselection_never_hides_what_the_patterns_would_mask(text: str) -> None:
    config = replace(CONFIG, handles="keep", links="keep")
    assert masked(text, config) == mask_text(text)[0]


def test_every_sign_with_a_plain_form_is_looked_at() -> None:
    signs = [chr(code) for code in range(128, 0x110000) if not 0xD800 <= code < 0xE000 and _PLAIN[code] != chr(code)]
    assert len(signs) > 1000 and pc.all(pc.match_substring_regex(pa.array(signs), _STYLED)).as_py()
