"""Signing in, keys, conversations over the JSON API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from agora.database import Database
from agora.engine import LocalModel
from agora.server.accounts import Accounts
from agora.server.app import create_app
from agora.server.conversations import Conversations
from agora.server.gate import SIGN_INS_PER_MINUTE, GateConfig
from agora.server.tables import open_database

PASSWORD = "correct horse battery"
API = "/api/v1"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "server.db")
    accounts = Accounts(opened)
    accounts.add("root", scopes=["admin"], password=PASSWORD)
    accounts.add("ada", scopes=["member"], password=PASSWORD)
    accounts.add("eve", scopes=["member"], password=PASSWORD)
    yield opened
    opened.close()


@pytest.fixture
def client(tiny_model: LocalModel, database: Database) -> TestClient:
    return TestClient(create_app([tiny_model], gate=GateConfig(is_open=True), database=database), base_url="http://127.0.0.1:8000")


def sign_in(client: TestClient, name: str) -> None:
    client.cookies.clear()
    response = client.post(f"{API}/sign-in", json={"name": name, "password": PASSWORD})
    assert response.status_code == 200, response.text


def test_signing_in_gives_a_cookie_that_scripts_do_not_see_and_signing_out_ends_it(client: TestClient) -> None:
    response = client.post(f"{API}/sign-in", json={"name": "ada", "password": PASSWORD})
    assert "HttpOnly" in response.headers["set-cookie"] and "SameSite=lax" in response.headers["set-cookie"]
    assert client.get(f"{API}/me").json()["scopes"] == ["member"]
    stolen = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    assert client.post(f"{API}/sign-out").status_code == 200
    assert client.get(f"{API}/me", headers=stolen).status_code == 401


def test_guessing_passwords_is_slow(tiny_model: LocalModel, database: Database) -> None:
    now = [0.0]
    gate = GateConfig(is_open=True, clock=lambda: now[0])
    client = TestClient(create_app([tiny_model], gate=gate, database=database), base_url="http://127.0.0.1:8000")

    def guess() -> int:
        return client.post(f"{API}/sign-in", json={"name": "ada", "password": "x"}).status_code

    assert [guess() for _ in range(SIGN_INS_PER_MINUTE + 1)] == [401] * SIGN_INS_PER_MINUTE + [429]
    now[0] += 60 / SIGN_INS_PER_MINUTE
    assert [guess(), guess()] == [401, 429]


def test_other_addresses_do_not_make_guessing_faster(tiny_model: LocalModel, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.server.accounts.TRIES_PER_MINUTE", 3)
    app = create_app([tiny_model], gate=GateConfig(), database=database)
    codes = []
    for number in range(4):
        caller = TestClient(app, base_url="http://127.0.0.1:8000", client=(f"10.0.0.{number}", 5))
        codes.append(caller.post(f"{API}/sign-in", json={"name": "aDa" if number % 2 else "ada", "password": "x"}).status_code)
    assert codes == [401, 401, 401, 429]
    other = TestClient(app, base_url="http://127.0.0.1:8000", client=("10.0.1.1", 5))
    assert other.post(f"{API}/sign-in", json={"name": "eve", "password": PASSWORD}).status_code == 200


def test_an_address_that_a_client_made_up_is_not_believed(
    tiny_model: LocalModel,
    database: Database,
    run_app: Callable[[FastAPI], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agora.server.gate.SIGN_INS_PER_MINUTE", 3)
    with run_app(create_app([tiny_model], gate=GateConfig(), database=database)) as address:
        codes = [
            httpx.post(
                f"{address}{API}/sign-in", json={"name": f"n{number}", "password": "x"}, headers={"x-forwarded-for": f"10.0.0.{number}"}
            ).status_code
            for number in range(4)
        ]
    assert codes == [401, 401, 401, 429]


def test_members_see_their_own_keys_and_make_none_with_a_key(client: TestClient) -> None:
    sign_in(client, "ada")
    made = client.post(f"{API}/keys", json={"name": "laptop"}).json()
    with_key = {"authorization": f"Bearer {made['secret']}"}
    sign_in(client, "eve")
    assert client.get(f"{API}/keys").json() == []
    assert client.delete(f"{API}/keys/{made['id']}").status_code == 404
    assert client.post(f"{API}/keys", json={"account": "ada"}).status_code == 403
    assert client.post(f"{API}/keys", json={"scopes": ["admin"]}).status_code == 400
    client.cookies.clear()
    assert client.get(f"{API}/me", headers=with_key).json()["name"] == "ada"
    assert client.post(f"{API}/keys", json={}, headers=with_key).json()["error"]["code"] == "needs_session"
    sign_in(client, "root")
    assert [(row["account"], row["name"]) for row in client.get(f"{API}/keys").json()] == [("ada", "laptop")]
    assert client.delete(f"{API}/keys/{made['id']}").status_code == 200
    client.cookies.clear()
    assert client.get(f"{API}/me", headers=with_key).status_code == 401


def test_only_admins_make_accounts_and_it_is_written_down_without_the_password(client: TestClient) -> None:
    new = {"name": "grace", "scopes": ["analyst"], "password": "a very long one"}
    sign_in(client, "ada")
    assert client.post(f"{API}/accounts", json=new).status_code == 403
    assert client.get(f"{API}/audit").status_code == 403
    sign_in(client, "root")
    assert client.post(f"{API}/accounts", json=new).status_code == 201
    assert client.patch(f"{API}/accounts/grace", json={"password": "another long one"}).status_code == 200
    audit = client.get(f"{API}/audit").json()
    assert [(row["who"], row["action"], row["what"]) for row in audit] == [
        ("root", "accounts.change", "grace"),
        ("root", "accounts.add", "grace"),
    ]
    assert "long one" not in str(audit)


def test_conversations_of_another_are_as_unknown_as_none(client: TestClient, database: Database) -> None:
    sign_in(client, "ada")
    talk = client.post(f"{API}/conversations", json={"title": "bridge"}).json()["id"]
    answer = Conversations(database).add(2, talk, "assistant", "closed")
    assert client.post(f"{API}/messages/{answer}/feedback", json={"kind": "up"}).status_code == 201
    shared = client.patch(f"{API}/conversations/{talk}", json={"is_shared": True}).json()["shared"]
    sign_in(client, "eve")
    unknown = client.get(f"{API}/conversations/nothing").json()["error"]["message"].replace("nothing", talk)
    assert client.get(f"{API}/conversations/{talk}").json()["error"]["message"] == unknown
    assert client.delete(f"{API}/conversations/{talk}").status_code == 404
    assert client.post(f"{API}/messages/{answer}/feedback", json={"kind": "up"}).status_code == 400
    client.cookies.clear()
    assert client.get(f"{API}/shared/{shared}").json()["messages"][0]["content"] == "closed"
    assert client.get(f"{API}/conversations").status_code == 401
    sign_in(client, "ada")
    assert client.delete(f"{API}/conversations/{talk}").status_code == 200
    assert client.get(f"{API}/shared/{shared}").status_code == 404


def test_unknown_fields_are_refused_by_name(client: TestClient) -> None:
    sign_in(client, "root")
    error = client.post(f"{API}/accounts", json={"name": "x", "scope": ["admin"]}).json()["error"]
    assert error["param"] == "scope"


def test_usage_is_ones_own(client: TestClient) -> None:
    for name in ("ada", "eve"):
        sign_in(client, name)
        client.get(f"{API}/me")
    assert {row["who"] for row in client.get(f"{API}/usage").json()} == {"eve"}
    sign_in(client, "root")
    assert {"ada", "eve"} <= {row["who"] for row in client.get(f"{API}/usage").json()}


def test_usage_is_told_for_each_key_to_its_owner_and_to_admins(client: TestClient, database: Database) -> None:
    accounts = Accounts(database)
    phone, laptop = (accounts.new_key("ada", name=name) for name in ("phone", "laptop"))
    accounts.new_key("eve", name="other")
    client.cookies.clear()
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    tokens = dict[str, int]()
    for key, times in ((phone, 1), (laptop, 2)):
        for _ in range(times):
            answer = client.post("/v1/chat/completions", json=ask, headers={"authorization": f"Bearer {key.secret}"})
            tokens[key.secret] = tokens.get(key.secret, 0) + answer.json()["usage"]["total_tokens"]

    def rows(name: str, **query: int) -> list[dict[str, object]]:
        sign_in(client, name)
        found = client.get(f"{API}/usage", params=query).json()
        return [row for row in found if row["route"] == "/v1/chat/completions"]

    for name in ("ada", "root"):
        seen = {row["key_name"]: (row["key"], row["requests"], row["prompt_tokens"] + row["completion_tokens"]) for row in rows(name)}  # type: ignore[operator]
        assert seen == {"phone": (phone.id, 1, tokens[phone.secret]), "laptop": (laptop.id, 2, tokens[laptop.secret])}
        assert [row["key_name"] for row in rows(name, key=laptop.id)] == ["laptop"]
    assert rows("eve") == [] and rows("eve", key=laptop.id) == []
    sign_in(client, "eve")
    assert {row["key"] for row in client.get(f"{API}/usage").json()} == {None}


def test_routes_are_counted_under_the_addresses_that_were_asked(client: TestClient) -> None:
    sign_in(client, "root")
    for address in ("/accounts", "/keys", "/audit", "/me"):
        assert client.get(API + address).status_code == 200
    counted = {line for line in client.get("/metrics").text.splitlines() if line.startswith("agora_requests_total")}
    assert any('route="/api/v1/accounts"' in line for line in counted)
    assert not any('route="/accounts"' in line or 'route="/me"' in line for line in counted)
