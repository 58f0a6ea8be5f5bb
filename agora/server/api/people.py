"""Who one is, and, for admins, who there is.

POST /api/v1/sign-in, /sign-out     GET /api/v1/me
GET, POST /api/v1/accounts          PATCH /api/v1/accounts/{name}
GET, POST /api/v1/keys              DELETE /api/v1/keys/{id}
GET /api/v1/audit, /usage
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from agora.server.access import Asking, needs
from agora.server.accounts import SCOPES, SESSION_DAYS, Accounts, Caller
from agora.server.api.forms import MAX_ID, Body, Done, Name, Secret
from agora.server.errors import ApiError
from agora.server.gate import SESSION_COOKIE, allowed, session_secret
from agora.server.records import AuditLog, UsageLog

ADMIN = needs("admin")


class SignIn(Body):
    name: Name
    password: Secret


class Me(BaseModel):
    """`all_scopes`: what there is, with what each is for."""

    name: str
    scopes: list[str]
    all_scopes: dict[str, str]


class NewAccount(Body):
    name: Name
    scopes: list[Name] = Field(default=["member"], max_length=len(SCOPES))
    password: Secret | None = None


class AccountChange(Body):
    scopes: list[Name] | None = Field(default=None, max_length=len(SCOPES))
    password: Secret | None = None
    is_disabled: bool | None = None


class Account(BaseModel):
    id: int
    name: str
    scopes: list[str]
    created_at: str
    disabled_at: str | None
    has_password: bool


class NewKey(Body):
    name: Name = "key"
    account: Name | None = None
    scopes: list[Name] | None = Field(default=None, max_length=len(SCOPES))
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    expires_at: AwareDatetime | None = None


class MadeKey(BaseModel):
    """`secret` is shown here and never again."""

    id: int
    secret: str


class Key(BaseModel):
    id: int
    account: str
    name: str
    shown: str
    scopes: list[str]
    requests_per_minute: int | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class AuditRow(BaseModel):
    id: int
    at: str
    who: str
    action: str
    what: str
    details: dict[str, Any]


class UsageRow(BaseModel):
    """`key`: the number of the key that was used, none for a session or the key that the server was started with."""

    day: str
    who: str
    key: int | None
    key_name: str | None
    route: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


def people_routes(accounts: Accounts, audit: AuditLog, usage: UsageLog) -> APIRouter:
    """The routes above."""
    router = APIRouter(tags=["people"])
    for part in (_session_routes(accounts), _account_routes(accounts, audit), _key_routes(accounts, audit), _record_routes(audit, usage)):
        router.include_router(part)
    return router


def _session_routes(accounts: Accounts) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.post("/sign-in")
    def sign_in(body: SignIn, request: Request, response: Response) -> Me:
        """Begin a session; its cookie comes with the answer."""
        allowed(accounts.may_try(body.name))
        secret = accounts.sign_in(body.name, body.password)
        caller = accounts.caller_of_session(secret) if secret is not None else None
        if secret is None or caller is None:
            raise ApiError(401, "The name or the password is wrong", code="wrong_password")
        set_session(response, secret, is_https=is_https(request))
        return _me(caller)

    @router.post("/sign-out")
    def sign_out(request: Request, response: Response) -> Done:
        """End the session."""
        accounts.sign_out(session_secret(request.headers) or "")
        response.delete_cookie(SESSION_COOKIE)
        return Done()

    @router.get("/me")
    def me(caller: Asking) -> Me:
        """Who asks, and what they may."""
        return _me(caller)

    return router


def _account_routes(accounts: Accounts, audit: AuditLog) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.get("/accounts", dependencies=[ADMIN])
    def list_accounts() -> list[Account]:
        """All accounts."""
        return [Account(**row) for row in accounts.all()]

    @router.post("/accounts", dependencies=[ADMIN], status_code=201)
    def add_account(body: NewAccount, caller: Asking) -> Done:
        """Make an account."""
        accounts.add(body.name, scopes=body.scopes, password=body.password)
        audit.add(caller.name, "accounts.add", body.name, scopes=body.scopes)
        return Done()

    @router.patch("/accounts/{name}", dependencies=[ADMIN])
    def change_account(name: str, body: AccountChange, caller: Asking) -> Done:
        """Change scopes or password, disable or enable."""
        accounts.change(name, scopes=body.scopes, password=body.password, is_disabled=body.is_disabled)
        changed = sorted(body.model_fields_set)
        audit.add(caller.name, "accounts.change", name, changed=changed, scopes=body.scopes, is_disabled=body.is_disabled)
        return Done()

    return router


def _key_routes(accounts: Accounts, audit: AuditLog) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.get("/keys")
    def list_keys(caller: Asking) -> list[Key]:
        """One's own keys; an admin sees all."""
        return [Key(**row) for row in accounts.keys(None if caller.may("admin") else caller.name)]

    @router.post("/keys", status_code=201)
    def add_key(body: NewKey, caller: Asking) -> MadeKey:
        """Make a key: for oneself, or, as an admin, for any account. Only from a session: a key makes no keys."""
        if caller.key is not None:
            raise ApiError(403, "A key cannot make keys; sign in", code="needs_session")
        owner = body.account or caller.name
        if owner != caller.name and not caller.may("admin"):
            raise ApiError(403, "Only an admin makes keys for others", code="missing_scope")
        if body.expires_at is not None and body.expires_at <= datetime.now(timezone.utc):
            raise ApiError(400, "expires_at is in the past", param="expires_at")
        made = accounts.new_key(
            owner, name=body.name, scopes=body.scopes, requests_per_minute=body.requests_per_minute, expires_at=body.expires_at
        )
        audit.add(caller.name, "keys.add", str(made.id), account=owner)
        return MadeKey(id=made.id, secret=made.secret)

    @router.delete("/keys/{key}")
    def revoke_key(key: Annotated[int, Path(ge=0, le=MAX_ID)], caller: Asking) -> Done:
        """End a key of one's own, or, as an admin, any."""
        owned = {row["id"] for row in accounts.keys(None if caller.may("admin") else caller.name)}
        if key not in owned:
            raise ApiError(404, f"There is no key {key}", code="not_found")
        accounts.revoke(key)
        audit.add(caller.name, "keys.revoke", str(key))
        return Done()

    return router


def _record_routes(audit: AuditLog, usage: UsageLog) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    @router.get("/audit", dependencies=[ADMIN])
    def read_audit(
        action: Annotated[str | None, Query(max_length=64)] = None,
        before: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> list[AuditRow]:
        """The audit log, the newest first; `before` goes on from the last id seen."""
        return [AuditRow(**row) for row in audit.read(action=action, before=before, limit=limit)]

    @router.get("/usage")
    def read_usage(caller: Asking, since: date | None = None, key: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None) -> list[UsageRow]:
        """Requests and tokens by day, key and route: one's own; an admin sees all. `key`: of this key alone."""
        who = None if caller.may("admin") else caller.name
        return [UsageRow(**row) for row in usage.read(since=since.isoformat() if since else None, who=who, key=key)]

    return router


def is_https(request: Request) -> bool:
    """Whether the browser came by TLS: to this server, or to a proxy in front, as the page's own origin says."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def set_session(response: Response, secret: str, *, is_https: bool) -> None:
    """The session's cookie: not for scripts, not for requests that other sites begin."""
    response.set_cookie(SESSION_COOKIE, secret, max_age=SESSION_DAYS * 86_400, httponly=True, samesite="lax", secure=is_https)


def _me(caller: Caller) -> Me:
    return Me(name=caller.name, scopes=[scope for scope in SCOPES if caller.may(scope)], all_scopes=SCOPES)
