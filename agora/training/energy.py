"""Energy of a run. Comes out: joules with the source they come from; an estimate is always labelled as one.

Sources, added up: the processor packages through Linux powercap (RAPL, where readable), NVIDIA cards through NVML (where `pynvml` is
installed), else processor seconds of this process times a stated number of watts per busy core.
Not covered: memory, disks, fans, power supply losses, and, with RAPL and NVML, what other processes draw is counted too.
"""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

logger = logging.getLogger(__name__)

# Intel Xeon Platinum 8480+: 350 W thermal design power, 56 cores (Intel ARK, read 2024): 6.25 W for each busy core.
WATTS_PER_CORE: Final = 6.25
_POWERCAP: Final = Path("/sys/class/powercap")


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyReading:
    """`joules` since the meter was made. `measured` is False as soon as a part of it is an estimate."""

    joules: float
    measured: bool
    source: str


class EnergyMeter:
    """Counts joules from its creation on; of the CUDA device `gpu_index` too where given. `watts_per_core`: assumption of the estimate. Of
    several processes on a host one counts its processors where they are measured: for the others `is_first_of_host` is False."""

    def __init__(
        self,
        *,
        watts_per_core: float | None = None,
        gpu_index: int | None = None,
        powercap: Path = _POWERCAP,
        is_first_of_host: bool = True,
    ) -> None:
        self._watts_per_core = watts_per_core or WATTS_PER_CORE
        self._packages = _Rapl.find(powercap)
        self._counts_packages = is_first_of_host
        self._cards = [] if gpu_index is None else _nvml_cards(gpu_index)
        self._cards_at_start_j = [_card_joules(card) for card in self._cards]
        self._cpu_at_start_s = _cpu_seconds()

    def read(self) -> EnergyReading:
        """Energy so far."""
        parts, joules = [], 0.0
        if self._packages:
            joules += sum(package.joules() for package in self._packages) if self._counts_packages else 0.0
            parts.append("processor measured by RAPL")
        else:
            joules += (_cpu_seconds() - self._cpu_at_start_s) * self._watts_per_core
            parts.append(f"processor ESTIMATED as processor seconds x {self._watts_per_core:g} W per busy core")
        if self._cards:
            joules += sum(_card_joules(card) - start for card, start in zip(self._cards, self._cards_at_start_j, strict=True))
            parts.append(f"{len(self._cards)} GPU measured by NVML")
        return EnergyReading(joules=joules, measured=bool(self._packages), source=", ".join(parts))


class _Rapl:
    """One processor package; its counter wraps at `max_energy_range_uj`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self._last_uj = int(self._file.read_text())
        self._total_uj = 0

    @classmethod
    def find(cls, powercap: Path) -> list[_Rapl]:
        try:
            return [cls(folder) for folder in sorted(powercap.glob("intel-rapl:[0-9]*")) if folder.name.count(":") == 1]
        except (OSError, ValueError) as error:  # only root may read it on most systems
            logger.info("processor energy at %s cannot be read (%s); it will be estimated", powercap, error)
            return []

    def joules(self) -> float:
        now_uj = int(self._file.read_text())
        self._total_uj += (now_uj - self._last_uj) % self._range_uj if now_uj < self._last_uj else now_uj - self._last_uj
        self._last_uj = now_uj
        return self._total_uj / 1e6


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _nvml_cards(gpu_index: int) -> list[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the old distribution `pynvml` warns about its own name
            import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        # NVML numbers all cards of the host, CUDA those that the process may see: the serial number is the same in both
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu_index).uuid}")
        _card_joules(card)
    except pynvml.NVMLError as error:
        logger.info("no GPU energy: %s", error)
        return []
    return [card]


def _card_joules(card: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
