"""A query as text again. Goes in: a node. Comes out: text that `parse` reads as an equal node; operators in one spelling."""

from __future__ import annotations

import re
from typing import Final

from agora.search.query import syntax
from agora.search.query.dates import show_date, show_length
from agora.search.query.syntax import Node

_SPECIAL: Final = re.compile(r'[\s()"“”„\\]')
_READ_OTHERWISE: Final = re.compile(r"(?:[#@$＃＠＄﹟﹫﹩-]|(?:OR|AND|NOT)\Z|[A-Za-z_][A-Za-z0-9_]*:(?!//)|(?i:https?://|www\.))")
"""Words that begin like something else."""


def to_text(node: Node) -> str:
    """The query that means `node`."""
    match node:
        case syntax.Or(nodes):
            return " OR ".join(_inside(below, isinstance(below, syntax.Or)) for below in nodes)
        case syntax.And(nodes):
            return " ".join(_inside(below, isinstance(below, (syntax.Or, syntax.And))) for below in nodes)
        case syntax.Not(below):
            return "-" + _inside(below, isinstance(below, (syntax.Or, syntax.And)))
    return _leaf(node)


def _inside(node: Node, in_parentheses: bool) -> str:
    return f"({to_text(node)})" if in_parentheses else to_text(node)


def _leaf(node: Node) -> str:
    match node:
        case syntax.Word(text):
            return ("\\" if _READ_OTHERWISE.match(text) else "") + _SPECIAL.sub(r"\\\g<0>", text)
        case syntax.Phrase(text):
            return _quoted(text)
        case syntax.Mention(account):
            return f"@{account}"
        case syntax.Hashtag(tag):
            return f"#{tag}"
        case syntax.Cashtag(tag):
            return f"${tag}"
        case syntax.Since(at):
            return f"since:{show_date(at)}"
        case syntax.Until(at):
            return f"until:{show_date(at)}"
        case syntax.WithinTime(seconds):
            return f"within_time:{show_length(seconds)}"
        case syntax.AtLeast(what, count):
            return f"min_{what}:{count}"
    name, value = _named_value(node)
    return f"{name}:{_quoted(value) if _SPECIAL.search(value) else value}"


def _named_value(node: Node) -> tuple[str, str]:
    match node:
        case syntax.From(account):
            return "from", account
        case syntax.To(account):
            return "to", account
        case syntax.Url(text):
            return "url", text
        case syntax.Lang(code):
            return "lang", code
        case syntax.Has(what):
            return "filter", what
        case syntax.Conversation(post):
            return "conversation_id", post
        case syntax.Labelled(label):
            return "label", label
    raise AssertionError(node)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'["“”„\\]', r"\\\g<0>", text) + '"'
