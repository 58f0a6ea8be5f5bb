"""Random headlines in random sizes: is every picture sound? And does the layout solver earn its keep against a plain one?

python -m benchmarks ads_layout [--quick] [--count N]

A picture holds when nothing overlaps, texts, button and logo are inside the safe area, no text is smaller than its placement allows,
each text has a contrast of at least 4.5 with the pixels of the finished file around it, the file is under its limit, and disclosure
and call to action are there. Headlines are drawn from word lists of several languages: short and long, with numbers and units,
Chinese, Japanese, Korean, Arabic, Cyrillic, emoji and long German words, with and without product picture and description.

The peer, drawn for the same headlines, is what a template does: fixed type sizes by the height of the picture, lines filled greedily from
the left, text in white over the background. It is measured by the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from agora.ads.images import Picture, render
from agora.ads.images.background import KINDS, background
from agora.ads.images.checks import MIN_CONTRAST, outside, overlaps, text_contrast
from agora.ads.images.color import palette
from agora.ads.images.disclosure import disclosure_in
from agora.ads.images.linebreak import Line
from agora.ads.images.product import Product
from agora.ads.images.scene import Box, Fill, Group, Scene, Solid, draw
from agora.ads.images.stage import Stage
from agora.ads.images.style import style_of
from agora.ads.images.typeset import Block, Setter
from agora.ads.placements import Placement, placements
from agora.errors import UsageError
from benchmarks.registry import Benchmark, Result, whole_number

WORDS: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "fresh",
        "coffee",
        "at",
        "your",
        "door",
        "in",
        "2",
        "days",
        "save",
        "20",
        "%",
        "on",
        "every",
        "ride",
        "quiet",
        "mornings",
        "start",
        "with",
        "good",
        "light",
        "run",
        "further",
        "with",
        "12",
        "weeks",
        "of",
        "coaching",
    ),
    "de": (
        "Donaudampfschifffahrtsgesellschaft",
        "Krankenversicherungsvergleich",
        "jetzt",
        "in",
        "15",
        "Minuten",
        "Bequemlichkeit",
        "Lieblingsfrühstück",
        "für",
        "9,90",
        "€",
        "Wärmepumpenförderung",
    ),
    "fr": ("votre", "café", "livré", "en", "48", "h", "à", "partir", "de", "9,90", "€", "l'été", "commence", "ici", "avec", "élégance"),
    "ru": ("свежий", "кофе", "каждое", "утро", "доставка", "за", "2", "дня", "и", "скидка", "15", "%"),
    "ar": ("قهوة", "طازجة", "كل", "صباح", "توصيل", "خلال", "2", "يوم", "وخصم", "15", "%"),
    "ko": ("매일", "아침", "신선한", "커피를", "2일", "안에", "집으로", "배송합니다"),
}
WHOLE: Final[dict[str, tuple[str, ...]]] = {
    "ja": (
        "毎朝の一杯を、もっと静かに。",
        "新鮮なコーヒー豆を2日でお届けします",
        "軽さ9.8kg、15秒でたためる自転車「フォルト」",
        "はじめての資産運用を、わかりやすい言葉で。",
    ),
    "zh": ("清晨第一杯,慢一点也很好", "新鲜咖啡豆,2天送到家,首单立减20元", "轻至9.8公斤的折叠自行车,15秒收好"),
}
CALLS: Final = {
    "en": "Order now",
    "de": "Jetzt unverbindlich anfragen",
    "fr": "Découvrir",
    "ru": "Заказать",
    "ar": "اطلب الآن",
    "ko": "주문하기",
    "ja": "今すぐ注文",
    "zh": "立即订购",
}
EMOJI: Final = ("😀", "☀️", "❤", "★", "🚀", "👩🏽‍🚀")
BRANDS: Final = (
    ("Nordkaffee", ("#0f4c3a", "#ff7a45")),
    ("Klarfonds", ("#1b2a6b", "#f5b82e")),
    ("Strida", ("#e4382b", "#111827")),
    ("Faltwerk", ("#5b3df5", "#19c2a0")),
    ("Umbra", ("#808080",)),
    ("Sol", ("#ffe100", "#ff00c8")),
    ("Leer", ()),
)


@dataclass(frozen=True, slots=True)
class Kit:
    """A brand as the pictures need it."""

    name: str
    colours: tuple[str, ...]
    fonts: tuple[str, ...] = ()
    logo: None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One picture that is asked for."""

    headline: str
    description: str
    language: str
    brand: Kit
    placement: Placement
    seed: int
    product: Product | None


def headline(rng: np.random.Generator) -> tuple[str, str]:
    """A headline of 1..90 characters and its language."""
    language = str(rng.choice([*WORDS, *WHOLE, "en", "de"]))
    if language in WHOLE:
        text = str(rng.choice(WHOLE[language]))
    else:
        words = WORDS[language]
        start, count = int(rng.integers(len(words))), int(rng.integers(1, 13))
        text = " ".join(words[(start + step) % len(words)] for step in range(count))
        while len(text) > 90:
            text = text.rsplit(" ", 1)[0]
    if rng.random() < 0.15:
        text += " " + str(rng.choice(EMOJI))
    return text, language


def product(rng: np.random.Generator) -> Product:
    """A round, tall or wide thing with a transparent ground."""
    ratio = float(rng.choice([0.4, 0.8, 1.0, 1.9]))
    height, width = (600, round(600 * ratio)) if ratio <= 1 else (round(600 / ratio), 600)
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x / width - 0.5) ** 4 + (y / height - 0.5) ** 4) < 0.06
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = rng.integers(0, 256, 3)
    pixels[..., 3] = inside * 255
    return Product(pixels, "as_given")


def cases(count: int, seed: int = 0) -> list[Case]:
    """Drawn from the seed; every placement comes about equally often."""
    rng = np.random.default_rng(seed)
    places = list(placements().values())
    made = []
    for number in range(count):
        text, language = headline(rng)
        description, _ = (text, "") if rng.random() < 0.5 else ("", "")
        name, colours = BRANDS[int(rng.integers(len(BRANDS)))]
        made.append(
            Case(
                headline=text,
                description=" ".join([description] * int(rng.integers(1, 3)))[:150],
                language=language,
                brand=Kit(name, colours),
                placement=places[number % len(places)],
                seed=int(rng.integers(2**31)),
                product=product(rng) if rng.random() < 0.5 else None,
            )
        )
    return made


def problems_of(case: Case) -> tuple[list[str], float]:
    """What is wrong with the picture of a case, and its headline's type size in pixels."""
    try:
        picture = _drawn(case)
    except UsageError as error:
        return [str(error)], 0.0
    found = list(picture.checks.problems)
    found += [f"no {name}" for name in ("disclosure", "call_to_action", "headline") if name not in picture.layout.boxes]
    return found, picture.layout.text_px["headline"]


def _drawn(case: Case) -> Picture:
    return render(
        headline=case.headline,
        description=case.description,
        call_to_action=CALLS[case.language],
        brand=case.brand,
        placement=case.placement,
        seed=case.seed,
        product_picture=case.product,
        language=case.language,
    )


def template_problems(case: Case) -> list[str]:
    """What is wrong with the template's picture of a case."""
    place = case.placement
    style = style_of(case.seed, (case.headline,))
    stage_boxes = Box(0.6 * place.width, 0, place.width, place.height), Box(0, 0, 0.5 * place.width, place.height)
    rng = np.random.default_rng(case.seed)
    stage = Stage(place.width, place.height, palette(case.brand.colours, style.scheme), *stage_boxes, (stage_boxes[1],), rng, False, False)
    scene = Scene(place.width, place.height, [Group("background", tuple(background(style.background, stage)))])
    boxes: dict[str, Box] = {}
    left, top, right, bottom = place.safe_px
    at = top
    contrasts = {}
    plan = (("headline", case.headline, 0.12), ("button", CALLS[case.language], 0.06), ("disclosure", disclosure_in(case.language), 0.03))
    for name, text, share in plan:
        size = max(float(place.min_text_px), share * place.height)
        block = greedy_block(Setter(text, style.button(), language=case.language), right - left, size)
        steps, boxes[name] = block.place(Box(left, at, right, bottom), toward="left")
        scene.groups.append(Group(name, (Fill(steps, Solid("#ffffff")),)))
        at = boxes[name].bottom + 0.03 * place.height
    pixels = draw(scene)
    for group in scene.groups[1:]:
        contrasts[group.name] = text_contrast(pixels, scene, group, boxes[group.name])
    found = [*overlaps(boxes), *outside(boxes, Box(left, top, right, bottom), Box(0, 0, place.width, place.height))]
    return found + [f"contrast of {name}" for name, value in contrasts.items() if value < MIN_CONTRAST]


def greedy_block(setter: Setter, width: float, size: float) -> Block:
    """Lines filled from the left, each as full as it goes."""
    lines: list[list[Any]] = [[]]
    for atom in setter.atoms:
        joined = " ".join(part.text for part in [*lines[-1], atom])
        if lines[-1] and setter.width_of(joined) * size > width:
            lines.append([])
        lines[-1].append(atom)
    made = [Line(tuple(atoms), False, setter.width_of(" ".join(atom.text for atom in atoms))) for atoms in lines]
    return Block(setter, made, [setter.line(line) for line in made], size)


def run(quick: bool, options: dict[str, str]) -> Result:
    """Draw them all; the value is the share that hold."""
    count = whole_number(options, "count", 66 if quick else 500, at_least=1)
    failing: list[dict[str, Any]] = []
    template_failing, sizes = 0, []
    drawn = cases(count)
    for number, case in enumerate(drawn):
        problems, size = problems_of(case)
        sizes.append(size / case.placement.height)
        if problems:
            failing.append(
                {"case": number, "headline": case.headline, "placement": case.placement.name, "seed": case.seed, "problems": problems}
            )
        if number % 5 == 0:
            template_failing += bool(template_problems(case))
    share = 1 - len(failing) / count
    peers = len(range(0, count, 5))
    print(f"{count} layouts over {len(placements())} placements and {len(KINDS)} backgrounds: {share:.1%} hold (bar 100%)")
    print(f"template with fixed sizes and greedy lines: {1 - template_failing / peers:.1%} of {peers} hold")
    for failure in failing[:10]:
        print(f"  case {failure['case']} {failure['placement']}: {failure['headline']!r}: {'; '.join(failure['problems'])}")
    details = {"count": count, "failing": failing, "template_holds": 1 - template_failing / peers}
    return Result(value=share, holds=not failing, details=details)


BENCHMARK = Benchmark(
    measures="random headlines in random sizes: nothing overlaps, inside the safe area, text large enough, contrast >= 4.5 on pixels",
    unit="share of layouts",
    bound="= 1.0",
    run=run,
    options=("count",),
)
