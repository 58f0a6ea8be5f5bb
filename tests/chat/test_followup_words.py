"""Follow-ups in other languages: what was asked about is carried over, the time and the asking word are understood."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from agora.chat.followup import follow_up, is_more
from agora.chat.followup_words import languages
from agora.search.answers.rewrite import rewrite
from tests.chat.square import NOW

DE = "Was sagen die Leute über die Nachtzüge nach Lindau?"
FR = "Que disent les gens sur les trains de nuit vers Lindau ?"
ES = "¿Qué dice la gente sobre los trenes nocturnos a Lindau?"
PT = "O que dizem as pessoas sobre os comboios noturnos para Lindau?"
IT = "Cosa dice la gente sui treni notturni per Lindau?"
NL = "Wat zeggen mensen over de nachttreinen naar Lindau?"
PL = "Co mówią ludzie o nocnych pociągach do Lindau?"
TR = "İnsanlar Lindau gece trenleri hakkında ne diyor?"
JA = "リンダウの夜行列車について人々は何と言っていますか？"
AR = "ماذا يقول الناس عن القطارات الليلية في لينداو؟"
COUNT = "Wie viele Fahrgäste warteten am Freitag in Lindau?"


@pytest.mark.parametrize(
    ("before", "said", "question"),
    [
        (DE, "und gestern?", "Nachtzüge Lindau yesterday"), (DE, "Und in Bern?", "Nachtzüge Bern"), (DE, "warum?", "why Nachtzüge Lindau"),
        (DE, "und die Fahrgäste?", "Fahrgäste Nachtzüge Lindau"), (DE, "Waren sie verspätet?", "verspätet Nachtzüge Lindau"),
        (COUNT, "und gestern?", "how many Fahrgäste warteten Lindau yesterday"),
        (COUNT, "und in Bern?", "how many Fahrgäste warteten Bern on Friday"), (COUNT, "Wieso?", "why Fahrgäste warteten Lindau on Friday"),
        (FR, "et hier ?", "trains nuit Lindau yesterday"), (FR, "et à Berne ?", "trains nuit Berne"),
        (FR, "pourquoi ?", "why trains nuit Lindau"),
        (FR, "la semaine dernière ?", "trains nuit Lindau last week"),
        (ES, "¿y ayer?", "trenes nocturnos Lindau yesterday"), (ES, "¿Y en Berna?", "trenes nocturnos Berna"),
        (ES, "¿por qué?", "why trenes nocturnos Lindau"), (ES, "por que", "why trenes nocturnos Lindau"),
        (PT, "e ontem?", "comboios noturnos Lindau yesterday"), (PT, "e em Berna?", "comboios noturnos Berna"),
        (PT, "quando?", "when comboios noturnos Lindau"), (IT, "e ieri?", "treni notturni Lindau yesterday"),
        (IT, "e a Berna?", "treni notturni Berna"), (IT, "perché?", "why treni notturni Lindau"),
        (NL, "en gisteren?", "nachttreinen Lindau yesterday"), (NL, "en in Bern?", "nachttreinen Bern"),
        (NL, "waarom?", "why nachttreinen Lindau"), (PL, "a wczoraj?", "nocnych pociągach Lindau yesterday"),
        (PL, "a w Bernie?", "nocnych pociągach Bernie"), (PL, "dlaczego?", "why nocnych pociągach Lindau"),
        (TR, "peki dün?", "Lindau gece trenleri yesterday"), (TR, "neden?", "why Lindau gece trenleri"),
        (JA, "昨日は？", "リンダウ 夜行列車 yesterday"), (JA, "ベルンは？", "ベルン 夜行列車"), (JA, "なぜ？", "why リンダウ 夜行列車"),
        (AR, "وأمس؟", "القطارات الليلية لينداو yesterday"), (AR, "وفي برن؟", "القطارات الليلية برن"),
        (AR, "لماذا؟", "why القطارات الليلية لينداو"),
    ],
)  # fmt: skip
def test_follow_up_carries_what_was_asked_about(before: str, said: str, question: str) -> None:
    assert follow_up(said, before, NOW)[0] == question


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (DE, "Wer hat die Schachmeisterschaft gewonnen?"), (FR, "Qui a gagné le match d'échecs ?"),
        (ES, "¿Quién ganó el partido de ajedrez?"),
        (IT, "Chi ha vinto la partita di scacchi?"), (NL, "Wie heeft de schaakwedstrijd gewonnen?"), (PL, "Kto wygrał mecz szachowy?"),
        (DE, "Who won the chess match?"), (JA, "チェスの試合で誰が勝ちましたか？"),
    ],
)  # fmt: skip
def test_a_question_of_its_own_stays_as_it_is(before: str, said: str) -> None:
    assert follow_up(said, before, NOW)[0] == said


def test_follow_ups_chain_and_mean_a_time_and_a_kind() -> None:
    question = COUNT
    for said in ("und in Bern?", "und gestern?"):
        question = follow_up(said, question, NOW)[0]
    asked = rewrite(question, now=NOW)
    assert asked.kind == "count" and asked.queries[0] == "Fahrgäste warteten Bern since:2026-03-14 until:2026-03-15"


def test_english_keeps_its_own_rules() -> None:
    before = "What do people say about the night trains to Lindau?"
    assert follow_up("and in Bern?", before, NOW)[0] == "What do people say about the night trains to Bern?"
    assert follow_up("a bridge to Bern", before, NOW) == ("a bridge to Bern",)


@pytest.mark.parametrize(
    "said", ["mehr", "Noch mehr?", "plus", "más", "mais", "di più", "meer", "więcej", "daha fazla", "もっと", "المزيد"]
)
def test_more_is_understood(said: str) -> None:
    assert is_more(said)


def test_a_pronoun_is_tried_as_one_and_the_message_alone_behind_it() -> None:
    assert follow_up("Waren sie verspätet?", DE, NOW) == ("verspätet Nachtzüge Lindau", "Waren sie verspätet?")


def test_every_language_has_every_list_and_only_times_that_are_read() -> None:
    content = tomllib.loads(resources.files("agora.chat").joinpath("followup.toml").read_text(encoding="utf-8"))
    assert set(content) == {"de", "fr", "es", "pt", "it", "nl", "pl", "tr", "ja", "ar"}
    for language, lists in languages().items():
        assert lists.leading and lists.more and lists.pronouns and lists.frame and len(lists.times) > 15, language
        assert {english for _, english in lists.asking} >= {"why", "when", "where", "who", "how"}, language
        for _, english in lists.times:
            assert rewrite(f"trains {english}", now=NOW).span.words, (language, english)
