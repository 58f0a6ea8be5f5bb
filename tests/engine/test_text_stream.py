"""Streamed text: whole characters, no part of a stop string, the same however the bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agora.engine.text_stream import TextStream

SHORT = st.text(alphabet="abé🎉", max_size=12)
STOPS = st.lists(st.text(alphabet="abé🎉", min_size=1, max_size=4), max_size=3)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def cut_at_first_stop(text: str, stops: list[str]) -> str:
    """The obvious twin: read one character after the other until the text ends with a stop string."""
    for end in range(len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - len(max(ended, key=len))]
    return text


@given(text=SHORT, stops=STOPS, cuts=st.lists(st.integers(0, 99), max_size=8))
def test_text_equals_the_twin_however_it_is_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    stream = TextStream(stops)
    emitted = [stream.push(piece) for piece in pieces_of(text.encode(), cuts)]
    emitted.append(stream.finish())
    expected = cut_at_first_stop(text, stops)
    assert "".join(emitted) == expected
    assert stream.stopped == any(stop in text for stop in stops)
    for count in range(len(emitted)):
        assert expected.startswith("".join(emitted[:count])), "something was emitted that had to be taken back"


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 99), max_size=8))
def test_any_bytes_give_what_decoding_them_at_once_gives(data: bytes, cuts: list[int]) -> None:
    stream = TextStream()
    text = "".join(stream.push(piece) for piece in pieces_of(data, cuts)) + stream.finish()
    assert text == data.decode("utf-8", errors="replace")


def test_half_a_character_is_held_back() -> None:
    stream = TextStream()
    party = "🎉".encode()
    assert [stream.push(party[:1]), stream.push(party[1:3]), stream.push(party[3:])] == ["", "", "🎉"]


def test_possible_beginning_of_a_stop_string_is_held_back_and_released() -> None:
    stream = TextStream(["END"])
    assert [stream.push(b"a E"), stream.push(b"N"), stream.push(b"Do"), stream.push(b"more")] == ["a ", "", "", ""]
    assert stream.stopped and stream.finish() == ""
    stream = TextStream(["END"])
    assert [stream.push(b"EN"), stream.push(b"V"), stream.finish()] == ["", "ENV", ""]
