"""Cluster: a training machine of 8 to 1,000,000 accelerators, before it is bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from nicegui import ui

from agora.cluster.questions import ready_question
from agora.server.api.plans import CompareBody, OptionRow, PlanBody, Planned, known_things, make_comparison, make_plan, make_what_ifs
from agora.server.web import charts
from agora.server.web.parts import Slider, box, button, count, note, table, text, tile, waiting
from agora.server.web.site import Shown, Site, Viewer, tell
from agora.units import format_seconds

KINDS: Final = 8
_MOST: Final = 6.0  # a million, as a power of ten


def add_pages(site: Site) -> None:
    """/cluster"""

    @site.page("/cluster", "Cluster", "cluster")
    def show(viewer: Viewer, model: str = "Llama-3-70B", on: str = "H100", n: int = 1_024, tokens: float = 15e12) -> None:
        known = known_things()
        question = model if model in known.questions else None
        if question is not None:
            ready = ready_question(question)
            model, on, n, tokens = ready.model, ready.accelerator, ready.num_accelerators, ready.tokens
        model = _known("model", model, known.models, "Llama-3-70B")
        on = _known("on", on, list(known.accelerators), "H100")
        _Cluster(site, viewer).build(model, on, min(max(n, 8), 1_000_000), min(max(tokens, 1e6), 1e16), question)


def _known(name: str, word: str, known: Sequence[str], usual: str) -> str:
    """The word, or the usual one, with a line that tells, where nothing has that name."""
    if word in known:
        return word
    note(f"{name}={word[:60]!r} in the address is not known; shown is {name}={usual}.", "warn")
    return usual


class _Cluster:
    """One plan on the page."""

    def __init__(self, site: Site, viewer: Viewer) -> None:
        self.site, self.viewer, self.asked = site, viewer, 0

    def build(self, model: str, on: str, number: int, tokens: float, question: str | None) -> None:
        known = known_things()
        self.stated = number
        text("h1", "Cluster")
        text("p", "What a training run takes: days, memory, failures, megawatts, money.", "soft")
        with box("card"):
            with box("thirds"):
                self.model = ui.select(known.models, value=model, label="Model").props("outlined dense")
                self.on = ui.select(known.accelerators, value=on, label="Accelerator").props("outlined dense")
                self.precision = ui.select({"bf16": "16 bits", "fp8": "8 bits"}, value="bf16", label="Products").props("outlined dense")
            with box("thirds"):
                with box("stack tight"):
                    self.number_text = text("div", "", "strong")
                    self.number = Slider(
                        "Number of accelerators", math.log10(8), _MOST, 0.01, math.log10(number), words=lambda: self.number_text.text
                    )
                with box("stack tight"):
                    self.tokens_text = text("div", "", "strong")
                    self.tokens = Slider("Tokens to train on", 9, 14.3, 0.02, math.log10(tokens), words=lambda: self.tokens_text.text)
                with box("stack tight"):
                    self.cap_text = text("div", "", "strong")
                    self.cap = Slider("Power cap", 0.4, 1.0, 0.05, 1.0, words=lambda: self.cap_text.text)
            with box("line"):
                for name, words in known.questions.items():
                    made = button(name, lambda name=name: self.ready(name), "plain")
                    with made:
                        ui.tooltip(words)
        self.result = box("stack wide", aria_live="polite")
        self.kinds = box("stack wide")
        for one in (self.model, self.on, self.precision):
            one.on_value_change(self.plan)
        self.words()
        for slider in (self.number, self.tokens, self.cap):
            slider.follow(self.words, self.plan)
            slider.tell()
        ui.timer(0.01, self.plan if question is None else partial(self.ready, question), once=True)

    def words(self) -> None:
        self.number_text.text = f"{self.how_many():,} accelerators"
        self.tokens_text.text = f"{count(self.how_long())} tokens"
        self.cap_text.text = f"{self.cap.value:.0%} of their power"

    def how_many(self) -> int:
        exact = 10**self.number.value
        if abs(exact / self.stated - 1) < 1e-6:
            return self.stated
        whole = 2 ** max(3, int(math.log2(exact)) - 4)  # an odd number up to 31 times a power of two: layouts need divisors
        return 1_000_000 if exact > 990_000 else max(8, round(exact / whole) * whole)

    def how_long(self) -> float:
        return float(f"{10 ** float(self.tokens.value):.3g}")

    def body(self) -> dict[str, Any]:
        return {
            "model": self.model.value, "accelerator": self.on.value, "num_accelerators": self.how_many(), "tokens": self.how_long(),
            "precision": self.precision.value, "power_cap": self.cap.value,
        }  # fmt: skip

    async def ready(self, question: str) -> None:
        ui.navigate.history.replace(f"/cluster?{urlencode({'model': question})}")
        await self.show(PlanBody(question=question))

    async def plan(self) -> None:
        query = {"model": self.model.value, "on": self.on.value, "n": self.how_many(), "tokens": f"{self.how_long():g}"}
        ui.navigate.history.replace(f"/cluster?{urlencode(query)}")
        await self.show(PlanBody(**self.body()))

    async def show(self, body: PlanBody) -> None:
        self.asked += 1
        asked = self.asked
        self.result.clear()
        self.kinds.clear()
        with self.result:
            waiting(4)
        try:
            made = await self.site.call(self.viewer, make_plan, body)
        except Shown as problem:
            if asked == self.asked:
                self.result.clear()
                with self.result:
                    tell(problem)
            return
        if asked != self.asked:
            return
        self.result.clear()
        with self.result:
            _show_plan(made)
        with self.kinds:
            waiting(3)
        names = list(known_things().accelerators)
        chosen = sorted(names, key=lambda name: name != made.plan["accelerator"])[:KINDS]
        plain = body.model_dump(exclude_none=True, exclude={"accelerator", "network"} if body.question is None else set())
        try:
            options = await self.site.call(self.viewer, make_comparison, CompareBody(**plain, on=chosen))
            others = await self.site.call(self.viewer, make_what_ifs, body)
        except Shown as problem:
            self.kinds.clear()
            with self.kinds:
                tell(problem)
            return
        if asked == self.asked:
            self.kinds.clear()
            with self.kinds:
                _options("Kinds side by side", options)
                _options("What if", others)


def _show_plan(made: Planned) -> None:
    plan = made.plan
    money = plan["cost_usd"]
    usd = next((money[name] for name in ("own_usd", "rent_usd") if money.get(name)), None)
    with box("tiles"):
        tile("Time", _days(plan["days"]), f"{_days(plan['days_80_percent'][0])} to {_days(plan['days_80_percent'][1])}")
        tile("Power", f"{plan['power_mw']['facility_and_heat']:,.3g} MW", "of the hall")
        tile("Cost", "–" if usd is None else f"${count(usd)}", "owned" if money.get("own_usd") else "rented")
        tile("Energy", f"{count(plan['energy_mwh']['metered_like'])} MWh", f"{count(plan['carbon_t']['metered_like'])} t CO2")
        tile("Of the peak", f"{plan['model_flops_share']:.0%}", f"limit: {plan['limit'].replace('_', ' ')}")
    with box("card"):
        text("h2", "Memory of one accelerator")
        memory = dict(plan["memory_gib"])
        whole, used = memory.pop("available"), memory.pop("total")
        parts = {name.replace("_", " "): value for name, value in sorted(memory.items(), key=lambda one: -one[1]) if value > 0.005}
        if len(parts) > 5:
            kept = dict(list(parts.items())[:4])
            parts = {**kept, "the rest": sum(parts.values()) - sum(kept.values())}
        charts.shares(parts, whole, "GiB")
        text("p", f"{used:,.3g} of {whole:,.3g} GiB used", "small soft")
    with box("halves"):
        with box("card"):
            text("h2", "Layout")
            text("p", plan["layout_in_words"].replace("_", "-"), "wrap")
            for sentence in plan["in_words"]:
                text("p", sentence, "small wrap")
        with box("stack wide").style("gap:16px"):
            with box("card"):
                text("h2", "Failures")
                failures = plan["failures"]
                between = failures["mean_time_between_s"]
                table(
                    ("", ""),
                    [
                        ("one every", "never" if between is None else format_seconds(between)),
                        ("in the whole run", count(failures["interruptions"])),
                        (
                            "checkpoint every",
                            "–" if failures["checkpoint_every_s"] is None else format_seconds(failures["checkpoint_every_s"]),
                        ),
                        ("spare nodes", count(failures["spare_nodes"])),
                        ("recovery", failures["recovery"]),
                        ("useful share of time", f"{failures['useful_share']:.1%}"),
                    ],
                )
            with box("card"):
                text("h2", "One step")
                causes = {name.removesuffix("_s").replace("_", " "): value for name, value in plan["step_by_cause_s"].items() if value}
                charts.shares(dict(sorted(causes.items(), key=lambda one: -one[1])[:5]), sum(causes.values()), "s")
                text("p", f"{plan['step_s']:.3g} s a step, {count(plan['tokens_per_s'])} tokens a second", "small soft")
    with box("card"), ui.expansion("Assumptions, and what is not covered").props("dense"):
        for name, lines in made.assumptions.items():
            text("h3", name.replace("_", " "))
            for line in lines:
                text("p", line, "small soft wrap")
        text("h3", "Not covered")
        for line in plan["not_covered"]:
            text("p", line, "small soft wrap")


def _options(title: str, options: list[OptionRow]) -> None:
    with box("card"):
        text("h2", title)
        rows = [_option(one) for one in options]
        best = [number for number, one in enumerate(options) if one.is_unbeaten]
        table(("option", "days", "MW", "cost", "of peak", "layout"), rows, numbers=(1, 2, 3, 4), best=best)
        text("p", "Shaded: no other option is better in time, cost and energy together.", "tiny soft")


def _option(one: OptionRow) -> tuple[str, ...]:
    if not one.row:
        return (one.label, "–", "–", "–", "–", one.reason or "")
    cost = f"${count(one.row['own_usd'] or one.row['rent_usd'])}"
    layout = one.row["layout"].replace("_", "-")
    return (one.label, _days(one.row["days"]), f"{one.row['facility_mw']:,.3g}", cost, f"{one.row['model_flops_share']:.0%}", layout)


def _days(days: float | None) -> str:
    if days is None:
        return "–"
    if days < 1:
        return f"{days * 24:.3g} hours"
    return f"{days:,.3g} days" if days < 730 else f"{days / 365.25:,.3g} years"
