"""What commands that ask share: which model writes, and as of when."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from agora.errors import UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.engine import LanguageModel
    from agora.engine.remote import RemoteModel


def writing_model(
    place: Workspace, model: str | None, endpoint: str | None, endpoint_model: str, *, remote: type[RemoteModel] | None = None
) -> LanguageModel | None:
    """The model of --model or of --endpoint (opened as `remote`, if given), or None where neither is given."""
    if model is not None and endpoint is not None:
        raise UsageError("--model and --endpoint are two writers; give one of them")
    if endpoint is not None:
        from agora.engine.remote import RemoteModel

        return (remote or RemoteModel)(endpoint, endpoint_model)
    if model is None:
        return None
    from agora.engine import load_local_model
    from agora.model.find import find_model

    return load_local_model(find_model(place, model))


def moment(text: str | None) -> datetime | None:
    """The time of --now, in UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--now {text!r} is no ISO time; example: 2026-03-15T12:00:00") from error
    return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)


__all__ = ["moment", "writing_model"]
