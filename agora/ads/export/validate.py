"""Re-read a sheet as the platform would. Goes in: CSV text. Comes out: every fault with line, column, value and what is wrong."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from agora.ads.export.ad import leaves_folder
from agora.ads.export.sheet import Column, Sheet, is_safe_cell, sheet_named, without_guard


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a platform would refuse, or that should not reach a spreadsheet. Lines count from 1, the header is line 1."""

    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        shown = self.value if len(self.value) <= 60 else self.value[:57] + "..."
        return f"line {self.line}, {self.column}: {shown!r} {self.reason}"


def validate(text: str, sheet: str | Sheet) -> list[Fault]:
    """All faults of a sheet; none means that it keeps every rule of its table."""
    sheet = sheet_named(sheet) if isinstance(sheet, str) else sheet
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        return [Fault(reader.line_num, "-", "", f"is no CSV ({error})")]
    if not rows:
        return [Fault(1, "-", "", "is empty")]
    header = [_plain(name) for name in rows[0][1]]
    places = {name: header.index(_plain(name)) for name in sheet.header if _plain(name) in header}
    faults = [Fault(1, name, "", "is missing") for name in sheet.header if name not in places and _is_needed(sheet, name)]
    faults += [Fault(1, name, name, "stands there twice") for name in sheet.header if header.count(_plain(name)) > 1]
    faults += [Fault(1, name, name, "is no column of this sheet") for name in rows[0][1] if _plain(name) not in map(_plain, sheet.header)]
    if len(rows) == 1:
        faults.append(Fault(1, "-", "", "holds no ad"))
    if len(rows) - 1 > sheet.max_rows:
        faults.append(Fault(len(rows), "-", str(len(rows) - 1), f"ads are more than {sheet.max_rows}"))
    seen: dict[object, int] = {}
    for line, row in rows[1:]:
        if len(row) != len(header):
            faults.append(Fault(line, "-", str(len(row)), f"cells, but the header has {len(header)}"))
            continue
        faults += _row_faults(sheet, line, {name: row[place] for name, place in places.items()})
        faults += _repeated(sheet, line, {name: row[place] for name, place in places.items()}, seen)
    return faults


def _is_needed(sheet: Sheet, name: str) -> bool:
    return any(name in column.names and (column.required or name in column.names[: column.at_least]) for column in sheet.columns)


def _row_faults(sheet: Sheet, line: int, row: Mapping[str, str]) -> list[Fault]:
    faults = []
    for column in sheet.columns:
        cells = [(name, row[name]) for name in column.names if name in row]
        filled = [(name, cell) for name, cell in cells if cell.strip()]
        if column.required and not filled:
            faults.append(Fault(line, column.name, "", f"is required{': ' if column.hint else ''}{column.hint}"))
        if len(filled) < column.at_least:
            faults.append(Fault(line, column.name, str(len(filled)), f"given; at least {column.at_least} are needed"))
        if column.repeat and column.unique and len({cell.casefold() for _, cell in filled}) < len(filled):
            faults.append(Fault(line, column.name, "", "has the same text twice"))
        for name, cell in filled:
            faults += [Fault(line, name, cell, reason) for reason in _cell_reasons(sheet, column, cell)]
    return faults


def _cell_reasons(sheet: Sheet, column: Column, cell: str) -> list[str]:
    reasons = []
    if not is_safe_cell(cell):
        reasons.append("could be run by a spreadsheet as a formula; put an apostrophe before it")
    text = without_guard(cell)
    width = sheet.width(text) if column.kind == "text" else len(text)
    if column.max and width > column.max:
        reasons.append(f"is {width} wide; at most {column.max}")
    if column.min and width < column.min:
        reasons.append(f"is {width} wide; at least {column.min}")
    for mark in column.refused:
        if mark in unicodedata.normalize("NFKC", text):
            reasons.append(f"has {mark!r}, which the platform refuses here; leave it out")
    if column.one_of and text not in column.one_of:
        reasons.append(f"is none of {', '.join(column.one_of)}")
    if column.kind == "url" and not _is_url(text):
        reasons.append("is no link with http:// or https:// and a host")
    if column.kind == "file" and leaves_folder(text):
        reasons.append("leaves the folder of the ads; give a path below it")
    if column.kind == "json_list" and not _is_list_of_texts(text):
        reasons.append('is no JSON list of texts such as ["one", "two"]')
    if column.source != "primary_text" and "\n" in text:
        reasons.append("has a line break")
    return reasons


def _repeated(sheet: Sheet, line: int, row: Mapping[str, str], seen: dict[object, int]) -> list[Fault]:
    """Columns that are unique within a group, and rows that must not repeat, or not with the same assets in another order."""
    group = tuple(row.get(name, "") for name in sheet.group_key)
    keys: list[tuple[str, tuple[str, ...]]] = []
    for column in sheet.columns:
        if column.unique and not column.repeat and row.get(column.name):
            keys.append((column.name, (column.name, *group, row[column.name])))
    if sheet.unique_rows:
        keys.append(("row", tuple(row.values())))
    faults = []
    for name, key in keys:
        if key in seen:
            faults.append(Fault(line, name, key[-1], f"stands in line {seen[key]} already"))
        seen.setdefault(key, line)
    if sheet.assets_once and (first := seen.setdefault(sheet.assets(row), line)) != line:
        faults.append(Fault(line, "row", "", f"has the assets of line {first} in another order, which is the same ad; leave one out"))
    return faults


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(one.isspace() for one in text)


def _is_list_of_texts(text: str) -> bool:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(found, list) and bool(found) and all(isinstance(one, str) and one.strip() for one in found)


def _plain(name: str) -> str:
    return "".join(name.lower().replace("_", " ").split())


def fault_lines(faults: Sequence[Fault]) -> list[str]:
    """One line of text per fault."""
    return [str(fault) for fault in faults]
