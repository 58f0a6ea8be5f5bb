"""The form of new ads. Goes in: what an advertiser writes or uploads. Comes out: a job, whose page is opened.

The form begins with an example; a file (brief.toml, .json, or a saved product page) takes its place, and its lines stay the sources.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from nicegui import ui
from pydantic import ValidationError

from agora.ads.opt_outs import accounts_in
from agora.server.api.ads_forms import AudiencesFound, BriefFile, BriefForm, BriefRead, Kit, NewBrief, NewJob
from agora.server.web.parts import FOLLOW_S, box, button, choice, empty, note, picker, progress, table, text, waiting
from agora.server.web.site import Shown, Site, Viewer, loaded, quick, tell

LANGUAGES: Final = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "ja": "Japanese", "pt": "Portuguese",
    "zh": "Chinese",
}  # fmt: skip
"""Those that have connecting words of their own."""
MAX_FILE: Final = 1 << 20
MAX_PICTURE: Final = 4 << 20
_FIELD: Final = "outlined dense"


class NewAds:
    """The page."""

    def __init__(self, site: Site, viewer: Viewer) -> None:
        self.site, self.viewer = site, viewer
        self.calls = site.areas.ads
        self.file: tuple[str, str] | None = None
        self.pictures: dict[str, bytes] = {}
        self.facts: dict[str, Any] = {}
        self.offers: dict[str, Any] = {}
        self.buttons: dict[str, Any] = {}
        self.chosen: dict[str, Any] = {}

    def build(self) -> None:
        ui.link("← All ads", "/ads").classes("small")
        text("h1", "New ads")
        self.area = box("stack wide")
        with self.area:
            waiting(8)
        loaded(self.area, self.load)

    async def load(self) -> None:
        self.kit = await self.site.call(self.viewer, self.calls.kit)
        self.area.clear()
        with self.area:
            self.what(self.kit)
            self.brand(self.kit)
            self.for_whom()
            self.where(self.kit)
            self.understood = box("stack", aria_live="polite")
            with box("line"):
                button("Make the ads", self.make, "main", "auto_awesome")
                button("See how the brief is understood", self.check, "plain", "fact_check")
        loaded(self.people, self.load_people)

    def what(self, kit: Kit) -> None:
        with box("card"):
            with box("line apart"):
                text("h2", "What is advertised")
                self.way = choice({"form": "Fill in", "file": "Upload a file"}, "form", name="How the brief is given")
            with box("stack") as form:
                self.form(kit.example)
            with box("stack") as upload:
                text(
                    "p", "A brief.toml or .json, or the saved page of a shop (.html): title, description, price. Nothing is fetched, and "
                    "each fact keeps its line as its source.", "small soft wrap",
                )  # fmt: skip
                with box("line"):
                    picker("Choose a file", self.take_file, accept=".toml,.json,.html,.htm", max_bytes=MAX_FILE)
                    self.file_name = text("span", "No file yet", "small soft wrap", aria_live="polite")
            form.bind_visibility_from(self.way, "value", value="form")
            upload.bind_visibility_from(self.way, "value", value="file")

    def form(self, example: BriefForm) -> None:
        note("An example is filled in, so that you can try it at once. Write over it.")
        with box("halves"):
            self.product = ui.input("Product", value=example.product).props(f"{_FIELD} maxlength=200")
            self.short_name = ui.input("Short name, for headlines", value=example.short_name).props(f"{_FIELD} maxlength=60")
            self.landing = ui.input("Landing page", value=example.landing_page).props(f"{_FIELD} maxlength=2000 type=url")
            self.tone = ui.select({name: name for name in self.kit.tones}, value=example.tone, label="Tone").props(_FIELD)
        self.languages = ui.select(LANGUAGES, value=list(example.languages), multiple=True, label="Languages", on_change=self.spoken).props(
            f"{_FIELD} use-chips"
        )
        self.spoken_area = box("stack")
        for one in example.facts:
            language = one.language or example.languages[0]
            self.facts[language] = f"{self.facts.get(language, '')}\n{one.text}".strip()
        self.offers, self.buttons = dict(example.offer), dict(example.call_to_action)
        self.spoken()
        self.special = ui.select(
            {"": "none", **{name: name for name in self.kit.special_categories}}, value="", label="Special category"
        ).props(_FIELD)  # fmt: skip
        text(
            "p",
            "Housing, jobs, credit and politics lose targeting by age, sex and postcode, and a person has to release each text.",
            "tiny soft",
        )

    def spoken(self) -> None:
        """Fields of each language. What was written stays when a language is taken away and comes back."""
        for store in (self.facts, self.offers, self.buttons):
            for key, field in list(store.items()):
                store[key] = getattr(field, "value", field)
        self.spoken_area.clear()
        with self.spoken_area:
            for key in self.languages.value:
                name = LANGUAGES[key]
                self.facts[key] = ui.textarea(f"What is true of it, in {name}: one fact a line", value=self.facts.get(key, "")).props(
                    f"{_FIELD} autogrow maxlength=8000"
                )
                with box("halves"):
                    self.offers[key] = ui.input(f"Offer, in {name} (may be empty)", value=self.offers.get(key, "")).props(
                        f"{_FIELD} maxlength=200"
                    )
                    self.buttons[key] = ui.input(f"Button, in {name} (may be empty)", value=self.buttons.get(key, "")).props(
                        f"{_FIELD} maxlength=20"
                    )

    def brand(self, kit: Kit) -> None:
        with box("card"):
            text("h2", "Brand kit")
            with box("halves"):
                self.brand_name = ui.input("Brand", value=kit.example.brand.name).props(f"{_FIELD} maxlength=120")
                self.brand_name.bind_visibility_from(self.way, "value", value="form")
                self.fonts = ui.select(kit.fonts, value=[], multiple=True, label="Typefaces (none: drawn by the seed)").props(
                    f"{_FIELD} use-chips max-values=3"
                )
            with box("halves"):
                colours = [*kit.example.brand.colours, "", ""][:2]
                self.colours = [
                    ui.color_input(name, value=value, preview=True).props(_FIELD)
                    for name, value in zip(("Main colour", "Second colour"), colours, strict=True)
                ]
                for one in self.colours:
                    one.button.props["aria-label"] = "Choose a colour"
            with box("halves"):
                self.picture("product_picture", "Product picture")
                self.picture("logo", "Logo")
            text(
                "p", "PNG, JPEG or WebP, at most 4 MiB. The product is cut out from a plain ground; nothing of it is redrawn.", "tiny soft"
            )

    def picture(self, role: str, name: str) -> None:
        with box("line").style("min-height:64px"):

            async def take(file: str, data: bytes) -> None:
                kind = "png" if data.startswith(b"\x89PNG") else "webp" if data.startswith(b"RIFF") else "jpeg"
                self.pictures[role] = data
                shown.clear()
                with shown:
                    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
                    text("img", "", src=source, alt=f"{name}: {file}", style="max-height:56px; max-width:120px; border-radius:6px")
                    button("", drop, "ghost", "close", f"Without the {name.lower()}")

            def drop() -> None:
                self.pictures.pop(role, None)
                shown.clear()

            picker(name, take, accept=".png,.jpg,.jpeg,.webp", max_bytes=MAX_PICTURE, icon="add_photo_alternate")
            shown = box("line").style("width:auto")

    def for_whom(self) -> None:
        with box("card"):
            with box("line apart"):
                text("h2", "For whom")
                self.aim = choice(
                    {"found": "Groups found in the posts", "like": "People like a list"}, "found", name="How people are chosen"
                )
            self.people = box("stack")
            with self.people:
                waiting(2)
            with box("stack") as listed:
                text(
                    "p", "People whose posts have the words of these accounts. The list must hold as many voices as an audience; it is not "
                    "allowed for housing, jobs, credit and politics. It is removed when the people are found; nobody is named.",
                    "small soft wrap",
                )  # fmt: skip
                self.like = ui.textarea("Accounts, one a line").props(f'{_FIELD} input-style="max-height:220px"')
                with box("line"):
                    picker("Take them from a file", self.take_list, accept=".txt,.csv", max_bytes=MAX_FILE)
            self.people.bind_visibility_from(self.aim, "value", value="found")
            listed.bind_visibility_from(self.aim, "value", value="like")

    async def take_list(self, name: str, data: bytes) -> None:
        if (words := _text_of(name, data)) is not None:
            self.like.value = words

    async def load_people(self) -> None:
        """Audiences to choose from, or why there are none."""
        try:
            found = await self.site.call(self.viewer, self.calls.current_audiences)
        except Shown as problem:
            self.people.clear()
            with self.people:
                text("p", f"The ads are for everybody. {problem}", "soft wrap")
            return
        if found.work is not None and found.work.state in ("waiting", "running"):
            self.people.clear()
            with self.people:
                progress(found.work, "Looking for audiences in the posts")
                ui.timer(FOLLOW_S, self.load_people, once=True)
            return
        _, nearest = await self._read_quietly()
        self.people.clear()
        with self.people:
            self.show_people(found, nearest)

    def show_people(self, found: AudiencesFound, nearest: list[str]) -> None:
        if not found.audiences:
            with box("line"):
                text("p", "The ads are for everybody: no group of authors may be shown. Why stands under", "soft wrap")
                ui.link("Audiences", "/ads")
            return
        text("p", "The nearest to the brief are chosen. With none the ads are for everybody.", "small soft")
        with box("halves").style("gap:4px 24px"):
            for one in found.audiences:
                made = ui.checkbox(f"{one.label}  (about {one.num_authors:,}, {one.language})", value=one.id in nearest).props("dense")
                self.chosen[one.id] = made

    def where(self, kit: Kit) -> None:
        with box("card"):
            text("h2", "Where and how many")
            names = {one.name: f"{one.name}  {one.width} x {one.height}" for one in kit.placements}
            self.placements = ui.select(names, value=list(kit.example.placements), multiple=True, label="Sizes (none: all)").props(
                f"{_FIELD} use-chips"
            )
            self.placements.bind_visibility_from(self.way, "value", value="form")
            platforms = {one.name: one.title for one in kit.platforms}
            self.platforms = ui.select(platforms, value=[], multiple=True, label="Platforms (none: texts fit all)").props(
                f"{_FIELD} use-chips"
            )
            self.platforms.bind_visibility_from(self.way, "value", value="form")
            with box("thirds"):
                self.variants = ui.number("Variants for each audience", value=3, min=1, max=10, step=1).props(_FIELD)
                self.seed = ui.number("Seed: equal seeds, equal ads", value=0, min=0, max=2**31 - 1, step=1).props(_FIELD)
            self.with_pictures = ui.checkbox("Make pictures too", value=True).props("dense")
            self.is_signed = ui.checkbox("Sign the pictures (content credentials, C2PA)", value=False).props("dense")
            self.is_signed.set_visibility(kit.can_sign)
            text(
                "p", "With a certificate made on this server: verifiers then say that a picture is intact, how it was made, and that "
                "its issuer is untrusted, since anybody can make such a certificate.", "tiny soft wrap",
            ).bind_visibility_from(self.is_signed, "value")  # fmt: skip
            self.by_model = ui.checkbox(f"Let the model {kit.model} write the texts", value=False).props("dense")
            self.by_model.set_visibility(kit.model is not None)
            text(
                "p", "Each text is held against the facts of the brief all the same; one that says more is not used and stands under "
                "Policy. It takes longer.", "tiny soft wrap",
            ).bind_visibility_from(self.by_model, "value")  # fmt: skip
            with ui.expansion("Targeting besides the audience").props("dense"), box("thirds"):
                self.ages = ui.input("Ages, such as 25-40").props(f"{_FIELD} maxlength=7")
                self.sexes = ui.input("Sexes, with commas").props(f"{_FIELD} maxlength=60")
                self.postcodes = ui.input("Postcodes, with commas").props(f"{_FIELD} maxlength=2000")

    async def take_file(self, name: str, data: bytes) -> None:
        if (words := _text_of(name, data)) is None:
            return
        self.file = (name, words)
        self.file_name.text = f"{name}, {len(data):,} bytes"
        # Colours of the example are not this brand's: the file's own hold unless others are chosen.
        for one in self.colours:
            one.value = ""
        await self.check()

    def body(self) -> NewBrief:
        """What the page holds. Raises Shown with what is wrong."""
        sent = {role: base64.b64encode(data) for role, data in self.pictures.items()}
        colours, fonts = [one.value for one in self.colours if one.value], list(self.fonts.value)
        try:
            if self.way.value == "file":
                if self.file is None:
                    raise Shown("Choose a file first.")
                file = BriefFile(name=self.file[0][-120:], text=self.file[1], colours=colours, fonts=fonts)
                return NewBrief(file=file, pictures=sent)  # type: ignore[arg-type]
            languages = list(self.languages.value)
            facts = [
                {"text": line.strip(), "language": key}
                for key in languages for line in (self.facts[key].value or "").splitlines() if line.strip()
            ]  # fmt: skip
            brief = {
                "product": self.product.value or "", "short_name": self.short_name.value or "", "landing_page": self.landing.value or "",
                "languages": languages, "tone": self.tone.value, "facts": facts, "placements": list(self.placements.value),
                "offer": {key: self.offers[key].value for key in languages if self.offers[key].value},
                "call_to_action": {key: self.buttons[key].value for key in languages if self.buttons[key].value},
                "platforms": list(self.platforms.value), "special_category": self.special.value or None,
                "brand": {"name": self.brand_name.value or "", "colours": colours, "fonts": fonts},
            }  # fmt: skip
            return NewBrief(brief=brief, pictures=sent)  # type: ignore[arg-type]
        except ValidationError as error:
            raise Shown(in_words(error)) from error

    async def _read_quietly(self) -> tuple[BriefRead | None, list[str]]:
        try:
            return await self.site.call(self.viewer, self.calls.check, self.body())
        except Shown:
            return None, []

    async def check(self) -> None:
        self.understood.clear()
        with self.understood:
            waiting(3)
        try:
            brief, nearest = await self.site.call(self.viewer, self.calls.check, self.body())
        except Shown as problem:
            self.understood.clear()
            with self.understood:
                tell(problem)
            return
        for key, made in self.chosen.items():
            made.value = key in nearest
        self.understood.clear()
        with self.understood, box("card"):
            show_brief(brief)

    def aimed(self) -> dict[str, list[str]]:
        """Whom the ads are for. Raises Shown for an empty list."""
        if self.aim.value == "found":
            return {"audiences": [key for key, made in self.chosen.items() if made.value]}
        if not (listed := accounts_in(self.like.value or "")):
            raise Shown("The list of accounts is empty.")
        return {"like": listed}

    async def make(self) -> None:
        try:
            sent = self.body()
            ages = [int(part) for part in re.findall(r"\d+", self.ages.value or "")]
            given = {
                **self.aimed(), "variants": int(self.variants.value or 0),
                "seed": int(self.seed.value or 0), "with_pictures": bool(self.with_pictures.value),
                "is_signed": bool(self.is_signed.value), "by_model": bool(self.by_model.value),
                "targeting": {"ages": ages, "sexes": _parts(self.sexes.value), "postcodes": _parts(self.postcodes.value)},
            }  # fmt: skip
            try:
                body = NewJob(**given, brief=sent.brief, file=sent.file)  # type: ignore[arg-type]
            except ValidationError as error:
                raise Shown(in_words(error)) from error
            body.pictures = sent.pictures
            job = await self.site.call(self.viewer, self.calls.make, self.viewer.caller, body)
        except Shown as problem:
            self.understood.clear()
            with self.understood:
                tell(problem)
            quick(problem)
            return
        ui.navigate.to(f"/ads/{job.id}")


def show_brief(brief: BriefRead) -> None:
    """A brief as it was understood, each fact with its line."""
    text("h2", brief.product, "wrap")
    with box("line"):
        text("span", brief.brand, "chip accent")
        for one in (*brief.languages, brief.tone, *([brief.special_category] if brief.special_category else [])):
            text("span", one, "chip")
        for colour in brief.colours:
            box("swatch", role="img", aria_label=colour).style(f"background:{colour}")
    text("p", brief.landing_page or "no landing page", "small soft mono wrap")
    rows = [(fact.text, fact.language, fact.source) for fact in (*brief.facts, *brief.offers)]
    if rows:
        table(("what a text may say", "language", "source"), rows)
    else:
        empty("No facts")
    kit = [name for name, is_there in (("product picture", brief.has_product_picture), ("logo", brief.has_logo)) if is_there]
    if kit:
        text("p", f"With {' and '.join(kit)}.", "small soft")


def in_words(error: ValidationError) -> str:
    """The first thing that is wrong with a form, as a sentence."""
    first = error.errors()[0]
    place = " ".join(str(part).replace("_", " ") for part in first["loc"] if not isinstance(part, int))
    if first["type"] in ("string_too_short", "missing", "too_short"):
        return f"{place[:1].upper()}{place[1:]} is empty."
    if first["type"] == "string_pattern_mismatch":
        return f"{place[:1].upper()}{place[1:]}: {first['input']!r} does not have the right form."
    return f"{place[:1].upper()}{place[1:]}: {first['msg']}."


def _text_of(name: str, data: bytes) -> str | None:
    """A file's text; of one that is none it is told."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        ui.notify(f"{name} is no text in UTF-8.", type="negative")
        return None


def _parts(words: str | None) -> list[str]:
    return [part.strip() for part in (words or "").split(",") if part.strip()]
