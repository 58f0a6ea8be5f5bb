"""Settings of a scan."""

from __future__ import annotations

from dataclasses import dataclass

from agora.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrityConfig:
    """How a scan looks and how sure it must be.

    seed             decides the halves; the same posts and seed give the same result
    windows_s        windows within which two actions count as close, seconds
    q_groups         share of false groups tolerated among those that tests confirm (Benjamini-Hochberg)
    q_members        share of false members tolerated
    min_occasions    occasions that a group must act on in each half
    min_slow_occasions  the same in windows above ten minutes: within hours, people with one task or teacher say the same, too
    min_actions      actions of evidence that a member needs, in all
    meaning          also compare meanings (needs more time)
    meaning_model    with `meaning`: a local folder with a sentence model; without one, words decide (agora/text/embeddings.py)
    evidence_limit   artefacts kept as evidence per campaign
    """

    seed: int = 0
    windows_s: tuple[int, ...] = (60, 600, 3600, 7200)
    q_groups: float = 0.01
    q_members: float = 0.01
    min_occasions: int = 3
    min_slow_occasions: int = 5
    min_actions: int = 3
    meaning: bool = False
    meaning_model: str = ""
    evidence_limit: int = 40

    def __post_init__(self) -> None:
        if not self.windows_s or any(window <= 0 for window in self.windows_s):
            raise ConfigError(f"windows_s={list(self.windows_s)} must name at least one window, all above 0; example: windows_s=[60,600]")
        for name in ("q_groups", "q_members"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must lie between 0 and 1; example: {name}=0.01")
        for name in ("min_occasions", "min_slow_occasions", "min_actions", "evidence_limit"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        if self.meaning_model and not self.meaning:
            raise ConfigError(f"meaning_model={self.meaning_model!r} has no effect without meaning=true; add it")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed} must not be negative")
