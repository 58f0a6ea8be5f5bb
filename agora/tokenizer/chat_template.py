"""The chat template: the same conversation format for `render_chat` and for transformers, vLLM and SGLang (Jinja).

Special tokens inside a role or a content are broken up by one blank, because a template can only produce text, and the
reader of that text would take them for real ones. Our own `render_chat` needs no such change: it works on ids.
"""

from __future__ import annotations

from typing import Final

CHAT_TEMPLATE: Final = (
    "{%- macro plain(text) -%}"
    "{{- text | replace('<|endoftext|>', '<|endoftext |>') | replace('<|im_start|>', '<|im_start |>')"
    " | replace('<|im_end|>', '<|im_end |>') | replace('<|pad|>', '<|pad |>') -}}"
    "{%- endmacro -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{- raise_exception('unknown role: ' + message['role'] | string) -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + plain(message['content'] | trim) + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
