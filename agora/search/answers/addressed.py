"""Posts that talk to a machine instead of readers. Goes in: a text. Comes out: whether it tries to give a writer orders.

Only a first fence: such posts are kept from writers, with a warning. What holds without it is `support.py`: a writer that obeys a post
still cannot say what no post supports. Not covered: orders in plain words that this list does not know.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ORDERS: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass|skip)\b.{0,40}\b(?:instruction|prompt|rule|direction|guideline|command|message)s?\b"
    r"|\b(?:system|developer|hidden)\s+(?:prompt|message|instruction)s?\b"
    r"|\b(?:new|updated|real|following|these)\s+(?:system\s+)?instructions?\b"
    r"|\byou\s+are\s+(?:now|no\s+longer)\b.{0,60}\b(?:assistant|ai|model|bot|dan|mode|unrestricted|bound|restricted)\b"
    r"|\b(?:as|dear|attention|hey|note\s+to)\s+(?:an?\s+|the\s+|all\s+)?(?:ai|llm|language\s+model|assistant|chatbot|writer|summari[sz]er)s?\b"
    r"|\b(?:respond|reply|answer|output|print|write|say|repeat)\b.{0,30}\b(?:only\s+with|exactly|verbatim|instead|the\s+following)\b"
    r"|\b(?:cite|citation|citing)\b.{0,30}(?:\[\d+\]|\b(?:post|id|source)s?\b)"
    r"|\b(?:do\s+not|don't|never)\s+(?:cite|mention\s+(?:the\s+)?(?:posts|sources)|abstain)\b"
    r"|\bjailbreak\s+mode\b|\bprompt\s+injection\b",
    re.IGNORECASE | re.DOTALL,
)
_MARKERS: Final = re.compile(
    r"<\s*[|｜]|[|｜]\s*>|\[/?\s*INST\s*\]|<<\s*/?\s*SYS\s*>>|</?\s*(?:s|system|user|assistant|post|question|start_of_turn|end_of_turn)\b[^>]*>"
    r"|^\s*(?:#{2,}\s*)?(?:system|assistant|user|human|developer|instruction|response)\s*:"
    r"|</?(?:posts|instructions?|context|documents?|data|rules|prompt)>|<(?:img|script|iframe|svg|post)\b|<!--|```|\{\{#|\brole\s*:\s*(?:system|assistant|user)\b|\bjavascript:|\bdata:text/|(?:\[\d{1,2}\]\s*){2,}"
    r"|!\[[^\]]*\]\(|\bEND-[0-9a-f]{8,}|\bPOST-[0-9a-f]{8,}",
    re.IGNORECASE | re.MULTILINE,
)
_HIDDEN: Final = re.compile("[\U000e0020-\U000e007f\u202a-\u202e\u2066-\u2069]")
_LOOKALIKES: Final = str.maketrans("аеорсухіјѕԁոɡⅼ", "aeopcyxijsdngl")
"""Cyrillic, Armenian and other letters that look like Latin ones."""


def is_addressed(text: str) -> bool:
    """Whether a text looks like orders to a machine."""
    plain = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)
    visible = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return bool(_HIDDEN.search(text) or _MARKERS.search(visible) or _ORDERS.search(visible) or _MARKERS.search(text))
