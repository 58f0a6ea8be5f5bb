"""Texts for audiences: written by a grammar or a language model, within every limit, each clause traced to a fact."""

from agora.ads.copywriting.claims import blocked_in, trace
from agora.ads.copywriting.copies import TEXT_FIELDS, Copy, Written
from agora.ads.copywriting.verdicts import Blocked, Claim
from agora.ads.copywriting.write import write_copies, write_variants

__all__ = ["TEXT_FIELDS", "Blocked", "Claim", "Copy", "Written", "blocked_in", "trace", "write_copies", "write_variants"]
