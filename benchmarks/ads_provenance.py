"""Content credentials: do signed pictures verify, and is one changed byte found?

python -m benchmarks ads_provenance [--quick] [--pictures N]

PNG, JPEG and SVG pictures of random sizes and content are signed with a self-made certificate. `value` is the smallest of three shares:
pictures that verify as they were signed, pictures with one byte changed (drawn from all bytes of the file) that do not verify, and of
a small picture of each type every byte of the file, the manifest store with it, changed in turn by one bit.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from agora.ads.provenance import TERMS, own_signer, sign, verify
from benchmarks.registry import Benchmark, Result, whole_number


def _run(quick: bool, options: dict[str, str]) -> Result:
    num = whole_number(options, "pictures", 24 if quick else 150, at_least=3)
    per_picture = 4 if quick else 10
    random = np.random.default_rng(20261122)
    tried, right = Counter[str](), Counter[str]()
    missed: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        signer = own_signer(Path(work))
        for number in range(num):
            data, media_type = _picture(number, random)
            signed = sign(data, media_type, signer=signer, source_type=TERMS[number % len(TERMS)])
            tried["valid"] += 1
            right["valid"] += verify(signed, media_type).is_valid
            for place in random.integers(0, len(signed), per_picture):
                changed = bytearray(signed)
                changed[place] ^= int(random.integers(1, 256))
                found = not verify(bytes(changed), media_type).is_valid
                tried["changed"] += 1
                right["changed"] += found
                if not found:
                    missed.append({"type": media_type, "byte": int(place), "of": len(signed)})
    for number in range(3):
        data, media_type = _picture(number, np.random.default_rng(number), side=16)
        signed = sign(data, media_type, signer=signer, source_type="compositeWithTrainedAlgorithmicMedia")
        for place in range(len(signed)):
            changed = bytearray(signed)
            changed[place] ^= 1 << int(random.integers(0, 8))
            found = not verify(bytes(changed), media_type).is_valid
            tried["each byte"] += 1
            right["each byte"] += found
            if not found:
                missed.append({"type": media_type, "byte": place, "of": len(signed)})
    shares = {name: right[name] / tried[name] for name in tried}
    value = min(shares.values())
    return Result(value=value, holds=value == 1.0, details={"pictures": num, "tried": dict(tried), "shares": shares, "missed": missed[:20]})


def _picture(number: int, random: np.random.Generator, *, side: int | None = None) -> tuple[bytes, str]:
    width, height = (side, side) if side else (int(size) for size in random.integers(16, 120, 2))
    if number % 3 == 2:
        places = random.integers(0, (width, height, 1 << 24), (8, 3))
        shapes = "".join(f'<rect x="{x}" y="{y}" width="9" height="7" fill="#{color:06x}"/>' for x, y, color in places)
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{shapes}</svg>'.encode(), "image/svg+xml"
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(out, ("PNG", "JPEG")[number % 3])
    return out.getvalue(), ("image/png", "image/jpeg")[number % 3]


BENCHMARK = Benchmark(
    measures="signed pictures (PNG, JPEG, SVG) that verify, and those with one changed byte that do not; the smallest share",
    unit="share", bound="= 1.0", run=_run, options=("pictures",),
)  # fmt: skip
