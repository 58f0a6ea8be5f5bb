"""`make demo`: the whole road on one machine, posts -> corpus -> tokenizer -> model -> answers, then a report and a served model.

    python -m runs.demo                      posts of the simulated square
    python -m runs.demo --posts my-archive.zip
    python -m runs.demo --stop               end the server of an earlier demo

It runs the same commands that you would type, in one process, and prints each. Everything lies in the folder demo/, one
workspace per input; what is still valid there is not done again, and an interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from agora.errors import AgoraError, OtherRunError, UsageError
from agora.files import write_atomically
from agora.settings import Workspace

FOLDER: Final = Path("demo")
RECIPE: Final = "demo"
NUM_POSTS: Final = 120_000
NUM_DIALOGUES: Final = 4_000
MIN_POSTS: Final = 200  # fewer teach a model nothing
MIN_ACCOUNTS: Final = 100  # fewer leave hardly anybody to hold out
PROMPTS: Final = (
    ("chat", "Hello, who are you?"),
    ("chat", "What do people think of sourdough?"),
    ("main", "Can't believe"),
)  # the model asked: chat answers, main goes on with the text as a post
PORTS: Final = range(8000, 8020)
SERVER_START_S: Final = 60
INTERRUPTED: Final = 130  # what a command gives back that Ctrl-C has stopped


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runs.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=Path, help="your own export: file, folder or zip (default: the simulated square)")
    parser.add_argument("--no-serve", action="store_true", help="end after the report")
    parser.add_argument("--stop", action="store_true", help="end the server of an earlier demo and do nothing else")
    options = parser.parse_args()
    try:
        if options.stop:
            print(stop_server())
            return 0
        run(options.posts, serve=not options.no_serve)
    except AgoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same `make demo` goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def run(posts: Path | None, *, serve: bool) -> None:
    """All steps. Raises AgoraError for posts that cannot be read or are too few."""
    if posts is not None and not posts.exists():
        raise UsageError(f"POSTS={posts} does not exist; give a file, folder or zip archive of an export")
    started = time.perf_counter()
    place = Workspace(FOLDER / _name_of(posts)).create()
    found = {
        "posts": read_posts(place, posts),
        "integrity": agora(place, "integrity", "scan"),  # before the corpus, which heeds its labels: else the next demo would learn anew
        "corpus": agora(place, "corpus", "build", *heldout(place)),
        "tokenizer": agora(place, "tokenizer", "train", "vocab_size=4096"),
        "shards": agora(place, "tokenizer", "pack"),
        "pretraining": train(place, "pretrain", RECIPE),
        "chat": tune(place),
        "evaluation": evaluate(place),
    }
    agora(place, "search", "index", "--embeddings", "lexical")  # a sentence model would take longer than all the rest
    from runs.demo_report import write_report

    text, page = write_report(place, found, PROMPTS)
    print(f"\n{text}\nreport: {page}\nfinished in {(time.perf_counter() - started) / 60:.1f} min")
    if serve:
        print(closing_words(start_server(place)))


def closing_words(address: str) -> str:
    """What to do now, for somebody who has just seen all of it go by."""
    return (
        f"\nOpen {address} in a browser and press one of the questions there: the answer names the posts it rests on, and they stand\n"
        "below it. The menu leads to Search, Integrity, Ads, Training and Cluster. No sign-in is needed on this machine.\n"
        f"OpenAI's clients use {address}/v1. To end the server: make stop"
    )


def agora(place: Workspace, *words: str) -> dict[str, Any]:
    """Run one `agora` command in this process, after showing it as it would be typed. Returns its result.

    Raises KeyboardInterrupt when it was interrupted, AgoraError when it ended with another code than 0.
    """
    from agora.cli import app
    from agora.cli.output import emit

    command = [*words, "--workspace", str(place.root)]
    print(f"\n$ {shlex.join(['agora', *command])}", flush=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = app([*command, "--json"], standalone_mode=False)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise AgoraError(f"agora {' '.join(words[:2])} ended with code {code}; run it again and it goes on where it stopped")
    result: dict[str, Any] = json.loads(printed.getvalue())
    emit({name: value for name, value in result.items() if not _is_rows(value)}, as_json=False)
    sys.stdout.flush()
    return result


def _is_rows(value: Any) -> bool:
    """A list of tables: for programs, and too long to read; the command itself shows its like in words."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def train(place: Workspace, *words: str) -> dict[str, Any]:
    """`agora train ...`, from the start where the run there learned something else: posts that have changed or were deleted since."""
    try:
        return agora(place, "train", *words)
    except OtherRunError as error:
        print(f"what was learned is out of date and is learned again: {error}", flush=True)
        return agora(place, "train", *words, "--fresh")


def read_posts(place: Workspace, posts: Path | None) -> dict[str, Any]:
    """Import the user's export, or write the simulated square once. Raises UsageError when there is too little to learn from."""
    from agora.posts.store import PostStore

    mark = place.root / "simulated.json"
    if posts is not None:
        result = agora(place, "posts", "import", str(posts))
    elif mark.exists():
        result = dict(json.loads(mark.read_text(encoding="utf-8")))
    else:
        result = agora(place, "posts", "simulate", f"num_posts={NUM_POSTS}", "num_accounts=6000")
        write_atomically(mark, json.dumps(result) + "\n")
    with PostStore.open(place.folder("posts")) as store:
        num_posts = store.num_posts
    if num_posts < MIN_POSTS:
        raise UsageError(f"{posts} holds {num_posts} posts; a model needs at least {MIN_POSTS} to learn from. Try a larger export")
    return result


def heldout(place: Workspace) -> list[str]:
    """Settings that hold out authors, or posts where there are too few authors for that (most exports are of one account)."""
    from agora.posts.overview import post_statistics
    from agora.posts.store import PostStore

    with PostStore.open(place.folder("posts")) as store:
        accounts = post_statistics(store).accounts
    return ["heldout_share=0.03"] if accounts >= MIN_ACCOUNTS else ["heldout_share=0.05", "heldout_by=post"]


def tune(place: Workspace) -> dict[str, Any]:
    """Chat tuning on conversations that the square's grammar writes."""
    from agora.posts.simulate import SquareConfig, dialogues

    conversations = place.root / "dialogues.jsonl"
    if not conversations.exists():
        lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in dialogues(SquareConfig(), NUM_DIALOGUES)]
        write_atomically(conversations, "\n".join(lines) + "\n")
    return train(place, "chat", str(conversations), "--recipe", RECIPE, "--licence", "written by Agora's grammar, Apache-2.0")


def evaluate(place: Workspace) -> dict[str, Any]:
    """Bits per byte on held-out authors; kept, and valid as long as the model's weights are the same."""
    from agora.engine import load_model_folder
    from agora.training.evaluate import bits_per_byte, evenly_spaced, heldout_texts

    model = place.folder("models", "main")
    key = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(model.glob("*.safetensors")))).hexdigest()
    kept = place.root / "evaluation.json"
    if kept.exists() and (known := json.loads(kept.read_text(encoding="utf-8")))["weights"] == key:
        return dict(known)
    print("\nbits per byte on text that training never saw", flush=True)
    from agora.cli.output import terminal_progress
    from agora.config import to_dict

    network, tokenizer = load_model_folder(model)
    texts = evenly_spaced(heldout_texts(place.folder("corpus", "main")), 1000)
    found = {"weights": key, **to_dict(bits_per_byte(network, tokenizer, texts, progress=terminal_progress))}
    write_atomically(kept, json.dumps(found, indent=2) + "\n")
    return found


def start_server(place: Workspace) -> str:
    """Serve the chat model in the background (or find it served already); returns the address. Raises AgoraError."""
    record = FOLDER / "server.json"
    if (known := _running(record)) and known["workspace"] == str(place.root.resolve()) and known.get("models") == _models(place):
        return str(known["address"])
    stop_server()
    port = next((port for port in PORTS if _is_free(port)), 0)
    if not port:
        raise UsageError(f"no free port from {PORTS.start} to {PORTS.stop - 1}; end another server, or: make demo NO_SERVE=1")
    command = [sys.executable, "-m", "agora", "serve", "--model", "chat", "--model", "main", "--port", str(port), "-w", str(place.root)]
    log = FOLDER / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + SERVER_START_S
    while _is_free(port):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise UsageError(f"the server did not start; see {log}")
        time.sleep(0.2)
    entry = {"pid": process.pid, "address": address, "workspace": str(place.root.resolve()), "models": _models(place)}
    write_atomically(record, json.dumps(entry) + "\n")
    return address


def stop_server() -> str:
    """End the server of an earlier demo; returns what was done."""
    record = FOLDER / "server.json"
    known = _running(record)
    record.unlink(missing_ok=True)
    if not known:
        return "no demo server is running"
    os.kill(known["pid"], signal.SIGTERM)
    return f"ended the server at {known['address']}"


def _running(record: Path) -> dict[str, Any] | None:
    """The recorded server if its process still lives and still is one of ours."""
    if not record.exists():
        return None
    known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    shown = subprocess.run(["ps", "-p", str(known["pid"]), "-o", "args="], capture_output=True, text=True, check=False).stdout
    return known if "agora serve" in shown else None


def _models(place: Workspace) -> list[list[Any]]:
    """The model files there are: a server keeps the weights that it has read, and nobody is served by an out-of-date one."""
    files = sorted(place.folder("models").glob("*/*.safetensors"))
    return [[str(file.relative_to(place.root)), file.stat().st_mtime_ns] for file in files]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _name_of(posts: Path | None) -> str:
    """A workspace name for this input: its file name and a hash of what it is now."""
    if posts is None:
        return "square"
    files = sorted(path for path in posts.rglob("*") if path.is_file()) if posts.is_dir() else [posts]
    state = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', posts.stem)[:40]}-{digest}"


if __name__ == "__main__":
    sys.exit(main())
