"""The chat template: the same conversation format for `render_chat` and for transformers, vLLM and SGLang (Jinja).

A template can only produce text, and the reader of that text takes the name of a special token for the token. So names
inside a content are broken up by one blank, in the template and, to give the same ids, in `break_names`.
"""

from __future__ import annotations

from typing import Final

NAMES: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""The special tokens (agora/tokenizer/bpe.py)."""


def break_names(text: str) -> str:
    """`text` with a blank in every name of a special token, as the template's macro `plain` does it."""
    for name in NAMES:
        text = text.replace(name, _broken(name))
    return text


def _broken(name: str) -> str:
    return name.replace("|>", " |>")


CHAT_TEMPLATE: Final = (
    "{%- macro plain(text) -%}{{- text" + "".join(f" | replace('{name}', '{_broken(name)}')" for name in NAMES) + " -}}{%- endmacro -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{- raise_exception('unknown role: ' + message['role'] | string) -}}"
    "{%- endif -%}"
    "{%- if message['content'] is not string -%}"
    "{{- raise_exception('content must be text: ' + message['content'] | string) -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + plain(message['content'] | trim) + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
