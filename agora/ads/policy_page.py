"""The policy report as a page that needs no other file. Goes in: variants with their findings, texts that were not written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from agora.ads.brief import Brief

if TYPE_CHECKING:
    from agora.ads.studio import Variant


def policy_page(brief: Brief, variants: Sequence[Variant], not_written: Sequence[Mapping[str, str]]) -> str:
    """The HTML."""
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f}"
        "h2{margin:2rem 0 .3rem;font-size:1.1rem}.ready{color:#14663b}.held{color:#8a5a00}.blocked{color:#a3130c}"
        "li{margin:.3rem 0}q{background:#fff3d6}small{color:#5c5c66}"
    )
    parts = [f"<h1>Policy: {escape(brief.product)}</h1>"]
    for one in variants:
        parts.append(f'<h2>{escape(one.name)} <span class="{one.state}">{one.state}</span></h2>')
        parts.append(f"<p><b>{escape(one.copy.headline)}</b><br>{escape(one.copy.primary_text)}</p><ul>")
        for finding in one.findings:
            parts.append(f"<li>{escape(finding.rule)}, {finding.severity}: <q>{escape(finding.span)}</q> {escape(finding.reason)}</li>")
        rests = {(claim.text, claim.source) for claim in one.copy.claims}
        parts += [f"<li><small>{escape(text)}: {escape(source)}</small></li>" for text, source in sorted(rests)]
        parts.append("</ul>")
    for lost in not_written:
        parts.append(f'<h2>{escape(lost["audience"])} <span class="blocked">not written</span></h2>')
        parts.append(f"<p><q>{escape(lost['text'])}</q> ({escape(lost['field'])}): {escape(lost['reason'])}</p>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Policy</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
