"""Results of ads as the platforms export them. Goes in: a CSV file. Comes out: views and clicks per audience and variant, or an error by
line.

Columns are recognised by their names in data/results.toml (Google Ads, Meta, X, OpenAI, and plain names). Lines with totals are left out.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from agora.ads.experiment import Count
from agora.errors import DataError, UsageError

FIELDS = ("audience", "variant", "views", "clicks")
MAX_COUNT = 10**12
"""More views or clicks than this in one line are a mistake of the export."""
_TOTAL = re.compile(
    r"((grand )?totals?|sub-?totals?|gesamt|gesamtsumme|gesamtergebnis|summe|total général|totale|total general|total geral|"
    r"合計|総計|总计|合计)"
    r"(\s*[:：–—-].*)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """`rows`: audience, variant, count, one per line of the file. `columns`: which column was read as what."""

    rows: tuple[tuple[str, str, Count], ...]
    columns: Mapping[str, str]
    left_out: int


@cache
def column_names() -> Mapping[str, tuple[str, ...]]:
    """Per field, names of columns in the order in which they are looked for."""
    tables = tomllib.loads(files("agora.ads").joinpath("data/results.toml").read_text(encoding="utf-8"))
    return {field: tuple(tables[field]["names"]) for field in FIELDS}


def read_results(path: Path, *, columns: Mapping[str, str] | None = None) -> Results:
    """Read an export. `columns` (field -> name of a column) overrides what is recognised. Raises DataError naming file, line and value."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; give the CSV file that the platform exported")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: neither UTF-8 nor UTF-16 (byte {error.start}); export it as UTF-8 CSV") from None
    lines, places, header_at = _table(text, columns or {}, path)
    rows, left_out = [], 0
    for number, cells in lines[header_at + 1 :]:
        row = _row(cells, places, f"{path}:{number}")
        if row is None:
            left_out += 1
        else:
            rows.append(row)
    if not rows:
        raise DataError(f"{path}: no line of results below the header")
    header = lines[header_at][1]
    return Results(rows=tuple(rows), columns={field: header[place] for field, place in places.items()}, left_out=left_out)


def _table(text: str, columns: Mapping[str, str], path: Path) -> tuple[list[tuple[int, list[str]]], dict[str, int], int]:
    """Lines, places of the columns and where the header stands, by the mark between cells that gives a header: "," or, as a spreadsheet set
    to German writes, ";", or a tab."""
    problem = None
    for separator in sorted(",;\t", key=text.partition("\n")[0].count, reverse=True):
        try:
            lines = _lines(text, separator, path)
            return lines, *_header(lines, columns, path)
        except DataError as error:
            problem = problem or error
    raise problem or DataError(f"{path} is empty")


def _lines(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    found = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: no CSV ({error})") from None
    return found


def _header(lines: Sequence[tuple[int, list[str]]], given: Mapping[str, str], path: Path) -> tuple[dict[str, int], int]:
    """Platforms write a title and dates above the header, so the first line that names views and clicks is taken."""
    unknown = set(given) - set(FIELDS)
    if unknown:
        raise UsageError(f"columns: {sorted(unknown)[0]!r} is none of {', '.join(FIELDS)}")
    best: list[str] = []
    for at, (_, cells) in enumerate(lines[:20]):
        names = [_plain(cell) for cell in cells]
        places = {}
        for field in FIELDS:
            wanted = [given[field]] if field in given else column_names()[field]
            place = next((names.index(_plain(name)) for name in wanted if _plain(name) in names), None)
            if place is not None:
                places[field] = place
        if {"variant", "views", "clicks"} <= places.keys():
            return places, at
        best = max(best, list(places), key=len)
    missing = [field for field in FIELDS[1:] if field not in best]
    field = (missing or ["variant"])[0]
    raise DataError(
        f"{path}: no header with a column for {field} in the first 20 lines; name it, e.g. --column {field}='name of the column'"
    )


def _row(cells: Sequence[str], places: Mapping[str, int], where: str) -> tuple[str, str, Count] | None:
    def cell(field: str) -> str:
        place = places.get(field)
        if place is None:
            return ""
        if place >= len(cells):
            raise DataError(f"{where}: {len(cells)} cells, but the column for {field} is number {place + 1}")
        return cells[place].strip()

    variant = cell("variant")
    if not variant or variant == "--" or _is_total(cells[0]) or _is_total(variant):
        return None
    views, clicks = (_whole(cell(field), field, where) for field in ("views", "clicks"))
    if clicks > views:
        raise DataError(f"{where}: {clicks:,} clicks of {views:,} views for {variant!r}; a click rate needs clicks on views of the same ad")
    return cell("audience") or "all", variant.removeprefix("'"), Count(views, clicks)


def _is_total(cell: str) -> bool:
    """Whether a line sums up others: "Total", "Total: Account", "Gesamt", but not a variant called "Total comfort"."""
    return _TOTAL.fullmatch(cell.strip().casefold()) is not None


def _whole(text: str, field: str, where: str) -> int:
    """'12,345', '12.345', '12 345' or '12345.0'; nothing and dashes are zero, as platforms write them."""
    if text in ("", "-", "--", "—"):
        return 0
    plain = re.sub(r"[\s'\u2019]", "", text)
    if re.fullmatch(r"\d{1,3}([.,]\d{3})+", plain):
        plain = re.sub(r"[.,]", "", plain)
    elif re.fullmatch(r"\d+[.,]0+", plain):
        plain = re.split(r"[.,]", plain)[0]
    if not plain.isascii() or not plain.isdecimal():
        raise DataError(f"{where}: {field} {text[:40]!r} is no whole number")
    digits = plain.lstrip("0") or "0"
    if len(digits) > len(str(MAX_COUNT)) or int(digits) > MAX_COUNT:
        raise DataError(f"{where}: {field} {text[:40]!r} is more than {MAX_COUNT:,}")
    return int(digits)


def _plain(name: str) -> str:
    """A name without case, marks and doubled blanks; letters of every script stay."""
    return re.sub(r"(?:[^\w()%]|_)+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
