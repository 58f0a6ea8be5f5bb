# ruff: noqa: E501 - lists of words
"""What narrows a fact travels with its claim; ordinary shortening passes."""

from __future__ import annotations

import pytest

from agora.ads.brief import Fact
from agora.ads.copywriting import blocked_in
from agora.ads.copywriting.language import language_named
from agora.ads.copywriting.symbols import unsupported_signs

DROPPED = [
        ("en", "30-day money-back guarantee", "30-day guarantee"), ("en", "30-day money-back guarantee", "Money-back guarantee"),
        ("en", "free returns within 14 days", "Free returns"), ("en", "up to 40% off", "40% off"), ("en", "from 9 euro", "9 euro"),
        ("en", "from 9 euro per person", "from 9 euro"), ("en", "9 euro a head", "9 euro"),
        ("en", "tickets start at 9 euro", "tickets at 9 euro"), ("en", "20% off in selected stores", "20% off"),
        ("en", "20% off in selected stores", "20% off in stores"), ("en", "10% off for new customers", "10% off"),
        ("en", "10% off for new customers", "10% off for customers"), ("en", "made with recycled plastic", "Recycled"),
        ("en", "made with recycled plastic", "Recycled shoe"), ("en", "waterproof zip", "Waterproof"),
        ("en", "a leather sole", "Leather"), ("en", "organic cotton lining", "Organic cotton"), ("en", "for dry hair", "For hair"),
        ("en", "removes fresh stains", "Removes stains"), ("en", "a free mug with every order", "A free mug"),
        ("en", "buy two, get one free", "get one free"), ("en", "free delivery in Vienna", "free delivery"),
        ("en", "5-year warranty on the frame", "5-year warranty"), ("en", "49 EUR for two nights", "49 EUR"),
        ("en", "20 litres per minute", "20 litres"), ("en", "limited warranty", "warranty"),
        ("en", "partially recycled wool", "recycled wool"), ("en", "free shipping on orders over 50 EUR", "free shipping"),
        ("en", "free shipping on orders over 50 EUR", "free shipping on orders"), ("en", "starts at 9 euro", "9 euro"),
        ("en", "as low as 9 euro", "9 euro"), ("en", "save up to 30 euro", "save 30 euro"), ("en", "first month free", "free"),
        ("en", "first month free", "month free"), ("en", "no deposit for registered members", "no deposit"),
        ("en", "discount on your second pair", "discount"), ("de", "30 Tage Geld-zurück-Garantie", "30 Tage Garantie"),
        ("de", "kostenlose Rückgabe innerhalb von 14 Tagen", "Kostenlose Rückgabe"), ("de", "bis zu 40 % Rabatt", "40 % Rabatt"),
        ("de", "ab 9 Euro", "9 Euro"), ("de", "9 Euro pro Person", "9 Euro"), ("de", "10 % Rabatt für Neukunden", "10 % Rabatt"),
        ("de", "aus recyceltem Plastik", "Recycelt"), ("de", "für trockenes Haar", "Für Haar"),
        ("de", "20 % Rabatt in ausgewählten Filialen", "20 % Rabatt"), ("de", "versandkostenfrei ab 50 Euro", "versandkostenfrei"),
        ("de", "kostenloser Versand nach Österreich", "Kostenloser Versand"),
        ("de", "fünf Jahre Garantie auf den Rahmen", "Fünf Jahre Garantie"), ("fr", "retours gratuits sous 14 jours", "Retours gratuits"),
        ("fr", "livraison offerte dès 50 €", "Livraison offerte"), ("fr", "9 € par personne", "9 €"),
        ("fr", "jusqu'à 40 % de remise", "40 % de remise"), ("fr", "garantie satisfait ou remboursé 30 jours", "garantie 30 jours"),
        ("fr", "-10 % pour les nouveaux clients", "-10 %"), ("es", "devoluciones gratis en 14 días", "Devoluciones gratis"),
        ("es", "desde 9 euros", "9 euros"), ("es", "9 € por persona", "9 €"),
        ("es", "10 % de descuento para nuevos clientes", "10 % de descuento"), ("es", "en tiendas seleccionadas", "en tiendas"),
        ("it", "reso gratuito entro 14 giorni", "Reso gratuito"), ("it", "fino al 40 % di sconto", "40 % di sconto"),
        ("it", "9 € a persona", "9 €"), ("pt", "devolução grátis em 14 dias", "Devolução grátis"), ("pt", "a partir de 9 €", "9 €"),
        ("en", "sugar free bread", "Sugar bread"), ("en", "fat-free milk", "fat milk"), ("en", "free from plastic", "from plastic"),
        ("en", "made in Wales from recycled bottles", "Recycled"),
        ("en", "bakes bread in 20 minutes without an oven", "Bakes bread in 20 minutes"), ("en", "vegan leather", "Vegan"),
        ("en", "open on weekdays until 8 pm", "Open until 8 pm"), ("en", "fits small cars", "Fits cars"),
        ("en", "against light rain", "Against rain"), ("en", "try it free for 30 days", "Try it free"),
        ("en", "30-day free trial", "Free trial"), ("en", "cancel any time within the first month", "Cancel any time"),
        ("en", "9 euro for members", "9 euro"), ("en", "$5 off your first order", "$5 off"),
        ("en", "second pair half price", "half price"), ("en", "kids eat free on Sundays", "Kids eat free"),
        ("de", "Kinder essen sonntags gratis", "Kinder essen gratis"), ("de", "wasserdichter Reißverschluss", "Wasserdicht"),
        ("de", "bei Kauf von zwei Paar 10 Euro Rabatt", "10 Euro Rabatt"), ("de", "Probemonat für 1 Euro", "1 Euro"),
        ("fr", "premier mois offert", "mois offert"), ("it", "spedizione gratuita sopra 50 €", "Spedizione gratuita"),
        ("en", "two-year warranty on the motor", "Two-year warranty"), ("en", "free fitting at our Leeds workshop", "Free fitting"),
        ("en", "15% off on orders over 80 EUR", "15% off"), ("en", "up to 6 hours of light at low power", "6 hours of light"),
        ("en", "up to 6 hours of light at low power", "Up to 6 hours of light"), ("en", "from 39 euro a night", "From 39 euro"),
        ("en", "39 euro a night in November", "39 euro a night"), ("en", "no fees for the first three months", "No fees"),
        ("en", "first lesson free", "Lessons free"), ("en", "a free coffee with any cake", "Free coffee"),
        ("en", "compostable lid", "Compostable"), ("en", "cover made of 50% recycled polyester", "Recycled polyester"),
        ("en", "vegan option on request", "Vegan"), ("en", "suitable for children over six", "Suitable for children"),
        ("en", "removes most red wine stains", "Removes red wine stains"),
        ("en", "works with most Android phones", "Works with Android phones"), ("en", "helps plants grow faster", "Plants grow faster"),
        ("en", "money back if it rains", "Money back"), ("en", "next-day delivery in London", "Next-day delivery"),
        ("en", "students travel at half price", "Travel at half price"), ("en", "bonus of 5 EUR for every friend", "Bonus of 5 EUR"),
        ("en", "voucher valid until 30 June", "Voucher valid"), ("de", "30 Tage kostenlos testen", "Kostenlos testen"),
        ("de", "bis zu 6 Stunden Licht", "6 Stunden Licht"), ("de", "Gratis-Kaffee zu jedem Kuchen", "Gratis-Kaffee"),
        ("de", "kompostierbarer Deckel", "Kompostierbar"), ("de", "39 Euro pro Nacht im November", "39 Euro pro Nacht"),
        ("de", "Lieferung am nächsten Tag in Berlin", "Lieferung am nächsten Tag"),
        ("fr", "essai gratuit pendant 7 jours", "Essai gratuit"), ("es", "envío gratis a partir de 40 €", "Envío gratis"),
        ("it", "consegna gratuita a Milano", "Consegna gratuita"), ("pt", "frete grátis acima de 40 €", "Frete grátis"),
]  # fmt: skip
SHORTENED = [
        ("en", "30-day money-back guarantee", "A 30-day money-back guarantee for you"),
        ("en", "free returns within 14 days", "Returns within 14 days"),
        ("en", "free returns within 14 days", "Within 14 days, free returns"), ("en", "made with recycled plastic", "Made with plastic"),
        ("en", "made with recycled plastic", "With recycled plastic"), ("en", "with a waterproof zip", "With a zip"),
        ("en", "free delivery by bike from our shop", "free delivery by bike"), ("en", "lasts 8 hours", "lasts 8 hours"),
        ("en", "gift wrapping for members", "gift wrapping"),
        ("en", "a light rain jacket that folds into its own pocket", "A light rain jacket"),
        ("en", "a light rain jacket that folds into its own pocket", "Folds into its own pocket"),
        ("en", "a light rain jacket that folds into its own pocket", "Rain jacket"),
        ("en", "handmade in Porto from Portuguese cork", "Handmade in Porto"), ("en", "keeps coffee hot all day", "Keeps coffee hot"),
        ("en", "knitted by hand in Leith", "Knitted in Leith"), ("en", "knitted by hand in Leith", "Knitted by hand"),
        ("en", "grips well on wet rock", "Grips on wet rock"), ("en", "comes in five colours and three sizes", "Five colours"),
        ("en", "comes in five colours and three sizes", "In five colours"),
        ("en", "charges in 15 minutes at any socket", "Charges in 15 minutes"),
        ("en", "includes free delivery to Austria", "Free delivery to Austria"),
        ("en", "comes with a 5-year warranty on the frame", "5-year warranty on the frame"),
        ("en", "a quiet dishwasher for open kitchens", "A quiet dishwasher"),
        ("en", "soft wool socks for cold mornings", "Soft wool socks"),
        ("en", "soft wool socks for cold mornings", "Wool socks for cold mornings"),
        ("en", "freshly baked sourdough bread every morning", "Freshly baked sourdough bread"),
        ("en", "roasted in small batches in Graz", "Roasted in Graz"),
        ("en", "roasted in small batches in Graz", "Roasted in small batches"),
        ("en", "the case opens with one hand", "Opens with one hand"), ("en", "dries quickly after rain", "Dries quickly"),
        ("en", "made of steel and walnut wood", "Steel and walnut wood"), ("en", "made of steel and walnut wood", "Walnut wood"),
        ("en", "weighs 240 g in size 42", "Weighs 240 g in size 42"), ("en", "strong enough for two bags", "Strong enough for two bags"),
        ("en", "washes at 30 degrees in any machine", "Washes at 30 degrees"), ("en", "sugar-free bread with nuts", "Sugar-free bread"),
        ("en", "fast delivery to your door", "Delivery to your door"), ("en", "free delivery and gift wrapping", "Free delivery"),
        ("en", "waterproof and breathable", "Waterproof"), ("en", "waterproof, light, warm", "Waterproof"),
        ("en", "designed and repaired in Norrland", "Designed in Norrland"), ("en", "holds 2 litres of water", "Holds 2 litres"),
        ("en", "four USB ports", "four USB ports"), ("en", "a lamp with a warm light", "warm light"),
        ("de", "aus recyceltem Plastik", "Aus Plastik"), ("de", "von Hand in Gera genäht", "Von Hand genäht"),
        ("de", "von Hand in Gera genäht", "In Gera genäht"), ("de", "leichte Jacke aus weicher Wolle", "Leichte Jacke"),
        ("de", "leichte Jacke aus weicher Wolle", "Aus weicher Wolle"),
        ("de", "lädt in 15 Minuten an jeder Steckdose", "Lädt in 15 Minuten"),
        ("de", "ein leiser Geschirrspüler für offene Küchen", "Ein leiser Geschirrspüler"), ("fr", "cousu main à Lyon", "Cousu main"),
        ("it", "cucito a mano a Prato", "Cucito a mano"), ("pt", "feito à mão em Braga", "Feito à mão"),
        ("en", "free of charge", "Free of charge"), ("en", "made in Wales from recycled bottles", "Made in Wales"),
        ("en", "made in Wales from recycled bottles", "From recycled bottles"), ("en", "extends to 3 metres", "Extends to 3 metres"),
        ("en", "keeps its shape after 100 washes", "Keeps its shape"), ("en", "a bag with room for a laptop", "Room for a laptop"),
        ("en", "vegan leather", "Leather"), ("en", "ceramic blade that stays sharp", "Stays sharp"),
        ("en", "ceramic blade that stays sharp", "A ceramic blade"), ("en", "hand-painted in Fez by two sisters", "Hand-painted in Fez"),
        ("en", "open every day until 8 pm", "Open until 8 pm"), ("en", "works offline on trains", "Works offline"),
        ("en", "with pockets for keys and phone", "Pockets for keys"),
        ("en", "one-year subscription included", "One-year subscription included"),
        ("de", "zuckerfreies Brot mit Nüssen", "Zuckerfreies Brot"), ("de", "mit wasserdichtem Reißverschluss", "Mit Reißverschluss"),
        ("de", "zwei Jahre Garantie", "Zwei Jahre Garantie"), ("de", "kostenloser Versand ab 50 Euro", "Kostenloser Versand ab 50 Euro"),
        ("de", "handgemacht in Wien aus Filz", "Handgemacht in Wien"), ("de", "Sohle aus Naturkautschuk", "Naturkautschuk"),
        ("fr", "lavable en machine à 30 degrés", "Lavable en machine"), ("es", "hecho a mano con cuero de Ubrique", "Hecho a mano"),
        ("en", "small-batch marmalade cooked in copper pots", "Small-batch marmalade"),
        ("en", "small-batch marmalade cooked in copper pots", "Cooked in copper pots"),
        ("en", "small-batch marmalade cooked in copper pots", "Marmalade cooked in copper pots"),
        ("en", "a folding bike you can carry upstairs", "A folding bike"),
        ("en", "a folding bike you can carry upstairs", "Carry upstairs"), ("en", "painted by hand in three colours", "Painted by hand"),
        ("en", "painted by hand in three colours", "Three colours"),
        ("en", "the lamp dims with one turn of the wrist", "Dims with one turn of the wrist"),
        ("en", "seeds from farms within 30 km of Graz", "Seeds from farms within 30 km of Graz"),
        ("en", "a deep pocket for maps and a small one for keys", "A deep pocket for maps"),
        ("en", "stands on a steel base and turns both ways", "Stands on a steel base"),
        ("en", "stands on a steel base and turns both ways", "Turns both ways"), ("en", "bakes two loaves at once", "Bakes two loaves"),
        ("en", "with a spare blade in the handle", "A spare blade"),
        ("en", "with a spare blade in the handle", "Spare blade in the handle"),
        ("en", "open seven days a week", "Open seven days a week"),
        ("en", "cut from one piece of oak, oiled twice", "Cut from one piece of oak"),
        ("en", "soft on hands and kind to wool", "Soft on hands"), ("en", "soft on hands and kind to wool", "Kind to wool"),
        ("en", "roasted on Mondays, shipped on Tuesdays", "Roasted on Mondays"),
        ("en", "a rucksack with a rain cover and a chest strap", "A rucksack with a rain cover"),
        ("en", "a rucksack with a rain cover and a chest strap", "With a chest strap"), ("en", "runs quietly at night", "Runs quietly"),
        ("en", "made for walking to work in the rain", "Made for walking to work"),
        ("en", "made for walking to work in the rain", "For walking in the rain"),
        ("en", "grown without pesticides in Styria", "Grown without pesticides"),
        ("de", "Marmelade aus dem Kupferkessel, von Hand gerührt", "Von Hand gerührt"),
        ("de", "ein Faltrad, das unter den Schreibtisch passt", "Ein Faltrad"),
        ("de", "Samen von Höfen rund um Graz", "Samen von Höfen rund um Graz"),
        ("de", "zwei Fächer für Karten und Schlüssel", "Zwei Fächer für Karten"), ("de", "läuft nachts sehr leise", "Läuft leise"),
        ("fr", "un vélo pliant qui tient sous le bureau", "Un vélo pliant"),
        ("fr", "peint à la main en trois couleurs", "Peint à la main"), ("es", "pintado a mano en tres colores", "Pintado a mano"),
        ("it", "una lampada con la base in acciaio", "Una lampada"), ("pt", "uma mochila com capa de chuva", "Uma mochila"),
]  # fmt: skip


def statements_of(language: str, *facts: str) -> list[Fact]:
    named = [("product", "Lynx 2 shoe"), *((f"fact{at}", text) for at, text in enumerate(facts))]
    return [Fact(id=name, text=text, source="brief.toml:1", language=language) for name, text in named]


@pytest.mark.parametrize(("language", "fact", "text"), DROPPED)
def test_a_claim_that_leaves_out_what_narrows_it_is_blocked_and_the_whole_fact_passes(language: str, fact: str, text: str) -> None:
    found = blocked_in(text, statements_of(language, fact), language)
    assert found is not None and found.reason
    assert blocked_in(f"{fact}. Lynx 2 shoe", statements_of(language, fact), language) is None


@pytest.mark.parametrize(("language", "fact", "text"), SHORTENED)
def test_a_shorter_text_with_the_same_meaning_passes(language: str, fact: str, text: str) -> None:
    assert blocked_in(text, statements_of(language, fact), language) is None


def test_the_reason_names_the_word_that_is_missing() -> None:
    found = blocked_in("30-day guarantee", statements_of("en", "30-day money-back guarantee"), "en")
    assert found is not None and "'money'" in found.reason and "leaves out" in found.reason


def test_a_quality_of_the_product_itself_needs_no_thing() -> None:
    assert blocked_in("Light", statements_of("en", "light trail shoe"), "en") is None  # the product is a shoe
    assert blocked_in("Light", statements_of("en", "light carbon pole"), "en") is not None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "🥇 Lynx 2 shoe"), ("en", "#1 Lynx 2 shoe"), ("en", "No. 1: Lynx 2 shoe"), ("en", "The number one Lynx 2 shoe"), ("en", "Lynx 2 shoe ⭐⭐⭐⭐⭐"),
        ("en", "💯% weighs 240 g"), ("en", "🆓 Lynx 2 shoe"), ("en", "Lynx 2 shoe 👑"), ("de", "Nr. 1 bei Lynx 2 shoe"), ("fr", "N°1 : Lynx 2 shoe"),
        ("es", "Lynx 2 shoe, número uno"), ("ja", "No.1 Lynx 2 shoe"), ("nl", "Lynx 2 shoe, nr. 1"), ("en", "weighs 240 g, 5 ⭐"), ("en", "#1 weighs 1 kg"),
    ],
)  # fmt: skip
def test_a_sign_that_claims_needs_a_fact(language: str, text: str) -> None:
    assert blocked_in(text, statements_of(language, "weighs 240 g", "weighs 1 kg"), language) is not None


@pytest.mark.parametrize(
    ("language", "fact", "text"),
    [
        ("en", "winner of the 2025 Fell Award", "🏆 Winner of the 2025 Fell Award"), ("en", "winner of the 2025 Fell Award", "Winner of the 2025 Fell Award 🥇"),
        ("en", "rated 4.8 of 5 stars", "⭐⭐⭐⭐⭐ Rated 4.8 of 5 stars"), ("en", "100% wool", "💯 100% wool"), ("en", "No. 1 in the Fell test", "#1 in the Fell test"),
        ("en", "charges in 5 minutes", "Charges in 5 minutes ⚡✨"), ("en", "weighs 240 g", "⭐ Weighs 240 g"), ("de", "Testsieger 2025", "🏅 Testsieger 2025"),
        ("en", "👑 on the lid", "👑 on the lid"), ("en", "free returns", "🆓 Free returns"), ("en", "No one sews faster", "No one sews faster"),
    ],
)  # fmt: skip
def test_a_sign_beside_its_fact_and_mere_decoration_pass(language: str, fact: str, text: str) -> None:
    assert blocked_in(text, statements_of(language, fact), language) is None


def test_a_sign_is_carried_by_no_fact_that_the_text_does_not_state() -> None:
    facts = statements_of("en", "winner of the 2025 Fell Award", "weighs 240 g")
    found = blocked_in("🥇 Weighs 240 g", facts, "en")
    assert found is not None and "🥇" in found.reason
    assert unsupported_signs("🥇 Weighs 240 g", facts, language_named("en")) == []
    assert [sign.kind for sign in unsupported_signs("🥇 ⭐⭐⭐", facts[2:], language_named("en"))] == ["superlative", "number"]
