"""What an advertiser knows. Goes in: a TOML or JSON file, or a saved product page. Comes out: a Brief; every fact has its source line.

    brief = read_brief(Path("brief.toml"))
    brief = brief_from_page(Path("shop-page.html"))

Nothing is fetched: pictures are used when they are files in the folder of the brief or page, or below it; no path or link leads out of it.
Not covered: pages that a script builds in the browser, and
microdata other than JSON-LD and OpenGraph.
"""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agora.ads.page import read_page
from agora.ads.source_lines import Lines, json_lines, toml_lines
from agora.config import unknown_key, unknown_value
from agora.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SPECIAL_CATEGORIES: Final = ("housing", "jobs", "credit", "politics")
TONES: Final = ("plain", "warm", "lively")
MAX_BYTES: Final = 1 << 20
"""A longer brief is refused unread."""
KEYS: Final = (
    "product", "short_name", "brand", "facts", "offer", "landing_page", "tone", "languages", "placements", "platforms",
    "special_category", "call_to_action",
)  # fmt: skip
BRAND_KEYS: Final = ("name", "colours", "fonts", "logo", "product_picture")
FACT_KEYS: Final = ("id", "text", "language")
_TOO_MUCH: Final = "holds a number with thousands of digits or brackets in brackets by the hundred; a brief is a page of text"
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}\Z")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}\Z")
_ID: Final = re.compile(r"[\w.-]{1,40}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One thing that is true of the product, as the advertiser says it. `source`: file and line. Texts may say this and nothing beyond."""

    id: str
    text: str
    source: str
    language: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Brand:
    """The brand kit. Colours as `#rrggbb`, the main one first."""

    name: str
    colours: tuple[str, ...] = ()
    fonts: tuple[str, ...] = ()
    logo: Path | None = None
    product_picture: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Brief:
    """What is advertised. `sources`: the line of every other value that a text may name (product, short_name, brand, call_to_action).
    Empty `placements` and `platforms` mean all."""

    product: str
    brand: Brand
    facts: tuple[Fact, ...]
    landing_page: str
    languages: tuple[str, ...]
    offers: tuple[Fact, ...] = ()
    short_name: str = ""
    tone: str = "plain"
    placements: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    special_category: str | None = None
    call_to_action: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def offer(self) -> Fact | None:
        """The offer in the first language, or None."""
        return self.offer_in(self.languages[0])

    def facts_in(self, language: str) -> tuple[Fact, ...]:
        """The facts that are written in a language."""
        return tuple(fact for fact in self.facts if fact.language == language)

    def offer_in(self, language: str) -> Fact | None:
        """The offer in a language, or None."""
        return next((offer for offer in self.offers if offer.language == language), None)

    def statements(self, language: str | None = None) -> tuple[Fact, ...]:
        """All that a text in `language` may rest on: names, offer, facts. None: of all languages."""
        names = {"product": self.product, "short_name": self.short_name, "brand": self.brand.name}
        named = [Fact(id=key, text=text, source=self.sources.get(key, ""), language="") for key, text in names.items() if text]
        said = [
            Fact(id="call_to_action", text=text, source=self.sources.get("call_to_action", ""), language=key)
            for key, text in self.call_to_action.items()
        ]
        return tuple(one for one in (*named, *said, *self.offers, *self.facts) if language is None or one.language in ("", language))


def read_brief(path: Path) -> Brief:
    """The brief in a .toml or .json file (or a saved page, .html).

    Raises ConfigError, which names file, line, key and value, and says what to do; DataError for a file that cannot be read at all.
    """
    if path.suffix.lower() in (".html", ".htm"):
        return brief_from_page(path)
    text = _read(path)
    try:
        if path.suffix.lower() == ".json":
            table, lines = json.loads(text), json_lines
        elif path.suffix.lower() == ".toml":
            table, lines = tomllib.loads(text), toml_lines
        else:
            raise ConfigError(f"brief {path} must end in .toml, .json or .html")
        if not isinstance(table, dict):
            raise ConfigError(f"{path} must be a table of keys ({', '.join(KEYS)}), not {type(table).__name__}")
        return _Reader(path, lines(text)).brief(table)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno} is not valid JSON: {error.msg}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # Python reads no number of more than 4,300 digits
        raise ConfigError(f"{path} {_TOO_MUCH}") from error


def brief_from_page(path: Path, *, language: str | None = None) -> Brief:
    """The brief that a saved product page makes: title, meta, JSON-LD Product, OpenGraph. Raises DataError without a product."""
    text = _read(path)
    try:
        page = read_page(text, path)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} {_TOO_MUCH}") from error
    if not page.name:
        raise DataError(f"{path} names no product: it has no JSON-LD Product, og:title or <title>; write a brief.toml instead")
    if not re.match(r"https?://[^/\s]+", page.url):
        raise DataError(
            f'{path} does not say at which web address it stands (landing page {page.url!r}): add <link rel="canonical" '
            'href="https://..."> or og:url to the saved page, or write a brief.toml with landing_page'
        )
    where = {key: f"{path.name}:{line}" for key, line in page.lines.items()}
    spoken = language or page.language or "en"
    facts = tuple(
        Fact(id=f"{kind}{number}", text=text, source=f"{path.name}:{line} ({kind})", language=spoken)
        for number, (kind, text, line) in enumerate(page.facts, start=1)
    )
    if not facts:
        raise DataError(f"{path} states no fact about {page.name!r}: it has no description and no price; write a brief.toml instead")
    brand = Brand(name=page.brand or page.name, product_picture=_page_picture(path, page.picture))
    return Brief(
        product=page.name, brand=brand, facts=facts, landing_page=page.url, languages=(spoken,),
        sources={"product": where.get("name", path.name), "brand": where.get("brand", where.get("name", path.name))},
    )  # fmt: skip


def picture_beside(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder` or below it; None where there is none. Raises DataError for a path that leads out of it, also by a
    link."""
    try:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{name!r} leads out of {folder}; copy the picture beside the brief and name it without '..', '/' or links")
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
        return None


def _page_picture(page: Path, name: str) -> Path | None:
    """The picture that a page names, where it is a file beside it. A path from the root of a site is common: it costs the picture only."""
    if not name or re.match(r"[a-z][a-z0-9+.-]*:|//", name, re.IGNORECASE):
        return None
    try:
        return picture_beside(page.parent, name)
    except DataError as error:
        log.warning("%s: its picture is not used: %s", page, error)
        return None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES * 4:
            raise DataError(f"{path} is {path.stat().st_size:,} bytes long, more than {MAX_BYTES * 4:,}; a brief is a page of text")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"there is no brief {path}; docs/ads.md shows how one looks") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


class _Reader:
    """Checks a parsed file, value by value, and knows the line of each."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self._path, self._lines = path, lines

    def brief(self, table: Mapping[str, Any]) -> Brief:
        self._known(table, KEYS, "a brief", ())
        languages = self._strings(table, "languages", ("en",))
        for number, language in enumerate(languages):
            if not _LANGUAGE.match(language):
                self._wrong(("languages", number), language, "must be an ISO 639 code in lower case, such as 'en'")
        facts = self._facts(table.get("facts"), languages)
        for language in languages:
            if not any(fact.language == language for fact in facts):
                self._wrong(("languages",), language, f"has no fact; add one with language = {language!r}, or leave the language out")
        product = self._string(table, "product")
        brand = self._brand(table.get("brand", {}))
        sources = {"product": self.where(("product",)), "short_name": self.where(("short_name",)), "brand": self.where(("brand", "name"))}
        return Brief(
            product=product, short_name=self._string(table, "short_name", ""), brand=brand, facts=facts,
            offers=self._offers(table, languages), landing_page=self._landing_page(table),
            tone=self._one_of(table, "tone", TONES, "plain"), languages=languages, placements=self._strings(table, "placements", ()),
            platforms=self._strings(table, "platforms", ()),
            special_category=self._one_of(table, "special_category", SPECIAL_CATEGORIES, "") or None,
            call_to_action=self._per_language(table, "call_to_action", languages),
            sources=sources | {"call_to_action": self.where(("call_to_action",))},
        )  # fmt: skip

    def where(self, path: Sequence[str | int]) -> str:
        return f"{self._path.name}:{self._lines.line(path)}"

    def _wrong(self, path: Sequence[str | int], value: object, rule: str) -> None:
        key = ".".join(str(part) for part in path)
        raise ConfigError(f"{self._path}:{self._lines.line(path)}: {key}={value!r} {rule}")

    def _known(self, table: Any, known: Sequence[str], owner: str, path: tuple[str | int, ...]) -> None:
        if not isinstance(table, Mapping):
            self._wrong(path, table, f"must be a table with {', '.join(known)}")
        for key in table:
            if key not in known:
                raise ConfigError(unknown_key(key, known, owner, f"{self._path}:{self._lines.line((*path, key))}"))

    def _string(self, table: Mapping[str, Any], key: str, default: str | None = None, *, path: tuple[str | int, ...] = ()) -> str:
        if key not in table:
            if default is None:
                raise ConfigError(f'{self._path}: {".".join(map(str, (*path, key)))} is missing; write {key} = "..."')
            return default
        value = table[key]
        if not isinstance(value, str) or not value.strip():
            self._wrong((*path, key), value, "must be a text that is not empty")
        return " ".join(value.split())

    def _strings(
        self, table: Mapping[str, Any], key: str, default: tuple[str, ...], *, path: tuple[str | int, ...] = ()
    ) -> tuple[str, ...]:
        value = table.get(key, list(default))
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value) or (default and not value):
            self._wrong((*path, key), value, "must be a list of texts")
        return tuple(dict.fromkeys(value))

    def _one_of(self, table: Mapping[str, Any], key: str, known: Sequence[str], default: str) -> str:
        value = self._string(table, key, default)
        if value and value not in known:
            raise ConfigError(f"{self._path}:{self._lines.line((key,))}: {key}: {unknown_value(value, known, key)}")
        return value

    def _landing_page(self, table: Mapping[str, Any]) -> str:
        value = self._string(table, "landing_page")
        if not re.match(r"https?://[^\s/]+\.[^\s/]+", value):
            self._wrong(("landing_page",), value, "must be a web address, such as https://shop.example/lynx")
        return value

    def _facts(self, value: Any, languages: Sequence[str]) -> tuple[Fact, ...]:
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{self._path}: facts is missing or empty; a text may only say what a fact says: add at least one")
        facts = [self._fact(one, number, languages[0]) for number, one in enumerate(value)]
        seen: dict[str, str] = {}
        for number, fact in enumerate(facts):
            if fact.id in seen:
                self._wrong(("facts", number), fact.id, f"is the id of the fact at {seen[fact.id]} too; give another")
            seen[fact.id] = fact.source
        return tuple(facts)

    def _fact(self, one: Any, number: int, language: str) -> Fact:
        place: tuple[str | int, ...] = ("facts", number)
        if isinstance(one, str):
            one = {"text": one}
        else:
            self._known(one, FACT_KEYS, "a fact", place)
        text = self._string(one, "text", path=place)
        identity = self._string(one, "id", f"fact{number + 1}", path=place)
        if not _ID.match(identity):
            self._wrong((*place, "id"), identity, "must be letters, digits, '.', '_' or '-', at most 40")
        line = self._lines.line((*place, "text"))
        spoken = self._string(one, "language", language, path=place)
        return Fact(id=identity, text=text, source=f"{self._path.name}:{line}", language=spoken)

    def _offers(self, table: Mapping[str, Any], languages: Sequence[str]) -> tuple[Fact, ...]:
        texts = self._per_language(table, "offer", languages)
        return tuple(
            Fact(id="offer" if key == languages[0] else f"offer.{key}", text=text, source=self.where(("offer", key)), language=key)
            for key, text in texts.items()
        )

    def _per_language(self, table: Mapping[str, Any], key: str, languages: Sequence[str]) -> dict[str, str]:
        """A text (of the first language), or a table of texts by language."""
        value = table.get(key)
        if value is None:
            return {}
        if isinstance(value, str):
            return {languages[0]: self._string(table, key)}
        self._known(value, languages, key, (key,))
        return {language: self._string(value, language, path=(key,)) for language in value}

    def _brand(self, table: Any) -> Brand:
        self._known(table, BRAND_KEYS, "the brand", ("brand",))
        colours = self._strings(table, "colours", (), path=("brand",))
        for number, colour in enumerate(colours):
            if not _COLOUR.match(colour):
                self._wrong(("brand", "colours", number), colour, "must be a colour as '#rrggbb'")
        return Brand(
            name=self._string(table, "name", path=("brand",)), colours=tuple(colour.lower() for colour in colours),
            fonts=self._strings(table, "fonts", (), path=("brand",)), logo=self._picture(table, "logo"),
            product_picture=self._picture(table, "product_picture"),
        )  # fmt: skip

    def _picture(self, table: Mapping[str, Any], key: str) -> Path | None:
        name = self._string(table, key, "", path=("brand",))
        if not name:
            return None
        try:
            path = picture_beside(self._path.parent, name)
        except DataError as error:
            raise ConfigError(f"{self._path}:{self._lines.line(('brand', key))}: brand.{key}: {error}") from error
        if path is None:
            self._wrong(("brand", key), name, f"is no file in {self._path.parent}; give a picture beside the brief")
        return path


__all__ = ["SPECIAL_CATEGORIES", "TONES", "Brand", "Brief", "Fact", "brief_from_page", "picture_beside", "read_brief"]
