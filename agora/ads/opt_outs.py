"""Who is in no audience. Goes in: the workspace's list and other files, one account a line. Comes out: accounts as they are compared.

    accounts = read_opt_outs(workspace.root, Path("more.txt"))

A line is `name` or `@name`, in any case; what follows a `#` is a comment. The workspace's list always holds: a file adds to it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agora.errors import DataError, UsageError

OPT_OUTS: Final = "opt_outs.txt"
"""The workspace's list, in WORKSPACE/ads."""


def account_key(name: str) -> str:
    """An account's name as names are compared: without @ in front, without case, in one form of Unicode."""
    return unicodedata.normalize("NFKC", name).casefold().strip().lstrip("@")


def account_keys(names: Iterable[str]) -> frozenset[str]:
    """The keys of names, without what is empty."""
    return frozenset(key for name in names if (key := account_key(name)))


def read_accounts(path: Path) -> list[str]:
    """The accounts of a file, one a line, without comments. Raises UsageError where there is no file, DataError for what is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read ({error.strerror}); give one account a line") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return accounts_in(text)


def accounts_in(text: str) -> list[str]:
    """The accounts of a list, one a line, without comments."""
    return [name for line in text.splitlines() if (name := line.split("#")[0].strip())]


def read_opt_outs(workspace: Path, *files: Path) -> list[str]:
    """The accounts of the workspace's list and of `files`. Raises as `read_accounts` does."""
    kept = workspace / "ads" / OPT_OUTS
    found = [name for path in (*([kept] if kept.exists() else []), *files) for name in read_accounts(path)]
    return list(dict.fromkeys(found))


__all__ = ["OPT_OUTS", "account_key", "account_keys", "accounts_in", "read_accounts", "read_opt_outs"]
