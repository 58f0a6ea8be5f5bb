"""The real scan through the folder: the same posts give the same result, also after a kill; labels follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agora.integrity import collect as collecting
from agora.integrity.config import IntegrityConfig
from agora.integrity.folder import IntegrityFolder
from agora.integrity.labels import read_labels
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("square")
    with PostStore.open(root / "posts", create=True) as store:
        simulate_into(store, SquareConfig(num_posts=8000, num_accounts=500, seed=5))
    return root


def test_a_killed_scan_gives_what_a_whole_one_gives(square: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PostStore.open(square / "posts")
    whole = IntegrityFolder(tmp_path / "integrity").scan_store(store, IntegrityConfig())
    place = IntegrityFolder(square / "integrity")
    real = collecting._assemble

    def killed(files: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(collecting, "_assemble", killed)
    with pytest.raises(KeyboardInterrupt):
        place.scan_store(store, IntegrityConfig())
    assert list(place.root.glob("work-*/*.arrow"))
    monkeypatch.setattr(collecting, "_assemble", real)
    assert place.scan_store(store, IntegrityConfig()) == whole == place.load()
    assert not list(place.root.glob("work-*"))
    with place.ledger() as ledger:
        place.publish(ledger)
    labelled = {(one.id, member.account) for one in whole.campaigns for member in one.labelled}
    rows = read_labels(square, kind="account").to_pylist()
    assert labelled and {(row["campaign"], row["id"]) for row in rows} == labelled
    posts = read_labels(square, kind="post")
    assert {(row["campaign"], row["account"]) for row in posts.to_pylist()} <= labelled
    assert len({one.id for one in whole.campaigns}) == len(whole.campaigns)
