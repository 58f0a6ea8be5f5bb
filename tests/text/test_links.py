"""Canonical URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.text.links import canonical_url, canonical_urls


@pytest.mark.parametrize(
    ("posted", "canonical"),
    [
        ("http://www.Example.org:80/a/?utm_source=x&b=2&a=1#top", "https://example.org/a?a=1&b=2"), ("https://example.org", "https://example.org"),
        ("HTTPS://m.example.org/a/", "https://example.org/a"), ("https://example.org:8443/x", "https://example.org:8443/x"),
        ("www.example.org/x?fbclid=123", "https://example.org/x"), ("https://user:pw@example.org/x", "https://example.org/x"),
        ("https://example.org/caf%C3%A9", "https://example.org/caf%C3%A9"), ("https://example.org/café", "https://example.org/caf%C3%A9"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"), ("mailto:a@example.org", "mailto:a@example.org"),
        ("  not a link ", "not a link"), ("https://[broken", "https://[broken"), ("https://example.org:99999/", "https://example.org:99999/"),
        ("https://www.com/x", "https://www.com/x"),
    ],
)  # fmt: skip
def test_canonical_examples(posted: str, canonical: str) -> None:
    assert canonical_url(posted) == canonical


@given(st.text(max_size=30) | st.from_regex(r"https?://[a-z.:%0-9]{1,12}/[a-zA-Z%?&=#é/+]{0,15}", fullmatch=True))
def test_canonical_form_is_stable_and_never_fails(url: str) -> None:
    assert canonical_url(canonical_url(url)) == canonical_url(url)


def test_many_links_give_what_each_gives() -> None:
    urls = ["http://example.org/?gclid=1", "http://example.org/", "x"]
    assert canonical_urls(urls) == [canonical_url(url) for url in urls] == ["https://example.org", "https://example.org", "x"]
