"""Write a sheet. Goes in: ads and a sheet. Comes out: CSV text that our own validator has re-read without a fault."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import regex

from agora.ads.export.ad import Ad, leaves_folder
from agora.ads.export.sheet import Column, Sheet, safe_cell, sheet_named
from agora.ads.export.validate import validate
from agora.errors import DataError
from agora.files import write_atomically

_SHOWN = 5


def export(ads: Sequence[Ad], sheet: str | Sheet, *, out: Path | None = None, pictures: str = "") -> str:
    """The CSV text, written to `out` if given. Raises DataError with the first faults (line, column, value); nothing is written then.

    Ads that are one to the platform (the same assets in another order) become one row. Marks that it refuses are left out: "Hello!" is
    "Hello" in a headline for Google. `pictures`: the public address of the folder with the pictures, for ads without `image_url`."""
    sheet = sheet_named(sheet) if isinstance(sheet, str) else sheet
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(sheet.header)
    for row in _rows([_with_link(ad, sheet, pictures) for ad in ads], sheet):
        writer.writerow([safe_cell(cell) for cell in row])
    text = buffer.getvalue()
    faults = validate(text, sheet)
    if faults:
        more = f" (and {len(faults) - _SHOWN} more)" if len(faults) > _SHOWN else ""
        raise DataError(f"{sheet.name}: " + "; ".join(map(str, faults[:_SHOWN])) + more)
    if out is not None:
        write_atomically(out, text.encode(sheet.encoding))
    return text


def _rows(ads: Sequence[Ad], sheet: Sheet) -> Iterator[list[str]]:
    """The cells of each ad; of several with the same assets the first."""
    seen = set()
    for ad in ads:
        row = [cell for column in sheet.columns for cell in _cells(ad, column)]
        assets = sheet.assets(dict(zip(sheet.header, row, strict=True)))
        if not (sheet.assets_once and assets in seen):
            yield row
        seen.add(assets)


def _with_link(ad: Ad, sheet: Sheet, pictures: str) -> Ad:
    """The ad with the public link of its picture, in the placement that the sheet takes."""
    if not pictures or ad.image_url or not ad.image:
        return ad
    if leaves_folder(ad.image):
        raise DataError(f"{ad.name}: image {ad.image!r} leaves the folder of the ads; give a path below it")
    path = PurePosixPath(ad.image)
    path = path.with_name(f"{sheet.picture}{path.suffix}") if sheet.picture else path
    return replace(ad, image_url=f"{pictures.rstrip('/')}/{quote(path.as_posix())}")


def without_marks(text: str, refused: str) -> str:
    """`text` without exclamation marks where they are refused: "Rain! Lynx!" becomes "Rain. Lynx"."""
    if "!" not in refused:
        return text
    text = regex.sub(r"[!！]+\s+(?=\S)", ". ", text)
    return str(regex.sub(r"[!！¡]", "", regex.sub(r"！+(?=\S)", "。", text)))


def _cells(ad: Ad, column: Column) -> list[str]:
    """The cells of one column for one ad; repeated columns are filled up with empty ones, what is too much is left to the validator."""
    if column.value:
        return [column.value]
    found = ad.value(column.source)
    if column.repeat:
        texts = list({plain.casefold(): plain for text in reversed(found) if (plain := without_marks(text, column.refused))}.values())[::-1]
        texts = texts[: column.repeat]
        return texts + [""] * (column.repeat - len(texts))
    if column.kind == "json_list":
        return [json.dumps(list(found), ensure_ascii=False) if found else ""]
    text = without_marks(found if isinstance(found, str) else "; ".join(found), column.refused)
    return [button_value(text, column.one_of) if column.kind == "button" else text]


def button_value(text: str, allowed: Sequence[str]) -> str:
    """A call to action as the platform's word for it: 'Shop now' -> 'SHOP_NOW'. What it does not know becomes its first word, which is
    neutral."""
    plain = "_".join(text.upper().replace("-", " ").split())
    return plain if plain in allowed else allowed[0]
