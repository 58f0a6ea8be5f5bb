"""The ground of every request: unknown names are refused, never dropped. Goes in: JSON. Comes out: a checked model, or ApiError 400."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from agora.server.errors import ApiError


def _real_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half a surrogate pair, which is no character") from error
    return text


Text = Annotated[str, AfterValidator(_real_text)]


class StrictRequest(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @classmethod
    def known(cls, values: Any, neutral: dict[str, tuple[Any, ...]], where: str) -> Any:
        """`values` without neutral parameters: those of OpenAI's API that are not here, with a value that asks for nothing.

        Raises ApiError for one that asks for something this server does not have, and for an unknown name.
        """
        if not isinstance(values, dict):
            return values
        kept = {}
        for name, value in values.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name not in neutral:
                close = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ApiError(400, f"Unknown parameter{where}: {name!r}{hint}", param=name, code="unknown_parameter")
            elif not any(value == option and type(value) is type(option) for option in neutral[name]):
                raise ApiError(
                    400, f"Unsupported parameter{where}: {name!r} is not supported by this server", param=name, code="unsupported_parameter"
                )
        return kept


def invalid(param: str, problem: str) -> ApiError:
    """400 for one field; the message begins with its place."""
    return ApiError(400, f"{param}: {problem}", param=param, code="invalid_value")


__all__ = ["StrictRequest", "Text", "invalid"]
