"""The network: a Qwen3-compatible decoder, its counts, its Hugging Face form. Importing this package loads no torch."""

from agora.model.config import ModelConfig

__all__ = ["ModelConfig"]
