"""Training: runs as they learn, their curves side by side, models and a word with one."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui

from agora.engine import SamplingConfig
from agora.server.api.runs import Run, RunMetrics, WholeRun
from agora.server.web import charts
from agora.server.web.parts import box, button, count, empty, on_enter, table, text, tile, waiting
from agora.server.web.site import Shown, Site, Viewer, loaded, quick
from agora.units import format_bytes, format_seconds

FOLLOW_S: Final = 2.0
SAMPLE_TOKENS: Final = 80
_CHIP: Final = {"running": "accent", "failed": "bad", "dead": "bad", "damaged": "bad", "stopped": "warn"}


def add_pages(site: Site) -> None:
    """/training, /training/{run}"""

    @site.page("/training", "Training", "training")
    def runs(viewer: Viewer, compare: str = "") -> None:
        _runs(site, viewer, [name for name in compare.split(",") if name][:5])

    @site.page("/training/{run}", "Run", "training")
    def show(viewer: Viewer, run: str) -> None:
        _Run(site, viewer, run).build()


def _runs(site: Site, viewer: Viewer, compared: list[str]) -> None:
    text("h1", "Training")
    area = box("stack wide")
    with area:
        waiting(6)

    async def load() -> None:
        runs = await site.call(viewer, site.areas.runs.all)
        models = await site.call(viewer, site.areas.runs.models)
        chosen = compared or [run.name for run in runs][:5]
        curves = {
            name: await site.call(viewer, site.areas.runs.metrics, name, points=200)
            for name in chosen
            if name in {run.name for run in runs}
        }
        area.clear()
        with area:
            if not runs:
                empty("No runs yet", "A run begins with:", "agora train pretrain")
            else:
                with box("card"):
                    text("h2", "Loss, side by side")
                    charts.lines(
                        {name: _series(one, "loss") for name, one in curves.items()},
                        name="Loss by step",
                        y_label=lambda value: f"{value:.2f}",
                    )
                    text("p", "nats per token, by step", "tiny soft")
                with box("halves"):
                    for run in runs:
                        _card(run)
            _models(site, viewer, models)

    loaded(area, load)


def _card(run: Run) -> None:
    with ui.link(target=f"/training/{run.name}").classes("card"):
        with box("line apart"):
            text("span", run.name, "strong wrap")
            text("span", run.state, f"chip {_CHIP.get(run.state, '')}")
        with box("progress"):
            box("").style(f"width:{100 * run.step / max(run.steps, 1):.1f}%")
        loss = "no loss yet" if run.loss is None else f"loss {run.loss:.3f}"
        text("p", f"{run.kind}  ·  step {run.step:,} of {run.steps:,}  ·  {loss}", "small soft wrap")
        if run.message:
            text("p", run.message, "small wrap")


def _models(site: Site, viewer: Viewer, models: Any) -> None:
    with box("card"):
        text("h2", "Models")
        if not models:
            text("p", "No model in this workspace. A run writes one when it ends.", "soft")
            return
        table(
            ("name", "parameters", "context (tokens)", "size", ""),
            [
                (one.name, count(one.parameters), f"{one.context_tokens:,}" if one.context_tokens else "–", format_bytes(one.bytes),
                 "served" if one.is_served else "")
                for one in models
            ],
            numbers=(1, 2, 3),
        )  # fmt: skip
        served = site.areas.services.models
        if not served:
            return
        text("h2", "A sample")
        with box("line").style("flex-wrap:nowrap; align-items:flex-end"):
            name = ui.select(list(served), value=next(iter(served)), label="Model").props("outlined dense").style("min-width:120px")
            prompt = ui.input("Begin with", value="I think that").props("outlined dense maxlength=500").classes("grow")

            async def sample() -> None:
                def write() -> str:
                    sampling = SamplingConfig(max_tokens=SAMPLE_TOKENS, temperature=0.8, top_p=0.95)
                    return "".join(delta.text for delta in served[name.value].complete(prompt.value or " ", sampling))

                said.text = "…"
                try:
                    said.text = (prompt.value or "") + await site.call(viewer, write)
                except Shown as problem:
                    quick(problem)

            on_enter(prompt, sample)
            button("Write", sample, "main")
        said = text("div", "", "said", dir="auto")


class _Run:
    """One run on the page, followed while it runs."""

    def __init__(self, site: Site, viewer: Viewer, run: str) -> None:
        self.site, self.viewer, self.run = site, viewer, run
        self.timer: ui.timer | None = None

    def build(self) -> None:
        ui.link("← All runs", "/training").classes("small")
        self.area, self.settings = box("stack wide"), box("stack wide")
        with self.area:
            waiting(8)
        loaded(self.area, self.begin)

    async def begin(self) -> None:
        run = await self.load()
        # Apart from what is drawn anew while the run goes on, so that it stays open, and focused.
        with self.settings, box("card"):
            text("h2", "Settings")
            with ui.expansion("Model and training").props("dense"):
                flat = [(f"{group}.{key}", value) for group, values in run.config.items() if isinstance(values, dict)
                        for key, value in values.items()]  # fmt: skip
                table(("setting", "value"), [(key, str(value)[:300]) for key, value in flat])
            text("code", run.command, "wrap small")
        if run.state == "running":
            self.timer = ui.timer(FOLLOW_S, self.follow)

    async def load(self) -> WholeRun:
        run = await self.site.call(self.viewer, self.site.areas.runs.show, self.run)
        found = await self.site.call(self.viewer, self.site.areas.runs.metrics, self.run)
        self.area.clear()
        with self.area:
            self.show(run, found)
        return run

    async def follow(self) -> None:
        assert self.timer is not None
        try:
            if (await self.load()).state != "running":
                self.timer.cancel()
        except Shown as problem:
            quick(problem)
            self.timer.cancel()

    def show(self, run: Run, found: RunMetrics) -> None:
        with box("line apart"):
            text("h1", run.name, "wrap")
            text("span", run.state, f"chip {_CHIP.get(run.state, '')}")
        with box("progress"):
            box("").style(f"width:{100 * run.step / max(run.steps, 1):.1f}%")
        with box("tiles"):
            tile("Step", f"{run.step:,}", f"of {run.steps:,}")
            tile(
                "Loss",
                "–" if run.loss is None else f"{run.loss:.3f}",
                "" if run.heldout_loss is None else f"held out {run.heldout_loss:.3f}",
            )
            tile("Tokens a second", count(run.tokens_per_s), "" if run.limit_share is None else f"{run.limit_share:.0%} of the limit")
            tile("Energy", "–" if run.joules_per_token is None else f"{run.joules_per_token * 1000:.3g} mJ", "a token")
            if run.eta_s is not None:
                tile("Ends in", format_seconds(run.eta_s))
        with box("halves"):
            with box("card"):
                text("h2", "Loss")
                charts.lines(
                    {"training": _series(found, "loss"), "held out": _series(found, "heldout_loss")}, name="Loss by step",
                    y_label=lambda value: f"{value:.2f}",
                )  # fmt: skip
            with box("card"):
                text("h2", "Tokens a second")
                charts.lines({"tokens a second": _series(found, "tokens_per_s")}, name="Tokens a second by step")
            with box("card"):
                text("h2", "Energy a token")
                charts.lines(
                    {"joules a token": _series(found, "joules_per_token")},
                    name="Joules a token by step",
                    y_label=lambda value: f"{value:.3g}",
                )
            with box("card"):
                text("h2", "Size of the gradient")
                charts.lines({"norm": _series(found, "grad_norm")}, name="Gradient norm by step", y_label=lambda value: f"{value:.3g}")


def _series(found: RunMetrics, name: str) -> list[tuple[float, float]]:
    pairs = [(point["step"], point[name]) for point in found.points]
    return [(step, value) for step, value in pairs if step is not None and value is not None]
