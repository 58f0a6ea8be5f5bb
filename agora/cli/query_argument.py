"""Queries on the command line may begin with a minus sign. Goes in: words as typed. Comes out: options, then the query.

    agora search find '-filter:replies trump'      -filter: is no option of the command, so it is text

Only what begins with one minus sign and names no option is text; `--limti` is still a mistake. After `--` everything is text, as anywhere.
"""

from __future__ import annotations

from typing import Any

from agora.cli.output import PlainCommand


class QueryCommand(PlainCommand):
    """A command whose arguments may begin with a minus sign."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put text behind `--`, where nothing is taken for an option."""
        end = args.index("--") if "--" in args else len(args)
        short = {name for param in self.params if param.param_type_name == "option" for name in param.opts if not name.startswith("--")}
        options, texts = list[str](), list[str]()
        for word in args[:end]:
            (texts if _is_text(word, short) else options).append(word)
        if not texts:
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, [*options, "--", *texts, *args[end + 1 :]])


def _is_text(word: str, short: set[str]) -> bool:
    if not word.startswith("-") or word.startswith("--") or word == "-":
        return False
    return word[:2] not in short or not (len(word) == 2 or word[2:].lstrip("=").isdecimal())


__all__ = ["QueryCommand"]
