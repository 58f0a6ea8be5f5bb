"""A scan on disk. Goes in: a ScanResult. Comes out: the same, or an error that names what is missing or damaged.

folder/
  scan.json         what was looked at, with which settings, when; SHA-256 and number of lines of the other file
  campaigns.jsonl   one campaign per line
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agora.config import from_dict, to_dict
from agora.errors import ConfigError, DataError
from agora.files import file_sha256, replacing_folder
from agora.integrity.config import IntegrityConfig
from agora.integrity.records import Action, Artefact, Campaign, Evidence, Explanation, Member, ScanResult

FORMAT: Final = 1
SCAN_FILE: Final = "scan.json"
CAMPAIGNS_FILE: Final = "campaigns.jsonl"
_COUNTS: Final = ("num_posts", "num_accounts", "num_groups", "num_tests", "first_at", "last_at")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a saved scan comes from.

    scanned_at     when it ran, ISO time, UTC
    store_version  version of the post store that it read
    num_deletions  tombstones of the store that the saved scan takes into account
    signals        version of each signal
    """

    scanned_at: str
    store_version: int | None = None
    num_deletions: int = 0
    signals: dict[str, int] = field(default_factory=dict)


def utc(moment: datetime | None = None) -> str:
    """A moment (default: now) as ISO text in UTC, to the second. Such texts order as their moments do."""
    return (moment or datetime.now(timezone.utc)).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def save_scan(result: ScanResult, folder: Path, *, origin: Origin | None = None) -> None:
    """Write a scan as `folder`, which it replaces as a whole."""
    origin = origin or Origin(scanned_at=utc())
    with replacing_folder(folder) as draft:
        digest = hashlib.sha256()
        with (draft / CAMPAIGNS_FILE).open("wb") as file:
            for campaign in result.campaigns:
                line = json.dumps(campaign, ensure_ascii=False, allow_nan=False, default=record_fields).encode() + b"\n"
                digest.update(line)
                file.write(line)
        summary = {
            "format": FORMAT,
            "origin": to_dict(origin),
            "config": to_dict(result.config),
            **{name: getattr(result, name) for name in _COUNTS},
            "num_campaigns": len(result.campaigns),
            "campaigns_sha256": digest.hexdigest(),
        }
        (draft / SCAN_FILE).write_text(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def load_scan(folder: Path) -> ScanResult:
    """Read a saved scan. Raises DataError when there is none, or when it is damaged or of another format."""
    summary = _summary(folder)
    path = folder / CAMPAIGNS_FILE
    if not path.is_file():
        raise DataError(f"the scan {folder} has no {CAMPAIGNS_FILE}; scan again: agora integrity scan")
    if file_sha256(path) != summary.get("campaigns_sha256"):
        raise DataError(f"{path} is damaged: its SHA-256 is not the one in {SCAN_FILE}; scan again: agora integrity scan")
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            campaigns = tuple(_campaign(json.loads(line)) for line in file)
        config = from_dict(IntegrityConfig, summary["config"], str(folder / SCAN_FILE))
        return ScanResult(config=config, campaigns=campaigns, **{name: summary[name] for name in _COUNTS})
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(f"the scan {folder} cannot be read: {type(error).__name__}: {error}; scan again: agora integrity scan") from error


def load_origin(folder: Path) -> Origin:
    """Where the saved scan comes from. Raises DataError as `load_scan` does."""
    try:
        return from_dict(Origin, _summary(folder)["origin"], str(folder / SCAN_FILE))
    except (KeyError, ConfigError) as error:
        raise DataError(
            f"{folder / SCAN_FILE} does not say where the scan comes from: {error}; scan again: agora integrity scan"
        ) from error


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SCAN_FILE
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"no scan at {folder}; run: agora integrity scan") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}; scan again: agora integrity scan") from error
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        seen = summary.get("format") if isinstance(summary, dict) else type(summary).__name__
        raise DataError(f"{path} has format {seen!r}; this Agora reads format {FORMAT}; scan again: agora integrity scan")
    return summary


def record_fields(record: Any) -> dict[str, Any]:
    """A record's own fields, for json.dumps(default=...), which asks again for the records inside."""
    if not dataclasses.is_dataclass(record):
        raise TypeError(f"{type(record).__name__} has no JSON form")
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _campaign(row: dict[str, Any]) -> Campaign:
    return Campaign(
        **{
            **row,
            "members": tuple(Member(**member) for member in row["members"]),
            "evidence": tuple(Evidence(**evidence) for evidence in row["evidence"]),
            "explanations": tuple(Explanation(**explanation) for explanation in row["explanations"]),
            "artefacts": tuple(_artefact(artefact) for artefact in row["artefacts"]),
            "sentences": tuple(row["sentences"]),
            "companions": tuple(row.get("companions", ())),
        }
    )


def _artefact(row: dict[str, Any]) -> Artefact:
    return Artefact(**{**row, "actions": tuple(Action(**action) for action in row["actions"])})
