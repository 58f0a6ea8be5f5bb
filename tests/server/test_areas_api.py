"""The JSON API over a small square with planted campaigns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from agora.database import Database
from agora.server.accounts import Accounts
from agora.server.app import create_app
from agora.server.conversations import GONE, Conversations
from agora.server.gate import GateConfig
from agora.server.tables import CONVERSATIONS, open_database
from agora.settings import Workspace


@pytest.fixture(scope="module")
def server(square: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Database]]:
    database = open_database(tmp_path_factory.mktemp("server") / "server.db")
    app = create_app([], gate=GateConfig(is_open=True), database=database, place=square)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client, database
    database.close()


@pytest.fixture
def client(server: tuple[TestClient, Database]) -> TestClient:
    return server[0]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[TestClient]:
    """A server of a workspace that holds nothing."""
    database = open_database(tmp_path / "server.db")
    with TestClient(
        create_app([], gate=GateConfig(is_open=True), database=database, place=Workspace(tmp_path / "ws")), base_url="http://127.0.0.1"
    ) as client:
        yield client
    database.close()


def some_word(client: TestClient) -> str:
    """A word of the newest post."""
    text = client.get("/api/v1/search", params={"mode": "latest", "limit": 1}).json()["hits"][0]["post"]["text"]
    return max((word for word in text.split() if word.isalpha()), key=len)


def test_search_finds_posts_that_hold_the_word_and_counts_them(client: TestClient) -> None:
    word = some_word(client)
    found = client.get("/api/v1/search", params={"q": word}).json()
    assert found["total"] >= 1 and any(word.lower() in hit["post"]["text"].lower() for hit in found["hits"])
    facets = client.get("/api/v1/search/facets", params={"q": word}).json()
    assert facets["counted"] == sum(bar["count"] for bar in facets["histogram"]) == sum(one["count"] for one in facets["kinds"]) > 0


def test_a_query_that_cannot_be_read_is_the_askers_mistake(client: TestClient) -> None:
    answer = client.get("/api/v1/search", params={"q": '"never closed (('})
    assert answer.status_code in (200, 400) and answer.json()
    assert client.get("/api/v1/trends", params={"window": "soon"}).status_code == 400


def test_an_answer_cites_only_posts_that_it_shows(client: TestClient) -> None:
    found = client.post("/api/v1/ask", json={"question": f"What do people say about {some_word(client)}?"}).json()
    shown = {post["id"] for post in found["posts"]}
    assert found["abstained"] or found["sentences"]
    assert all(set(sentence["post_ids"]) <= shown and sentence["post_ids"] for sentence in found["sentences"])


def test_questions_to_begin_with_are_answered_by_posts(client: TestClient) -> None:
    questions = client.get("/api/v1/questions").json()
    assert 1 <= len(questions) <= 3
    for question in questions:
        found = client.post("/api/v1/ask", json={"question": question}).json()
        assert len(found["sentences"]) > 1 and question.split()[-1].rstrip("?") in str(found["posts"]).lower()


def test_saved_searches_are_their_owners_own(server: tuple[TestClient, Database], square: Workspace, tmp_path: Path) -> None:
    database = open_database(tmp_path / "people.db")
    accounts = Accounts(database)
    for name in ("ada", "bob"):
        accounts.add(name, scopes=["member"])
    keys = {name: accounts.new_key(name, name="key").secret for name in ("ada", "bob")}
    with TestClient(create_app([], database=database, place=square), base_url="http://127.0.0.1") as people:

        def ask(who: str, method: str, path: str, **more: object) -> httpx.Response:
            return people.request(method, f"/api/v1{path}", headers={"authorization": f"Bearer {keys[who]}"}, **more)  # type: ignore[arg-type]

        assert ask("ada", "POST", "/saved-searches", json={"name": "river", "query": "flood"}).status_code == 201
        assert [one["name"] for one in ask("ada", "GET", "/saved-searches").json()] == ["river"]
        assert ask("bob", "GET", "/saved-searches").json() == []
        assert ask("bob", "DELETE", "/saved-searches/river").status_code == 404
        assert ask("bob", "GET", "/campaigns").status_code == 403
        assert ask("ada", "GET", "/alerts").json() == []
        assert ask("ada", "DELETE", "/saved-searches/river").status_code == 200
    database.close()


def test_a_verdict_is_the_callers_and_is_in_the_audit_log_and_labels_follow(client: TestClient) -> None:
    rows = client.get("/api/v1/campaigns").json()["campaigns"]
    one = next(row for row in rows if row["labelled"])
    body = {"state": "explained", "explanation": "fan", "reason": "a fan club with open rules"}
    done = client.post(f"/api/v1/campaigns/{one['id']}/verdict", json=body).json()
    assert done["ruling"]["name"] == "local" and done["verdict"] == "explained" and done["labelled"] == 0
    logged = client.get("/api/v1/audit", params={"action": "verdicts"}).json()[0]
    assert (logged["who"], logged["what"], logged["details"]["reason"]) == ("local", one["id"], body["reason"])


def test_an_upheld_appeal_takes_the_label_away(client: TestClient) -> None:
    row = next(row for row in client.get("/api/v1/campaigns").json()["campaigns"] if row["labelled"] and row["verdict"] is None)
    campaign = f"/api/v1/campaigns/{row['id']}"
    account = next(one["account"] for one in client.get(campaign).json()["member_rows"] if one["label"])
    made = client.post(f"{campaign}/appeals", json={"account": account, "reason": "we are a choir"}).json()
    decided = client.post(f"/api/v1/appeals/{made['number']}/decision", json={"outcome": "upheld", "reason": "they are"}).json()
    assert decided["state"] == "upheld" and decided["decided_by"] == "local"
    member = next(one for one in client.get(campaign).json()["member_rows"] if one["account"] == account)
    assert member["label"] is None and member["appeal"] == "upheld"
    assert client.post("/api/v1/appeals/99999/decision", json={"outcome": "upheld", "reason": "none"}).status_code == 404


def test_network_and_timeline_hold_every_drawn_account_and_every_action(client: TestClient) -> None:
    campaign = f"/api/v1/campaigns/{client.get('/api/v1/campaigns').json()['campaigns'][0]['id']}"
    drawn = client.get(f"{campaign}/network").json()
    assert all(left < len(drawn["nodes"]) and right < len(drawn["nodes"]) for left, right, _ in drawn["edges"])
    assert all(0 <= node["x"] <= 480 and 0 <= node["y"] <= 330 for node in drawn["nodes"])
    times = client.get(f"{campaign}/timeline").json()
    shares = [point["members"] for point in times["curve"]]
    assert shares == sorted(shares) and sum(one["members"] for one in times["bins"]) > 0


def test_plans_are_those_of_the_command_line(client: TestClient) -> None:
    from agora.cluster.describe import plan_table
    from agora.cluster.plan import plan
    from agora.cluster.requests import request_from_words

    body = {"model": "Llama-3-8B", "accelerator": "H100", "num_accelerators": 64, "tokens": 1e11}
    expected = plan_table(plan(request_from_words(["Llama-3-8B", "accelerator=H100", "num_accelerators=64", "tokens=1e11"])))
    made = client.post("/api/v1/plans", json=body).json()["plan"]
    assert made["days"] == pytest.approx(expected["days"]) and made["layout_in_words"] == expected["layout_in_words"]
    options = client.post("/api/v1/plans/compare", json={**body, "on": ["H100", "B200"]}).json()
    assert len(options) == 2 and any(one["is_unbeaten"] for one in options)
    assert client.post("/api/v1/plans", json={"model": "No-Such-Model"}).status_code == 400


def test_runs_and_models_of_an_empty_workspace_are_empty_and_names_cannot_climb_out(client: TestClient) -> None:
    assert client.get("/api/v1/runs").json() == [] and client.get("/api/v1/models").json() == []
    for name in ("nothing", "..", "%2e%2e", "..%2f..%2fetc", "a%00b"):
        assert client.get(f"/api/v1/runs/{name}/metrics").status_code == 404, name


def test_what_is_missing_is_told_with_the_command_that_makes_it(bare: TestClient) -> None:
    for path, command in (("/search", "agora posts"), ("/trends", "agora posts"), ("/campaigns", "agora integrity scan"),
                          ("/sources", "agora posts"), ("/breaker", "agora integrity scan")):  # fmt: skip
        answer = bare.get(f"/api/v1{path}")
        assert answer.status_code == 409 and command in answer.json()["error"]["message"], path


def test_what_is_deleted_is_found_no_more(server: tuple[TestClient, Database]) -> None:
    client, database = server
    post, other = (hit["post"] for hit in client.get("/api/v1/search", params={"mode": "latest", "limit": 2}).json()["hits"])
    talk = client.post("/api/v1/conversations", json={"title": "trains"}).json()["id"]
    account = database.rows(sa.select(CONVERSATIONS).where(CONVERSATIONS.c.id == talk))[0]["account"]
    for number, cited in enumerate(([post, other], [other]), start=1):
        citations = [{"number": place, "post_id": one["id"], "text": one["text"]} for place, one in enumerate(cited, start=1)]
        details = {"citations": citations, "steps": [f"read {cited[0]['text']}"], "persona": "neutral"}
        Conversations(database).add(account, talk, "assistant", f"{number}: {cited[0]['text']} [1]", details=details)
    token = client.patch(f"/api/v1/conversations/{talk}", json={"is_shared": True}).json()["shared"]
    whole = client.get(f"/api/v1/shared/{token}").json()["messages"]
    assert post["text"] in whole[0]["content"]
    done = client.post("/api/v1/deletions", json={"posts": [post["id"]]}).json()
    assert done["removed"] >= 1 and done["is_index_done"]
    left = client.get("/api/v1/search", params={"mode": "latest", "limit": 200}).json()["hits"]
    assert post["id"] not in {hit["post"]["id"] for hit in left}
    for path in (f"shared/{token}", f"conversations/{talk}"):
        first, second = client.get(f"/api/v1/{path}").json()["messages"]
        assert post["text"] not in str(first) and post["id"] not in str(first) and first["content"] == GONE
        assert [one["post_id"] for one in first["details"]["citations"]] == [other["id"]] and second == whole[1]
    logged = client.get("/api/v1/audit", params={"action": "deletions"}).json()[0]
    assert post["id"] not in str(logged)
    assert client.post("/api/v1/deletions", json={}).status_code == 400


def test_asking_in_a_conversation_streams_and_stores_the_answer(client: TestClient) -> None:
    talk = client.post("/api/v1/conversations", json={"title": "trains"}).json()["id"]
    question = f"What do people say about {some_word(client)}?"
    with client.stream("POST", f"/api/v1/conversations/{talk}/ask", json={"text": question}) as answer:
        kinds = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert kinds[0] == "begun" and kinds[-1] == "done" and "text" in kinds
    asked, said = client.get(f"/api/v1/conversations/{talk}").json()["messages"]
    assert asked["content"] == question and said["state"] == "complete" and said["content"]
    with client.stream("POST", f"/api/v1/conversations/{talk}/ask", json={}) as again:
        assert again.read()
    assert len(client.get(f"/api/v1/conversations/{talk}").json()["messages"]) == 2
    assert client.post("/api/v1/conversations/none/ask", json={"text": "hello?"}).status_code == 404
