"""Stores of an older Agora. Goes in: a folder whose seal has an older schema version. Comes out: the same posts under the current one.

A migration adds and never rewrites; it counts, like any other change, from the moment its seal is in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from agora.errors import StoreError
from agora.files import write_atomically
from agora.posts import sealing

Migration = Callable[[Path, dict[str, Any]], dict[str, Any]]


def _add_num_likes(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has the column `num_likes`, null in every post that came before."""
    return asdict(replace(_with_column(folder, table, "num_likes"), schema_version=2))


def _add_arrival(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Version 3 numbers posts in order of arrival; those that came before have no number and count as the first ones."""
    head = _with_column(folder, table, "arrival")
    arrived = max(head.appended, head.num_posts)  # the oldest stores did not count
    return asdict(replace(head, schema_version=3, appended=arrived, numbered_from=arrived))


def _with_column(folder: Path, table: dict[str, Any], name: str) -> sealing.Head:
    """The seal of a store whose posts have one more column of int64, all null."""
    import lancedb

    head = sealing.as_head(folder, table)
    sealing.check_files(folder, head, contents=sealing.is_manifest)
    database = lancedb.connect(folder)
    posts, deletions = database.open_table(head.posts_table), database.open_table(sealing.DELETIONS_TABLE)
    if not head.is_removing:  # what a killed writer left beyond the seal goes, as in every change
        for found, sealed in ((posts, head.posts_version), (deletions, head.deletions_version)):
            if found.version != sealed:
                found.checkout(sealed)
                found.restore()
    if name not in posts.schema.names:
        posts.add_columns([pa.field(name, pa.int64())])
    files = sealing.inventory(folder, (head.posts_table, sealing.DELETIONS_TABLE), head.files)
    versions = {"posts_version": int(posts.version), "deletions_version": int(deletions.version)}
    return replace(head, is_removing=False, files=files, **versions)


MIGRATIONS: tuple[Migration, ...] = (_add_num_likes, _add_arrival)
"""MIGRATIONS[i] takes (folder, seal) of schema version i + 1 and returns the seal of version i + 2. Append, never edit."""


def needs_migration(folder: Path) -> bool:
    """Whether the store was made by an older Agora. Raises StoreError when it is from a newer one."""
    found = sealing.read_table(folder).get("schema_version")
    if not isinstance(found, int) or found < 1:
        raise StoreError(f"post store file {folder / sealing.HEAD_FILE} is damaged (schema_version={found!r}); restore it from a backup")
    newest = len(MIGRATIONS) + 1
    if found > newest:
        raise StoreError(f"post store {folder} has schema version {found}, but this Agora knows up to {newest}; update Agora")
    return found < newest


def migrate(folder: Path) -> None:
    """Run the missing migrations; each is sealed before the next starts. The caller holds the writer lock."""
    while needs_migration(folder):
        table = sealing.read_table(folder)
        changed = MIGRATIONS[table["schema_version"] - 1](folder, table)
        assert changed["schema_version"] == table["schema_version"] + 1
        write_atomically(folder / sealing.HEAD_FILE, json.dumps(changed, separators=(",", ":")))
