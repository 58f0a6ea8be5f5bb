"""What may be written into a launch file. Goes in: the settings of a job that are words. Comes out: nothing, or a ConfigError with the
setting, its value, what is wrong with it and what to write instead.

Names end up in directives of Slurm, in objects of Kubernetes and in comments, where no quoting helps: a space ends an option of sbatch,
a line break begins another. Rules: Kubernetes' of names (RFC 1123 labels and subdomains, RFC 1035 labels) and of image references
(distribution/reference, grammar in its documentation).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from agora.errors import ConfigError

MOST_OF_A_NAME: Final = 40  # pods are named NAME-node-0-12543-abcde, in 63 characters


@dataclass(frozen=True, slots=True)
class _Rule:
    """A value is `pattern` in at most `most` characters; `says` tells a person, `other` is what stands in place of what is wrong."""

    pattern: str
    most: int
    says: str
    other: str = "-"
    may_be_empty: bool = False


_LABEL: Final = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_PATH: Final = r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_HOST: Final = "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/"
_TAG: Final = r"(:\w[\w.-]{0,127})?(@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
_IMAGE: Final = f"({_HOST})?{_PATH}(/{_PATH})*{_TAG}"
_PLAIN: Final = "[A-Za-z0-9_][A-Za-z0-9_.@+:=-]*"
_RULES: Final[Mapping[str, _Rule]] = {
    "name": _Rule("[A-Za-z0-9][A-Za-z0-9._-]*", 100, "letters, digits, hyphens, dots and underscores, a letter or digit first", "-", True),
    "partition": _Rule(f"{_PLAIN}(,{_PLAIN})*", 255, "letters, digits and . _ - + : @ =, commas between several", "_", True),
    "account": _Rule(_PLAIN, 255, "letters, digits and . _ - + : @ =", "_", True),
    "image": _Rule(_IMAGE, 500, "an image reference such as registry.example.org:5000/team/agora:1.0"),
    "namespace": _Rule(_LABEL, 63, "lower-case letters, digits and hyphens inside (a DNS label)"),
    "claim": _Rule(rf"{_LABEL}(\.{_LABEL})*", 253, "lower-case letters, digits, and hyphens and dots inside (a DNS subdomain)"),
}


def check_settings(settings: Mapping[str, object]) -> None:
    """Raises ConfigError for a setting of LaunchConfig that cannot be written into a file as it is."""
    for key, value in settings.items():
        if not isinstance(value, str):
            continue
        check_printable(f"launch.{key}", value)
        rule = _RULES.get(key)
        if rule is None or (rule.may_be_empty and not value):
            continue
        if not _follows(rule, value):
            changed = re.sub(r"[^A-Za-z0-9._-]+", rule.other, value)[: rule.most].strip("-._")
            nearest = [re.sub(r"\s", "", value), dns_label(value) if key in ("namespace", "claim") else changed]
            hint = next((f"; try launch.{key}={one}" for one in nearest if _follows(rule, one)), "")
            raise ConfigError(f"launch.{key}={value!r} must be {rule.says}, at most {rule.most} characters{hint}")
    if settings["data"] in ("", ".", "..") or "/" in str(settings["data"]):
        raise ConfigError(f"launch.data={settings['data']!r} must be a plain folder name without slashes, such as main")
    if str(settings["workspace"]).startswith("~"):
        raise ConfigError(f"launch.workspace={settings['workspace']!r}: nothing expands ~ in the file; write the whole path")


def _follows(rule: _Rule, value: str) -> bool:
    return len(value) <= rule.most and re.fullmatch(rule.pattern, value, re.ASCII) is not None


def check_kubernetes(name: str, workspace: str) -> None:
    """What Kubernetes asks for beyond that: its objects are named for the run, and a volume is mounted at a whole path."""
    if name and name != dns_label(name):
        raise ConfigError(
            f"launch.name={name!r} names the objects of Kubernetes: lower-case letters, digits and hyphens inside, a letter first, at most "
            f"{MOST_OF_A_NAME} characters; try launch.name={dns_label(name)}"
        )
    if workspace and (not workspace.startswith("/") or ":" in workspace or ".." in PurePosixPath(workspace).parts):
        raise ConfigError(
            f"launch.workspace={workspace!r} is where Kubernetes mounts the volume: a whole path without colons or ..; "
            "try launch.workspace=/workspace"
        )


def check_words(words: Iterable[str]) -> None:
    """The settings of the recipe as typed: they are repeated in a comment."""
    for word in words:
        check_printable(word.partition("=")[0], word.partition("=")[2])


def check_printable(where: str, value: str) -> None:
    """Raises ConfigError for a line break or another character that a person cannot see."""
    wrong = next((character for character in f"{where}={value}" if not character.isprintable()), None)
    if wrong is not None:
        raise ConfigError(
            f"{where if where.isprintable() else ascii(where)}={value!a} has the character U+{ord(wrong):04X} in it; a launch file "
            "needs one line of visible characters there, so leave it out"
        )


def dns_label(name: str) -> str:
    """A name as RFC 1035 allows it, in at most MOST_OF_A_NAME letters, digits and hyphens: for a name without any of them, run."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MOST_OF_A_NAME].strip("-")
    return plain if plain[:1].isalpha() else f"run-{plain}"[:MOST_OF_A_NAME].strip("-")
