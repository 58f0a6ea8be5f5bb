"""What is rising, as an answer. Goes in: a TrendReport. Comes out: events: one line per trend, with example posts.

A trend counts voices, so accounts acting as one lift nothing. Where a trend's voices are few beside its accounts, the line says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agora.chat.compose import Composition, citation
from agora.chat.events import Caution, ChatEvent, Done, Reply, Said
from agora.chat.shown import one_line, quoted, safe_text
from agora.chat.square import Square, evidence_of
from agora.search.trends import Trend, TrendReport

DAY_S: Final = 86_400.0
WINDOW_S: Final = DAY_S
HISTORY_S: Final = 14 * DAY_S
"""Of a question for "today": a day against the two weeks before it."""
MAX_TRENDS: Final = 8
_EXAMPLES: Final = 1


def rising(report: TrendReport, square: Square, name: str, question: str) -> Iterator[ChatEvent]:
    """The answer to "what is trending". The last event is Done."""
    made = Composition()
    ids = [one for trend in report.trends for one in trend.examples[:_EXAMPLES]]
    posts = {row["id"]: row for row in square.posts(ids)}
    if not report.trends:
        yield made.say("Nothing rises above what is usual.\n")
    for trend in report.trends[:MAX_TRENDS]:
        line, cited = _line(trend), [posts[one] for one in trend.examples[:_EXAMPLES] if one in posts]
        for row in cited:
            if row["id"] not in made.numbers:
                yield made.card(citation(evidence_of(row, square)))
        cites = "".join(f" [{made.numbers[row['id']]}]" for row in cited)
        made.sentences.append(Said(line, tuple(row["id"] for row in cited)))
        yield made.say(f"{line}{cites}\n")
    warnings = tuple(one_line(one, 300) for one in report.warnings)
    for warning in warnings:
        yield Caution(warning)
    yield Done(
        Reply(
            kind="trends", question=question, text=made.text, writer="rules", persona=name, sentences=tuple(made.sentences),
            citations=tuple(made.citations), warnings=warnings, is_grounded=True, confidence=1.0 if report.trends else 0.0,
        )
    )  # fmt: skip


def _line(trend: Trend) -> str:
    accounts = f" ({trend.accounts:,} accounts)" if trend.accounts != trend.voices else ""
    alike = f", with {', '.join(quoted(one, 40) for one in trend.alike[:3])}" if trend.alike else ""
    usual = "hardly any are" if trend.expected < 0.5 else f"{trend.expected:.1f} are"
    line = f"{quoted(trend.term, 80)}: {trend.voices:,} voices{accounts}, where {usual} usual{alike}"
    return safe_text(line)  # a bracket that one term opens and the next one closes would hold our numbers


__all__ = ["HISTORY_S", "MAX_TRENDS", "WINDOW_S", "rising"]
