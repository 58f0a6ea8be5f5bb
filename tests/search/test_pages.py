"""What repeats over many hits is left out when more is fetched."""

from __future__ import annotations

import pytest

from agora.integrity.voice import Voices
from agora.search.candidates import Candidates
from agora.search.pages import Page
from agora.search.query.syntax import Phrase
from tests.search.conftest import post


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("{}: vote for the night train today", "vote for the night train today"),
        ("{} " + "storm " * 2000, " ".join(["storm"] * 16)),  # a row is looked for in its beginning
        ("{} again", None),
    ],
)
def test_the_sentence_that_near_duplicates_share_is_named(text: str, row: str | None) -> None:
    posts = {f"p{number}": post(f"p{number}", f"a{number}", text.format(f"no{number}")) for number in range(7)}
    page = Page(10, Voices(), 0.3)
    scores = {one: {"words": 1.0} for one in posts}
    page.add(Candidates(posts, dict.fromkeys(posts, 1.0)), list(posts), scores, is_loose=False)
    assert page.repeated() == (Phrase(row) if row else None)
