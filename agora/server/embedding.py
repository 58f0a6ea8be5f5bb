"""POST /v1/embeddings. Goes in: texts. Comes out: the vectors that the workspace's index is made with, or lexical ones.

`model`: `minilm` or `lexical`; any other name is refused with these two. MiniLM is loaded at the first request.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Request
from pydantic import Field

from agora.search.workspace import LEXICAL, MINILM, load_choice
from agora.server.errors import ApiError, unknown_model
from agora.server.metering import Meter
from agora.server.strict import StrictRequest, Text
from agora.text.embeddings import Embeddings
from agora.text.minilm import is_installed

MAX_TEXTS: Final = 2_048


class EmbeddingRequest(StrictRequest):
    """What is asked."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class Embedders:
    """The embeddings there are, each loaded once."""

    def __init__(self, load: Callable[[str], Embeddings | None] = load_choice) -> None:
        self._load = load
        self._made: dict[str, Embeddings] = {}
        self._mutex = threading.Lock()

    @property
    def names(self) -> list[str]:
        return [MINILM, LEXICAL] if is_installed() else [LEXICAL]

    def get(self, name: str) -> Embeddings:
        """Raises ApiError 404 for a name that is none of these."""
        if name not in self.names:
            raise unknown_model(name, self.names)
        with self._mutex:
            if name not in self._made:
                found = self._load(name)
                assert found is not None
                self._made[name] = found
            return self._made[name]


def embedding_routes(embedders: Embedders, meter: Meter) -> APIRouter:
    """The route above."""
    router = APIRouter(prefix="/v1", tags=["openai"])

    @router.post("/embeddings")
    def embed(body: EmbeddingRequest, request: Request) -> dict[str, Any]:
        """Vectors of length 1, in the order of the texts."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not all(texts):
            raise ApiError(400, "input holds an empty text", param="input", code="invalid_value")
        made = embedders.get(body.model)
        vectors = np.asarray(made.vectors(pa.array(texts, pa.large_string())), dtype=np.float32)
        if body.dimensions is not None and body.dimensions != vectors.shape[1]:
            message = f"dimensions: {body.model} makes vectors of {vectors.shape[1]}, not {body.dimensions}"
            raise ApiError(400, message, param="dimensions", code="invalid_value")
        # These models have no tokenizer of the served model; words are what is counted.
        used = sum(len(text.split()) for text in texts)
        meter.of(request, body.model)({"prompt_tokens": used})
        data = [{"object": "embedding", "index": place, "embedding": _written(row, body)} for place, row in enumerate(vectors)]
        return {"object": "list", "data": data, "model": body.model, "usage": {"prompt_tokens": used, "total_tokens": used}}

    return router


def _written(row: Any, body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    listed: list[float] = row.tolist()
    return listed
