"""Ads for people like a list, sheets that take pictures by a link, and two servers on one workspace: the API."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agora.errors import DataError, UsageError
from agora.log import silent
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.studio import work
from agora.server.studio.workshop import FINISHED, LOCK, Workshop, write_outcome
from agora.server.tables import open_database
from agora.settings import Workspace
from agora.text import minilm
from benchmarks.ads_audience import _posts
from tests.server.test_ads_api import BRIEF, error

pytest.importorskip("sklearn")
CYCLISTS = [f"cycling{number}" for number in range(75)]
ASKED: dict[str, Any] = {"brief": BRIEF, "variants": 1, "with_pictures": False}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """220 people who write of cycling and 100 of baking. Work is begun by the test: in a process of its own it would load MiniLM."""
    monkeypatch.setattr(minilm, "is_installed", lambda: False)
    monkeypatch.setattr(Workshop, "start", lambda self, folder: None)
    made, drawn = Workspace(tmp_path / "workspace").create(), random.Random(4)
    with PostStore.open(made.folder("posts"), create=True) as store:
        store.append(posts_table([*_posts("cycling", 220, 5, drawn, "t"), *_posts("baking", 100, 5, drawn, "t")]))
    return made


@pytest.fixture
def client(place: Workspace, tmp_path: Path) -> Iterator[TestClient]:
    database = open_database(tmp_path / "server.db")
    with TestClient(create_app([], gate=GateConfig(is_open=True), database=database, place=place), base_url="http://127.0.0.1") as made:
        yield made
    database.close()


def begun(client: TestClient, place: Workspace, **changes: Any) -> tuple[str, Path]:
    """A job that nobody works on yet: its name and folder."""
    answer = client.post("/api/v1/ads/jobs", json={**ASKED, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], place.folder("ads") / "jobs" / answer.json()["id"]


def finished(folder: Path) -> None:
    write_outcome(folder, FINISHED, message="", **work.make(folder, json.loads((folder / work.REQUEST).read_text()), silent))


def test_people_like_a_list_are_found_and_the_list_is_gone(client: TestClient, place: Workspace) -> None:
    name, folder = begun(client, place, like=CYCLISTS)
    before = client.get(f"/api/v1/ads/jobs/{name}").json()
    assert before["audiences"] == ["people like a list of 75 accounts"]
    finished(folder)
    (variant,) = client.get(f"/api/v1/ads/jobs/{name}").json()["variants"]
    assert variant["audience"].startswith("like-en-") and variant["state"] == "ready"
    assert client.get(f"/api/v1/ads/jobs/{name}").json()["audiences"] == [f"people like a list of 75 accounts ({variant['label']})"]
    assert not any(b"cycling7" in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    logged = client.get("/api/v1/audit", params={"action": "ads"}).json()[0]
    assert logged["details"]["accounts_in_list"] == 75 and "cycling7" not in json.dumps(logged)


def test_a_list_that_is_too_short_or_speaks_another_language_ends_the_work_with_the_reason(client: TestClient, place: Workspace) -> None:
    _, folder = begun(client, place, like=CYCLISTS[:20])
    with pytest.raises(UsageError, match="fewer than 50 voices"):
        finished(folder)
    german = {**BRIEF, "languages": ["de"], "facts": [{"text": "wiegt 2 Kilo"}]}
    _, folder = begun(client, place, like=CYCLISTS, brief=german)
    with pytest.raises(DataError, match="writes in 'en', and the brief is in de"):
        finished(folder)


def test_a_list_goes_with_no_other_audience_and_no_special_category(client: TestClient) -> None:
    for changes, reason in (({"audiences": ["interest-en-1"]}, "either"), ({"brief": {**BRIEF, "special_category": "jobs"}}, "jobs")):
        answer = client.post("/api/v1/ads/jobs", json={**ASKED, "like": CYCLISTS, **changes})
        assert answer.status_code == 400 and reason in error(answer), answer.text


def test_a_sheet_with_links_of_pictures_is_made_when_their_address_is_given(client: TestClient, place: Workspace) -> None:
    pytest.importorskip("skia")
    name, folder = begun(client, place, audiences=[], with_pictures=True)
    finished(folder)
    assert next(one["picture"] for one in client.get("/api/v1/ads/kit").json()["sheets"] if one["name"] == "openai") == "square"
    here = f"/api/v1/ads/jobs/{name}/export/openai"
    assert "public address" in error(client.get(here))
    for wrong in ("nowhere", "javascript:alert(1)", "file:///etc", "https://cdn.example/a b"):
        assert client.get(here, params={"pictures": wrong}).status_code == 400
    (row,) = csv.DictReader(io.StringIO(client.get(here, params={"pictures": "https://cdn.example/ads/"}).text))
    assert row["image_url"] == "https://cdn.example/ads/everybody/en-1/square.png"
    name, folder = begun(client, place, audiences=[], brief={**BRIEF, "placements": ["mobile-banner"]}, with_pictures=True)
    finished(folder)
    refused = client.get(f"/api/v1/ads/jobs/{name}/export/openai", params={"pictures": "https://cdn.example"})
    assert refused.status_code == 400 and "size square" in error(refused)


def test_work_of_another_server_is_shown_and_ended_only_there(client: TestClient, place: Workspace) -> None:
    name, folder = begun(client, place, audiences=[])
    here = f"/api/v1/ads/jobs/{name}"
    assert client.get(here).json()["work"]["state"] == "interrupted"
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert client.get(here).json()["work"]["state"] == "running"
        for refused in (client.post(f"{here}/cancel"), client.delete(here)):
            assert refused.status_code == 409 and "Another server" in error(refused)
    assert client.delete(here).status_code == 200
