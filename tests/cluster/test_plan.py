from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.cluster.accelerator import accelerator, network
from agora.cluster.calibrate import default_calibration
from agora.cluster.charts import line_chart
from agora.cluster.describe import plan_table, short_row
from agora.cluster.energy import clock_share, node_power_w, power_draw
from agora.cluster.explain import assumptions, limit_of, sentences
from agora.cluster.layout import Layout
from agora.cluster.plan import Plan, PlanRequest, RecoveryKind, build_plan, plan
from agora.cluster.questions import QUESTIONS, ready_question
from agora.cluster.report import plan_report
from agora.cluster.requests import request_from_words
from agora.cluster.scaling import optima
from agora.cluster.search import search
from agora.cluster.studies import affordable, compare, dense_shape, grow, pareto, what_ifs
from agora.cluster.trace import step_trace
from agora.errors import ConfigError, UsageError
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.shape import shape_of
from agora.training.parallelize import check

SMALL = PlanRequest(model="Llama-3-8B", num_accelerators=64, tokens=1e12)


@pytest.fixture(scope="module")
def small() -> Plan:
    return plan(SMALL)


def test_a_plan_hangs_together(small: Plan) -> None:
    assert small.layout.num_accelerators == 64
    assert small.chosen.memory_bytes <= small.hardware.memory_bytes
    assert small.duration_s == pytest.approx(small.num_steps * small.chosen.step_s / small.useful_share)
    assert small.energy.metered_j == pytest.approx(small.draw.facility_w * small.duration_s)
    assert small.interval_s[0] < small.chosen.step_s < small.interval_s[1]
    assert 0.2 < small.model_flops_share < 0.7
    small.layout.check(small.shape, seq_len=8192, global_batch=small.chosen.global_batch)


def test_the_chosen_layout_is_no_slower_than_the_baseline(small: Plan) -> None:
    assert small.baseline is not None
    assert small.chosen.score <= small.baseline.score


def test_the_table_is_json_and_every_number_names_its_assumption(small: Plan) -> None:
    table = json.loads(json.dumps(plan_table(small)))
    assert table["layout"]["shard"] == small.layout.shard
    assert table["not_covered"]
    lines = assumptions(small)
    assert {"accelerator", "network", "step time", "memory", "failures", "facility", "not covered"} <= set(lines)
    assert all(
        re.search(r"\((tool|memory|fit|assumption), \d{4}", line)
        for name, group in lines.items()
        if name != "not covered"
        for line in group
    )


def test_constants_of_a_user_are_told_as_such_however_many_rows_they_have(small: Plan) -> None:
    own = replace(small, request=replace(SMALL, calibration=replace(default_calibration(), sources=())))
    assert assumptions(own)["step time"] == assumptions(own)["interval"] == ["calibrated by the user on 229 measured steps"]


def test_the_words_name_the_limit(small: Plan) -> None:
    said = sentences(small)
    assert re.match(r"Result: [\d.]+ days \([\d.]+ to [\d.]+\) for 1 trillion tokens, .* USD owned or .* USD rented; .* MWh\.$", said[0])
    assert said[1].startswith(f"Limit: {limit_of(small).name}.")
    starved = plan(replace(SMALL, network_share=0.01, layout=Layout(shard=64, recompute="full")))
    assert limit_of(starved).name == "network"


def test_the_next_best_differ_in_more_than_how_state_is_divided(small: Plan) -> None:
    found = [candidate.layout for candidate in (small.chosen, *small.others)]
    alike = [replace(layout, replicate=1, shard=1, sharding="none") for layout in found]
    assert len(found) == 10 and len(set(alike)) == len(found)
    assert [other.score for other in small.others] == sorted(other.score for other in small.others)


def test_the_search_finds_what_trying_everything_finds() -> None:
    """The slow twin: every layout as an object, priced alone."""
    from agora.cluster.plan import question_of
    from agora.cluster.search import price

    question = question_of(replace(SMALL, num_accelerators=8, batch_tokens=64 * 8192))
    question = replace(question, useful_share=None, global_batch=64)
    best = search(question, num_best=1).best[0]
    prices = []
    for tensor in (1, 2, 4, 8):
        for shard in (8 // tensor,):
            for sharding in ("optimizer", "gradients", "parameters"):
                for micro_batch in (1, 2, 4, 8):
                    for recompute in ("none", "selective", "full"):
                        layout = Layout(tensor=tensor, shard=shard, sharding=sharding, micro_batch=micro_batch, recompute=recompute)  # type: ignore[arg-type]
                        try:
                            candidate = price(question, layout)
                        except ConfigError:
                            continue
                        if candidate.memory_bytes <= question.hardware.memory_bytes:
                            prices.append(candidate.s_per_sequence)
    assert best.s_per_sequence <= min(prices) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (PlanRequest(model="Llama-3-405B", num_accelerators=32), "nothing fits.*nearest possible: [0-9,]+ accelerators"),
        (PlanRequest(model="Llama-4-405B"), "unknown model.*nearest is 'llama-3"),
        (PlanRequest(accelerator="H10"), "nearest is 'h100'|nearest is 'H100'"),
        (replace(SMALL, layout=Layout(shard=32)), "for 32 accelerators.*nearest possible is num_accelerators=32"),
        (replace(SMALL, layout=Layout(shard=64, micro_batch=8)), "needs .* nearest possible is recompute='full'"),
        (replace(SMALL, layout=Layout(shard=8, tensor=3)), "nearest possible is tensor=2"),
    ],
)
def test_a_wrong_question_gets_the_reason_and_the_nearest_possible(request_: PlanRequest, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"(?i){reason}"):
        plan(request_)


@pytest.mark.parametrize(
    "changes",
    [
        {"power_cap": 0.1}, {"power_cap": 1.5}, {"num_accelerators": 0}, {"tokens": -1.0}, {"network_share": 0.0}, {"tokens": math.inf},
        {"tokens": math.nan}, {"batch_tokens": math.inf}, {"batch_tokens": math.nan}, {"num_accelerators": 10**12}, {"pue": -1.0},
        {"pue": math.nan}, {"usd_per_kwh": -1.0}, {"kg_per_kwh": -1.0}, {"usd_per_accelerator_hour": -2.0}, {"seq_len": 10**12},
        {"power_cap": math.nan}, {"memory_share": math.nan},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"plan\."):
        replace(SMALL, **changes)  # type: ignore[arg-type]


def test_a_large_machine_loses_replicas_and_not_the_job() -> None:
    large = plan(ready_question("million"))
    assert large.recovery.goodput < 0.2 and large.recovery.is_elastic and large.layout.replicate > 1
    assert 0.5 < large.useful_share < 0.8  # everyone hangs for the minute in which a failure is noticed
    assert plan_table(large)["failures"]["checkpoint_every_s"] is None  # it does not go back to one
    assert large.placed == 15_625 * 72 and any("64 of the 72" in text for text in sentences(large))
    assert any("one replica at a time" in text for text in sentences(large))


def test_the_layout_is_chosen_by_the_days_that_the_plan_states() -> None:
    found = plan(PlanRequest(model="Llama-3-405B", num_accelerators=49_152, tokens=15.6e12))
    assert found.search is not None
    for other in found.others:
        again = build_plan(found.request, found.question, other, found.search)
        assert again.duration_s >= found.duration_s * (1 - 1e-3)  # steps are whole
        assert again.useful_share == pytest.approx(other.useful_share)


def test_more_accelerators_are_never_slower_for_recovering_otherwise() -> None:
    """At 80% of useful time plans used to switch from one recovery to another, and a smaller machine won."""
    days = [plan(PlanRequest(model="Llama-3-405B", num_accelerators=number, tokens=15.6e12)).duration_s for number in (73_728, 81_920)]
    assert 0.7 < days[1] / days[0] < 1.05


@pytest.mark.parametrize("recovery", ["restart", "replica"])
def test_a_recovery_can_be_asked_for(recovery: RecoveryKind) -> None:
    found = plan(replace(SMALL, num_accelerators=256, recovery=recovery, layout=Layout(replicate=4, shard=64, recompute="full")))
    assert found.recovery.is_elastic == (recovery == "replica")


def test_spares_and_idle_nodes_cost_money_and_power() -> None:
    chip, net = accelerator("H100"), network("infiniband")
    alone, with_idle = (power_draw(chip, net, 1024, 0.9, num_idle=idle) for idle in (0, 64))
    assert with_idle.nodes_w > alone.nodes_w and with_idle.build_w > alone.build_w > alone.facility_w
    assert plan(replace(SMALL, num_accelerators=1024)).placed > 1024


def test_a_cap_above_what_is_drawn_changes_nothing_and_a_low_one_costs_speed() -> None:
    assert clock_share(0.9) == 1.0 > clock_share(0.8) > clock_share(0.5)
    assert (
        node_power_w(accelerator("H100"), 0.9, 0.9) == node_power_w(accelerator("H100"), 0.9) > node_power_w(accelerator("H100"), 0.9, 0.6)
    )


@pytest.mark.parametrize("name", ["gigafactory-100k", "llama-405b"])
def test_nodes_draw_what_was_metered(name: str) -> None:
    """76-82% of the rating (arXiv 2412.08602, 2506.14551); spares draw less."""
    draw = plan(ready_question(name)).draw
    assert 0.74 < draw.nodes_w / draw.rated_w < 0.83


@pytest.mark.parametrize(
    ("model", "number", "keys"), [("Qwen3-0.6B", 997, {"batch_tokens", "num_accelerators"}), ("Llama-3-8B", 9_973, {"num_accelerators"})]
)
def test_a_batch_that_nothing_divides_names_keys_and_numbers_that_work(model: str, number: int, keys: set[str]) -> None:
    asked = PlanRequest(model=model, num_accelerators=number, tokens=1e12, batch_tokens=512 * 8192)
    with pytest.raises(ConfigError, match="nearest possible: ") as error:
        plan(asked)
    found = dict(re.findall(r"(batch_tokens|num_accelerators)=(\d+)", str(error.value)))
    assert set(found) == keys
    for name, text in found.items():
        assert plan(replace(asked, **{name: int(text)})).duration_s > 0


def test_a_stated_batch_is_kept_or_the_plan_says_that_it_moved() -> None:
    kept = plan(replace(SMALL, num_accelerators=100, batch_tokens=500 * 8192))
    assert kept.chosen.global_batch == 500 and not any(text.startswith("Batch:") for text in sentences(kept))
    moved = plan(replace(SMALL, num_accelerators=100, batch_tokens=509 * 8192))
    assert moved.chosen.global_batch != 509 and any("509 sequences" in text for text in sentences(moved))


@pytest.mark.parametrize(("model", "number"), [("Llama-3-8B", 1_000_000), ("Qwen3-0.6B", 997)])
def test_a_batch_that_nobody_stated_moves_to_one_that_divides(model: str, number: int) -> None:
    made = plan(PlanRequest(model=model, num_accelerators=number, tokens=1e12))
    assert made.layout.num_accelerators == number and made.chosen.global_batch % made.layout.data == 0
    assert any(f"Batch: {made.chosen.global_batch:,} sequences" in text for text in sentences(made))


def test_a_comparison_shows_intervals_and_what_was_never_measured() -> None:
    found = compare(replace(SMALL, network="ethernet"), accelerators=["H100", "TPU-v5p"])
    rows = {option.label: short_row(option.plan) for option in found if option.plan}
    known, unknown = rows["64 x H100"], rows["64 x TPU-v5p"]
    assert known["is_measured"] and not unknown["is_measured"]
    assert unknown["days_80_percent"][0] < unknown["days"] < unknown["days_80_percent"][1]


def test_growth_says_what_happens_to_the_network() -> None:
    growth = grow(replace(SMALL, network="ethernet"), 4096)
    assert growth.network["pods"] == [1, 2] and not growth.network["survives"]


def test_the_words_name_what_every_resource_would_save() -> None:
    said = sentences(plan(replace(SMALL, num_accelerators=4096)))[1]
    assert "links do not" not in said and "Twice of" in said.split(".", 2)[2]


@pytest.mark.parametrize("name", QUESTIONS)
def test_ready_questions_have_answers(name: str) -> None:
    found = plan(ready_question(name))
    assert found.duration_s > 0 and found.draw.facility_w > 0


def test_unknown_questions_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'million'"):
        ready_question("milion")


def test_a_power_cap_trades_speed_for_watts() -> None:
    capped = plan(replace(SMALL, power_cap=0.7))
    full = plan(SMALL)
    assert capped.chosen.step_s > full.chosen.step_s and capped.draw.facility_w < full.draw.facility_w


def test_options_that_another_beats_are_not_on_the_front() -> None:
    found = compare(SMALL, accelerators=["H100", "V100", "B200"], power_caps=[1.0, 0.7])
    best = pareto(found)
    assert best and {option.label for option in best} < {option.label for option in found}
    assert not any(option.label.startswith("64 x V100") for option in best)


def test_what_ifs_answer_or_say_why_not() -> None:
    found = what_ifs(SMALL)
    assert len(found) == 8 and all((option.plan is None) != (option.reason is None) for option in found)


def test_what_ifs_of_a_given_layout_change_that_layout() -> None:
    given = replace(SMALL, layout=Layout(shard=32, tensor=2, recompute="full"))
    found = {option.label: option.plan for option in what_ifs(given)}
    asked = found["as asked"]
    assert asked is not None
    for label in ("8-bit products", "fused element-wise kernels"):
        other = found[label]
        assert other is not None and other.chosen.step_s < asked.chosen.step_s
    twice, half = found["twice the accelerators (shard 64)"], found["half the accelerators (shard 16)"]
    assert twice is not None and half is not None and (twice.layout.tensor, half.layout.tensor) == (2, 2)


@pytest.mark.parametrize(
    ("chip", "precision", "nearest"),
    [("A100-80", "fp8", "bf16"), ("V100", "bf16", "fp16"), ("TPU-v5p", "fp8", "bf16"), ("H100", "nvfp4", "fp8"), ("H100", "mxfp8", "fp8")],
)
def test_a_format_that_the_chip_lacks_is_refused_with_the_nearest(chip: str, precision: str, nearest: str) -> None:
    for words in ([f"precision={precision}"], [f"layout.precision={precision}"]):
        with pytest.raises(ConfigError, match=f"precision='{precision}'; the nearest possible is precision='{nearest}'"):
            plan(request_from_words(["Llama-3-8B", f"accelerator={chip}", "num_accelerators=64", *words]))


def test_growth_says_what_survives() -> None:
    growth = grow(SMALL, 256)
    assert growth.kept is not None and growth.kept.layout.tensor == growth.today.layout.tensor
    assert growth.kept.layout.num_accelerators == 256 and set(growth.survives) >= {"tensor", "pipeline"}


def test_scaling_laws_bracket_what_was_trained() -> None:
    """Llama 3 spent 3.8e25 FLOPs on 402B parameters, which its own fit recommends."""
    sizes = {optimum.fit: optimum.parameters for optimum in optima(3.8e25)}
    assert sizes["llama3"] == pytest.approx(402e9, rel=0.1)
    assert min(sizes.values()) < 402e9 < max(sizes.values())


def test_affordable_sizes_spend_what_the_machine_gives() -> None:
    found = affordable(PlanRequest(num_accelerators=1024), days=30)
    assert 0.2 < found.model_flops_share < 0.6
    for size in found.sizes:
        assert 6 * size["parameters"] * size["tokens"] == pytest.approx(found.flops, rel=1e-6)


@pytest.mark.parametrize("parameters", [1e9, 8e9, 70e9, 405e9, 2e12])
def test_dense_shapes_have_the_wanted_size(parameters: float) -> None:
    assert num_parameters(dense_shape(parameters)).total == pytest.approx(parameters, rel=0.1)


class _Links(HTMLParser):
    outside: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [str(value) for name, value in attrs if name in ("src", "href") and value]


def test_the_report_needs_no_network(small: Plan) -> None:
    page = plan_report(small)
    links = _Links()
    links.feed(page)
    assert not links.outside and "<svg" in page and "Assumptions" in page
    assert "layout_in_words" not in page and "{'" not in page.replace("&#x27;", "'")


def test_axes_carry_several_labels() -> None:
    chart = line_chart("days", {"days": [(8_000, 90.0), (16_000, 50.0), (32_000, 31.0)]}, x_label="accelerators", y_label="days")
    assert chart.count("grid") - 1 >= 6


def test_every_stage_does_each_micro_batch_once_each_way(small: Plan) -> None:
    found = plan(replace(SMALL, num_accelerators=64, layout=Layout(shard=4, tensor=4, pipeline=4), batch_tokens=64 * 8192))
    events = [event for event in step_trace(found)["traceEvents"] if event["ph"] == "X" and event["name"][0] in "FB"]
    assert len(events) == 4 * 2 * 16 == len({(event["tid"], event["name"]) for event in events})


def test_words_become_a_request() -> None:
    request = request_from_words(
        ["Llama-3-70B", "num_accelerators=512", "tokens=2e12", "layout.tensor=8", "layout.virtual=2", "layout.pipeline=4"]
    )
    assert request.layout is not None
    assert (request.layout.shard, request.layout.schedule, request.layout.num_accelerators) == (16, "interleaved", 512)
    own = request_from_words(["model.dim=512", "num_accelerators=8"])
    assert own.resolve_shape().dim == 512
    assert request_from_words(["Llama-3-8B", "shape.num_layers=16"]).resolve_shape().num_layers == 16


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["Llama-3-8B", "Llama-3-70B"], UsageError, "neither key=value nor the first name"),
        (["acelerator=H100"], ConfigError, "did you mean 'accelerator'"),
        (["layout.tenser=8"], ConfigError, "did you mean 'tensor'"),
        (["shape.dimm=8"], ConfigError, "unknown key 'dimm'"),
        (["shape.dim=8.5"], ConfigError, "must be a whole number"),
        (["shape.dim=true"], ConfigError, "must be a whole number"),
        (["shape.gated=3"], ConfigError, "must be true or false"),
        (["shape.window=128"], ConfigError, "set both, or neither"),
    ],
)
def test_wrong_words_are_refused(words: list[str], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        request_from_words(words)


def test_a_model_of_agora_itself_can_be_planned() -> None:
    config = ModelConfig(dim=1024, num_layers=16, hidden_dim=4096, num_heads=16, num_kv_heads=8)
    found = plan(PlanRequest(shape=shape_of(config), num_accelerators=8, seq_len=2048))
    assert found.shape.qk_norm and found.layout.num_accelerators == 8


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_the_chosen_layout_is_one_that_training_takes(data: st.DataObject) -> None:
    experts = data.draw(st.sampled_from([0, 0, 8]))
    config = ModelConfig(
        vocab_size=data.draw(st.sampled_from([32_000, 50_257, 128_256, 151_669])), dim=2048,
        num_layers=data.draw(st.sampled_from([24, 36])),
        num_heads=16, num_kv_heads=data.draw(st.sampled_from([2, 8])), head_dim=128, hidden_dim=data.draw(st.sampled_from([5504, 8192])),
        max_seq_len=2**20, num_experts=experts, experts_per_token=2, expert_dim=768,
    )  # fmt: skip
    seq_len = data.draw(st.sampled_from([2000, 8190, 8193, 10_001, 16_384, 20_000, 65_536]))
    number = data.draw(st.sampled_from([16, 72, 100, 144, 500, 1152]))
    accelerator_name = data.draw(st.sampled_from(["H100", "GB200"]))
    try:
        found = plan(PlanRequest(shape=shape_of(config), num_accelerators=number, seq_len=seq_len, accelerator=accelerator_name))
    except ConfigError:
        return
    for candidate in (found.chosen, *found.others):
        check(config, candidate.layout, seq_len=seq_len, global_batch=candidate.global_batch)


@pytest.mark.parametrize("word", ["seq_len=nan", "num_accelerators=inf", "layout.tensor=nan", "tokens=nan", "optimizer=sgd"])
def test_words_that_are_no_number_of_that_kind_are_refused_in_one_line(word: str) -> None:
    with pytest.raises(ConfigError, match=word.partition("=")[0].removeprefix("layout.")) as error:
        request_from_words(["Llama-3-8B", word])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("days", [math.inf, math.nan, 0.0, -1.0])
def test_days_that_nobody_has_are_refused(days: float) -> None:
    with pytest.raises(ConfigError, match="days="):
        affordable(SMALL, days)
