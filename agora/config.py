"""Configuration as frozen dataclasses. Goes in: a default or recipe, a file's table, `key=value` words. Comes out: a new
frozen dataclass, or a ConfigError that names the key, the value, where it came from and the nearest key that exists.

Order of strength: default < recipe < file < key=value.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from agora.errors import ConfigError
from agora.files import write_atomically

T = TypeVar("T")
_KINDS = {
    str: "text", int: "a whole number", float: "a number such as 0.5 or 15e12", bool: "true or false", list: "a list", tuple: "a list",
    dict: "a table",
}  # fmt: skip
"""What people call the types of settings."""
_TIMES = (datetime.date, datetime.time)
"""What TOML makes of an unquoted date or time (a datetime is a date); settings hold them as ISO text."""


def parse_assignments(words: Iterable[str]) -> dict[str, Any]:
    """`["model.dim=256", "name=x"]` -> `{"model.dim": 256, "name": "x"}`.

    A value is read as TOML where it is valid TOML (numbers, true/false, lists, quoted text) and as plain text otherwise;
    dates and times are plain text too.
    Raises ConfigError for a word without `=`.
    """
    result: dict[str, Any] = {}
    for word in words:
        key, separator, raw = word.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"{word!r} is not of the form key=value; example: model.dim=256")
        try:
            value = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            value = raw
        result[key.strip()] = raw.strip() if isinstance(value, _TIMES) else value
    return result


def apply_overrides(config: T, overrides: Mapping[str, Any], where: str) -> T:
    """Return `config` with the dotted keys of `overrides` replaced. `where` names their origin in errors.

    Nested tables and dotted keys mean the same. Raises ConfigError for an unknown key or a value of the wrong type.
    """
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        head, _, rest = key.partition(".")
        if head not in hints:
            raise ConfigError(unknown_key(head, list(hints), type(config).__name__, where))
        current = getattr(config, head)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            if rest:
                nested.setdefault(head, {})[rest] = value
            elif isinstance(value, Mapping):
                nested.setdefault(head, {}).update(value)
            else:
                raise ConfigError(f"{where}: {key}={value!r} must be a table; its keys are {', '.join(_field_names(current))}")
        elif rest:
            raise ConfigError(f"{where}: {key!r}: {head!r} has no keys of its own; write {head}=...")
        else:
            changes[head] = convert(value, hints[head], key, where)
    for head, table in nested.items():
        changes[head] = apply_overrides(getattr(config, head), table, f"{where}: {head}")
    return dataclasses.replace(config, **changes) if changes else config  # type: ignore[type-var]


def convert(value: Any, hint: Any, key: str, where: str) -> Any:
    """Read `value` as the type `hint`. Raises ConfigError; never guesses between text and numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, key, where)
    if origin is Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        raise ConfigError(f"{where}: {key}={value!r} is not one of {', '.join(map(repr, arguments))}")
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        item = arguments[0] if arguments else Any
        return origin(convert(v, item, f"{key}[{i}]", where) for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {k: convert(v, arguments[1], f"{key}.{k}", where) for k, v in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if hint is str and isinstance(value, _TIMES):
        return value.isoformat()
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(hint, value, f"{where}: {key}")
    expected = f"a list, e.g. {key}={json.dumps([value], ensure_ascii=False, default=str)}" if origin in (tuple, list) else _kind(hint)
    raise ConfigError(f"{where}: {key}={value!r} is {_kind(type(value))}, but must be {expected}")


def _kind(hint: Any) -> str:
    """A type in plain words."""
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return _KINDS.get(hint) or str(getattr(hint, "__name__", hint))


def _convert_union(value: Any, arguments: tuple[Any, ...], key: str, where: str) -> Any:
    if type(None) in arguments and (value is None or value == "none"):
        return None
    for option in arguments:
        if option is not type(None):
            try:
                return convert(value, option, key, where)
            except ConfigError:
                continue
    expected = " or ".join("none" if option is type(None) else _kind(option) for option in arguments)
    raise ConfigError(f"{where}: {key}={value!r} is {_kind(type(value))}, but must be {expected}")


def from_dict(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from a table, as saved by `to_dict`. Raises ConfigError as `apply_overrides` does."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(unknown_key(key, list(hints), cls.__name__, where))
        values[key] = convert(value, hints[key], key, where)
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where}: {cls.__name__} cannot be built: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """The dataclass as plain JSON values (paths as text, tuples as lists)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def save_config(config: Any, path: Path) -> None:
    """Write the resolved configuration as JSON."""
    write_atomically(path, json.dumps(to_dict(config), indent=2) + "\n")


def load_config(cls: type[T], path: Path) -> T:
    """Read a configuration saved by `save_config` (JSON) or written by hand (TOML). Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not valid {path.suffix.lstrip('.') or 'JSON'}: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"configuration {path} must be a table, not {type(table).__name__}")
    return from_dict(cls, table, str(path))


def _field_names(config: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]


def unknown_key(key: str, known: Sequence[str], owner: str, where: str) -> str:
    """What to say about a key that does not exist, with the nearest one that does."""
    return f"{where}: unknown key {key!r} in {owner}; {_nearest(key, known) or 'known keys: ' + ', '.join(known)}"


def unknown_value(value: str, known: Sequence[str], what: str) -> str:
    """What to say about a value that is none of the known ones, with the nearest of them. `what` names it in a word."""
    return f"unknown {what} {value!r}; {_nearest(value, known) or 'known: ' + ', '.join(known)}"


def _nearest(word: str, known: Sequence[str]) -> str | None:
    begun = [name for name in known if len(word) > 2 and name.startswith(word)]
    close = begun if len(begun) == 1 else difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
