"""Generation."""

from agora.engine.conversation import Conversation
from agora.engine.generate import Generator
from agora.engine.interface import Delta, FinishReason, LanguageModel, TokenLogprob, Usage
from agora.engine.local import LocalModel, load_local_model, load_model_folder, parse_device, parse_dtype
from agora.engine.remote import RemoteModel
from agora.engine.sampling import Sampler, SamplingConfig

__all__ = [
    "Conversation", "Delta", "FinishReason", "Generator", "LanguageModel", "LocalModel", "RemoteModel",
    "Sampler", "SamplingConfig", "TokenLogprob",
    "Usage", "load_local_model", "load_model_folder", "parse_device", "parse_dtype",
]  # fmt: skip
