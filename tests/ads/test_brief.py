# ruff: noqa: E501 - lists of words
"""Briefs: every fact has its line, every mistake its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agora.ads.brief import brief_from_page, read_brief
from agora.ads.source_lines import json_lines, toml_lines
from agora.errors import ConfigError, DataError

GOOD = """product = "Trail shoe Lynx 2"
landing_page = "https://shop.example/lynx"
languages = ["en", "de"]
offer = {en = "20% off", de = "20 % Rabatt"}
facts = ["weighs 240 g",  # on our scales
  "for wet rock",
  {text = "wiegt 240 g", language = "de", id = "gewicht"}]

[brand]
name = "Norrland"
colours = ["#0A3D2C"]
"""
PAGE = """<!doctype html><html lang="en-GB"><head>
<title>Ignored where a product is named</title>
<meta name="description" content="A lamp for late readers. It dims.">
<meta property="og:image" content="https://elsewhere.example/lamp.png">
<link rel="canonical" href="https://shop.example/lamp">
<script type="application/ld+json">
{"@context": "https://schema.org", "@graph": [{"@type": ["Product"],
  "name": "Lamp No. 3",
  "brand": {"name": "Osk"},
  "offers": {"price": "49.90", "priceCurrency": "EUR"}}]}
</script><script>document.title = "<meta name='description' content='never read'>"</script></head></html>
"""


def written(tmp_path: Path, text: str, name: str = "brief.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_statement_of_a_brief_names_the_line_on_which_it_stands(tmp_path: Path) -> None:
    brief = read_brief(written(tmp_path, GOOD))
    assert [(fact.id, fact.source, fact.language) for fact in brief.facts] == [
        ("fact1", "brief.toml:5", "en"), ("fact2", "brief.toml:6", "en"), ("gewicht", "brief.toml:7", "de"),
    ]  # fmt: skip
    assert {one.id: one.source for one in brief.statements("de")} == {
        "product": "brief.toml:1", "brand": "brief.toml:10", "offer.de": "brief.toml:4", "gewicht": "brief.toml:7",
    }  # fmt: skip
    assert brief.brand.colours == ("#0a3d2c",)


def test_tables_of_facts_and_json_have_their_lines_too(tmp_path: Path) -> None:
    tables = 'product = "P"\nlanding_page = "https://a.example"\n[brand]\nname = "B"\n[[facts]]\nid = "a"\ntext = "one"\n[[facts]]\ntext = "two"\n'
    assert [fact.source for fact in read_brief(written(tmp_path, tables)).facts] == ["brief.toml:7", "brief.toml:9"]
    table = {"product": "P", "landing_page": "https://a.example", "brand": {"name": "B"}, "facts": ["one", {"text": "two"}]}
    path = written(tmp_path, json.dumps(table, indent=1), "brief.json")
    lines = path.read_text().splitlines()
    assert [fact.source for fact in read_brief(path).facts] == [
        f"brief.json:{1 + next(at for at, line in enumerate(lines) if word in line)}" for word in ('"one"', '"two"')
    ]


def test_lines_of_nested_values_survive_strings_that_look_like_marks() -> None:
    lines = toml_lines('a = "x = [1,\\" # no"\nb = [\n  "]", # one\n  "}",\n]\n[c.d]\ne = 1\n[[f]]\n[[f]]\ng = """\nlong\n"""\nh = 2\n')
    assert [lines.line(path) for path in (("a",), ("b", 1), ("c", "d", "e"), ("f", 1, "g"), ("f", 1, "h"))] == [1, 4, 7, 10, 13]
    assert json_lines('{"a": [\n{"b": "]"},\n2]}').line(("a", 1)) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("name = \"Norrland\"", "nam = \"Norrland\""), r"brief\.toml:10.*nam.*name"),
        (("#0A3D2C", "green"), r"brief\.toml:11.*brand\.colours\.0='green'.*#rrggbb"),
        (("https://shop", "shop"), r"brief\.toml:2.*landing_page='shop\.example/lynx'.*web address"),
        (('"en", "de"]', '"en", "de", "fr"]'), r"brief\.toml:3.*'fr'.*no fact"),
        (('id = "gewicht"', 'id = "fact1"'), r"brief\.toml:7.*'fact1'.*brief\.toml:5"),
        (('name = "Norrland"', 'name = "Norrland"\nlogo = "none.png"'), r"brief\.toml:11.*none\.png.*no file"),
        (('offer = {en', 'special_category = "houses"\noffer = {en'), r"brief\.toml:4.*special_category.*housing"),
        (("product = ", "product = 3 #"), r"brief\.toml:1.*product=3.*text"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_key_and_value(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_brief(written(tmp_path, GOOD.replace(*change)))


def test_a_page_gives_product_brand_price_and_sentences_with_their_lines(tmp_path: Path) -> None:
    brief = brief_from_page(written(tmp_path, PAGE, "lamp.html"))
    assert (brief.product, brief.brand.name, brief.languages, brief.landing_page) == (
        "Lamp No. 3",
        "Osk",
        ("en",),
        "https://shop.example/lamp",
    )
    assert {fact.text: fact.source for fact in brief.facts} == {
        "49.90 EUR": "lamp.html:10 (price)", "A lamp for late readers.": "lamp.html:3 (description)", "It dims.": "lamp.html:3 (description)",
    }  # fmt: skip
    assert brief.brand.product_picture is None  # nothing is fetched


@pytest.mark.parametrize("address", ["", "/lamp", "shop.example/lamp"])
def test_a_page_that_does_not_say_where_it_stands_is_refused_at_once(tmp_path: Path, address: str) -> None:
    with pytest.raises(DataError, match=r"lamp\.html does not say at which web address .*canonical.*landing_page"):
        brief_from_page(written(tmp_path, PAGE.replace("https://shop.example/lamp", address), "lamp.html"))


def test_a_page_without_a_product_is_refused_and_broken_json_ld_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="names no product"):
        brief_from_page(written(tmp_path, "<html><body>hello</body></html>", "a.html"))
    broken = PAGE.replace('"@graph": [', '"@graph": [[')
    assert brief_from_page(written(tmp_path, broken, "b.html")).product == "Ignored where a product is named"
    assert "JSON-LD cannot be read" in caplog.text


def outside(tmp_path: Path) -> tuple[Path, list[str]]:
    """A brief's folder, and names in it that lead to a picture outside."""
    folder, secret = tmp_path / "briefs", tmp_path / "secret" / "private.png"
    for path in (folder, secret.parent):
        path.mkdir()
    secret.write_bytes(b"private")
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    return folder, ["../secret/private.png", str(secret), "link.png", "linked/private.png"]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("key", ["logo", "product_picture"])
def test_a_picture_outside_the_folder_of_a_brief_is_refused_by_line(tmp_path: Path, key: str, number: int) -> None:
    folder, names = outside(tmp_path)
    path = written(folder, GOOD + f'{key} = "{names[number]}"\n')
    with pytest.raises(ConfigError, match=rf"brief\.toml:12: brand\.{key}: .*leads out of.*copy the picture"):
        read_brief(path)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("in_json", [True, False])
def test_a_page_takes_no_picture_from_outside_its_folder_and_says_so(
    tmp_path: Path, number: int, in_json: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder, names = outside(tmp_path)
    page = PAGE.replace("https://elsewhere.example/lamp.png", names[number])
    if in_json:
        page = PAGE.replace('"name": "Lamp No. 3"', f'"name": "Lamp No. 3", "image": "{names[number]}"')
    assert brief_from_page(written(folder, page, "lamp.html")).brand.product_picture is None
    assert f"{names[number]!r} leads out of" in caplog.text


def test_pictures_in_the_folder_and_below_it_are_taken_also_by_links_inside(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "lamp.png").write_bytes(b"picture")
    (tmp_path / "link.png").symlink_to("files/lamp.png")
    brief = read_brief(written(tmp_path, GOOD + 'logo = "link.png"\nproduct_picture = "files/../files/lamp.png"\n'))
    assert brief.brand.logo is not None and brief.brand.product_picture is not None
    page = written(tmp_path, PAGE.replace("https://elsewhere.example/lamp.png", "files/lamp.png"), "lamp.html")
    assert brief_from_page(page).brand.product_picture == tmp_path / "files" / "lamp.png"
    (tmp_path / "circle").symlink_to("circle")
    for name in ("x" * 5_000, "a\0b", "circle"):
        assert (
            brief_from_page(written(tmp_path, PAGE.replace("https://elsewhere.example/lamp.png", name), "n.html")).brand.product_picture
            is None
        )


@pytest.mark.parametrize("price", ["9" * 5_000, "[" * 100_000])
def test_numbers_and_nesting_without_end_are_told_not_thrown(tmp_path: Path, price: str, caplog: pytest.LogCaptureFixture) -> None:
    page = written(tmp_path, PAGE.replace('"49.90"', price), "lamp.html")
    assert not [fact for fact in brief_from_page(page).facts if "price" in fact.source] and "JSON-LD cannot be read" in caplog.text
    for name, text in (("b.json", f'{{"product": {price}'), ("b.toml", f"product = {price}")):
        with pytest.raises(ConfigError, match=name):
            read_brief(written(tmp_path, text + ("}" if name == "b.json" else ""), name))


TWO = """<html lang="en"><head><link rel="canonical" href="https://shop.example/b"><script type="application/ld+json">
[{"@type": "Product", "name": "Lamp A", "description": "Lamp A is red.", "offers": {"price": "10", "priceCurrency": "EUR"}},
 {"@type": "Product", "name": "Lamp B", "url": "http://shop.example/b/?x=1", "offers": {"lowPrice": 20, "priceCurrency": "EUR"}}]
</script></head></html>"""


def test_of_two_products_the_one_of_the_address_is_taken_and_none_is_mixed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    brief = brief_from_page(written(tmp_path, TWO, "b.html"))
    assert brief.product == "Lamp B" and [(one.text, one.source) for one in brief.facts] == [("from 20 EUR", "b.html:3 (price)")]
    assert "names 2 products: 'Lamp B' is taken" in caplog.text
    german = brief_from_page(written(tmp_path, TWO.replace('lang="en"', 'lang="de-AT"'), "d.html"))
    assert [one.text for one in german.facts] == ["ab 20 EUR"]
    first = brief_from_page(written(tmp_path, TWO.replace("https://shop.example/b", "https://shop.example/c"), "c.html"))
    assert first.product == "Lamp A" and {one.text for one in first.facts} == {"Lamp A is red.", "10 EUR"}


@pytest.mark.parametrize(
    ("until", "is_said"), [("2020-01-31", False), ("2020-01-31T10:00:00Z", False), ("2999-01-01", True), ("soon", True)]
)
def test_a_price_that_holds_no_longer_is_left_out(tmp_path: Path, until: str, is_said: bool, caplog: pytest.LogCaptureFixture) -> None:
    page = written(tmp_path, PAGE.replace('"49.90"', f'"49.90", "priceValidUntil": "{until}"'), "lamp.html")
    assert any("49.90" in fact.text for fact in brief_from_page(page).facts) == is_said
    assert (f"held until {until[:10]}" in caplog.text) != is_said
