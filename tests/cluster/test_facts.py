from __future__ import annotations

import datetime

import pytest

from agora.cluster.facts import load_tables, parse_tables, pick
from agora.errors import ConfigError

FILES = ["accelerators", "networks", "power", "failures", "memory", "constants", "history", "scaling"]


@pytest.mark.parametrize("file", FILES)
def test_every_number_has_a_unit_a_source_and_a_date(file: str) -> None:
    facts = [fact for table in load_tables(file).values() for fact in table.facts.values()]
    assert facts
    for fact in facts:
        assert fact.source and fact.seen in ("tool", "memory", "fit", "assumption"), fact.name
        parts = [int(part) for part in fact.date.split("-")]
        assert datetime.date(2015, 1, 1) <= datetime.date(*[*parts, 1, 1][:3]) <= datetime.date(2027, 1, 1), fact.name
        assert fact.describe().startswith(fact.name)


def test_every_accelerator_is_complete_and_sensible() -> None:
    for name, table in load_tables("accelerators").items():
        assert table.base("matmul_ceiling") <= 1 and table.base("attention_ceiling") <= 1, name
        assert table.base("per_node") * table.base("tdp") <= table.base("node_power") * 1.05, (
            f"{name}: a node draws more than its accelerators"
        )
        assert table.base("scale_up_domain") >= 1 and table.base("memory") > 1e9, name
        if "fp8" in table.facts:
            assert table.base("fp8") >= table.base("bf16"), name


def test_units_become_base_units() -> None:
    table = parse_tables(
        '[x]\na = { value = 2, unit = "Gbit/s", source = "s", date = "2025", seen = "tool" }\n'
        'b = { value = 3, unit = "USD/kWh", source = "s", date = "2025", seen = "tool" }\nc = "word"',
        "test",
    )["x"]
    assert table.base("a") == 2e9 / 8 and table.base("b") == pytest.approx(3 / 3.6e6) and table.words["c"] == "word"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[x]\na = { value = 1, unit = "GB" }', "lacks date, seen, source"),
        ('[x]\na = { value = 1, unit = "furlong", source = "s", date = "2025", seen = "tool" }', "unknown unit 'furlong'"),
        ("[x", "not valid TOML"),
    ],
)
def test_a_number_without_its_origin_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_tables(text, "test.toml")


def test_names_are_found_in_any_case_and_by_alias() -> None:
    assert pick(load_tables("accelerators"), "gb200", "accelerator").name == "GB200"
    assert pick(load_tables("models"), "LLAMA3.1_405B", "model").name == "Llama-3-405B"


def test_a_missing_figure_is_named() -> None:
    with pytest.raises(ConfigError, match="no figure 'fp4'"):
        load_tables("accelerators")["V100"].base("fp4")
