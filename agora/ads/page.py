"""What a saved product page says about the product. Goes in: HTML. Comes out: name, brand, facts with their lines, address, picture.

JSON-LD of type Product is believed first, then OpenGraph, then title and description. Only what is written there is read: nothing is
fetched and no script runs. A block of JSON-LD that is broken is left out with a warning.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[^\s\d])|(?<=[。！？])")
_FROM: Final = {
    "de": "ab", "fr": "à partir de", "es": "desde", "pt": "a partir de", "it": "a partire da", "nl": "vanaf", "pl": "od",
}  # fmt: skip
_MAX_FACTS: Final = 40
_MAX_DEPTH: Final = 8


@dataclass(slots=True)
class Page:
    """`facts`: (where it was found, text, line). `lines`: of name and brand."""

    name: str = ""
    brand: str = ""
    url: str = ""
    picture: str = ""
    language: str = ""
    facts: list[tuple[str, str, int]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)


class _Parser(HTMLParser):
    """Collects title, meta and link elements and blocks of JSON-LD, each with its line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.meta: dict[str, tuple[str, int]] = {}
        self.blocks: list[tuple[str, int]] = []
        self.language, self._inside, self._text, self._line = "", "", "", 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        line = self.getpos()[0]
        if tag == "html":
            self.language = re.split("[-_]", values.get("lang", ""))[0].lower()
        elif tag == "meta" and (key := (values.get("property") or values.get("name", "")).lower()):
            self.meta.setdefault(key, (" ".join(values.get("content", "").split()), line))
        elif tag == "link" and values.get("rel", "").lower() == "canonical":
            self.meta.setdefault("canonical", (values.get("href", ""), line))
        elif tag == "title" or (tag == "script" and values.get("type", "").lower() == "application/ld+json"):
            self._inside, self._text, self._line = tag, "", line

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag != self._inside:
            return
        if tag == "title":
            self.meta.setdefault("title", (" ".join(self._text.split()), self._line))
        else:
            self.blocks.append((self._text, self._line))
        self._inside = ""


def read_page(html: str, path: Path, *, today: date | None = None) -> Page:
    """What `html` says; `path` is named in warnings. Of several products the one at the page's address, else the first."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    page, meta = Page(language=parser.language), parser.meta
    found = [(product, text, line) for text, line in parser.blocks for product in _products(text, path, line)]
    if found:
        address = meta.get("canonical", meta.get("og:url", ("", 0)))[0]
        product, text, line = next((one for one in found if address and _same_address(one[0], address)), found[0])
        _read_product(page, product, text, line, today or date.today(), path)
        if len(found) > 1:
            log.warning("%s names %d products: %r is taken, the others are left out", path, len(found), page.name)
    _take_name(page, meta)
    page.language = page.language or re.split("[-_]", meta.get("og:locale", ("", 0))[0])[0].lower()
    page.url = page.url or meta.get("og:url", meta.get("canonical", ("", 0)))[0]
    page.picture = page.picture or meta.get("og:image", ("", 0))[0]
    for key in ("og:description", "description", "twitter:description"):
        if key in meta:
            _add_sentences(page, key, *meta[key])
    amount, currency = (meta.get(f"{kind}:price:{part}", ("", 0)) for kind in ("product",) for part in ("amount", "currency"))
    if amount[0] and not any(kind == "price" for kind, _, _ in page.facts):
        page.facts.append(("price", f"{amount[0]} {currency[0]}".strip(), amount[1]))
    page.facts = list({text: (kind, text, line) for kind, text, line in reversed(page.facts)}.values())[::-1][:_MAX_FACTS]
    return page


def _take_name(page: Page, meta: Mapping[str, tuple[str, int]]) -> None:
    for key in ("og:title", "title"):
        if not page.name and key in meta:
            page.name, page.lines["name"] = meta[key]
    for key in ("product:brand", "og:brand", "og:site_name"):
        if not page.brand and key in meta:
            page.brand, page.lines["brand"] = meta[key]


def _products(text: str, path: Path, line: int) -> Iterator[Mapping[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # broken, too deep, or a number of thousands of digits
        log.warning("%s:%d: JSON-LD cannot be read and is left out: %s", path, line, error)
        return
    yield from _typed(found, 0)


def _typed(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """Every Product inside: alone, in a list, or in @graph."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for one in value:
            yield from _typed(one, depth + 1)
    elif isinstance(value, Mapping):
        kinds = value.get("@type", "")
        if "Product" in (kinds if isinstance(kinds, list) else [kinds]):
            yield value
        yield from _typed(value.get("@graph"), depth + 1)


def _same_address(product: Mapping[str, Any], address: str) -> bool:
    """Whether a product's url is the page's; both without protocol, query, fragment and a slash at the end."""
    one, other = (re.sub(r"^https?://|[?#].*$", "", text.strip()).rstrip("/") for text in (str(product.get("url", "")), address))
    return one == other


def _price(offer: Mapping[str, Any], today: date, where: str, language: str) -> str:
    """A price as it is said: "from" before the lowest of several; empty where it is none or holds no longer."""
    is_lowest = "price" not in offer
    price = offer.get("lowPrice") if is_lowest else offer["price"]
    if isinstance(price, bool) or not isinstance(price, str | int | float) or not str(price).strip():
        return ""
    if isinstance(price, float) and not math.isfinite(price):
        return ""
    until = str(offer.get("priceValidUntil", ""))[:10]
    if re.fullmatch(r"\d{4}-\d\d-\d\d", until) and until < today.isoformat():
        log.warning("%s: the price %s held until %s and is left out", where, price, until)
        return ""
    return f"{_FROM.get(language, 'from') + ' ' if is_lowest else ''}{price} {offer.get('priceCurrency', '')}".strip()


def _read_product(page: Page, product: Mapping[str, Any], block: str, start: int, today: date, path: Path) -> None:
    def line(key: str) -> int:
        place = block.find(f'"{key}"')
        return start + block.count("\n", 0, place) if place >= 0 else start

    if not page.name and isinstance(product.get("name"), str):
        page.name, page.lines["name"] = " ".join(product["name"].split()), line("name")
    brand = product.get("brand")
    brand = brand.get("name") if isinstance(brand, Mapping) else brand
    if not page.brand and isinstance(brand, str):
        page.brand, page.lines["brand"] = " ".join(brand.split()), line("brand")
    for key in ("url", "image"):
        value = product.get(key)
        value = value[0] if isinstance(value, list) and value else value
        value = value.get("url") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            page.url, page.picture = (page.url or value, page.picture) if key == "url" else (page.url, page.picture or value)
    if isinstance(product.get("description"), str):
        _add_sentences(page, "description", product["description"], line("description"))
    for key in ("material", "color", "weight", "size", "award"):
        value = product.get(key)
        if isinstance(value, str) and value.strip():
            page.facts.append((key, " ".join(value.split()), line(key)))
    offers = product.get("offers")
    offer = offers[0] if isinstance(offers, list) and offers else offers
    if isinstance(offer, Mapping):
        place = line("price" if "price" in offer else "lowPrice")
        if price := _price(offer, today, f"{path}:{place}", page.language):
            page.facts.append(("price", price, place))


def _add_sentences(page: Page, kind: str, text: str, line: int) -> None:
    for sentence in _SENTENCE.split(" ".join(text.split())):
        if sentence.strip():
            page.facts.append((kind, sentence.strip(), line))


__all__ = ["Page", "read_page"]
