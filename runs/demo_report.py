"""The demo's report: a text for the terminal and a self-contained page. Goes in: what each command answered. Comes out: report.html."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any, Final

from agora.settings import Workspace
from agora.units import format_bytes, format_joules, format_seconds

SEED: Final = 7
ANSWER_TOKENS: Final = 48
REPEATED: Final = ("posts", "posts_in_store")  # of an import's answer: the corpus row says it

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agora: report of the demo</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d9dee3; --paper: #fff; --accent: #0b6bcb; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8ecf0; --soft: #9aa6b2; --line: #333c46; --paper: #14181d; --accent: #6cb2ff; }} }}
body {{ font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 46rem; margin: 3rem auto; padding: 0 1.2rem; }}
h1 {{ font-size: 1.7rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
p.lead {{ color: var(--soft); margin-top: 0; }}
table {{ border-collapse: collapse; width: 100%; }} td {{ border-top: 1px solid var(--line); padding: .4rem .2rem; vertical-align: top; }}
td:first-child {{ color: var(--soft); width: 15rem; }}
img {{ width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px; }}
blockquote {{ margin: .8rem 0; padding: .1rem 1rem; border-left: 3px solid var(--accent); }}
blockquote p {{ margin: .4rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }} .asked {{ color: var(--soft); }}
</style></head><body>
<h1>From posts to a model that answers</h1>
<p class="lead">{lead}</p>
{tables}
<h2>Loss while learning</h2>
<img alt="Loss by step: training and held-out" src="data:image/png;base64,{picture}">
<h2>Three prompts</h2>
{answers}
</body></html>
"""


def write_report(place: Workspace, found: dict[str, dict[str, Any]], prompts: tuple[tuple[str, str], ...]) -> tuple[str, Path]:
    """Write `report.html` into the workspace. Returns the text for the terminal and the page's path."""
    answers = [(prompt, _answer(place, model, prompt)) for model, prompt in prompts]
    sections = _sections(found)
    picture = place.folder("runs", "main") / "loss.png"
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {name:<24} {value}" for name, value in rows.items())]
    lines += ["Loss while learning", f"  {picture}", "Three prompts", *(f"  > {asked}\n    {said}" for asked, said in answers)]
    tables = "".join(f"<h2>{html.escape(title)}</h2>{_table(rows)}" for title, rows in sections.items())
    spoken = "".join(
        f'<blockquote><p class="asked">{html.escape(asked)}</p><p>{html.escape(said)}</p></blockquote>' for asked, said in answers
    )
    page = place.root / "report.html"
    lead = "A small model learned from these posts on this machine. It knows how people here write; it does not know the world."
    encoded = base64.b64encode(picture.read_bytes()).decode("ascii")
    page.write_text(_PAGE.format(lead=lead, tables=tables, picture=encoded, answers=spoken), encoding="utf-8")
    return "\n".join(lines), page


def _sections(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    posts, corpus, shards = found["posts"], found["corpus"], found["shards"]
    learned, tuned, evaluation = found["pretraining"], found["chat"], found["evaluation"]
    dropped = {name: count for name, count in corpus["dropped"].items() if count}
    return {
        "Posts": {
            **{name.replace("_", " "): _shown(value) for name, value in posts.items() if value and name not in REPEATED},
            "read for the corpus": f"{corpus['posts_in']:,}",
            "kept": f"{corpus['kept']:,} as {corpus['documents']:,} documents",
            "dropped": ", ".join(f"{name} {count:,}" for name, count in dropped.items()) or "none",
        },
        "Tokens": {
            "vocabulary": f"{found['tokenizer']['vocabulary']:,}",
            "training": f"{shards['train']['tokens']:,} ({shards['train']['bytes_per_token']} bytes each)",
            "held out": f"{shards['heldout']['tokens']:,}",
        },
        "Learning": {
            "loss": f"{learned['loss']:.3f} nats per token after {learned['tokens']:,} tokens"
            + (f", held-out {learned['heldout_loss']:.3f}" if learned["heldout_loss"] is not None else ""),
            "speed": f"{learned['tokens_per_s']:,.0f} tokens/s, {learned['limit_share']:.0%} of this machine's matmul limit",
            "time": f"{format_seconds(learned['elapsed_s'])}, then {format_seconds(tuned['elapsed_s'])} of chat tuning",
            "energy": f"{format_joules(learned['joules'] + tuned['joules'])} ({learned['energy']})",
        },
        f"Bits per byte on {'authors' if corpus['heldout_authors'] else 'posts'} never seen": {
            "model": f"{evaluation['bits_per_byte']:.3f} (on {format_bytes(evaluation['num_bytes'])})",
            "xz -9e": f"{evaluation['xz_bits_per_byte']:.3f}",
            "zstd -19": f"{evaluation['zstd_bits_per_byte']:.3f}",
        },
    }  # fmt: skip


def _shown(value: Any) -> str:
    """A value of a command's answer for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items() if count)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _table(rows: dict[str, str]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def _answer(place: Workspace, name: str, prompt: str) -> str:
    """The chat model's answer, or the prompt as the base model goes on with it."""
    from agora.engine import SamplingConfig, load_local_model

    model = load_local_model(place.folder("models", name))
    sampling = SamplingConfig(max_tokens=ANSWER_TOKENS, temperature=0.7, top_p=0.9, seed=SEED)
    if name == "chat":
        return "".join(delta.text for delta in model.chat([{"role": "user", "content": prompt}], sampling)).strip()
    return prompt + "".join(delta.text for delta in model.complete(prompt, sampling)).rstrip()
