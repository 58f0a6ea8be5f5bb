"""What may not run, and why: rule files with reasons, special categories with a person's release."""

from agora.ads.policy.check import Finding, check, is_blocked, special_by_meaning, special_categories
from agora.ads.policy.special import Release, Targeting, allowed_targeting, categories_of, texts_sha256

__all__ = [
    "Finding",
    "Release",
    "Targeting",
    "allowed_targeting",
    "categories_of",
    "check",
    "is_blocked",
    "special_by_meaning",
    "special_categories",
    "texts_sha256",
]
