"""Text to tokens: byte-level BPE, chat format, packed shards."""
