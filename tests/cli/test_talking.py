"""`agora chat`, `agora evaluate` and `agora serve` as a person uses them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def run(*words: str, text: str | None = None) -> tuple[str, str]:
    """Output and error lines of a command that succeeds."""
    result = CliRunner().invoke(app, words, input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_one_question_with_json(tiny_workspace: Path) -> None:
    words = ("chat", "-w", str(tiny_workspace), "--prompt", "hello", "--temperature", "0", "--max-tokens", "8")
    out, _ = run(*words, "--json")
    answer = json.loads(out)
    assert answer["model"] == "tiny" and answer["completion_tokens"] <= 8 and answer["prompt_tokens"] > 5
    plain, _ = run(*words)
    assert plain.splitlines()[0][:3] == answer["answer"].splitlines()[0][:3]


def test_prompt_from_standard_input_and_completion(tiny_workspace: Path) -> None:
    out, _ = run(
        "chat", "-w", str(tiny_workspace), "--complete", "--prompt", "-", "--seed", "1", "--max-tokens", "4", "--json", text="Rain"
    )
    assert json.loads(out)["prompt"] == "Rain"


def test_conversation_with_commands(tiny_workspace: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    script = f"/help\n/system be kind\nhello\n\n/reset\nagain\n/save {saved}\n/save\n/fly\n/quit\nnever said\n"
    out, err = run("chat", "-w", str(tiny_workspace), "--seed", "1", "--max-tokens", "4", text=script)
    assert "/reset" in out and "unknown command '/fly'" in err and "/save needs a file name" in err
    roles = [message["role"] for message in json.loads(saved.read_text())["messages"]]
    assert roles == ["system", "user", "assistant"]


def test_end_of_input_ends_the_conversation(tiny_workspace: Path) -> None:
    _, err = run("chat", "-w", str(tiny_workspace), "--max-tokens", "2", text="hello")
    assert "type a message" in err


def test_control_characters_of_a_model_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from agora.cli.chat import _show

    _show("a\x1b[31mb\x07\u202ec\r\n\td\u00e9\U0001f389\u3000e")
    assert capsys.readouterr().out == "a\ufffd[31mb\ufffd\ufffdc\ufffd\n\td\u00e9\U0001f389\u3000e"


@pytest.mark.parametrize("words", [("--complete",), ("--json",)])
def test_options_that_need_a_prompt_say_so(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="needs --prompt"):
        run("chat", *words)


@pytest.mark.parametrize("command", ["chat", "evaluate", "serve"])
def test_wrong_model_name_lists_what_exists(tiny_workspace: Path, command: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'tiny'\?"):
        run(command, "-w", str(tiny_workspace), "--model", "tine")


def test_evaluation_of_a_text_file(tiny_workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("Rain again.\nThe trains are late.\n")
    out, err = run("evaluate", "-w", str(tiny_workspace), "--text", str(path), "--lines", "--json")
    result = json.loads(out)
    assert result["num_bytes"] == path.stat().st_size and result["num_documents"] == 2
    assert result["bits_per_byte"] > 0 and result["xz_bits_per_byte"] > 0 and result["zstd_bits_per_byte"] > 0
    assert "next: agora chat" in err


def test_one_answer_names_the_next_command(tiny_workspace: Path) -> None:
    for more in ([], ["--json"]):
        _, err = run("chat", "-w", str(tiny_workspace), "--prompt", "hello", "--max-tokens", "2", *more)
        assert err.splitlines()[-1] == f"next: agora serve --model tiny --workspace {tiny_workspace}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "no-file.txt"], r"no-file\.txt does not exist"),
        (["--text", "."], "is a folder"),
        (["--corpus", "other"], "there is no corpus .*agora corpus build"),
    ],
)
def test_what_is_not_there_to_evaluate_is_a_usage_error(tiny_workspace: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run("evaluate", "-w", str(tiny_workspace), *words)


def test_text_and_corpus_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not both"):
        run("evaluate", "--text", "a", "--corpus", "b")


@pytest.mark.parametrize(("option", "value"), [("--dtype", "int4"), ("--device", "abacus")])
def test_unknown_formats_and_devices_are_refused(tiny_workspace: Path, option: str, value: str) -> None:
    with pytest.raises(UsageError, match=value):
        run("evaluate", "-w", str(tiny_workspace), "--text", "x", option, value)


def serve(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agora", "serve", *words],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "AGORA_API_KEY": "sesame"},
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_tells_its_address_and_ends_in_order(tiny_workspace: Path, number: signal.Signals) -> None:
    with serve("-w", str(tiny_workspace), "--port", "0", "--json") as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            assert httpx.get(f"{address}/v1/models").status_code == 401
            listed = httpx.get(f"{address}/v1/models", headers={"authorization": "Bearer sesame"}).json()
            assert [model["id"] for model in listed["data"]] == ["tiny"]
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
            assert process.returncode == 0, err
            assert out == "" and "Traceback" not in err
        finally:
            process.kill()


def test_an_empty_workspace_is_served_and_says_how_to_get_posts(tmp_path: Path) -> None:
    with serve("-w", str(tmp_path / "new"), "--port", "0", "--json") as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            with httpx.Client(base_url=address, headers={"authorization": "Bearer sesame"}) as client:
                assert client.get("/v1/models").json()["data"] == []
                asked = client.get("/api/v1/search", params={"q": "trains"})
                assert asked.status_code == 409 and "agora posts import" in asked.json()["error"]["message"]
        finally:
            process.kill()


def test_port_in_use_is_said_before_a_model_is_loaded(tiny_workspace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use; try --port {port + 1}"):
            run("serve", "-w", str(tiny_workspace), "--port", str(port))
