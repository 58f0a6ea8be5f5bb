"""The network: a Qwen3-compatible decoder, its counts, its Hugging Face form."""
