"""The workspace: one folder that holds everything Agora makes, with its `agora.toml`.

workspace/
  agora.toml            name, and defaults per area ([corpus], [tokenizer], ... as key = value)
  posts/                the post store          quarantine/   records that could not be read
  corpus/NAME/          documents + data card   tokenizer/NAME/   tokenizer.json + chat template
  shards/NAME/          packed tokens           runs/NAME/        a training run
  models/NAME/          exported Hugging Face folders
  integrity/            the last scan, labels.parquet, ledger.db (verdicts and appeals)
  index/                the index of posts: derived, may be deleted
  search/               alerts.db (saved searches and their alerts), what the index was made with, who is referred to
  ads/                  jobs/NAME/ (brief, ads, results), audiences/ (the last ones found), opt_outs.txt
  server/               server.db (accounts, keys, conversations, feedback, audit)
  serving/              which model is served, and every promotion
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agora.config import unknown_key
from agora.errors import ConfigError, UsageError
from agora.files import write_atomically

AREAS = (
    "posts", "quarantine", "corpus", "tokenizer", "shards", "runs", "models", "integrity", "index", "search", "ads", "server", "serving",
)  # fmt: skip
SECTIONS = ("version", "name", "posts", "corpus", "tokenizer", "train", "integrity", "labels", "search")
"""What agora.toml may hold at the top."""
POSTS_KEYS = ("simulate",)
DEFAULT_NAME = "main"
_NEW_SETTINGS = "# Agora workspace; defaults per area, e.g. [corpus] min_characters = 20\nversion = 1\n"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths inside one workspace folder. Nothing is created until `create`."""

    root: Path

    @classmethod
    def find(cls, path: Path | None = None) -> Workspace:
        """The workspace at `path`, else at the environment's AGORA_WORKSPACE, else ./workspace."""
        chosen = path or Path(os.environ.get("AGORA_WORKSPACE") or "workspace")
        if chosen.exists() and not chosen.is_dir():
            raise UsageError(f"workspace {chosen} is a file; give a folder (--workspace FOLDER)")
        if file := next((parent for parent in chosen.parents if parent.is_file()), None):
            raise UsageError(f"workspace {chosen} cannot be a folder in {file}, which is a file; give another (--workspace FOLDER)")
        return cls(chosen)

    def create(self) -> Workspace:
        """Make the folder and an `agora.toml` if there is none; keeps what exists. Raises UsageError where that cannot be."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.settings_file.exists():
                write_atomically(self.settings_file, _NEW_SETTINGS)
        except OSError as error:
            raise UsageError(f"workspace {self.root} cannot be written: {error.strerror}; give another (--workspace FOLDER)") from error
        return self

    @property
    def settings_file(self) -> Path:
        return self.root / "agora.toml"

    def folder(self, area: str, name: str | None = None) -> Path:
        """`workspace/AREA` or `workspace/AREA/NAME`. Raises UsageError for a name that is not a plain folder name."""
        assert area in AREAS, area
        if name is None:
            return self.root / area
        if not name or name in (".", "..") or Path(name).name != name:
            raise UsageError(f"{area} name {name!r} must be a plain folder name without slashes")
        return self.root / area / name

    def defaults(self, area: str) -> dict[str, Any]:
        """The table `[area]` of agora.toml; empty when absent. Raises ConfigError for invalid TOML or an unknown key."""
        if not self.settings_file.exists():
            return {}
        try:
            table = tomllib.loads(self.settings_file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.settings_file} is not valid TOML: {error}") from error
        if unknown := [key for key in table if key not in SECTIONS]:
            raise ConfigError(unknown_key(unknown[0], SECTIONS, "the workspace's settings", str(self.settings_file)))
        section = table.get(area, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{self.settings_file}: [{area}] must be a table, not {type(section).__name__}")
        if area == "posts" and (unknown := [key for key in section if key not in POSTS_KEYS]):
            raise ConfigError(unknown_key(unknown[0], POSTS_KEYS, "[posts]", str(self.settings_file)))
        return section
