"""Generation."""

from agora.engine.batched import AnswerStream, BatchEngine
from agora.engine.conversation import Conversation
from agora.engine.generate import Generator
from agora.engine.interface import Delta, FinishReason, LanguageModel, TokenLogprob, Usage
from agora.engine.local import LocalModel, load_local_model, load_model_folder, make_network, parse_device, parse_dtype, parse_precision
from agora.engine.remote import RemoteModel
from agora.engine.sampling import Sampler, SamplingConfig

__all__ = [
    "AnswerStream", "BatchEngine", "Conversation", "Delta", "FinishReason", "Generator", "LanguageModel", "LocalModel", "RemoteModel",
    "Sampler", "SamplingConfig", "TokenLogprob",
    "Usage", "load_local_model", "load_model_folder", "make_network", "parse_device", "parse_dtype", "parse_precision",
]  # fmt: skip
