"""The index of words as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agora.errors import PostIndexError
from agora.posts.schema import posts_table
from agora.search.index.text import ReadPost, TextIndex, post_rows
from tests.search.index.made_posts import some_posts

HEAP_BYTES = 15_000_000


class FullDisk:
    """A writer as tantivy's is when its disk is full."""

    def add_document(self, document: Any) -> None:
        raise ValueError("An error occurred in a thread: 'An index writer was killed.'")

    def wait_merging_threads(self) -> None:
        raise RuntimeError("IndexWriter was consumed and no longer in a valid state")


def test_a_writer_whose_disk_is_full_says_so_and_the_next_one_goes_on(tmp_path: Path) -> None:
    table = posts_table(some_posts(1))
    read = ReadPost.of(next(post_rows(table.to_batches()[0])))
    index = TextIndex(tmp_path / "text")
    for doing in (lambda: index.add(0, read), index.close):
        index.begin(0, HEAP_BYTES)
        index._writer = FullDisk()
        with pytest.raises(PostIndexError, match=r"text cannot be written: .*free there"):
            doing()
        index.close()
    index.begin(0, HEAP_BYTES)
    index.add(0, read)
    index.commit()
    assert index.searcher().num_docs == 1
    index.close()
