"""HTML and X's escapes to plain text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.posts.sources.plain_text import expand_links, read_html, unescape_x


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb"), ("a<br>b<br/><br>c", "a\nb\n\nc"), ("<ul><li>x</li><li>y</li></ul>", "- x\n- y"),
        ("  much \n  space ", "much space"), ("<pre><code>a\n  b</code></pre>", "a\n  b"), ("&lt;b&gt; &amp;amp; &#39;", "<b> &amp; '"),
        ("<script>bad()</script>ok<style>x</style>", "ok"), ("a <b>bold</b> c", "a bold c"), ("<!-- note -->kept", "kept"),
        ('<a href="x" title="a > b">t</a>', "t"), ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"), ("<!-- never closed", ""), ("", ""),
        ('x <img class="emoji" alt=":tea:"> y', "x :tea: y"), ("<h1>T</h1>text", "T\n\ntext"),
    ],
)  # fmt: skip
def test_html_reads_as_a_person_sees_it(html: str, text: str) -> None:
    assert read_html(html).text == text


def test_links_mentions_and_hashtags_are_told_apart() -> None:
    reading = read_html(
        '<a class="u-url mention" href="https://a.example/@b">@b</a> <a class="mention hashtag" href="https://a.example/tags/c">#c</a> '
        '<a href="https://d.example/?x=1&amp;y=2">d</a> <a href="/local">e</a>'
    )
    assert (reading.mentions, reading.urls) == (["https://a.example/@b"], ["https://d.example/?x=1&y=2"])


@given(st.text(max_size=200))
def test_any_text_ends_and_holds_no_tags_of_its_own(text: str) -> None:
    assert len(read_html(f"<p>{text}</p>").text) <= len(text) * 4 + 10


@pytest.mark.parametrize("unit", ["<!--", "<a ", "<a href='", '<a href="', "<", "&", "<br>", "</p>", "<pre>"])
def test_hostile_html_takes_linear_time(unit: str) -> None:
    started = time.process_time()
    read_html(unit * 100_000)
    assert time.process_time() - started < 3


def test_x_escapes_are_undone_once() -> None:
    assert unescape_x("&lt;3 &amp;amp; &amp;lt; &copy;") == "<3 &amp; &lt; &copy;"


def test_links_expand_and_own_media_disappears() -> None:
    assert expand_links("see https://t.co/a https://t.co/b", [("https://t.co/a", "https://x.example"), ("https://t.co/b", None)]) == (
        "see https://x.example"
    )
