"""Sheets: what is written is what the validator accepts, and every broken rule is found."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.ads.export import Ad, export, sheet_named, sheet_names, validate
from agora.ads.export.ad import read_ads
from agora.ads.export.sheet import FORMULA_STARTS, is_safe_cell, safe_cell, without_guard
from agora.errors import DataError, UsageError

AD = Ad(
    name="spring-1", campaign="Spring", ad_group="Runners", landing_page="https://example.com/shoes", headline="Shoes that last",
    description="Two years of warranty.", short_description="Two years of warranty",
    primary_text="Made for long runs. Two years of warranty.",
    call_to_action="Shop now", alt_text="A blue shoe", headlines=("Built for long runs", "Free returns"), descriptions=("Order today.",),
    image="spring-1.png", image_url="https://example.com/a.png", context_hints=("running shoes", "marathon training"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["google", "meta", "openai", "x"])
def test_every_sheet_has_source_and_date_and_takes_a_good_ad(name: str) -> None:
    sheet = sheet_named(name)
    assert sheet.source.count("https://") and sheet.date.count("-") == 2 and sheet.note
    text = export([AD, replace(AD, name="spring-2", headline="Shoes for rain")], name)
    assert validate(text, name) == [] and len(list(csv.reader(io.StringIO(text)))) == 3


def test_there_are_four_sheets_and_others_are_refused_by_name() -> None:
    assert sheet_names() == ["google", "meta", "openai", "x"]
    with pytest.raises(UsageError, match="google"):
        sheet_named("gogle")


def test_single_texts_come_first_and_none_twice() -> None:
    row = next(csv.DictReader(io.StringIO(export([replace(AD, headlines=("Shoes that last", "Free returns", "Built"))], "google"))))
    assert [row[f"Headline {number}"] for number in (1, 2, 3, 4)] == ["Shoes that last", "Free returns", "Built", ""]
    assert row["Status"] == "Paused"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("google", {"headline": "x" * 31}, "line 2, Headline 1: .* is 31 wide; at most 30"),
        ("google", {"headline": "鞋" * 16}, "is 32 wide; at most 30"),
        ("google", {"headlines": ()}, "Headline: '1' given; at least 3"),
        ("meta", {"primary_text": "y" * 126}, "Body: .* is 126 wide; at most 125"),
        ("meta", {"landing_page": "example.com"}, "Link: 'example.com' is no link"),
        ("x", {"primary_text": "z" * 258}, "Post text: .* is 258 wide; at most 257"),
        ("x", {"primary_text": "", "alt_text": ""}, "Post text: '' is required"),
        ("openai", {"context_hints": ()}, "context_hints: '' is required"),
        ("openai", {"headline": "x" * 51}, "ad_title: .* is 51 wide; at most 50"),
    ],
)
def test_what_a_platform_would_refuse_is_not_written(tmp_path: Path, name: str, change: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        export([replace(AD, **change)], name, out=tmp_path / "out.csv")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_names_and_rows_that_repeat_are_found() -> None:
    with pytest.raises(DataError, match=r"line 3, Ad Name: 'spring-1' stands in line 2 already"):
        export([AD, AD], "meta")
    with pytest.raises(DataError, match=r"row: .* stands in line 2 already"):
        export([AD, AD], "openai")


def test_the_same_assets_in_another_order_are_one_ad_for_google() -> None:
    turned = replace(AD, name="spring-2", headline=AD.headlines[1], headlines=(AD.headline, AD.headlines[0]))
    text = export([AD, turned, replace(turned, ad_group="Walkers")], "google")
    rows = text.splitlines()
    assert len(rows) == 3 and validate(text, "google") == []  # header, one ad of the Runners, one of the Walkers
    faults = validate(
        "\r\n".join([*rows, rows[1].replace("Built for long runs,Free returns", "Free returns,Built for long runs")]), "google"
    )
    assert [str(fault) for fault in faults] == [
        "line 4, row: '' has the assets of line 2 in another order, which is the same ad; leave one out"
    ]


def test_exclamation_marks_are_left_out_of_google_headlines_and_refused_in_other_peoples_sheets() -> None:
    text = export(
        [replace(AD, headline="Rain! Shoes!", headlines=("走ろう！靴", "Free returns!"), descriptions=("Order today!",))], "google"
    )
    row = next(csv.DictReader(io.StringIO(text)))
    assert [row[f"Headline {number}"] for number in (1, 2, 3)] == ["Rain. Shoes", "走ろう。靴", "Free returns"]
    assert row["Description 2"] == "Order today!"
    for mark in "!！":
        faults = validate(text.replace("Free returns", f"Free returns{mark}"), "google")
        assert [fault.column for fault in faults] == ["Headline 3"] and "'!', which the platform refuses" in faults[0].reason


def test_a_sheet_that_needs_a_public_picture_says_how_to_give_one() -> None:
    bare = replace(AD, image="runners/en-1/landscape.png", image_url="")
    with pytest.raises(DataError, match=r"line 2, image_url: '' is required: .*--pictures URL"):
        export([bare], "openai")
    row = next(csv.DictReader(io.StringIO(export([bare], "openai", pictures="https://cdn.example/spring/"))))
    assert row["image_url"] == "https://cdn.example/spring/runners/en-1/square.png"


def test_a_link_on_x_counts_23() -> None:
    sheet = sheet_named("x")
    assert sheet.width("look https://example.com/" + "a" * 200) == 5 + 23
    assert sheet.width("鞋") == 2 and sheet.width("é") == 1 and sheet.width("“a”") == 3


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_cells_never_start_a_formula_and_keep_their_text(text: str) -> None:
    safe = safe_cell(text)
    assert is_safe_cell(safe) and not safe.startswith(FORMULA_STARTS)
    plain = "".join(one for one in text if one in "\n\t" or unicodedata.category(one) != "Cc")
    assert without_guard(safe) == plain or plain.startswith("'")


@pytest.mark.parametrize(
    "text", ["=1+1", "+49", "-5%", "@SUM(A1)", " =cmd|' /C calc'!A0", "\t=1", "＝1+1", "\u200b=1", "\u2007\u202f=1", "\u2060=1", "%0A=1"]
)
def test_formulas_are_made_plain_text_and_found_where_they_are_not(text: str) -> None:
    assert safe_cell(text).startswith("'")
    sheet = export([AD], "meta").replace("spring-1,", f'"{text}",', 1)
    assert any("formula" in fault.reason for fault in validate(sheet, "meta"))


def test_missing_double_and_foreign_columns_are_found() -> None:
    text = export([AD], "x")
    reasons = " ".join(map(str, validate(text.replace("Website title", "Title", 1), "x")))
    assert "Website title: '' is missing" in reasons and "'Title' is no column of this sheet" in reasons
    assert any("cells, but the header has" in str(fault) for fault in validate(text + "only one\r\n", "x"))
    assert "is empty" in str(validate("", "x")[0])


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ads.json"
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_ads(path)


def test_ads_are_read_from_json_with_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "ads.json"
    entry = {"name": "a", "campaign": "c", "ad_group": "g", "landing_page": "https://example.com", "headline": "h", "headlines": ["i"]}
    path.write_text(json.dumps([entry]), encoding="utf-8")
    assert read_ads(path)[0].value("headlines") == ("h", "i")
    for change, message in (
        ({"title": "x"}, "ad 1: unknown field 'title'"),
        ({"headline": 3}, "headline 3 must be a text"),
        ({"name": ""}, "no name"),
    ):
        path.write_text(json.dumps([entry | change]), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_ads(path)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "runners/../../a.png",
        "/a.png",
        "C:\\a.png",
        "..\\a.png",
        "~/a.png",
        "file:///a.png",
        "a/%2e%2e/%2e%2e/b.png",
        "a/.. /b.png",
    ],
)
def test_a_picture_outside_the_folder_of_the_ads_is_refused_wherever_it_comes_from(path: str, tmp_path: Path) -> None:
    entry = {"name": "a", "campaign": "c", "ad_group": "g", "landing_page": "https://example.com", "headline": "h", "image": path}
    (tmp_path / "ads.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(DataError, match=r"ad 1: image .* leaves the folder"):
        read_ads(tmp_path / "ads.json")
    for sheet in ("meta", "x"):
        with pytest.raises(DataError, match="leaves the folder"):
            export([replace(AD, image=path)], sheet)
    with pytest.raises(DataError, match="leaves the folder"):
        export([replace(AD, image=path, image_url="")], "openai", pictures="https://cdn.example/spring")


def test_a_picture_below_the_folder_of_the_ads_is_taken(tmp_path: Path) -> None:
    for path in ("a.png", "runners/en-1/square.png", "two..dots/a.png"):
        assert not validate(export([replace(AD, image=path)], "meta"), "meta")
