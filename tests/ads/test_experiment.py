"""Experiments: shares, stopping, and that what is claimed of both holds in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.ads.experiment import Count, Experiment, ExperimentConfig, always_valid_interval, by_audience, simulate
from agora.ads.experiment_report import decide, report_html, report_text, report_values
from agora.ads.results import read_results
from agora.errors import DataError, UsageError


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1)), min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_shares_sum_to_one_and_keep_the_minimum(counts: list[tuple[int, float]]) -> None:
    test = Experiment([str(number) for number in range(len(counts))], ExperimentConfig(min_share=0.05))
    test.add({str(number): Count(views, int(views * part)) for number, (views, part) in enumerate(counts)})
    shares = test.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share >= 0.05 - 1e-9 or name in test.dropped for name, share in shares.items())
    assert sum(test.draw(1000).values()) == 1000


def test_interval_holds_the_rate_and_shrinks() -> None:
    few, many = always_valid_interval(Count(100, 10), 0.05), always_valid_interval(Count(10_000, 1000), 0.05)
    assert few[0] < 0.1 < few[1] and many[0] < 0.1 < many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert always_valid_interval(Count(), 0.05) == (0.0, 1.0)
    assert always_valid_interval(Count(50, 0), 0.05)[0] == 0.0


def test_interval_holds_at_every_look() -> None:
    rate, missed, runs = 0.05, 0, 200
    random = np.random.default_rng(5)
    for _ in range(runs):
        clicks = np.cumsum(random.binomial(200, rate, 30))
        ends = [always_valid_interval(Count(200 * look, int(clicks[look - 1])), 0.1) for look in range(1, 31, 3)]
        missed += any(not low <= rate <= high for low, high in ends)
    assert missed / runs <= 0.1


def test_arm_that_cannot_be_best_is_dropped_and_gets_no_views() -> None:
    test = Experiment(["good", "bad"])
    test.add({"good": Count(20_000, 600), "bad": Count(20_000, 200)})
    assert test.dropped == {"bad"} and test.shares() == {"good": 1.0, "bad": 0.0}
    decision = test.decision()
    assert decision.stop and decision.best == "good" and decision.rule == "always-valid interval"


def test_nothing_is_decided_on_few_views() -> None:
    test = Experiment(["a", "b"])
    test.add({"a": Count(100, 9), "b": Count(100, 1)})
    assert not test.decision().stop


def test_equal_arms_stop_by_expected_loss_and_budget_stops_always() -> None:
    test = Experiment(["a", "b"], ExperimentConfig(max_loss=0.05))
    test.add({"a": Count(60_000, 3000), "b": Count(60_000, 3010)})
    assert test.decision().rule == "expected loss"
    short = Experiment(["a", "b"], ExperimentConfig(max_views=200))
    short.add({"a": Count(100, 5), "b": Count(100, 5)})
    assert short.decision().rule == "budget"


def test_learning_loses_fewer_clicks_than_equal_shares() -> None:
    rates = [0.01, 0.012, 0.03]
    test, regret = simulate(rates, 20_000, ExperimentConfig(), seed=3)
    assert regret < 0.6 * 20_000 * (max(rates) - sum(rates) / 3)
    assert test.decision().best == "arm 3"
    assert sum(count.views for count in test.counts.values()) == 20_000


@pytest.mark.parametrize(
    ("arms", "config"), [(["a"], {}), (["a", "a"], {}), (["a", "b", "c"], {"min_share": 0.4}), (["a", "b"], {"max_loss": 0.0})]
)
def test_impossible_tests_are_refused(arms: list[str], config: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Experiment(arms, ExperimentConfig(**config))  # type: ignore[arg-type]


def test_counts_are_checked() -> None:
    with pytest.raises(UsageError, match="5 clicks of 3 views"):
        Count(3, 5)
    with pytest.raises(UsageError, match="no arm 'c'"):
        Experiment(["a", "b"]).add({"c": Count(1, 0)})


META = (
    "Reporting starts,Campaign name,Ad set name,Ad name,Amount spent (USD),Impressions,Link clicks\n"
    '2026-03-01,Spring,Runners,A,12.00,"12,000",240\n2026-03-01,Spring,Runners,B,12.00,12000,120\n'
    "2026-03-02,Spring,Runners,A,12.00,500,9\n2026-03-02,Spring,Walkers,A,1.00,100,1\n2026-03-02,Spring,Walkers,B,1.00,100,\n"
)


def test_results_of_a_platform_become_one_test_per_audience(tmp_path: Path) -> None:
    path = tmp_path / "meta.csv"
    path.write_text("Results of March\n\n" + META + "Total,,,,25,24700,370\n", encoding="utf-8")
    found = read_results(path)
    assert found.columns == {"audience": "Ad set name", "variant": "Ad name", "views": "Impressions", "clicks": "Link clicks"}
    assert found.left_out == 1
    tests = by_audience(found.rows)
    assert tests["Runners"].counts["A"] == Count(12_500, 249) and tests["Walkers"].counts["B"] == Count(100, 0)
    decisions = decide(tests)
    assert decisions["Runners"].best == "A" and not decisions["Walkers"].stop
    assert "keep A" in report_text(decisions) and report_values(decisions)["Runners"]["best"] == "A"


def test_report_page_shows_names_as_text(tmp_path: Path) -> None:
    tests = by_audience([("<script>x</script>", "a", Count(10, 1)), ("<script>x</script>", "b<i>", Count(10, 1))])
    page = report_html(decide(tests))
    assert "<script" not in page and "&lt;script&gt;" in page and "b&lt;i&gt;" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ad name,impressions,clicks\nA,many,1\n", r"r.csv:2: views 'many' is no whole number"),
        ("ad name,impressions,clicks\nA,10,1\nB,10,11\n", r"r.csv:3: 11 clicks of 10 views for 'B'"),
        ("ad name,impressions,clicks\nA,10\n", r"r.csv:2: 2 cells, but the column for clicks is number 3"),
        ("ad name,views seen,clicks\nA,10,1\n", r"no header with a column for views"),
        ("", "no header"),
    ],
)
def test_broken_results_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_columns_can_be_named_and_tabs_and_utf16_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes("Anzeige\tImpr.\tKlicks\nEins\t1.234\t5\nZwei\t1 234\t6\n".encode("utf-16"))
    found = read_results(path, columns={"variant": "Anzeige", "clicks": "Klicks"})
    assert found.rows == (("all", "Eins", Count(1234, 5)), ("all", "Zwei", Count(1234, 6)))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_of_any_script_and_mark_are_read_and_totals_left_out(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "r.csv"
    lines = [
        "キャンペーン,広告名,表示回数,クリック数",
        "春,Total comfort,2000,30",
        "春,a;;;b,1000,20",
        "合計,--,3000,50",
        "Gesamt,x,3000,50",
    ]
    cells = [[f'"{cell}"' for cell in line.split(",")] for line in lines]
    path.write_text("\n".join(mark.join(row) for row in cells), encoding="utf-8")
    found = read_results(path, columns={"variant": "広告名", "views": "表示回数", "clicks": "クリック数"})
    assert [(variant, count.views) for _, variant, count in found.rows] == [("Total comfort", 2000), ("a;;;b", 1000)]
    assert found.left_out == 2
