"""Questions answered from posts, each sentence with the posts it rests on."""

from agora.search.answers.ask import AskConfig, Writer, answer_key, ask
from agora.search.answers.evidence import EvidenceConfig, select
from agora.search.answers.extractive import ExtractiveWriter
from agora.search.answers.generated import GeneratedWriter
from agora.search.answers.records import Answer, Draft, Evidence, Finder, Found, Quote, Refused, Sentence
from agora.search.answers.rewrite import Question, rewrite
from agora.search.answers.stored import StoredAnswers
from agora.search.answers.support import Verdict, judge

__all__ = [
    "Answer", "AskConfig", "Draft", "Evidence", "EvidenceConfig", "ExtractiveWriter", "Finder", "Found", "GeneratedWriter", "Question",
    "Quote", "Refused", "Sentence", "StoredAnswers", "Verdict", "Writer", "answer_key", "ask", "judge", "rewrite", "select",
]  # fmt: skip
