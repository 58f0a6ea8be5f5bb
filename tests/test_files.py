"""Drafts of folders: one writer's never hurts another's, and what a killed one left goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agora.files import replacing, replacing_folder, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from agora.files import replacing_folder
with replacing_folder(Path(sys.argv[1])) as draft:
    (draft / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_two_writers_of_one_file_do_not_take_each_others_draft(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["answer.json"]


def write(folder: Path, text: str) -> None:
    with replacing_folder(folder) as draft:
        (draft / "file").write_text(text)


def test_draft_of_a_killed_writer_goes_with_the_next_write(tmp_path: Path) -> None:
    write(tmp_path / "model", "old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "model")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2 and (tmp_path / "model" / "file").read_text() == "old"
    write(tmp_path / "other", "x")
    assert len(list(tmp_path.iterdir())) == 3, "the draft of another folder stays"
    write(tmp_path / "model", "new")
    assert sorted(os.listdir(tmp_path)) == ["model", "other"] and (tmp_path / "model" / "file").read_text() == "new"


def test_draft_of_a_writer_at_work_stays(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "model") as first:
        (first / "file").write_text("first")
        write(tmp_path / "model", "second")
        assert (tmp_path / "model" / "file").read_text() == "second"
    assert (tmp_path / "model" / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]


def test_an_error_names_the_file_that_was_asked_for_and_not_its_draft(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "plan.html", tmp_path):
        with pytest.raises(OSError) as caught:
            write_atomically(path, "text")
        assert caught.value.filename == str(path)
