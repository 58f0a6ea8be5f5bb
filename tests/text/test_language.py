"""Language: sentences of our own in every listed language, honest when there is nothing to go by."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from agora.text.language import UNKNOWN, detect_languages
from agora.text.normalise import comparison_key, normalise

SENTENCES = {
    "en": "I don't think they will be there when we get to the market",
    "es": "No sé si hoy hay partido, pero mi hermano dice que sí",
    "fr": "Je ne sais pas si nous avons encore du pain dans la maison",
    "de": "Ich weiß nicht, ob wir heute noch auf den Markt gehen",
    "it": "Non so se oggi c'è il mercato, ma mi piace molto questa piazza",
    "pt": "Eu não sei se hoje tem jogo, mas minha irmã disse que sim",
    "nl": "Ik weet niet of we vandaag nog naar de markt gaan",
    "sv": "Jag vet inte om vi hinner till torget men det är bara en bit kvar",
    "fi": "En tiedä vielä, mutta se on ihan hyvä että sinä olet nyt täällä",
    "pl": "Nie wiem, czy dzisiaj jest targ, ale już się cieszę",
    "cs": "Nevím, jestli je dnes trh, ale už se těším, protože jsem tam byl",
    "hu": "Nem tudom, hogy ma van-e piac, de nagyon várom már",
    "ro": "Nu știu dacă azi este piață, dar sunt foarte curioasă",
    "tr": "Bugün pazar var mı bilmiyorum ama çok merak ediyorum, değil mi",
    "id": "Saya tidak tahu apakah hari ini ada pasar, tapi kita bisa lihat",
    "ru": "Я не знаю, будет ли сегодня рынок, но мы ещё посмотрим",
    "uk": "Я не знаю, чи буде сьогодні ринок, але ми ще побачимо, що і як",
    "ar": "لا أعرف إن كان السوق اليوم مفتوحا ولكن سوف نرى ما هو هذا",
    "fa": "من نمی دانم که امروز بازار باز است یا نه اما این را می بینیم",
    "el": "Δεν ξέρω αν έχει αγορά σήμερα",
    "he": "אני לא יודע אם יש שוק היום",
    "hi": "मुझे नहीं पता कि आज बाज़ार है",
    "ja": "今日は市場があるかどうか分かりません",
    "zh": "我不知道今天有没有市场",
    "ko": "오늘 시장이 있는지 모르겠어요",
    "th": "วันนี้มีตลาดหรือเปล่า",
}


def detect(texts: list[str]) -> list[str]:
    return list(detect_languages(comparison_key(normalise(pa.array(texts, type=pa.large_string())))).to_pylist())


def test_each_language_is_recognised_in_a_sentence() -> None:
    assert dict(zip(SENTENCES, detect(list(SENTENCES.values())), strict=True)) == {code: code for code in SENTENCES}


@pytest.mark.parametrize("text", ["", "😀😀", "12:30", "ok", "Berlin Madrid Roma", "lol", "https://example.org/the/and/of"])
def test_texts_without_evidence_are_undetermined(text: str) -> None:
    assert detect([text]) == [UNKNOWN]


def test_a_column_is_judged_like_its_rows() -> None:
    texts = [*SENTENCES.values(), "", "ok"]
    assert detect(texts) == [detect([text])[0] for text in texts]
    assert detect([]) == []


@pytest.mark.shared
def test_decisions_agree_with_labelled_english_posts(shared_data) -> None:  # type: ignore[no-untyped-def]
    posts = pq.read_table(shared_data / "posts" / "airline_2015.parquet", columns=["text", "lang"])
    found = Counter(detect(posts.filter(pc.equal(posts["lang"], "en"))["text"].to_pylist()))
    decided = found.total() - found[UNKNOWN]
    assert found["en"] / decided > 0.999
    assert decided / found.total() > 0.85
