"""What the ads' JSON API takes and gives. The meaning of a brief's fields stands in docs/ads.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, Field, StringConstraints

from agora.server.api.forms import Body, Words

MAX_VARIANTS = 10
MAX_AUDIENCES = 12
MAX_FACTS = 40
MAX_LIKE = 20_000

ShortText = Annotated[str, StringConstraints(max_length=200)]
Fact = Annotated[str, StringConstraints(min_length=1, max_length=400)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Account = Annotated[str, StringConstraints(min_length=1, max_length=320)]
State = Literal["waiting", "running", "finished", "failed", "cancelled", "interrupted"]


class FactForm(Body):
    """`language`: empty for the brief's first one."""

    text: Fact
    language: Code | Literal[""] = ""


class BrandForm(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    colours: list[Colour] = Field(default_factory=list, max_length=6)
    fonts: list[Id] = Field(default_factory=list, max_length=3)


class BriefForm(Body):
    """A brief as values; the same keys as brief.json."""

    product: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    short_name: ShortText = ""
    landing_page: Words
    languages: list[Code] = Field(default=["en"], min_length=1, max_length=8)
    tone: Literal["plain", "warm", "lively"] = "plain"
    offer: dict[Code, ShortText] = Field(default_factory=dict, max_length=8)
    facts: list[FactForm] = Field(min_length=1, max_length=MAX_FACTS)
    platforms: list[Id] = Field(default_factory=list, max_length=10)
    placements: list[Id] = Field(default_factory=list, max_length=30)
    special_category: Literal["housing", "jobs", "credit", "politics"] | None = None
    call_to_action: dict[Code, ShortText] = Field(default_factory=dict, max_length=8)
    brand: BrandForm

    def table(self) -> dict[str, Any]:
        """As brief.json holds it: without what is empty."""
        plain = self.model_dump()
        plain["facts"] = [{key: value for key, value in one.items() if value} for one in plain["facts"]]
        plain["brand"] = {key: value for key, value in plain["brand"].items() if value}
        return {key: value for key, value in plain.items() if value}


class BriefFile(Body):
    """A file of one's own: its name (.toml, .json or .html) and text. Colours and fonts given here are used instead of the file's."""

    name: Id
    text: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]
    colours: list[Colour] = Field(default_factory=list, max_length=6)
    fonts: list[Id] = Field(default_factory=list, max_length=3)


class Pictures(Body):
    """PNG, JPEG or WebP as base64, at most 4 MiB each."""

    logo: Base64Bytes | None = None
    product_picture: Base64Bytes | None = None


class NewBrief(Body):
    """Either `brief` or `file`."""

    brief: BriefForm | None = None
    file: BriefFile | None = None
    pictures: Pictures = Field(default_factory=Pictures)


class TargetingForm(Body):
    """Who is to see the ads besides the audience. Not allowed in special categories."""

    ages: list[Annotated[int, Field(ge=13, le=120)]] = Field(default_factory=list, max_length=2)
    sexes: list[Id] = Field(default_factory=list, max_length=5)
    postcodes: list[Id] = Field(default_factory=list, max_length=200)


class NewJob(NewBrief):
    """`audiences`: ids of found audiences; an empty list: everybody; left out: the three nearest to the brief. `by_model`: the served model
    writes (the kit's `model`), else rules; both keep to the brief's facts. `is_signed`: pictures get content credentials (C2PA) with a
    certificate made on this server, which is intact to verifiers, of an issuer whom they do not know. `like`: accounts; the ads are for
    people whose words are near theirs, and nobody else. The list is removed when they are found; special categories may have none."""

    audiences: list[Id] | None = Field(default=None, max_length=MAX_AUDIENCES)
    like: list[Account] = Field(default_factory=list, max_length=MAX_LIKE)
    variants: Annotated[int, Field(ge=1, le=MAX_VARIANTS)] = 3
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    with_pictures: bool = True
    by_model: bool = False
    is_signed: bool = False
    targeting: TargetingForm = Field(default_factory=TargetingForm)


class NewRelease(Body):
    """`variants` empty: all that are held."""

    variants: list[Id] = Field(default_factory=list, max_length=500)
    note: Words = ""


class NewResults(Body):
    """A platform's export as text. `columns`: which column is what, where its name is not recognised."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4_000_000)]
    columns: dict[Literal["audience", "variant", "views", "clicks"], Id] = Field(default_factory=dict, max_length=4)


class FactRow(BaseModel):
    """`source`: file and line."""

    id: str
    text: str
    language: str
    source: str


class BriefRead(BaseModel):
    """A brief as it was understood."""

    product: str
    short_name: str
    brand: str
    colours: list[str]
    fonts: list[str]
    landing_page: str
    languages: list[str]
    tone: str
    facts: list[FactRow]
    offers: list[FactRow]
    call_to_action: dict[str, str]
    platforms: list[str]
    placements: list[str]
    special_category: str | None
    has_logo: bool
    has_product_picture: bool


class PlacementRow(BaseModel):
    name: str
    width: int
    height: int
    platform: str


class NamedRow(BaseModel):
    name: str
    title: str


class SheetRow(NamedRow):
    """`picture`: the size whose picture it takes by a public link, which has to be given; empty where none is needed."""

    picture: str


class Kit(BaseModel):
    """What a brief may name, and an example to begin with. `model`: the served one that may write, if any. `can_sign`: whether pictures can
    get content credentials here."""

    placements: list[PlacementRow]
    platforms: list[NamedRow]
    tones: list[str]
    special_categories: list[str]
    fonts: list[str]
    sheets: list[SheetRow]
    model: str | None
    can_sign: bool
    example: BriefForm


class Working(BaseModel):
    """How far something is. `done` of `total` in what `title` names."""

    state: State
    title: str = ""
    done: int = 0
    total: int | None = None
    note: str = ""
    message: str = ""


class AudienceRow(BaseModel):
    """`num_authors` is rounded down to tens. `names`: terms that may be names; no text has them."""

    id: str
    label: str
    terms: list[str]
    names: list[str]
    num_authors: int
    language: str
    is_lookalike: bool


class AudienceRules(BaseModel):
    """What is never shown: fewer voices, these topics, other languages."""

    min_voices: int
    rounded_to: int
    topics: list[str]
    languages: list[str]


class AudiencesFound(BaseModel):
    """`is_current`: no post came or went since. `withheld`: groups that are not shown, by reason. `work`: null before the first look."""

    work: Working | None
    found_at: str | None
    is_current: bool
    rules: AudienceRules
    audiences: list[AudienceRow]
    withheld: dict[str, int]


class LimitRow(BaseModel):
    """`width` as the platform counts, of at most `max`."""

    platform: str
    field: str
    width: int
    max: int


class ClaimRow(BaseModel):
    text: str
    fact: str
    source: str


class TextRow(BaseModel):
    """One text, how long it is wherever it stands, and what it rests on."""

    field: str
    text: str
    limits: list[LimitRow]
    claims: list[ClaimRow]


class FindingRow(BaseModel):
    """`severity`: block (it does not run) or review (a person has to look)."""

    rule: str
    severity: str
    field: str
    span: str
    reason: str


class PictureRow(BaseModel):
    """`png`, `svg`: addresses. `problems`: checks that failed; `warnings`: what had to be left out."""

    placement: str
    width: int
    height: int
    png: str
    svg: str
    problems: list[str]
    warnings: list[str]


class ReleaseRow(BaseModel):
    by: str
    at: str
    note: str


class VariantRow(BaseModel):
    """`state`: ready, held (a person has to release it) or blocked."""

    name: str
    audience: str
    label: str
    language: str
    state: Literal["ready", "held", "blocked"]
    written_by: str
    texts: list[TextRow]
    findings: list[FindingRow]
    pictures: list[PictureRow]
    release: ReleaseRow | None


class NotWrittenRow(BaseModel):
    """A text that was blocked while it was written."""

    audience: str
    field: str
    text: str
    reason: str


class JobRow(BaseModel):
    """`cover`: the address of a picture, where there is one."""

    id: str
    product: str
    brand: str
    by: str
    made_at: str
    work: Working
    audiences: list[str]
    ready: int
    held: int
    blocked: int
    num_pictures: int
    cover: str | None


class WholeJob(JobRow):
    """`model`: who writes, where it is a model. `credentials`: what a verifier says of the signed pictures; empty for unsigned ones."""

    model: str | None
    credentials: str
    brief: BriefRead
    placements: list[PlacementRow]
    variants: list[VariantRow]
    not_written: list[NotWrittenRow]
    has_results: bool


class ArmRow(BaseModel):
    """`low`, `high`: the always-valid interval of the click rate. `share`: of the next views."""

    name: str
    views: int
    clicks: int
    rate: float
    low: float
    high: float
    chance_best: float
    loss: float
    share: float
    dropped: bool


class DecisionRow(BaseModel):
    """`stop`: keep `best`. Regret: expected clicks lost so far, and what equal shares would have lost."""

    audience: str
    stop: bool
    best: str
    rule: str
    reason: str
    arms: list[ArmRow]
    regret_clicks: float
    regret_uniform_clicks: float


class ExperimentReport(BaseModel):
    """`columns`: which column was read as what."""

    columns: dict[str, str]
    lines: int
    left_out: int
    decisions: list[DecisionRow]
