"""What an experiment says, for people and programs. Goes in: experiments per audience. Comes out: plain values, text, or one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from typing import Any

from agora.ads.experiment import ArmReport, Decision, Experiment


def report_values(decisions: Mapping[str, Decision]) -> dict[str, Any]:
    """Everything as plain values (JSON)."""
    return {audience: asdict(decision) for audience, decision in decisions.items()}


def decide(tests: Mapping[str, Experiment]) -> dict[str, Decision]:
    """The decision of each audience's experiment."""
    return {audience: test.decision() for audience, test in tests.items()}


def verdict(decision: Decision) -> str:
    """'keep b' or 'go on'."""
    return f"keep {decision.best}" if decision.stop else "go on"


def report_text(decisions: Mapping[str, Decision]) -> str:
    """One block per audience, one line per arm."""
    blocks = []
    for audience, decision in decisions.items():
        width = max(len(arm.name) for arm in decision.arms)
        lines = [f"{audience}: {verdict(decision)} ({decision.rule if decision.stop else 'no rule says stop'})", f"  {decision.reason}"]
        for arm in decision.arms:
            lines.append(
                f"  {arm.name:<{width}}  {arm.views:>9,} views {arm.clicks:>7,} clicks  {arm.rate:7.3%} in [{arm.low:.3%}, {arm.high:.3%}]"
                f"  best {arm.chance_best:4.0%}  next share {_share(arm)}"
            )
        lines.append(f"  {_regret(decision)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def report_html(decisions: Mapping[str, Decision], *, title: str = "Experiment") -> str:
    """A page that stands by itself: no script, nothing from elsewhere."""
    parts = "".join(_section(audience, decision) for audience, decision in decisions.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{parts}"
        "<footer>Intervals hold at every look (always valid). Click rates are taken to stay the same.</footer></main></body></html>\n"
    )


def _section(audience: str, decision: Decision) -> str:
    highest = max(arm.high for arm in decision.arms if arm.views) if any(arm.views for arm in decision.arms) else 1.0
    rows = "".join(_arm_row(arm, decision, highest) for arm in decision.arms)
    return (
        f'<section><h2>{escape(audience)} <b class="{"stop" if decision.stop else "on"}">{escape(verdict(decision))}</b></h2>'
        f"<p>{escape(decision.reason)}</p><table><thead><tr><th>Variant</th><th>Views</th><th>Clicks</th>"
        "<th>Click rate, always-valid interval</th>"
        f"<th>Chance best</th><th>Next share</th></tr></thead><tbody>{rows}</tbody></table><p>{escape(_regret(decision))}</p></section>"
    )


def _arm_row(arm: ArmReport, decision: Decision, highest: float) -> str:
    left, right = 100 * arm.low / highest, min(100.0, 100 * arm.high / highest)
    mark, width = 100 * arm.rate / highest, max(0.5, right - left)
    bar = f'<i class="range"><i style="left:{left:.1f}%;width:{width:.1f}%"></i><u style="left:{mark:.1f}%"></u></i>'
    kind = "dropped" if arm.dropped else "best" if arm.name == decision.best else ""
    return (
        f'<tr class="{kind}"><td>{escape(arm.name)}</td><td>{arm.views:,}</td><td>{arm.clicks:,}</td>'
        f"<td>{bar} {arm.rate:.3%} [{arm.low:.3%}, {arm.high:.3%}]</td><td>{arm.chance_best:.0%}</td><td>{_share(arm)}</td></tr>"
    )


def _share(arm: ArmReport) -> str:
    return "dropped" if arm.dropped else f"{arm.share:.0%}"


def _regret(decision: Decision) -> str:
    return (
        f"expected clicks lost so far against the best variant: {decision.regret_clicks:,.1f}; "
        f"equal shares of the same views: {decision.regret_uniform_clicks:,.1f}"
    )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#1c2024;background:#f6f7f8;margin:0}"
    "main{max-width:62rem;margin:2rem auto;padding:0 1rem}"
    "section{background:#fff;border:1px solid #dfe3e6;border-radius:10px;"
    "padding:1rem 1.25rem;margin:1rem 0}h2{font-size:1.15rem;margin:.2rem 0}"
    "b.stop{color:#0a6b3d}b.on{color:#7a5200}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;"
    "border-top:1px solid #e7eaec;font-variant-numeric:tabular-nums}tr.dropped{color:#6b7280}tr.best td:first-child{font-weight:700}"
    ".range{display:inline-block;position:relative;width:9rem;height:.6rem;"
    "background:#eef0f2;border-radius:4px}"
    ".range i{position:absolute;top:0;bottom:0;background:#9db8e8;border-radius:4px}"
    ".range u{position:absolute;top:-2px;bottom:-2px;width:2px;"
    "background:#1d4ea3}footer{color:#5b6570;font-size:.85rem}"
)
