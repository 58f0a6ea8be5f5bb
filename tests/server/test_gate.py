"""The gate: keys, sessions, the local admin, other origins, limits."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from agora.engine import LocalModel
from agora.server.accounts import Accounts
from agora.server.app import create_app
from agora.server.gate import SESSION_COOKIE, GateConfig
from agora.server.limits import RateLimits
from agora.server.tables import open_database
from agora.server.web.site import Site, Viewer, read_parameters, still_in

HERE = "http://127.0.0.1:8000"


class Served:
    def __init__(self, model: LocalModel, path: Path, **config: object) -> None:
        self.database = open_database(path / "server.db")
        self.accounts = Accounts(self.database)
        self.app = create_app([model], gate=GateConfig(**config), database=self.database)  # type: ignore[arg-type]
        self.client = TestClient(self.app, base_url=HERE)

    def get(self, path: str = "/v1/models", **headers: str) -> httpx.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture
def served(tiny_model: LocalModel, tmp_path: Path) -> Iterator[Served]:
    made = Served(tiny_model, tmp_path, is_open=True)
    yield made
    made.database.close()


def code(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json()["error"]["code"]


def test_without_accounts_this_machine_may_do_everything_until_somebody_makes_one(served: Served) -> None:
    assert served.get().status_code == 200
    assert served.get(authorization="Bearer anything").status_code == 200
    early = served.client.post("/api/v1/keys", json={}).json()["secret"]
    assert served.get(authorization=f"Bearer {early}", host="elsewhere").status_code == 200
    served.accounts.add("root", scopes=["admin"])
    assert code(served.get()) == (401, "invalid_api_key")
    for word in ("anything", early):
        assert code(served.get(authorization=f"Bearer {word}")) == (401, "invalid_api_key")
    key = served.accounts.new_key("root", name="k").secret
    assert served.get(authorization=f"Bearer {key}").status_code == 200


def test_a_name_that_was_pointed_at_this_machine_is_refused(served: Served) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "[", "evil.example:8000"):
        assert code(served.get(host=host)) == (403, "other_host"), host
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert served.get(host=host).status_code == 200, host


def test_a_page_of_another_origin_changes_nothing(served: Served) -> None:
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert code(served.client.post("/v1/completions", json=body, headers=headers)) == (403, "other_origin"), headers
    assert served.client.post("/v1/completions", json=body, headers={"origin": HERE}).status_code == 200


def test_a_word_in_place_of_a_key_opens_no_way_around_host_and_origin(served: Served) -> None:
    word = "Bearer anything"
    assert code(served.get(authorization=word, host="evil.example:8000")) == (403, "other_host")
    body, headers = {"model": "tiny", "prompt": "a", "max_tokens": 1}, {"authorization": word, "origin": "https://evil.example"}
    assert code(served.client.post("/v1/completions", json=body, headers=headers)) == (403, "other_origin")
    assert served.client.post("/v1/completions", json=body, headers={"authorization": word}).status_code == 200


def test_a_session_is_held_to_its_origin_and_a_key_is_not(served: Served) -> None:
    served.accounts.add("ada", scopes=["member"], password="correct horse battery")
    session = served.accounts.new_session("ada")
    body, cookie = {"model": "tiny", "prompt": "a", "max_tokens": 1}, {"cookie": f"{SESSION_COOKIE}={session}"}
    assert served.client.post("/v1/completions", json=body, headers=cookie).status_code == 200
    assert served.client.post("/v1/completions", json=body, headers=cookie | {"origin": "https://evil.example"}).status_code == 403
    key = {"authorization": f"Bearer {served.accounts.new_key('ada', name='k').secret}", "origin": "https://evil.example"}
    assert served.client.post("/v1/completions", json=body, headers=key).status_code == 200


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}])
def test_another_site_signs_nobody_in(served: Served, headers: dict[str, str]) -> None:
    served.accounts.add("ada", scopes=["member"], password="correct horse battery")
    wanted = {"name": "ada", "password": "correct horse battery"}
    assert code(served.client.post("/api/v1/sign-in", json=wanted, headers=headers)) == (403, "other_origin")
    for path in ("/sign-in", "/sign-out"):
        assert code(served.client.post(path, data=wanted, headers=headers)) == (403, "other_origin")
    assert served.client.get("/health", headers=headers).status_code == 200
    assert served.client.post("/api/v1/sign-in", json=wanted, headers={"origin": HERE}).status_code == 200


@pytest.mark.parametrize("other", ['other={"a":1}', "a b=c", "=", 'x="', "é=1", "other"])
def test_cookies_of_others_sign_nobody_out(served: Served, other: str) -> None:
    served.accounts.add("ada", scopes=["member"])
    own = f"{SESSION_COOKIE}={served.accounts.new_session('ada')}"
    for line in (f"{other}; {own}", f"{own}; {other}", f"{other};{own};{other}"):
        assert served.client.get("/v1/models", headers={"cookie": line.encode()}).status_code == 200, line
    assert served.client.get("/v1/models", headers={"cookie": f"x{own}"}).status_code == 401


def test_a_wrong_key_is_never_taken_for_no_key(served: Served) -> None:
    served.accounts.add("ada", scopes=["member"])
    session = {"cookie": f"{SESSION_COOKIE}={served.accounts.new_session('ada')}"}
    assert served.client.get("/v1/models", headers=session).status_code == 200
    assert code(served.client.get("/v1/models", headers=session | {"authorization": "Bearer nonsense"})) == (401, "invalid_api_key")
    assert code(served.client.get("/v1/models", headers=session | {"authorization": "Basic x"})) == (401, "invalid_api_key")


def test_a_key_has_its_limit_and_the_answer_says_what_is_left(served: Served) -> None:
    served.accounts.add("ada", scopes=["member"])
    limited = served.accounts.new_key("ada", name="k", requests_per_minute=3).secret
    left = [served.get(authorization=f"Bearer {limited}").headers["x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = served.get(authorization=f"Bearer {limited}")
    assert code(refused) == (429, "rate_limit_exceeded") and 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    other = served.accounts.new_key("ada", name="other").secret
    assert served.get(authorization=f"Bearer {other}").status_code == 200


def test_metrics_need_an_engineer_and_hold_no_path_of_a_request(served: Served) -> None:
    served.accounts.add("ada", scopes=["member"])
    served.accounts.add("bob", scopes=["engineer"])
    ada, bob = (served.accounts.new_key(name, name="k").secret for name in ("ada", "bob"))
    assert code(served.get("/metrics", authorization=f"Bearer {ada}")) == (403, "missing_scope")
    served.get("/v1/models/secret-name", authorization=f"Bearer {ada}")
    text = served.get("/metrics", authorization=f"Bearer {bob}").text
    assert 'agora_requests_total{method="GET",route="/v1/models/{model_id:path}",status="404"} 1.0' in text
    assert "secret-name" not in text


def test_words_of_clients_make_no_new_numbers(served: Served) -> None:
    for number in range(3):
        served.client.request(f"WORD{number}", "/v1/models")
    text = served.get("/metrics").text
    assert "WORD" not in text and 'agora_requests_total{method="other"' in text


def test_a_bucket_refills_with_time_and_holds_a_minute() -> None:
    now = [0.0]
    limits = RateLimits(clock=lambda: now[0])
    assert [limits.ask("a", 2).wait_s for _ in range(3)] == [0, 0, 30]
    now[0] = 30
    assert limits.ask("a", 2).wait_s == 0 and limits.ask("a", 2).wait_s > 0
    now[0] = 10_000
    assert [limits.ask("a", 2).wait_s for _ in range(3)] == [0, 0, 30]
    assert limits.ask("b", 2).left == 1


def test_a_busy_database_is_tried_again_and_its_path_is_not_told(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.database._BUSY_MS", 20)
    served.database.engine.dispose()
    other = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    made = [served.client.post("/api/v1/conversations", json={"title": "x"}), served.client.get("/v1/models")]
    other.execute("ROLLBACK")
    other.close()
    for refused in made:
        assert code(refused) == (503, "busy") and refused.headers["retry-after"] == "1"
        assert "try again" in refused.text and str(tmp_path) not in refused.text and "server.db" not in refused.text
    served.accounts.ensure("local", scopes=["admin"])
    other = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = served.client.post("/api/v1/conversations", json={"title": "x"})
    other.close()
    assert code(refused) == (503, "busy") and str(tmp_path) not in refused.text
    assert served.client.post("/api/v1/conversations", json={"title": "x"}).status_code == 201


def test_a_broken_database_is_told_without_its_path_and_in_full_in_the_log(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served.accounts.ensure("local", scopes=["admin"])
    served.database.engine.dispose()
    for file in tmp_path.glob("server.db*"):
        file.write_bytes(b"no database " * 1_000)
    for refused in (served.get(), served.client.post("/api/v1/conversations", json={"title": "x"})):
        assert code(refused) == (503, "database_failed")
        assert str(tmp_path) not in refused.text and "server.db" not in refused.text and "not a database" not in refused.text
    assert str(tmp_path / "server.db") in caplog.text and "not a database" in caplog.text


def test_a_page_opened_before_is_over_with_what_opened_it(served: Served) -> None:
    pages: list[Viewer] = []

    async def open_page(request: Request) -> dict[str, str]:
        viewer = Site.enter(request)
        assert isinstance(viewer, Viewer)
        pages.append(viewer)
        return {}

    served.app.get("/page")(open_page)
    is_in = lambda: [asyncio.run(still_in(page)) for page in pages]  # noqa: E731
    served.get("/page")
    served.get("/page", authorization="Bearer anything")
    assert is_in() == [True, True]
    served.accounts.add("root", scopes=["admin"])
    assert is_in() == [False, False]
    pages.clear()
    key = served.accounts.new_key("root", name="k")
    served.get("/page", authorization=f"Bearer {key.secret}")
    served.client.get("/page", headers={"cookie": f"{SESSION_COOKIE}={served.accounts.new_session('root')}"})
    assert is_in() == [True, True]
    served.accounts.revoke(key.id)
    assert is_in() == [False, True]
    served.accounts.add("second", scopes=["admin"])
    served.accounts.change("root", scopes=["member"])
    assert is_in() == [False, False]


@pytest.mark.parametrize(
    ("given", "value", "problem"),
    [("8", 8, None), ("abc", 1_024, "n='abc'"), ("", 1_024, "n=''"), ("1e3", 1_024, "n='1e3'"), ("9" * 5_000, 1_024, "n='9999")],
)
def test_an_address_with_a_wrong_number_shows_the_default_and_says_so(given: str, value: int, problem: str | None) -> None:
    asked = [inspect.Parameter("n", inspect.Parameter.KEYWORD_ONLY, default=1_024, annotation=int)]
    values, problems = read_parameters(asked, {"n": given})
    assert values == {"n": value} and len(problems) == (problem is not None)
    assert problem is None or (problems[0].startswith(problem) and problems[0].endswith("is not a whole number; shown is n=1,024."))


def test_not_a_number_is_no_number() -> None:
    asked = [inspect.Parameter("tokens", inspect.Parameter.KEYWORD_ONLY, default=1.5, annotation=float)]
    assert read_parameters(asked, {"tokens": "nan"}) == (
        {"tokens": 1.5},
        ["tokens='nan' in the address is not a number; shown is tokens=1.5."],
    )
