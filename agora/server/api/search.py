"""Finding posts, answers from them, what rises, and searches that are kept.

GET  /api/v1/search, /search/facets, /trends        POST /api/v1/ask
GET, POST /api/v1/saved-searches                    DELETE /api/v1/saved-searches/{name}
GET  /api/v1/alerts                                 POST /api/v1/alerts/seen
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from agora.engine import LanguageModel
from agora.errors import UsageError
from agora.search.alerts import MAX_NAME, Alert, open_saved
from agora.search.answers import Answer, GeneratedWriter, Writer
from agora.search.answers.workspace import ask_workspace
from agora.search.find import Hit
from agora.search.query.dates import DateError, parse_date, parse_length
from agora.search.query.parse import parse
from agora.search.query.printing import to_text
from agora.search.trends import TrendConfig, find_trends
from agora.server.access import Asking, needs
from agora.server.accounts import LOCAL, Caller
from agora.server.api.forms import Body, Done
from agora.server.api.openers import Openers
from agora.server.services import Services, found_or_404

FACET_POSTS: Final = 1_000
"""So many of the newest posts are counted for facets."""
NUM_BARS: Final = 48
NUM_FACETS: Final = 12
MAX_SAVED: Final = 100

Question = Annotated[str, Query(max_length=2_000)]


class Post(BaseModel):
    """A post as its author wrote it. Escape it before it becomes part of a page."""

    id: str
    author: str
    created_at: str
    text: str
    kind: str
    lang: str | None
    ref_id: str | None
    ref_author: str | None
    urls: list[str]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Post:
        return cls(
            id=row["id"], author=row["author"], created_at=row["created_at"].isoformat(), text=row["text"], kind=row["kind"],
            lang=row.get("lang"), ref_id=row.get("ref_id"), ref_author=row.get("ref_author"), urls=list(row.get("urls") or ()),
        )  # fmt: skip


class Result(BaseModel):
    """`alike`: other voices that say nearly the same. `label`: why the post or its author is labelled as coordinated."""

    post: Post
    score: float
    parts: dict[str, float]
    why: list[str]
    alike: int
    alike_is_least: bool
    alike_ids: list[str]
    is_loose: bool
    voice: str
    label: str | None


class QueryNote(BaseModel):
    position: int
    message: str


class Found(BaseModel):
    """`total`: posts that match strictly; `voices`: who speaks among those looked at; `confidence`: that the first was asked for."""

    query: str
    read_as: str
    total: int
    voices: int
    confidence: float | None
    notes: list[str]
    warnings: list[QueryNote]
    hits: list[Result]


class Bar(BaseModel):
    start: str
    count: int


class Facet(BaseModel):
    value: str
    count: int


class Facets(BaseModel):
    """Counts over the newest `counted` of `total` posts that match."""

    total: int
    counted: int
    histogram: list[Bar]
    langs: list[Facet]
    kinds: list[Facet]
    authors: list[Facet]


class Ask(Body):
    question: Annotated[str, Field(min_length=1, max_length=2_000)]
    fresh: bool = False


class Sentence(BaseModel):
    text: str
    post_ids: list[str]
    labelled: list[str]


class Cited(BaseModel):
    id: str
    author: str
    created_at: str
    text: str
    label: str | None
    voice: str
    alike: int


class Answered(BaseModel):
    """`abstained` says why there is no answer; then there are no sentences."""

    question: str
    query: str
    writer: str
    abstained: str | None
    confidence: float
    warnings: list[str]
    sentences: list[Sentence]
    posts: list[Cited]


class TrendBar(BaseModel):
    start: str
    voices: int


class TrendRow(BaseModel):
    term: str
    kind: str
    voices: int
    accounts: int
    posts: int
    expected: float
    lift: float
    q_value: float
    alike: list[str]
    examples: list[str]
    histogram: list[TrendBar]


class Trends(BaseModel):
    at: str
    window_s: float
    num_posts: int
    num_voices: int
    num_terms: int
    trends: list[TrendRow]
    warnings: list[str]


class NewSaved(Body):
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME - 66)]
    query: Annotated[str, Field(min_length=1, max_length=2_000)]


class Saved(BaseModel):
    name: str
    query: str
    saved_at: str
    num_alerts: int


class AlertRow(BaseModel):
    number: int
    search: str
    at: str
    voice: str
    is_labelled: bool
    post: Post


class Seen(Body):
    numbers: Annotated[list[Annotated[int, Field(ge=0, le=2**53)]], Field(max_length=10_000)]


class SearchArea:
    """What the routes and the pages call."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._alerts = threading.Lock()
        self._openers = Openers(lambda question: [one.text for one in self.ask(question).sentences])

    def find(
        self, query: str, *, mode: Literal["top", "latest"] = "top", limit: int = 20, match: Literal["all", "any", "auto"] = "auto"
    ) -> Found:
        """Posts for a query. Raises QuerySyntaxError, NotReady."""
        results = self._services.search().find(query, mode=mode, limit=limit, match=match, explain=True)
        root = results.query.root
        return Found(
            query=query, read_as=to_text(root) if root is not None else "", total=results.total, voices=results.voices,
            confidence=results.confidence, notes=list(results.notes),
            warnings=[QueryNote(position=one.position, message=one.message) for one in results.warnings],
            hits=[_result(hit) for hit in results.hits],
        )  # fmt: skip

    def facets(self, query: str) -> Facets:
        """When, in which language, by whom: of the newest posts that match."""
        results = self._services.search().find(query, mode="latest", limit=FACET_POSTS)
        posts = [hit.post for hit in results.hits]
        return Facets(
            total=results.total, counted=len(posts), histogram=_histogram([post["created_at"] for post in posts]),
            langs=_facets(post.get("lang") or "none" for post in posts), kinds=_facets(post["kind"] for post in posts),
            authors=_facets(post["author"] for post in posts),
        )  # fmt: skip

    def ask(self, question: str, *, fresh: bool = False, now: datetime | None = None, model: LanguageModel | None = None) -> Answered:
        """An answer from posts, or why there is none. `model` writes it; without one posts are quoted."""
        finder = self._services.search()
        with self._services.store():
            pass  # says what is missing before anything is searched
        writer: Writer | None = GeneratedWriter(model) if model is not None else None
        return answered(ask_workspace(self._services.place, question, writer=writer, now=now, fresh=fresh, finder=finder))

    def questions(self, limit: int = 3) -> list[str]:
        """Questions that the posts answer, to begin with. Raises NotReady."""
        return self._openers.read(self._services.search(), limit)

    def trends(
        self, query: str = "", *, window: str = "1h", history: str = "7d", limit: int = 20, min_voices: int = 4, at: str | None = None
    ) -> Trends:
        """What more voices say now than before. Raises UsageError for times that are none."""
        clock = datetime.now(timezone.utc)
        try:
            now = parse_date(at, clock) if at else clock
            config = TrendConfig(
                window_s=float(parse_length(window)), history_s=float(parse_length(history)), limit=limit, min_voices=min_voices
            )
        except (DateError, OverflowError) as error:
            raise UsageError(str(error)) from error
        read = parse(query, now=now)
        with self._services.store() as store:
            report = find_trends(store, config, voices=self._services.voices(store), where=read.root, now=now, or_newest=at is None)
        warnings = [*(one.message for one in read.warnings), *report.warnings]
        rows = [TrendRow(**{name: value for name, value in asdict(one).items() if name in TrendRow.model_fields}) for one in report.trends]
        return Trends(
            at=report.at, window_s=report.window_s, num_posts=report.num_posts, num_voices=report.num_voices, num_terms=report.num_terms,
            trends=rows, warnings=warnings,
        )  # fmt: skip

    def saved(self, caller: Caller) -> list[Saved]:
        """The caller's searches."""
        with self._services.store(), open_saved(self._services.place.root) as searches:
            known = searches.searches()
        prefix = _prefix(caller)
        return [
            Saved(name=one.name.removeprefix(prefix), query=one.query, saved_at=one.saved_at, num_alerts=one.num_alerts)
            for one in known
            if _is_own(one.name, prefix)
        ]

    def save(self, caller: Caller, name: str, query: str) -> list[QueryNote]:
        """Keep a search; what the query warns of. Raises UsageError for a name that is taken, or too many."""
        if "/" in name:
            raise UsageError(f"the name {name!r} holds a slash; take another")
        if len(self.saved(caller)) >= MAX_SAVED:
            raise UsageError(f"you keep {MAX_SAVED} searches already; remove one first")
        with self._services.store() as store, open_saved(self._services.place.root) as searches:
            warnings = searches.save(_prefix(caller) + name, query, position=store.appended)
        return [QueryNote(position=one.position, message=one.message) for one in warnings]

    def remove(self, caller: Caller, name: str) -> None:
        """Forget a search and its alerts. Raises ApiError 404."""
        with self._services.store(), open_saved(self._services.place.root) as searches:
            try:
                searches.remove(_prefix(caller) + name)
            except UsageError as error:
                raise found_or_404(UsageError(f"you keep no search named {name!r}")) from error

    def alerts(self, caller: Caller) -> list[AlertRow]:
        """Posts that came in since a search was kept, match it, and were not seen yet."""
        prefix = _prefix(caller)
        with self._alerts, self._services.store() as store, open_saved(self._services.place.root) as searches:
            found = list(searches.catch_up(store, voices=self._services.voices(store)))
        return [_alert(one, prefix) for one in found if _is_own(one.search, prefix)]

    def seen(self, caller: Caller, numbers: list[int]) -> None:
        """Alerts of the caller's own that need not be shown again."""
        own = {one.number for one in self.alerts(caller)}
        with self._alerts, open_saved(self._services.place.root) as searches:
            searches.delivered([number for number in numbers if number in own])


def search_routes(area: SearchArea, services: Services) -> APIRouter:
    """The routes above."""
    router = APIRouter(prefix="/api/v1", tags=["search"], dependencies=[needs("member")])

    @router.get("/search")
    def find(
        q: Question = "", mode: Literal["top", "latest"] = "top", limit: Annotated[int, Query(ge=1, le=200)] = 20,
        match: Literal["all", "any", "auto"] = "auto",
    ) -> Found:  # fmt: skip
        """Posts by words and meaning; operators as in docs/search_query.md. Without a query: the newest."""
        return area.find(q, mode=mode, limit=limit, match=match)

    @router.get("/search/facets")
    def facets(q: Question = "") -> Facets:
        """Counts of the newest posts that match: by time, language, kind, author."""
        return area.facets(q)

    @router.post("/ask")
    def ask(body: Ask) -> Answered:
        """A question answered from posts: every sentence names the posts it rests on."""
        return area.ask(body.question, fresh=body.fresh, model=services.writer)

    @router.get("/trends")
    def trends(
        q: Question = "", window: Annotated[str, Query(max_length=20)] = "1h", history: Annotated[str, Query(max_length=20)] = "7d",
        limit: Annotated[int, Query(ge=1, le=100)] = 20, min_voices: Annotated[int, Query(ge=2, le=100_000)] = 4,
        at: Annotated[str | None, Query(max_length=40)] = None,
    ) -> Trends:  # fmt: skip
        """Terms that more voices use now than their own history lets expect."""
        return area.trends(q, window=window, history=history, limit=limit, min_voices=min_voices, at=at)

    @router.get("/questions")
    def questions(limit: Annotated[int, Query(ge=1, le=3)] = 3) -> list[str]:
        """Questions that the posts of this workspace answer, to begin with."""
        return area.questions(limit)

    @router.get("/saved-searches")
    def saved(caller: Asking) -> list[Saved]:
        """One's own."""
        return area.saved(caller)

    @router.post("/saved-searches", status_code=201)
    def save(body: NewSaved, caller: Asking) -> list[QueryNote]:
        """Keep a search: posts that come in from now on and match become alerts. Answers with what the query warns of."""
        return area.save(caller, body.name, body.query)

    @router.delete("/saved-searches/{name}")
    def remove(name: Annotated[str, Path(max_length=MAX_NAME)], caller: Asking) -> Done:
        """Forget one of one's own, with its alerts."""
        area.remove(caller, name)
        return Done()

    @router.get("/alerts")
    def alerts(caller: Asking) -> list[AlertRow]:
        """New posts for one's own searches, until they are said to be seen."""
        return area.alerts(caller)

    @router.post("/alerts/seen")
    def seen(body: Seen, caller: Asking) -> Done:
        """These alerts need not be shown again."""
        area.seen(caller, body.numbers)
        return Done()

    return router


def answered(answer: Answer) -> Answered:
    """An answer of agora/search/answers in the API's form."""
    return Answered(
        question=answer.question, query=answer.query, writer=answer.writer, abstained=answer.abstained,
        confidence=answer.confidence, warnings=list(answer.warnings),
        sentences=[Sentence(text=one.text, post_ids=list(one.post_ids), labelled=list(one.labelled)) for one in answer.sentences],
        posts=[
            Cited(
                id=one.id, author=one.author, created_at=one.created_at.isoformat(), text=one.text, label=one.label, voice=one.voice,
                alike=one.alike,
            )
            for one in answer.cited
        ],
    )  # fmt: skip


def _result(hit: Hit) -> Result:
    return Result(
        post=Post.of(hit.post), score=hit.score, parts=dict(hit.parts), why=list(hit.why), alike=hit.alike,
        alike_is_least=hit.alike_is_least, alike_ids=list(hit.alike_ids), is_loose=hit.is_loose, voice=hit.voice, label=hit.label,
    )  # fmt: skip


def _alert(one: Alert, prefix: str) -> AlertRow:
    return AlertRow(
        number=one.number, search=one.search.removeprefix(prefix), at=one.at, voice=one.voice, is_labelled=one.is_labelled,
        post=Post.of(one.post),
    )  # fmt: skip


def _histogram(times: list[datetime]) -> list[Bar]:
    """Counts in equal stretches from the oldest to the newest."""
    if not times:
        return []
    first, last = min(times), max(times)
    width_s = max((last - first).total_seconds() / NUM_BARS, 60.0)
    counts = Counter(min(int((at - first).total_seconds() / width_s), NUM_BARS - 1) for at in times)
    number = max(counts) + 1
    return [Bar(start=(first + timedelta(seconds=place * width_s)).isoformat(), count=counts[place]) for place in range(number)]


def _facets(values: Any) -> list[Facet]:
    counts = Counter(values)
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [Facet(value=value, count=count) for value, count in ordered[:NUM_FACETS]]


def _prefix(caller: Caller) -> str:
    """Saved searches lie in one file of the workspace, those of an account under its name; those of the command line have none."""
    return "" if caller.name == LOCAL else f"{caller.name}/"


def _is_own(name: str, prefix: str) -> bool:
    return name.startswith(prefix) if prefix else "/" not in name
