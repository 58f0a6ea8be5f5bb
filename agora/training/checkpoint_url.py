"""URLs under which checkpoints lie. Goes in: what the user wrote. Comes out: a refusal of what would leak or go astray, the URL of a run in
it, and the file system behind it (fsspec).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from agora.errors import AgoraError, ConfigError

# A user part, also one with a slash in its password, as AWS makes them; a port is none.
_USER: Final = re.compile(r"://([^/?#]*@|[^/?#:@]*:(?!\d+/)[^@]*@)")
_ALMOST_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?!//|:)")  # s3:/bucket; not C:/ and not cache::s3://


def check_url(url: str) -> None:
    """Raises ConfigError for a URL that holds credentials, which would stand in logs and run.json, and for one that only looks like one."""
    if _USER.search(url):
        raise ConfigError(
            f"training.checkpoint_url={redacted(url)} holds a user name or password; leave them out and set environment variables: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, for other protocols those that their fsspec package names"
        )
    if _ALMOST_URL.match(url):
        protocol, _, rest = url.partition(":")
        raise ConfigError(
            f"training.checkpoint_url={url} is no URL and no folder; write {protocol}://{rest if protocol == 'file' else rest.lstrip('/')}"
        )


def redacted(url: str) -> str:
    """`url` without what stands before an @ in it."""
    return re.sub(r"://.*@", "://***@", url, flags=re.DOTALL)


def place_under(url: str, name: str) -> str:
    """The URL of `name` in `url`; a query stays at the end. A folder has no query."""
    base, mark, query = url.partition("?") if "://" in url and not url.startswith("file://") else (url, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def connect(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. S3 comes with pyarrow; fsspec names the package that another protocol needs."""
    import fsspec

    try:
        if url.startswith("s3://"):
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            files, root = FileSystem.from_uri(url)
            return ArrowFSWrapper(files), root
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(f"training.checkpoint_url={url.partition('?')[0]} cannot be used: {error}") from error


@contextmanager
def as_os_error() -> Iterator[None]:
    """Each object store has errors of its own; to the trainer all are a place that cannot be read or written."""
    try:
        yield
    except (OSError, ValueError, AgoraError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
