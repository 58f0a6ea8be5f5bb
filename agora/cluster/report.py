"""A plan as one HTML page that needs no network. Goes in: a Plan. Comes out: the page as text.

agora cluster plan Llama-3-405B --report plan.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from agora.cluster.charts import Points, bar_chart, line_chart
from agora.cluster.describe import DAY_S, plan_table
from agora.cluster.explain import assumptions
from agora.cluster.plan import Plan, PlanRequest, times_by_cause
from agora.cluster.studies import Option, compare, what_ifs
from agora.model.counts import flops_per_token, num_parameters

_UNITS = {"s": "s", "gib": "GiB", "mw": "MW", "mwh": "MWh", "t": "t", "usd": "USD"}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#0f172a}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.2rem .7rem;border-bottom:1px solid #e2e8f0;text-align:left;vertical-align:top}
td:first-child{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}
figure{display:inline-block;margin:.5rem 1rem .5rem 0}details{margin:.4rem 0}summary{cursor:pointer}"""


def growing_numbers(number: int) -> list[int]:
    """Numbers of accelerators around the asked one, for curves."""
    return sorted({max(8, round(number * factor / 8) * 8) for factor in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)})


def curves(request: PlanRequest) -> tuple[list[Option], str]:
    """Plans over the number of accelerators, and the charts of time, money and power."""
    found = compare(replace(request, layout=None), numbers=growing_numbers(request.num_accelerators))
    plans = [option.plan for option in found if option.plan is not None]

    def points(value: Any) -> Points:
        return [(plan.request.num_accelerators, value(plan)) for plan in plans if value(plan)]

    label = "accelerators"
    charts = [
        line_chart("Days", {"days": points(lambda plan: plan.duration_s / DAY_S)}, x_label=label, y_label="days"),
        line_chart(
            "Cost",
            {"rented": points(lambda plan: plan.cost.rent_usd), "owned": points(lambda plan: plan.cost.own_usd)},
            x_label=label,
            y_label="USD",
        ),
        line_chart("Power of the hall", {"facility": points(lambda plan: plan.draw.facility_w / 1e6)}, x_label=label, y_label="MW"),
    ]
    return found, "".join(f"<figure>{chart}</figure>" for chart in charts if chart)


def roofline(plan: Plan) -> str:
    """Attainable FLOP/s of one accelerator against FLOPs per byte of its memory, and where the step stands."""
    chip = plan.hardware
    reached = plan.model_flops_share * chip.rate_16
    ridge = chip.rate_16 / chip.memory_bytes_per_s
    roof = [(1.0, chip.memory_bytes_per_s), (ridge, chip.rate_16), (ridge * 100, chip.rate_16)]
    tokens = plan.layout.micro_batch * plan.request.seq_len / plan.layout.context
    intensity = flops_per_token(plan.shape, plan.request.seq_len) * tokens / (2 * num_parameters(plan.shape).active)
    return line_chart(
        "Roofline of one accelerator",
        {"roof (16 bits)": roof, "this step": [(max(intensity, 1.0), reached)]},
        x_label="FLOPs per byte of weights",
        y_label="FLOP/s",
    )


def plan_report(plan: Plan) -> str:
    """The whole page."""
    table = plan_table(plan)
    found, drawn = curves(plan.request)
    causes = {name.removesuffix("_s").replace("_", " "): seconds for name, seconds in times_by_cause(plan.steps).items()}
    parts = [
        f"<h1>{escape(str(table['model']))} on {plan.request.num_accelerators:,} {escape(plan.chip.name)}</h1>",
        "".join(f"<p>{escape(text)}</p>" for text in table["in_words"]),
        "<h2>Figures</h2>" + _nested(table),
        "<h2>One step</h2>",
        f"<figure>{bar_chart('Seconds by cause', causes, unit='s')}</figure><figure>{roofline(plan)}</figure>",
        "<h2>More or fewer accelerators</h2>" + drawn,
        _options(found),
        "<h2>What if</h2>" + _options(what_ifs(plan.request)),
        "<h2>Assumptions</h2>" + _assumptions(assumptions(plan)),
    ]
    title = escape(f"Plan: {table['model']}")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _nested(table: Mapping[str, Any]) -> str:
    rows = []
    for name, value in table.items():
        if name in ("in_words", "not_covered", "step_by_cause_s"):
            continue
        shown = _nested(value) if isinstance(value, Mapping) else escape(_number(value))
        rows.append(f"<tr><td>{escape(_label(name))}</td><td>{shown}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _label(name: str) -> str:
    """`step_80_percent_s` -> `step, 80% interval (s)`."""
    words = name.removeprefix("num_").split("_")
    unit = _UNITS.get(words[-1], "") if len(words) > 1 else ""
    text = " ".join(words[:-1] if unit else words).replace(" 80 percent", ", 80% interval")
    return f"{text} ({unit})" if unit else text


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')}: {_number(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return "; ".join(_number(item) for item in value)
    if isinstance(value, (list, tuple)):
        return " - ".join(_number(item) for item in value)
    return str(value)


def _options(found: Sequence[Option]) -> str:
    head = "<tr><th>option</th><th>days</th><th>MW</th><th>MWh</th><th>USD owned</th><th>layout</th></tr>"
    rows = []
    for option in found:
        plan = option.plan
        if plan is None:
            rows.append(f'<tr><td>{escape(option.label)}</td><td colspan="5">{escape(option.reason or "")}</td></tr>')
            continue
        cells = [plan.duration_s / DAY_S, plan.draw.facility_w / 1e6, plan.energy.metered_j / 3.6e9, plan.cost.own_usd]
        numbers = "".join(f'<td class="n">{escape(_number(cell))}</td>' for cell in cells)
        rows.append(f"<tr><td>{escape(option.label)}</td>{numbers}<td>{escape(plan.layout.describe())}</td></tr>")
    return f"<table>{head}{''.join(rows)}</table>"


def _assumptions(lines: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f"<details><summary>{escape(name)}</summary><ul>{''.join(f'<li>{escape(line)}</li>' for line in entries)}</ul></details>"
        for name, entries in lines.items()
    )
