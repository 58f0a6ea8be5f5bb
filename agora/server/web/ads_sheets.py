"""What may run, to take away: everything in one file, and a sheet for each ad system."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from nicegui import ui

from agora.server.api.ads_forms import SheetRow, WholeJob
from agora.server.web.parts import box, button, on_enter, text
from agora.server.web.site import Shown, Site, Viewer

_COMMAND: Final = re.compile(r" \(agora [^)]*\)")


def without_command(reason: str) -> str:
    """A reason without what the command line would be told to do: on a page it is a button or a field."""
    return _COMMAND.sub("", reason)


class Sheets:
    """The part of a job's page."""

    def __init__(self, site: Site, viewer: Viewer, job: WholeJob) -> None:
        self.site, self.viewer, self.job = site, viewer, job

    async def build(self) -> None:
        kit = await self.site.call(self.viewer, self.site.areas.ads.kit)
        with box("card"):
            text("h2", "Everything that may run")
            text("p", "Pictures as PNG and SVG, texts, ads.json and the policy report in one ZIP file.", "small soft")
            with box("line"):
                _download("Download all", f"/api/v1/ads/jobs/{self.job.id}/archive")
        with box("card"):
            text("h2", "Sheets")
            text(
                "p",
                "Each is checked with the platform's columns and limits before it is given out; ads are paused where it has a status.",
                "small soft",
            )
            for sheet in kit.sheets:
                with box("stack tight rule"):
                    text("span", sheet.title, "strong wrap")
                    if sheet.picture:
                        self.with_pictures(sheet)
                    else:
                        await self.offer(sheet)

    def with_pictures(self, sheet: SheetRow) -> None:
        """A sheet that takes pictures by a link is made when the place of the pictures is known."""
        text(
            "p", f"It takes the {sheet.picture} pictures by public links: unpack the ZIP file where everybody can read it, and name the "
            "folder's address here.", "small soft wrap",
        )  # fmt: skip
        made = box("stack tight", aria_live="polite")

        async def make() -> None:
            made.clear()
            with made:
                if (address.value or "").strip():
                    await self.offer(sheet, address.value.strip())
                else:
                    text("p", "The address is empty.", "small soft")

        with box("line"):
            address = ui.input("Public address of the folder, https://...").props("outlined dense maxlength=1000 type=url").classes("grow")
            on_enter(address, make)
            button("Make the sheet", make, "plain")
        made.move()  # below the field

    async def offer(self, sheet: SheetRow, pictures: str = "") -> None:
        """The way to the sheet, or why there is none."""
        area = self.site.areas.ads
        try:
            await self.site.call(self.viewer, area.export, self.viewer.caller, self.job.id, sheet.name, pictures=pictures)
        except Shown as problem:
            text("p", without_command(str(problem)), "small soft wrap")
            return
        asked = f"?pictures={quote(pictures, safe='')}" if pictures else ""
        with box("line"):
            _download(f"{sheet.name}.csv", f"/api/v1/ads/jobs/{self.job.id}/export/{sheet.name}{asked}")


def _download(words: str, address: str) -> None:
    with ui.link(target=address).classes("plain-link").props("download"):
        ui.icon("download")
        text("span", words)
