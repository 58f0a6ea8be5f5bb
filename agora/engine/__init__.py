"""Generation."""

from agora.engine.conversation import Conversation
from agora.engine.generate import Generator
from agora.engine.interface import Delta, FinishReason, LanguageModel, TokenLogprob, Usage
from agora.engine.local import LocalModel, find_model, load_local_model, load_model_folder, parse_device, parse_dtype
from agora.engine.sampling import Sampler, SamplingConfig

__all__ = [
    "Conversation", "Delta", "FinishReason", "Generator", "LanguageModel", "LocalModel", "Sampler", "SamplingConfig", "TokenLogprob",
    "Usage", "find_model", "load_local_model", "load_model_folder", "parse_device", "parse_dtype",
]  # fmt: skip
