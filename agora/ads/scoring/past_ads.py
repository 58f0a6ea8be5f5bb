"""Past results of ads. Goes in: a table (Parquet, CSV or JSON lines). Comes out: one `PastAd` per row, or an error that names the row.

Columns: `text`, `impressions`, `clicks`; as far as known `url` (landing page), `created` (ISO time), `targeting` and `excluded` (lists of
`key:value`, in CSV one cell with `;` between them). What ran is not looked at: spend and the end of a campaign are known too late to help.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agora.errors import DataError, UsageError

_log = logging.getLogger(__name__)

REQUIRED = ("text", "impressions", "clicks")
_LETTER_READ_AS_BAR = re.compile(r"(?<=\w)\|(?=\w)|\|(?=\w)")
_ONE_KIND = {ord(mark): plain for mark, plain in zip("—–’‘“”", "--''\"\"", strict=True)}
_AGE = re.compile(r"age:\s*(\d+)\D+(\d+)(\+?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class PastAd:
    """One ad and what came of it. A click rate is `clicks / impressions`."""

    text: str
    landing_page: str = ""
    targeting: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    created: datetime | None = None
    impressions: int = 0
    clicks: int = 0

    @property
    def placement(self) -> str:
        """Where the ad was shown; only ads with the same are compared."""
        return "|".join(sorted({readable(one) for one in self.targeting if one.lower().startswith("placement")}))

    @property
    def page(self) -> str:
        """The landing page without protocol, case and what scanners confuse (I, l, 1; O, 0)."""
        plain = re.sub(r"^https?://(www\.)?", "", readable(self.landing_page))
        return re.sub(r"[^a-z0-9/.]", "", plain).rstrip("/").translate(str.maketrans("i10", "llo"))

    @property
    def ages(self) -> tuple[int, int] | None:
        """Youngest and oldest age that it was for; open ends count as 75."""
        found = next((match for one in self.targeting if (match := _AGE.match(one))), None)
        return (int(found[1]), 75 if found[3] else int(found[2])) if found else None


def readable(text: str) -> str:
    """Lower case, one kind of dash and quote, bars inside words read as the letter l (scanned tables have them)."""
    plain = unicodedata.normalize("NFKC", text).lower().translate(_ONE_KIND)
    return _LETTER_READ_AS_BAR.sub("l", plain)


def read_past_ads(path: Path, *, min_impressions: int = 500) -> list[PastAd]:
    """The ads of a table that were shown at least `min_impressions` times; rows with more clicks than impressions are left out
    with a warning. Raises DataError naming row, column and value."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a table of past ads (.parquet, .csv or .jsonl)")
    ads = []
    for number, row in _rows(path):
        ad = _ad(row, f"{path}:{number}")
        if ad.clicks > ad.impressions:
            _log.warning("%s:%d: left out: %d clicks of %d impressions", path, number, ad.clicks, ad.impressions)
        else:
            ads.append(ad)
    enough = [ad for ad in ads if ad.impressions >= max(1, min_impressions)]
    if not enough:
        raise DataError(f"{path}: none of {len(ads)} ads has {min_impressions} impressions; lower the number or wait for results")
    return enough


def read_new_ads(path: Path) -> list[PastAd]:
    """Ads that have not run: a table with `text` and whatever else is known. Raises DataError naming row, column and value."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a table of ads (.parquet, .csv or .jsonl)")
    ads = [_ad({"impressions": 0, "clicks": 0} | dict(row), f"{path}:{number}") for number, row in _rows(path)]
    if not ads:
        raise DataError(f"{path} holds no ad")
    return ads


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(path).to_pylist(), 1)
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, row
    elif path.suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}:{number}: no JSON ({error.msg})") from None
                if not isinstance(row, dict):
                    raise DataError(f"{path}:{number}: {line[:40]!r} is no JSON object")
                yield number, row
    else:
        raise UsageError(f"{path}: ending {path.suffix!r} is none of .parquet, .csv, .jsonl")


def _ad(row: Mapping[str, Any], where: str) -> PastAd:
    missing = [name for name in REQUIRED if name not in row]
    if missing:
        raise DataError(f"{where}: no column {missing[0]!r}; there are {', '.join(map(str, row))}")
    impressions, clicks = (_count(row[name], name, where) for name in ("impressions", "clicks"))
    return PastAd(
        text=str(row["text"] or ""), landing_page=str(row.get("url") or ""), targeting=_listed(row.get("targeting")),
        excluded=_listed(row.get("excluded")), created=_time(row.get("created"), where), impressions=impressions, clicks=clicks,
    )  # fmt: skip


def _count(value: object, name: str, where: str) -> int:
    text = str(0 if value is None else value).replace(",", "").strip() or "0"
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number < 0 or number != int(number):
        raise DataError(f"{where}: {name} {value!r} is no whole number")
    return int(number)


def _listed(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    parts: Iterable[object] = value.split(";") if isinstance(value, str) else value if isinstance(value, Iterable) else (value,)
    return tuple(text for part in parts if (text := str(part).strip()))


def _time(value: object, where: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise DataError(f"{where}: created {value!r} is no ISO time such as 2026-03-01T09:00:00+00:00") from None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
