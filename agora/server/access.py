"""Who asks, for the routes. Goes in: a request that passed the gate. Comes out: its Caller, if the scopes suffice.

@router.get("/campaigns", dependencies=[needs("analyst")])
def list_campaigns(caller: Asking) -> ...
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from agora.server.accounts import SCOPES, Caller
from agora.server.errors import ApiError


def caller_of(request: Request) -> Caller:
    """Raises ApiError 401 for nobody."""
    caller = getattr(request.state, "caller", None)
    if caller is None:
        raise ApiError(401, "Sign in, or send the header Authorization: Bearer KEY", code="invalid_api_key")
    assert isinstance(caller, Caller)
    return caller


Asking = Annotated[Caller, Depends(caller_of)]


def needs(scope: str) -> Any:
    """A dependency: 403 for callers without `scope` (admins have all)."""
    assert scope in SCOPES, scope

    def check(caller: Asking) -> None:
        if not caller.may(scope):
            message = f"This needs the scope {scope!r}; {caller.name} has {', '.join(sorted(caller.scopes)) or 'none'}"
            raise ApiError(403, message, code="missing_scope")

    return Depends(check)
