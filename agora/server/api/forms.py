"""What the JSON API's bodies share: no unknown field, text of bounded length; and answers that hold no infinity."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Words = Annotated[str, StringConstraints(max_length=2_000)]
LongText = Annotated[str, StringConstraints(max_length=100_000)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
MAX_ID = 2**31 - 1


class Body(BaseModel):
    """A JSON body. An unknown field is refused by name."""

    model_config = ConfigDict(extra="forbid")


class Done(BaseModel):
    """The answer where there is nothing to tell."""

    ok: bool = True


def finite(value: Any) -> Any:
    """Plain values for JSON, which has no infinity: it becomes null."""
    if isinstance(value, dict):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
