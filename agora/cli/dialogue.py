"""Talk at a terminal: lines in until the end, whatever answers them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from agora.errors import AgoraError


def dialogue(opening: str, answer: Callable[[str], None]) -> None:
    """Show `opening` and give each line to `answer` until /quit or the end of input. An error is told and Ctrl-C ends only the answer."""
    with suppress(ImportError):
        import readline  # noqa: F401 - arrow keys and history for input()
    print(opening, file=sys.stderr)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if line in ("/quit", "/exit"):
            return
        try:
            if line:
                answer(line)
        except KeyboardInterrupt:
            print(" [interrupted]", file=sys.stderr)
        except AgoraError as error:
            print(f"error: {error}", file=sys.stderr)


__all__ = ["dialogue"]
