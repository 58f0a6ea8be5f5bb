"""Ads: one's jobs, and the audiences of the posts with the rules that keep some of them unseen."""

from __future__ import annotations

from nicegui import ui

from agora.server.api.ads_forms import AudienceRow, AudiencesFound, JobRow
from agora.server.web import ads_job, ads_new
from agora.server.web.ads_job import STATES
from agora.server.web.parts import FOLLOW_S, box, button, count, empty, moment, note, progress, table, text, waiting
from agora.server.web.site import Shown, Site, Viewer, loaded, quick


def add_pages(site: Site) -> None:
    """/ads, /ads/new, /ads/{job}"""

    @site.page("/ads", "Ads", "ads")
    def jobs(viewer: Viewer) -> None:
        _Ads(site, viewer).build()

    @site.page("/ads/new", "New ads", "ads")
    def new(viewer: Viewer) -> None:
        ads_new.NewAds(site, viewer).build()

    @site.page("/ads/{job}", "Ads", "ads")
    def show(viewer: Viewer, job: str, part: str = "pictures") -> None:
        ads_job.JobPage(site, viewer, job, part).build()


class _Ads:
    """The page of all jobs."""

    def __init__(self, site: Site, viewer: Viewer) -> None:
        self.site, self.viewer = site, viewer
        self.timer: ui.timer | None = None

    def build(self) -> None:
        with box("line apart"):
            text("h1", "Ads")
            button("New ads", lambda: ui.navigate.to("/ads/new"), "main", "add")
        text("p", "Texts and pictures for audiences found in the posts; every claim rests on a line of your brief.", "soft")
        self.jobs = box("stack")
        with self.jobs:
            waiting(4)
        text("h2", "Audiences").style("padding-top:12px")
        self.found = box("stack", aria_live="polite")
        with self.found:
            waiting(4)
        loaded(self.jobs, self.load_jobs)
        loaded(self.found, self.load_audiences)

    async def load_jobs(self) -> None:
        rows = await self.site.call(self.viewer, self.site.areas.ads.jobs, self.viewer.caller)
        self.jobs.clear()
        with self.jobs:
            if not rows:
                with empty(
                    "No ads yet", "A brief says what is advertised: a product, what is true of it, its colours. An example is filled in."
                ):
                    button("Begin with the example", lambda: ui.navigate.to("/ads/new"), "plain")
            with box("halves"):
                for row in rows:
                    _job_card(row)

    async def load_audiences(self) -> None:
        found = await self.site.call(self.viewer, self.site.areas.ads.current_audiences)
        self.found.clear()
        with self.found:
            self.show_audiences(found)
        is_working = found.work is not None and found.work.state in ("waiting", "running")
        if is_working and self.timer is None:
            self.timer = ui.timer(FOLLOW_S, self.follow)
        elif not is_working and self.timer is not None:
            self.timer.cancel()
            self.timer = None

    async def follow(self) -> None:
        try:
            await self.load_audiences()
        except Shown as problem:
            quick(problem)
            if self.timer is not None:
                self.timer.cancel()

    def show_audiences(self, found: AudiencesFound) -> None:
        work = found.work
        if work is not None and work.state in ("waiting", "running"):
            progress(work, "Looking for audiences in the posts")
        elif work is not None and work.state != "finished":
            note(work.message or "The search for audiences was stopped.", "bad" if work.state == "failed" else "warn")
            with box("line"):
                button("Look again", self.look, "plain", "refresh")
        elif work is not None:
            with box("line apart"):
                text("p", f"Found {moment(found.found_at)}{'' if found.is_current else '; posts came or went since'}.", "small soft")
                button("Look again", self.look, "ghost", "refresh")
        if found.audiences:
            with box("halves"):
                for one in found.audiences:
                    audience_card(one)
        elif work is not None and work.state == "finished":
            empty("No audience can be shown", "No group of authors is large and harmless enough; the rules stand below.")
        with box("card"):
            text("h3", "What is never shown")
            rules = found.rules
            text("p", f"Groups of fewer than {rules.min_voices} voices, of which a campaign of many accounts is one.", "small soft wrap")
            text("p", f"Groups whose posts touch on {', '.join(rules.topics[:-1])} or {rules.topics[-1]}.", "small soft wrap")
            text("p", f"Groups in other languages than {', '.join(rules.languages)}: there are no lists of such words.", "small soft wrap")
            text("p", f"Accounts that opted out. Numbers are rounded down to {rules.rounded_to}s.", "small soft wrap")
            if found.withheld:
                table(("withheld because of", "groups"), list(found.withheld.items()), numbers=(1,))
            elif found.audiences:
                text("p", "No group was withheld.", "small soft")

    async def look(self) -> None:
        try:
            await self.site.call(self.viewer, self.site.areas.ads.find_audiences)
            await self.load_audiences()
        except Shown as problem:
            quick(problem)


def audience_card(one: AudienceRow) -> None:
    """One audience: its words and about how many."""
    with box("card", "article"):
        with box("line apart"):
            text("h3", one.label, "wrap")
            with box("line").style("width:auto; gap:6px"):
                text("span", f"about {one.num_authors:,} people", "chip accent")
                text("span", one.language, "chip")
        text("p", ", ".join((*one.terms, *one.names)), "small soft wrap")


def _job_card(row: JobRow) -> None:
    words, kind = STATES[row.work.state]
    with ui.link(target=f"/ads/{row.id}").classes("card"), box("line top").style("flex-wrap:nowrap; gap:14px"):
        if row.cover is not None:
            with box("cover"):
                text("img", "", src=row.cover, alt="", loading="lazy")
        with box("stack tight grow"):
            with box("line apart"):
                text("span", row.product, "strong wrap")
                text("span", words, f"chip {kind}")
            text("p", f"{row.brand}  ·  {row.by}, {moment(row.made_at)}", "small soft wrap")
            text("p", f"{row.ready} ready, {row.held} held, {row.blocked} blocked  ·  {count(row.num_pictures)} pictures", "small wrap")
            text("p", f"for {', '.join(row.audiences)}", "tiny soft wrap")
