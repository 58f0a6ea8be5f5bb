"""One job of the ads studio: how far it is, pictures per audience and size, texts with their lengths, findings, sheets, results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from nicegui import ui

from agora.server.api.ads_forms import (
    DecisionRow,
    ExperimentReport,
    FindingRow,
    NewRelease,
    NewResults,
    PictureRow,
    VariantRow,
    WholeJob,
)
from agora.server.web import charts
from agora.server.web.ads_new import show_brief
from agora.server.web.ads_sheets import Sheets, without_command
from agora.server.web.parts import (
    FOLLOW_S,
    box,
    button,
    empty,
    moment,
    note,
    picker,
    progress,
    sheet,
    sub_pages,
    table,
    text,
    tile,
    waiting,
)
from agora.server.web.site import Shown, Site, Viewer, loaded, quick, tell

PARTS: Final = {"pictures": "Pictures", "texts": "Texts", "policy": "Policy", "export": "Export", "results": "Results", "brief": "Brief"}
MAX_RESULTS: Final = 4_000_000
STATES: Final = {
    "waiting": ("waits for its turn", ""), "running": ("being made", "accent"), "finished": ("made", ""), "failed": ("failed", "bad"),
    "cancelled": ("cancelled", "warn"), "interrupted": ("interrupted", "warn"),
}  # fmt: skip
"""A job's state in words, and the kind of its chip."""
_CHIP: Final = {"ready": "good", "held": "warn", "blocked": "bad"}
_AREA: Final = 46_000  # square pixels of a picture on the page, so that large and small sizes stand side by side


class JobPage:
    """The page; `part` is one of PARTS."""

    def __init__(self, site: Site, viewer: Viewer, job: str, part: str) -> None:
        self.site, self.viewer, self.job = site, viewer, job
        self.part = part if part in PARTS else "pictures"
        self.calls = site.areas.ads
        self.timer: ui.timer | None = None
        self.shown: tuple[Any, ...] = ()

    def build(self) -> None:
        ui.link("← All ads", "/ads").classes("small")
        self.head = box("stack")
        self.area = box("stack wide")
        with self.area:
            waiting(8)
        loaded(self.area, self.load)

    async def load(self) -> None:
        job = await self.site.call(self.viewer, self.calls.show, self.viewer.caller, self.job)
        is_working = job.work.state in ("waiting", "running")
        state = (job.work.state, job.ready, job.held, job.blocked, job.num_pictures)
        if state != self.shown:
            if not is_working or state[0] != (self.shown or ("",))[0]:
                self.head.clear()
                with self.head:
                    self.show_head(job)
            self.shown = state
            self.area.clear()
            with self.area:
                await self.parts()[self.part](job)
        if is_working:  # only this is drawn anew each time: a button would lose the keyboard's focus
            self.bar.clear()
            with self.bar:
                progress(job.work, "Making the ads")
        if is_working and self.timer is None:
            self.timer = ui.timer(FOLLOW_S, self.follow)
        elif not is_working and self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def parts(self) -> dict[str, Callable[[WholeJob], Any]]:
        return {
            "pictures": self.pictures, "texts": self.texts, "policy": self.policy, "export": self.export, "results": self.results,
            "brief": self.brief,
        }  # fmt: skip

    async def follow(self) -> None:
        try:
            await self.load()
        except Shown as problem:
            quick(problem)
            if self.timer is not None:
                self.timer.cancel()

    def show_head(self, job: WholeJob) -> None:
        words, kind = STATES[job.work.state]
        with box("line apart top"):
            with box("stack tight grow"):
                text("h1", job.product, "wrap")
                text("p", f"{job.brand}  ·  for {', '.join(job.audiences)}  ·  {job.by}, {moment(job.made_at)}", "small soft wrap")
            text("span", words, f"chip {kind}")
        if job.work.state in ("waiting", "running"):
            self.bar = box("stack")
            with box("line"):
                button("Cancel", self.cancel, "plain", "stop")
        elif job.work.state != "finished":
            note(
                job.work.message[:1].upper() + job.work.message[1:]
                or f"The work was {job.work.state}. What is made stays; it goes on from there.",
                "bad" if job.work.message else "warn",
            )
            with box("line"):
                button("Go on", self.go_on, "main", "play_arrow")
        else:
            with box("tiles"):
                tile("Ready", job.ready, "may run")
                tile("Held", job.held, "a person has to see them")
                tile("Blocked", job.blocked + len(job.not_written), "do not run, with the reason")
                tile("Pictures", job.num_pictures, f"{len(job.placements)} sizes")
            if job.model is not None:
                text("p", f"Written by the model {job.model}, each text held against the facts of the brief.", "small soft wrap")
            if job.credentials:
                note(f"Content credentials: {job.credentials}.")
        sub_pages({f"/ads/{job.id}?part={key}": name for key, name in PARTS.items()}, f"/ads/{job.id}?part={self.part}")

    async def pictures(self, job: WholeJob) -> None:
        """Variants per audience, each in its sizes."""
        if not job.variants:
            self.nothing_yet(job)
        for label, variants in by_audience(job):
            with box("stack", "section"):
                text("h2", label, "wrap")
                for one in variants:
                    with box("card", "article"):
                        _variant_head(one)
                        if one.pictures:
                            with box("sheet-row"):
                                for picture in one.pictures:
                                    _picture(picture, one)
                        else:
                            _reasons(one.findings)
                            if not one.findings:
                                text("p", "No pictures were asked for.", "small soft")

    async def texts(self, job: WholeJob) -> None:
        """Every text beside how long it is where it stands."""
        if not job.variants:
            self.nothing_yet(job)
        for label, variants in by_audience(job):
            with box("stack", "section"):
                text("h2", label, "wrap")
                for one in variants:
                    with box("card", "article"):
                        _variant_head(one)
                        for row in one.texts:
                            with box("copy"):
                                text("div", row.field.replace("_", " "), "small soft")
                                with box("stack tight"):
                                    text("div", row.text, "wrap", dir="auto")
                                    with box("line").style("gap:4px 6px"):
                                        for limit in row.limits:
                                            full = limit.width > 0.9 * limit.max
                                            name = f"{limit.platform} {limit.field.replace('_', ' ')}"
                                            text("span", f"{name} {limit.width}/{limit.max}", f"chip {'accent' if full else ''}")
                                    rests = sorted({f"{claim.text} ({claim.source})" for claim in row.claims})
                                    if rests:
                                        text("div", f"rests on {'; '.join(rests)}", "tiny soft wrap")

    async def policy(self, job: WholeJob) -> None:
        """What does not run and why, and what a person has to see."""
        if not job.variants:
            self.nothing_yet(job)
            return
        found = sorted((one for one in job.variants if one.state != "ready" or one.release), key=lambda one: one.state)
        if not found and not job.not_written:
            empty("Nothing was found", f"All {len(job.variants)} variants may run. The rules are patterns: a person should read what runs.")
        for one in found:
            with box("card", "article"):
                _variant_head(one, "h2")
                text("p", one.texts[0].text, "strong wrap", dir="auto")
                text("p", next(row.text for row in one.texts if row.field == "primary_text"), "wrap", dir="auto")
                _reasons(one.findings)
                if one.release:
                    note(f"Released by {one.release.by}, {moment(one.release.at)}{': ' + one.release.note if one.release.note else ''}")
                if one.state == "held" and job.work.state == "finished":
                    with box("line"):
                        button("See all texts and release", lambda one=one: self.release(one), "main", "gavel")
        if job.not_written:
            with box("card"):
                text("h2", "Not written")
                text("p", "Texts that were blocked while they were written.", "small soft")
                table(("for", "field", "text", "why"), [(row.audience, row.field, row.text, row.reason) for row in job.not_written])

    def release(self, variant: VariantRow) -> None:
        with sheet("Let these texts run?") as dialog:
            text("p", f"It is kept that {self.viewer.caller.name} has seen them. Other texts need another release.", "small soft")
            _reasons(variant.findings)
            with box("stack tight").style("max-height:40vh; overflow:auto"):
                for row in variant.texts:
                    text("div", row.field.replace("_", " "), "tiny soft")
                    text("div", row.text, "wrap", dir="auto")
            why = ui.input("Note (may be empty)").props("outlined dense maxlength=500")

            async def give() -> None:
                body = NewRelease(variants=[variant.name], note=why.value or "")
                try:
                    await self.site.call(self.viewer, self.calls.release, self.viewer.caller, self.job, body)
                except Shown as problem:
                    quick(problem)
                    return
                dialog.close()
                await self.load()

            with box("line"):
                button("I have seen them: release", give, "main")
                button("Cancel", dialog.close, "plain")

    async def export(self, job: WholeJob) -> None:
        """Sheets of what may run, or why there are none."""
        if job.work.state != "finished":
            self.nothing_yet(job)
            return
        await Sheets(self.site, self.viewer, job).build()

    async def results(self, job: WholeJob) -> None:
        """Which variant to keep, by what a platform exported."""
        with box("card"):
            text("h2", "Results of a platform")
            text(
                "p", "The CSV file that Google Ads, Meta or X exports, with views and clicks of each ad. Its columns are found by their "
                "names; where they have others, name them.", "small soft wrap",
            )  # fmt: skip
            with ui.expansion("Names of columns").props("dense"), box("halves"):
                self.columns = {
                    field: ui.input(words).props("outlined dense maxlength=120")
                    for field, words in {"variant": "Ad", "audience": "Audience", "views": "Views", "clicks": "Clicks"}.items()
                }
            with box("line"):
                picker("Choose results", self.take_results, accept=".csv,.tsv,.txt", max_bytes=MAX_RESULTS)
        self.report = box("stack wide", aria_live="polite")
        if job.has_results:
            with self.report:
                _show_report(await self.site.call(self.viewer, self.calls.experiment, self.viewer.caller, job.id))

    async def take_results(self, name: str, data: bytes) -> None:
        columns = {field: one.value.strip() for field, one in self.columns.items() if (one.value or "").strip()}
        is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        self.report.clear()
        try:
            words = data.decode("utf-16" if is_wide else "utf-8-sig")
            body = NewResults(text=words, columns=columns)  # type: ignore[arg-type]
            found = await self.site.call(self.viewer, self.calls.keep_results, self.viewer.caller, self.job, body)
        except ValueError:
            with self.report:
                note(f"{name} is empty, or no text in UTF-8 or UTF-16; export it as CSV.", "bad")
            return
        except Shown as problem:
            with self.report:
                tell(problem)
            return
        with self.report:
            _show_report(found)

    async def brief(self, job: WholeJob) -> None:
        """What was sent."""
        with box("card"):
            show_brief(job.brief)
        with box("line"):
            button("Delete these ads", self.confirm_delete, "danger", "delete")

    def confirm_delete(self) -> None:
        with sheet("Delete the brief and all that was made of it?") as dialog:

            async def delete() -> None:
                try:
                    await self.site.call(self.viewer, self.calls.delete, self.viewer.caller, self.job)
                except Shown as problem:
                    quick(problem)
                    return
                ui.navigate.to("/ads")

            with box("line"):
                button("Delete for good", delete, "danger")
                button("Cancel", dialog.close, "plain")

    def nothing_yet(self, job: WholeJob) -> None:
        if job.work.state in ("waiting", "running"):
            waiting(5)
        else:
            empty("Nothing is made yet", "Go on with the work to see something here.")

    async def cancel(self) -> None:
        await self.act(self.calls.cancel)

    async def go_on(self) -> None:
        await self.act(self.calls.run)

    async def act(self, work: Callable[..., WholeJob]) -> None:
        try:
            await self.site.call(self.viewer, work, self.viewer.caller, self.job)
            await self.load()
        except Shown as problem:
            quick(problem)


def by_audience(job: WholeJob) -> Iterator[tuple[str, list[VariantRow]]]:
    """Variants per audience, in the order of the job."""
    for key, label in dict.fromkeys((one.audience, one.label) for one in job.variants):
        yield label, [one for one in job.variants if one.audience == key]


def _variant_head(one: VariantRow, tag: str = "h3") -> None:
    with box("line apart"):
        text(tag, f"Variant {one.name.rpartition('-')[2]}, {one.language}")
        with box("line").style("width:auto; gap:6px"):
            if one.written_by != "grammar":
                text("span", f"written by {one.written_by}", "chip")
            text("span", one.state, f"chip {_CHIP[one.state]}")


def _reasons(findings: list[FindingRow]) -> None:
    for one in findings:
        with box("line top").style("flex-wrap:nowrap"):
            is_block = one.severity == "block"
            text("span", "blocked" if is_block else "to be seen", f"chip {'bad' if is_block else 'warn'}").style("margin-top:2px")
            with box("stack tight"):
                reason = without_command(one.reason)
                text("span", reason[:1].upper() + reason[1:], "wrap")
                text("span", f"{one.field.replace('_', ' ')}: “{one.span}” (rule {one.rule.replace('_', ' ')})", "tiny soft wrap")


def _picture(one: PictureRow, variant: VariantRow) -> None:
    scale = math.sqrt(_AREA / (one.width * one.height))
    width = min(round(one.width * scale), 480)
    height = round(width * one.height / one.width)
    words = next(row.text for row in variant.texts if row.field == "alt_text")
    with box("shown", "figure").style(f"width:{width}px"):
        with ui.link(target=one.png, new_tab=True):
            text("img", "", src=one.png, alt=words, width=width, height=height, loading="lazy")
        with box("stack tight", "figcaption"):
            text("span", f"{one.placement}, {one.width} x {one.height}", "tiny soft")
            with box("line"):
                for ending, address in (("PNG", one.png), ("SVG", one.svg)):
                    made = ui.link(ending, address, new_tab=ending == "PNG").classes("tiny")
                    made.props["aria-label"] = f"{ending}, {one.placement}, {variant.name}"
            for problem in one.problems:
                text("span", problem, "chip bad")


def _show_report(found: ExperimentReport) -> None:
    read = ", ".join(f"{field}: {column}" for field, column in found.columns.items())
    text("p", f"{found.lines:,} lines read ({read}); {found.left_out:,} left out, such as totals.", "small soft wrap")
    for one in found.decisions:
        _decision(one)


def _decision(one: DecisionRow) -> None:
    with box("card", "article"):
        with box("line apart"):
            text("h2", one.audience, "wrap")
            text("span", f"keep {one.best}" if one.stop else "go on", f"chip {'good' if one.stop else 'warn'}")
        text("p", one.reason, "wrap")
        charts.intervals([(arm.name, arm.low, arm.rate, arm.high) for arm in one.arms])
        table(
            ("variant", "views", "clicks", "rate", "interval", "best with", "next share"),
            [
                (arm.name, f"{arm.views:,}", f"{arm.clicks:,}", f"{arm.rate:.2%}", f"{arm.low:.2%} to {arm.high:.2%}",
                 f"{arm.chance_best:.0%}", "dropped" if arm.dropped else f"{arm.share:.0%}")
                for arm in one.arms
            ],
            numbers=(1, 2, 3, 4, 5, 6), best=[number for number, arm in enumerate(one.arms) if arm.name == one.best],
        )  # fmt: skip
        text(
            "p", f"Clicks lost so far against the best variant, as expected: {one.regret_clicks:,.1f}; with equal shares of the same views "
            f"{one.regret_uniform_clicks:,.1f}.", "tiny soft wrap",
        )  # fmt: skip
