"""The ads' JSON API: briefs, uploads, jobs in processes of their own, releases, sheets, experiments."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agora.database import Database
from agora.engine import SamplingConfig
from agora.server.accounts import Accounts
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.studio.served_writer import answered
from agora.server.tables import open_database
from agora.settings import Workspace

BRIEF: dict[str, Any] = {
    "product": "Lamp 3", "landing_page": "https://osk.example/lamp", "placements": ["square", "mobile-banner"],
    "facts": [{"text": "for late readers"}, {"text": "dims to 2 watts"}], "brand": {"name": "Osk", "colours": ["#123456"]},
}  # fmt: skip
TEXTS: dict[str, Any] = {"brief": BRIEF, "audiences": [], "variants": 3, "with_pictures": False}
RESULTS = "Ad name,Ad set name,Impressions,Link clicks\na,readers,5000,40\nb,readers,5000,90\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Database, Workspace]]:
    folder = tmp_path_factory.mktemp("ads")
    database, place = open_database(folder / "server.db"), Workspace(folder / "workspace").create()
    app = create_app([], gate=GateConfig(is_open=True), database=database, place=place)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client, database, place
    database.close()


@pytest.fixture
def client(server: tuple[TestClient, Database, Workspace]) -> TestClient:
    return server[0]


def ended(client: TestClient, job: str, headers: dict[str, str] | None = None) -> Any:
    """The job, when no more work is done on it."""
    until = time.monotonic() + 300
    while True:
        found = client.get(f"/api/v1/ads/jobs/{job}", headers=headers).json()
        if found["work"]["state"] not in ("waiting", "running"):
            return found
        assert time.monotonic() < until
        time.sleep(0.2)  # under the limit of requests a minute, however long the work takes


def made(client: TestClient, **changes: Any) -> Any:
    answer = client.post("/api/v1/ads/jobs", json={**TEXTS, **changes})
    assert answer.status_code == 201, answer.text
    return ended(client, answer.json()["id"])


@pytest.fixture(scope="module")
def lamp(server: tuple[TestClient, Database, Workspace]) -> Any:
    """A job that is done; tests only read it, or send results."""
    return made(server[0])


def picture(width: int = 40, height: int = 30) -> bytes:
    image = pytest.importorskip("PIL.Image").new("RGB", (width, height), (200, 30, 30))
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def error(answer: Any) -> str:
    return str(answer.json()["error"]["message"])


def test_a_brief_becomes_texts_within_their_limits_each_with_its_source(client: TestClient, lamp: Any) -> None:
    job = lamp
    assert job["work"] == {"state": "finished", "title": "", "done": 0, "total": None, "note": "", "message": ""}
    assert (job["ready"], job["held"], job["blocked"], job["by"]) == (3, 0, 0, "local")
    for variant in job["variants"]:
        for text in variant["texts"]:
            assert text["text"] and all(0 < limit["width"] <= limit["max"] for limit in text["limits"])
        assert {claim["source"].partition(":")[0] for text in variant["texts"] for claim in text["claims"]} == {"brief.json"}
    assert job["id"] in {one["id"] for one in client.get("/api/v1/ads/jobs").json()}
    logged = client.get("/api/v1/audit", params={"action": "ads"}).json()[0]
    assert (logged["who"], logged["action"], logged["what"]) == ("local", "ads.make", job["id"])


def test_pictures_of_a_sent_product_are_made_and_served_as_what_they_are(client: TestClient) -> None:
    pytest.importorskip("skia")
    sent = {"product_picture": base64.b64encode(picture()).decode()}
    job = made(client, with_pictures=True, variants=1, pictures=sent)
    assert job["brief"]["has_product_picture"] and not job["brief"]["has_logo"] and job["num_pictures"] == 2
    for one in job["variants"][0]["pictures"]:
        png, svg = client.get(one["png"]), client.get(one["svg"])
        assert png.headers["content-type"] == "image/png" and png.content[:4] == b"\x89PNG" and one["problems"] == []
        assert svg.headers["content-disposition"].startswith("attachment") and "sandbox" in svg.headers["content-security-policy"]
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/v1/ads/jobs/{job['id']}/archive").content))
    assert {name.rpartition("/")[2] for name in archive.namelist()} >= {"ads.json", "copy.json", "square.png", "square.svg", "policy.html"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("brief.toml", "product = ", "brief.toml is not valid TOML"),
        ("brief.exe", "x", "must end in"),
        ("brief.toml", 'product = "a"\ncolour = 1', "brief.toml:2"),
        ("brief.toml", '[brand]\nname = "x"\nlogo = "../../../etc/passwd"', "plain name"),
        ("brief.toml", '[brand]\nname = "x"\nlogo = "/etc/passwd"', "plain name"),
        ("brief.json", '{"brand": {"logo": "..\\\\x.png"}}', "plain name"),
        ("brief.json", '{"brand": {"logo": "logo.png"}}', "add this picture"),
        ("page.html", "<p>nothing</p>", "names no product"),
    ],
)
def test_a_file_that_cannot_be_used_is_the_senders_mistake_and_no_path_is_told(
    client: TestClient, server: tuple[TestClient, Database, Workspace], name: str, text: str, reason: str
) -> None:
    answer = client.post("/api/v1/ads/briefs/check", json={"file": {"name": name, "text": text}})
    assert answer.status_code == 400 and reason in error(answer), answer.text
    assert "/tmp" not in answer.text and str(server[2].root) not in answer.text


def test_a_page_of_a_shop_is_a_brief_whose_picture_is_never_taken_from_elsewhere(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    page = (
        f'<html lang="en"><title>Kettle</title><meta name="description" content="Boils in 90 seconds.">'
        f'<meta property="og:image" content="{tmp_path}/secret.png"><meta property="og:url" content="https://osk.example/kettle">'
    )
    found = client.post("/api/v1/ads/briefs/check", json={"file": {"name": "shop.html", "text": page, "colours": ["#ff0000"]}}).json()
    assert found["brief"]["product"] == "Kettle" and found["brief"]["colours"] == ["#ff0000"]
    assert not found["brief"]["has_product_picture"] and found["brief"]["facts"][0]["source"].startswith("page.html:")


@pytest.mark.parametrize("named", ["page.html", "kit.json", "./page.html", "product_picture.png", "brief.json"])
def test_a_page_names_no_file_of_the_server_as_its_picture(client: TestClient, named: str) -> None:
    body: dict[str, Any] = {"file": {"name": "p.html", "text": f'{_PAGE}<meta property="og:image" content="{named}">'}}
    read = lambda: client.post("/api/v1/ads/briefs/check", json=body).json()["brief"]["has_product_picture"]  # noqa: E731
    assert not read()
    body["pictures"] = {"logo": base64.b64encode(picture()).decode()}
    assert not read()
    body["pictures"]["product_picture"] = body["pictures"]["logo"]
    assert read()


_DEEP = "[" * 20_000 + "]" * 20_000
_PAGE = '<title>Lamp</title><meta name="description" content="It shines."><meta property="og:url" content="https://osk.example/lamp">'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.toml", f"product = {'9' * 5_000}"), ("b.toml", f"product = 0x{'f' * 5_000}"), ("b.toml", f"product = {_DEEP}"),
        ("b.toml", f"[brand]\nlogo = 0x{'f' * 5_000}"), ("b.json", f'{{"product": {"9" * 5_000}}}'), ("b.json", _DEEP),
        ("b.json", f'{{"product": {_DEEP}}}'),
    ],
)  # fmt: skip
def test_numbers_and_brackets_without_end_are_the_senders_mistake(client: TestClient, name: str, text: str) -> None:
    answer = client.post("/api/v1/ads/briefs/check", json={"file": {"name": name, "text": text}})
    assert answer.status_code == 400 and len(error(answer)) < 500


@pytest.mark.parametrize(
    ("more", "statuses"),
    [
        (f'<meta property="og:image" content="{"x" * 5_000}">', {200}),
        (f'<script type="application/ld+json">{{"@type": "Product", "offers": {{"price": {"9" * 5_000}}}}}</script>', {200, 400}),
    ],
)
def test_a_page_with_an_endless_value_is_read_without_it_or_refused(client: TestClient, more: str, statuses: set[int]) -> None:
    assert client.post("/api/v1/ads/briefs/check", json={"file": {"name": "p.html", "text": _PAGE + more}}).status_code in statuses


def test_pictures_are_taken_only_if_they_are_some_and_not_too_large(client: TestClient) -> None:
    for data, reason in (
        (b"GIF89a" + bytes(100), "no PNG"), (b"\x89PNG\r\n\x1a\nnothing", "cannot be read"), (bytes((4 << 20) + 1), "at most"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG"), (picture(7_000, 1), "at most"),
    ):  # fmt: skip
        body = {"brief": BRIEF, "pictures": {"logo": base64.b64encode(data).decode()}}
        answer = client.post("/api/v1/ads/briefs/check", json=body)
        assert answer.status_code == 400 and reason in error(answer), (data[:10], answer.text)


def test_names_cannot_climb_out_of_a_jobs_folder(client: TestClient, lamp: Any) -> None:
    job = lamp["id"]
    for path in ("..", "%2e%2e", "..%2f..%2fserver", ".draft", "nothing", "a%00b"):
        assert client.get(f"/api/v1/ads/jobs/{path}").status_code in (404, 405), path
    for path in ("everybody/en-1/..%2fcopy.json", "everybody/en-1/copy.json", "..%2f..%2f/en-1/square.png", "everybody/en-9/square.png"):
        assert client.get(f"/api/v1/ads/jobs/{job}/pictures/{path}").status_code == 404, path


def test_what_a_person_must_see_is_held_until_a_person_releases_it(client: TestClient) -> None:
    job = made(client, brief={**BRIEF, "special_category": "housing"})
    here = f"/api/v1/ads/jobs/{job['id']}"
    assert job["held"] == 3 and all(one["findings"][0]["reason"] for one in job["variants"])
    assert client.get(f"{here}/export/meta").status_code == 409
    released = client.post(f"{here}/release", json={"variants": ["everybody/en-1"], "note": "seen"}).json()
    assert (released["ready"], released["held"]) == (1, 2) and released["variants"][0]["release"]["by"] == "local"
    assert "everybody" in client.get(f"{here}/export/meta").text
    refused = client.get(f"{here}/export/google")
    assert refused.status_code == 400 and "at least 3" in error(refused)  # one variant has too few headlines for that sheet
    logged = client.get("/api/v1/audit", params={"action": "ads.release"}).json()[0]
    assert logged["details"]["variants"] == ["everybody/en-1"]


def test_forbidden_targeting_blocks_with_the_reason(client: TestClient) -> None:
    job = made(client, brief={**BRIEF, "special_category": "jobs"}, targeting={"ages": [20, 30]})
    assert job["blocked"] == 3 and "age" in job["variants"][0]["findings"][0]["reason"]
    refused = client.post(f"/api/v1/ads/jobs/{job['id']}/release", json={"variants": ["everybody/en-1"]})
    assert refused.status_code == 400 and "blocked" in error(refused)


def test_sheets_are_those_of_the_exporters(client: TestClient, lamp: Any) -> None:
    here = f"/api/v1/ads/jobs/{lamp['id']}/export"
    for sheet in client.get("/api/v1/ads/kit").json()["sheets"]:
        answer = client.get(f"{here}/{sheet['name']}")
        if sheet["picture"]:
            assert answer.status_code == 400 and "pictures of the size square" in error(answer)
            continue
        assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"] and "Lamp 3" in answer.text
    assert client.get(f"{here}/nothing").status_code == 400


def test_results_say_which_variant_to_keep_and_stay(client: TestClient, lamp: Any) -> None:
    here = f"/api/v1/ads/jobs/{lamp['id']}/experiment"
    assert client.get(here).status_code == 409
    found = client.put(here, json={"text": RESULTS}).json()
    decision = found["decisions"][0]
    assert (decision["audience"], decision["best"], decision["stop"]) == ("readers", "b", True)
    refused = client.put(here, json={"text": "a,b\n1,2\n"})
    assert refused.status_code == 400 and "header" in error(refused)
    for views in ("9" * 5_000, "1" + "0" * 21, str(10**12 + 1)):
        refused = client.put(here, json={"text": f"audience,variant,views,clicks\nreaders,a,{views},1\n"})
        assert refused.status_code == 400 and "1,000,000,000,000" in error(refused) and len(error(refused)) < 300
    assert client.get(here).json() == found
    most = {"text": f"audience,variant,views,clicks\nreaders,a,{10**12},1\nreaders,b,{'0' * 5_000}7,1\n"}
    assert client.put(here, json=most).status_code == 200


def test_a_cancelled_job_keeps_what_it_has_and_goes_on(client: TestClient, server: tuple[TestClient, Database, Workspace]) -> None:
    job = client.post("/api/v1/ads/jobs", json={**TEXTS, "variants": 3}).json()["id"]
    cancelled = client.post(f"/api/v1/ads/jobs/{job}/cancel").json()
    assert cancelled["work"]["state"] == "cancelled"
    client.post(f"/api/v1/ads/jobs/{job}/run")
    assert ended(client, job)["ready"] == 3
    (server[2].root / "ads" / "jobs" / job / "outcome.json").unlink()  # as after a kill
    assert client.get(f"/api/v1/ads/jobs/{job}").json()["work"]["state"] == "interrupted"
    assert client.delete(f"/api/v1/ads/jobs/{job}").status_code == 200
    assert client.get(f"/api/v1/ads/jobs/{job}").status_code == 404


def test_work_that_fails_says_why_without_a_path(client: TestClient, server: tuple[TestClient, Database, Workspace]) -> None:
    job = client.post("/api/v1/ads/jobs", json=TEXTS).json()["id"]
    client.post(f"/api/v1/ads/jobs/{job}/cancel")
    folder = server[2].root / "ads" / "jobs" / job
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    (folder / "out" / "letter.txt").write_text("dear")
    client.post(f"/api/v1/ads/jobs/{job}/run")
    work = ended(client, job)["work"]
    assert work["state"] == "failed" and "not empty" in work["message"] and str(folder) not in work["message"]


def test_audiences_of_posts_are_found_with_what_is_withheld(square: Workspace, tmp_path: Path) -> None:
    database = open_database(tmp_path / "server.db")
    shutil.rmtree(square.root / "ads" / "audiences", ignore_errors=True)  # other tests look for audiences in this square too
    with TestClient(create_app([], gate=GateConfig(is_open=True), database=database, place=square), base_url="http://127.0.0.1") as client:
        assert client.get("/api/v1/ads/audiences").json()["work"] is None
        client.post("/api/v1/ads/audiences")
        until = time.monotonic() + 300
        while (found := client.get("/api/v1/ads/audiences").json())["work"]["state"] in ("waiting", "running"):
            assert time.monotonic() < until
            time.sleep(0.2)  # under the limit of requests a minute, however long the work takes
        assert found["work"]["state"] == "finished" and found["is_current"], found
        assert found["rules"]["min_voices"] >= 50 and "health" in found["rules"]["topics"]
        assert all(one["num_authors"] % 10 == 0 and one["num_authors"] >= 50 for one in found["audiences"])
        assert found["audiences"] or sum(found["withheld"].values())
        kept = json.loads((square.root / "ads" / "audiences" / "found.json").read_text())
        assert all("members" not in one for one in kept["audiences"])
    database.close()


def test_jobs_are_their_owners_own_and_a_key_releases_nothing(tmp_path: Path) -> None:
    database, place = open_database(tmp_path / "people.db"), Workspace(tmp_path / "workspace").create()
    accounts = Accounts(database)
    for name, scope in (("ada", "advertiser"), ("bob", "advertiser"), ("eve", "member"), ("root", "admin")):
        accounts.add(name, scopes=[scope])
    keys = {name: accounts.new_key(name, name="key").secret for name in ("ada", "bob", "eve", "root")}
    with TestClient(create_app([], database=database, place=place), base_url="http://127.0.0.1") as client:

        def of(who: str) -> dict[str, str]:
            return {"authorization": f"Bearer {keys[who]}"}

        assert client.get("/api/v1/ads/jobs").status_code == 401
        assert client.get("/api/v1/ads/kit", headers=of("eve")).status_code == 403
        job = client.post("/api/v1/ads/jobs", json=TEXTS, headers=of("ada")).json()["id"]
        assert ended(client, job, of("ada"))["ready"] == 3
        assert client.get("/api/v1/ads/jobs", headers=of("bob")).json() == []
        changes: list[Callable[[], Any]] = [
            lambda: client.get(f"/api/v1/ads/jobs/{job}", headers=of("bob")),
            lambda: client.delete(f"/api/v1/ads/jobs/{job}", headers=of("bob")),
            lambda: client.get(f"/api/v1/ads/jobs/{job}/archive", headers=of("bob")),
        ]
        assert [change().status_code for change in changes] == [404, 404, 404]
        assert [one["id"] for one in client.get("/api/v1/ads/jobs", headers=of("root")).json()] == [job]
        refused = client.post(f"/api/v1/ads/jobs/{job}/release", json={}, headers=of("ada"))
        assert refused.status_code == 403 and "person" in error(refused)
    database.close()


@pytest.fixture
def written_by_a_model(scripted_model: Any, tmp_path: Path) -> Iterator[TestClient]:
    """A server whose model answers every request with one of the facts."""
    database, place = open_database(tmp_path / "server.db"), Workspace(tmp_path / "workspace").create()
    scripted_model.says = json.dumps({"text": "dims to 2 watts"})
    app = create_app([scripted_model], gate=GateConfig(is_open=True), database=database, place=place)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
    database.close()


def test_the_served_model_writes_and_pictures_are_signed_by_an_untrusted_issuer(
    written_by_a_model: TestClient, scripted_model: Any
) -> None:
    pytest.importorskip("skia")
    pytest.importorskip("c2pa")
    from agora.ads.provenance import verify

    client = written_by_a_model
    kit = client.get("/api/v1/ads/kit").json()
    assert (kit["model"], kit["can_sign"]) == ("scripted", True)
    brief = {**BRIEF, "placements": ["mobile-banner"]}
    job = made(client, brief=brief, variants=1, with_pictures=True, by_model=True, is_signed=True)
    assert job["work"]["state"] == "finished", job["work"]
    (variant,) = job["variants"]
    assert job["model"] == variant["written_by"] == "scripted" and {one["text"] for one in variant["texts"]} == {"dims to 2 watts"}
    assert any("dims to 2 watts" in one["content"] for one in scripted_model.messages)
    assert "untrusted issuer" in job["credentials"] and "compositeWithTrainedAlgorithmicMedia" in job["credentials"]
    for ending, kind in (("png", "image/png"), ("svg", "image/svg+xml")):
        found = verify(client.get(variant["pictures"][0][ending]).content, kind)
        assert found.is_valid and not found.is_trusted


def test_without_a_model_that_is_served_none_can_write(client: TestClient) -> None:
    assert client.get("/api/v1/ads/kit").json()["model"] is None
    answer = client.post("/api/v1/ads/jobs", json={**TEXTS, "by_model": True})
    assert answer.status_code == 409 and "agora serve --model" in error(answer)


def test_a_model_that_is_gone_or_fails_is_told_to_the_work() -> None:
    asked = {"model": "gone", "messages": [], "sampling": asdict(SamplingConfig())}
    assert "not served any more" in json.loads(answered(asked, lambda name: None, threading.Event()))["error"]

    class Broken:
        def chat(self, *args: Any, **more: Any) -> Any:
            raise RuntimeError("/secret/path")

    told = json.loads(answered(asked, lambda name: Broken(), threading.Event()))  # type: ignore[arg-type,return-value]
    assert told == {"error": "the model failed; the server's log has the details"}
