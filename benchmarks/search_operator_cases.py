"""The written cases of `search_operators`: a few posts, queries with the posts they must find, and queries that must be refused.

Each case was written by hand from what docs/search_query.md promises, not taken from what the code answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from agora.search.query.matching import Engagement

NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
"""A Sunday."""


def _post(name: str, author: str, at: str, lang: str | None, text: str, **more: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {"urls": [], "hashtags": [], "mentions": [], "media": []}
    fixed = {"kind": "post", "ref_id": None, "ref_author": None, "source": "written"}
    created_at = datetime.fromisoformat(f"{at}+00:00")
    return {"id": name, "author": author, "created_at": created_at, "text": text, "lang": lang, **fixed, **lists, **more}


_IMAGE: Final = {"kind": "image", "url": "https://img.example/1", "alt": None}
_VIDEO: Final = {"kind": "video", "url": "https://img.example/2", "alt": "waves"}
_CARD: Final = {"kind": "link", "url": "https://img.example/3", "alt": None}

POSTS: Final = [
    _post("p1", "ada", "2026-11-22T11:30", "en", "Flood warning for the river Aare, stay away from the banks", num_likes=12),
    _post(
        "p2", "bob", "2026-11-22T10:50", "en", "@ada which banks? the money ones?",
        kind="reply", ref_id="p1", ref_author="ada", mentions=["ada"],
    ),
    _post("p3", "cleo", "2026-11-22T09:00", "de", "Hochwasser an der Aare: Straße gesperrt #Hochwasser", hashtags=["Hochwasser"]),
    _post(
        "p4", "dan", "2026-11-21T23:59", "en", "Flood warning for the river Aare, stay away from the banks",
        kind="repost", ref_id="p1", ref_author="ada",
    ),
    _post(
        "p5", "eve", "2026-11-21T08:00", "en-GB", "Storm and flood in the news https://www.example.org/News/flood-2026?utm_source=x",
        urls=["https://www.example.org/News/flood-2026?utm_source=x"], num_likes=100,
    ),
    _post("p6", "fay", "2026-11-20T10:00", "en", "Café society: naïve résumé", kind="quote", ref_id="p5", ref_author="eve"),
    _post("p7", "gus", "2026-11-16T00:00", "ja", "東京都庁で洪水 iPhone発売"),
    _post("p8", "hal", "2026-11-15T12:00", "ar", "مَرْحَبًا بالعالم"),
    _post("p9", "ivy", "2026-11-01T00:00", "en", "Buy $BTC now! $100 only, $ETH.X", media=[_IMAGE]),
    _post("p10", "ada", "2026-10-31T23:59:59", "en", "state-of-the-art flood of spam from:bob OR NOT"),
    _post("p11", "jon", "2025-11-22T12:00", "ru", "Ёлка и лёд"),
    _post("p12", "kim", "2025-01-01T00:00", "hi", "हिन्दी दिवस मुबारक"),
    _post(
        "p13", "lea", "2026-11-22T11:59:30", None, "🔥🔥 #FloodWatch @Ada@example.social look 👍🏽",
        hashtags=["FloodWatch"], mentions=["Ada@example.social"],
    ),
    _post("p14", "bot1", "2026-11-22T11:00", "en", "The flood is a hoax", num_likes=2),
    _post("p15", "mia", "2026-11-22T11:10", "en", "The flood is a hoax"),
    _post("p16", "Ned", "2026-11-22T11:20", "en", "Don't panic, don’t worry", kind="reply", ref_id="p2", ref_author="bob"),
    _post(
        "p17", "did:plc:oki", "2026-11-10T10:00", "pt-BR", "Links here: http://t.co/AbC",
        urls=["https://m.example.com/wiki/a_(b)/caf%C3%A9", "http://t.co/AbC"],
    ),
    _post("p18", "pat", "2026-11-08T07:00", "fr", "L'été à Zürich — C++ & C#", media=[_VIDEO, _CARD]),
    _post("p19", "Ζoë quist", "2026-07-01T00:00", "en", "card only (smile) :)", media=[_CARD]),
    _post("p20", "rob", "2026-06-30T23:00", "EN", "ﬂｏｏｄ ＮＥＷＳ \u200bzero\u200bwidth"),
]  # fmt: skip

LABELLED_ACCOUNTS: Final = frozenset({"bot1"})
LABELLED_POSTS: Final = frozenset({"p15"})
ENGAGEMENT: Final = {"p1": Engagement(reposts=1, replies=1), "p2": Engagement(replies=1)}
"""What the posts show: p4 reposts p1, p2 and p16 reply to p1 and p2."""
ABOVE: Final = {"p2": ("p1",), "p16": ("p2", "p1")}
ALL: Final = " ".join(post["id"] for post in POSTS)


@dataclass(frozen=True, slots=True)
class Case:
    """`finds`: ids. `printed`: the query in its one spelling, where it differs. `warning`: words of the only warning."""

    query: str
    finds: str
    printed: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """`position` counts characters from 0; `says` stands in the message."""

    query: str
    position: int
    says: str


def _without(names: str) -> str:
    return " ".join(name for name in ALL.split() if name not in names.split())


_FLOOD: Final = "p1 p4 p5 p10 p14 p15 p20"

CASES: Final = (
    # words
    Case("flood", _FLOOD),
    Case("FLOOD", _FLOOD),
    Case("ｆｌｏｏｄ", _FLOOD),
    Case("fl\u00adood", _FLOOD),
    Case("flo", ""),
    Case("floods", ""),
    Case("flood warning", "p1 p4"),
    Case("warning flood", "p1 p4"),
    Case("  flood \t warning\n", "p1 p4", "flood warning"),
    Case("cafe", "p6"),
    Case("CAFÉ", "p6"),
    Case("cafe\u0301", "p6"),
    Case("naive resume", "p6"),
    Case("strasse", "p3"),
    Case("STRAẞE", "p3"),
    Case("zurich", "p18"),
    Case("елка", "p11"),
    Case("Лёд", "p11"),
    Case("مرحبا", "p8"),
    Case("हिन्दी", "p12"),
    Case("हिन", ""),
    Case("東京", "p7"),
    Case("東京都庁", "p7"),
    Case("京都", "p7"),
    Case("都", "p7"),
    Case("東庁", ""),
    Case("発売", "p7"),
    Case("iphone", "p7"),
    Case("iPhone発売", "p7"),
    Case("🔥", "p13"),
    Case("👍", "p13"),
    Case("👍🏿", "p13"),
    Case("🎉", ""),
    Case("zerowidth", "p20"),
    Case("state-of-the-art", "p10"),
    Case("of-the", "p10"),
    Case("art-of", ""),
    Case("don't", "p16"),
    Case("don’t", "p16"),
    Case("l'ete", "p18"),
    Case("C++", "p18"),
    Case("100", "p9"),
    Case("$100", "p9", "\\$100"),
    Case("or", "p10"),
    Case("Or", "p10"),
    Case("and", "p5"),
    Case("floodwatch", "p13"),
    Case("hochwasser", "p3"),
    Case("ada", "p2 p13"),
    Case("example", "p5 p13"),
    Case("x" * 64 + "yz", ""),
    # phrases
    Case('"flood warning"', "p1 p4"),
    Case('"warning flood"', ""),
    Case('"the  FLOOD  is a hoax!"', "p14 p15"),
    Case('"the hoax"', ""),
    Case("“flood warning”", "p1 p4", '"flood warning"'),
    Case("„flood warning“", "p1 p4", '"flood warning"'),
    Case('"stay away" banks', "p1 p4"),
    Case('banks"stay away"', "p1 p4", 'banks "stay away"'),
    Case('"OR"', "p10"),
    Case('"from:bob"', "p10"),
    Case('"-flood"', _FLOOD),
    Case('"gesperrt #hochwasser"', "p3"),
    Case('"#hochwasser"', "p3"),
    Case('"hochwasser"', "p3"),
    Case('"#gesperrt"', ""),
    Case('"京都庁"', "p7"),
    Case('"a \\"quoted\\" word"', ""),
    Case('"which banks? the (money)"', "p2"),
    # not
    Case("-flood", _without(_FLOOD)),
    Case("flood -warning", "p5 p10 p14 p15 p20"),
    Case('flood -"a hoax"', "p1 p4 p5 p10 p20"),
    Case("--flood", _FLOOD),
    Case("---flood", _without(_FLOOD)),
    Case("-(flood hoax)", _without("p14 p15")),
    Case("-(flood OR banks)", _without(_FLOOD + " p2")),
    Case("-(-flood)", _FLOOD, "--flood"),
    Case("flood -hoax -storm -warning", "p10 p20"),
    Case("flood - hoax", "p14 p15", "flood hoax", "holds no word"),
    # or, and, parentheses
    Case("storm OR hoax", "p5 p14 p15"),
    Case("storm OR hoax OR panic", "p5 p14 p15 p16"),
    Case("flood storm OR panic", "p5 p16"),
    Case("panic OR flood storm", "p5 p16"),
    Case("flood (storm OR hoax)", "p5 p14 p15"),
    Case("(flood storm) OR panic", "p5 p16", "flood storm OR panic"),
    Case("flood AND storm", "p5", "flood storm"),
    Case("flood AND storm OR panic", "p5 p16", "flood storm OR panic"),
    Case("flood AND (storm OR hoax)", "p5 p14 p15", "flood (storm OR hoax)"),
    Case("(flood)", _FLOOD, "flood"),
    Case("((((flood))))", _FLOOD, "flood"),
    Case("(" * 60 + "flood" + ")" * 60, _FLOOD, "flood"),
    Case("((storm OR hoax) flood) OR (panic worry)", "p5 p14 p15 p16", "(storm OR hoax) flood OR panic worry"),
    Case("(storm OR (hoax OR panic))", "p5 p14 p15 p16", "storm OR (hoax OR panic)"),
    Case("(flood warning) river", "p1 p4"),
    Case("flood(storm)", "p5", "flood storm"),
    Case("-storm OR flood", ALL),
    Case("(storm OR -flood) (hoax OR news)", "p5"),
    Case("東京 OR (🔥 -flood)", "p7 p13", "東京 OR 🔥 -flood"),
    Case("storm ORhoax", ""),
    Case("storm or hoax", ""),
    Case("NOT", "p10", "\\NOT", "to exclude a word write -word"),
    # escapes
    Case("\\OR", "p10"),
    Case("from\\:bob", "p10", "\\from:bob"),
    Case("\\from:bob", "p10"),
    Case("\\-flood", _FLOOD),
    Case("\\#hochwasser", "p3"),
    Case("\\(smile\\)", "p19"),
    Case("card\\ only", "p19"),
    Case('5\\"', ""),
    Case("flood\\", _FLOOD, "flood\\\\"),
    Case("¯\\\\_flood", _FLOOD),
    # accounts
    Case("from:ada", "p1 p10"),
    Case("from:@ada", "p1 p10", "from:ada"),
    Case("FROM:ADA", "p1 p10", "from:ADA"),
    Case("from:ned", "p16"),
    Case("from:did:plc:oki", "p17"),
    Case('from:"ζoë quist"', "p19"),
    Case('from:"ζoe quist"', ""),
    Case("-from:ada flood", "p4 p5 p14 p15 p20"),
    Case("from:ada OR from:bob", "p1 p2 p10"),
    Case("(from:ada OR from:bob) banks", "p1 p2"),
    Case("to:ada", "p2"),
    Case("to:@BOB", "p16", "to:BOB"),
    Case("to:eve", ""),
    Case("-to:ada banks", "p1 p4"),
    Case("@ada", "p2"),
    Case("@ADA", "p2"),
    Case("＠ada", "p2", "@ada"),
    Case("@ada?", "p2", "@ada"),
    Case("@ada@example.social", "p13"),
    Case("-@ada banks", "p1 p4"),
    # tags and links
    Case("#hochwasser", "p3"),
    Case("#HOCHWASSER", "p3"),
    Case("＃Hochwasser", "p3", "#Hochwasser"),
    Case("#floodwatch!", "p13", "#floodwatch"),
    Case("#flood", ""),
    Case("-#floodwatch look", ""),
    Case("#hochwasser OR #floodwatch", "p3 p13"),
    Case("$btc", "p9"),
    Case("$BTC", "p9"),
    Case("$eth.x", "p9"),
    Case("$eth", ""),
    Case("url:example.org", "p5"),
    Case("url:example", "p5 p17"),
    Case("url:news/flood", "p5"),
    Case("url:flood-2026", "p5"),
    Case("url:utm_source", ""),
    Case("url:https://example.org/News/flood-2026", "p5"),
    Case("http://www.example.org/news/flood-2026/?utm_medium=y", "p5", "url:http://www.example.org/news/flood-2026/?utm_medium=y"),
    Case("https://example.com/wiki/a_(b)", "p17", 'url:"https://example.com/wiki/a_(b)"'),
    Case("(https://example.com/wiki)", "p17", "url:https://example.com/wiki"),
    Case("www.example.org", "p5", "url:www.example.org"),
    Case("url:café", "p17"),
    Case("url:t.co", "p17"),
    Case("-url:example news", "p20"),
    # language and time
    Case("lang:en flood", _FLOOD),
    Case("lang:EN-gb", "p5", "lang:en-gb"),
    Case("lang:pt", "p17"),
    Case("lang:pt_BR", "p17", "lang:pt-br"),
    Case("lang:ja OR lang:hi", "p7 p12"),
    Case("lang:und", "p13"),
    Case("-lang:en since:2026-11-22", "p3 p13"),
    Case("since:2026-11-22", "p1 p2 p3 p13 p14 p15 p16"),
    Case("since:today", "p1 p2 p3 p13 p14 p15 p16", "since:2026-11-22"),
    Case("since:yesterday", "p1 p2 p3 p4 p5 p13 p14 p15 p16", "since:2026-11-21"),
    Case('since:"last monday" -since:yesterday', "p6 p7", "since:2026-11-16 -since:2026-11-21"),
    Case("since:last_monday until:2026-11-17", "p7", "since:2026-11-16 until:2026-11-17"),
    Case("since:monday until:tuesday", "p7", "since:2026-11-16 until:2026-11-17"),
    Case("since:sunday", "p1 p2 p3 p13 p14 p15 p16", "since:2026-11-22"),
    Case("until:2026-11-22 since:2026-11-21", "p4 p5"),
    Case("until:2025", "", "until:2025-01-01"),
    Case("until:2026", "p11 p12", "until:2026-01-01"),
    Case('since:"this month" lang:en until:2026-11-21', "p6 p9", "since:2026-11-01 lang:en until:2026-11-21"),
    Case("since:last_month until:this_month", "p10", "since:2026-10-01 until:2026-11-01"),
    Case("until:last_year", "", "until:2025-01-01"),
    Case("since:last_year until:this_year", "p11 p12", "since:2025-01-01 until:2026-01-01"),
    Case('until:"a year ago"', "p12", "until:2025-11-22T12:00:00Z"),
    Case('since:"2 days ago" until:"1 day ago"', "p5", "since:2026-11-20T12:00:00Z until:2026-11-21T12:00:00Z"),
    Case("since:2026-11-22T11:10:00Z until:2026-11-22T11:30:00Z", "p15 p16"),
    Case("since:2026-11-22T12:10+01:00 until:2026-11-22T12:30+01:00", "p15 p16", "since:2026-11-22T11:10:00Z until:2026-11-22T11:30:00Z"),
    Case('since:"1 july 2026" until:"october 2026"', "p19", "since:2026-07-01 until:2026-10-01"),
    Case("since:november until:nov_2", "p9", "since:2026-11-01 until:2026-11-02"),
    Case("within_time:1m", "p13"),
    Case("within_time:30m", "p1 p13"),
    Case("within_time:1h", "p1 p13 p14 p15 p16"),
    Case("within_time:60m", "p1 p13 p14 p15 p16", "within_time:1h"),
    Case('within_time:"2 hours"', "p1 p2 p13 p14 p15 p16", "within_time:2h"),
    Case("within_time:1h10m -within_time:1h", "p2", "within_time:70m -within_time:1h"),
    Case("within_time:1w -within_time:2d", "p6 p7 p8", "within_time:1w -within_time:2d"),
    # filters, counts, conversations, labels
    Case("filter:links", "p5 p17"),
    Case("-filter:links flood", "p1 p4 p10 p14 p15 p20"),
    Case("filter:media", "p9 p18"),
    Case("-filter:media lang:fr", ""),
    Case("filter:replies", "p2 p16"),
    Case("flood -filter:reposts", "p1 p5 p10 p14 p15 p20"),
    Case("filter:reposts", "p4"),
    Case("filter:RETWEETS", "p4", "filter:reposts"),
    Case("filter:links OR filter:media", "p5 p9 p17 p18"),
    Case("-(filter:replies OR filter:reposts) banks", "p1"),
    Case("min_faves:12", "p1 p5"),
    Case("min_faves:13", "p5"),
    Case("min_faves:０１３", "p5", "min_faves:13"),
    Case("-min_faves:1 flood", "p4 p10 p15 p20"),
    Case("min_faves:0", ALL),
    Case("min_reposts:1", "p1"),
    Case("min_reposts:2", ""),
    Case("min_replies:1 -min_reposts:1", "p2"),
    Case("min_reposts:1000000000", ""),
    Case("conversation_id:p1", "p1 p2 p16"),
    Case("conversation_id:p2", "p2 p16"),
    Case("conversation_id:p1 -from:ada", "p2 p16"),
    Case("conversation_id:nothing", ""),
    Case("label:coordinated", "p14 p15"),
    Case("flood -label:coordinated", "p1 p4 p5 p10 p20"),
    Case("LABEL:Coordinated hoax", "p14 p15", "label:coordinated hoax"),
    Case(
        "(label:coordinated OR from:ada) flood -lang:de since:2026-11", "p1 p14 p15",
        "(label:coordinated OR from:ada) flood -lang:de since:2026-11-01",
    ),
    # not quite right, but understood
    Case("", ALL, ""),
    Case(" \n ", ALL, ""),
    Case("!!!", ALL, "", "'!!!' holds no word"),
    Case('""', ALL, "", "empty quotation"),
    Case("flood !!!", _FLOOD, "flood", "'!!!' holds no word"),
    Case("-!!! flood", _FLOOD, "flood", "holds no word"),
    Case("note:this", "", "\\note:this", "note: is no operator"),
    Case("form:bob", "", "\\form:bob", "did you mean 'from:'"),
    Case("min_retweets:5", "", "\\min_retweets:5", "did you mean 'min_reposts:'"),
    Case('title:"the flood is"', "", '"title:the flood is"', "title: is no operator"),
    Case("links: here", "p17", "\\links: here"),
    Case("12:30", ""),
    Case("ftp://x", "", None),
    Case("flood）", _FLOOD),
)  # fmt: skip

REFUSED: Final = (
    Refused("(flood", 0, "'(' is not closed"),
    Refused("flood (storm (hoax)", 6, "'(' is not closed"),
    Refused("flood)", 5, "closes nothing"),
    Refused("東京 )", 3, "closes nothing"),
    Refused("()", 0, "nothing stands between"),
    Refused("flood ( )", 6, "nothing stands between"),
    Refused("-()", 1, "nothing stands between"),
    Refused("OR flood", 0, "OR needs something"),
    Refused("flood OR", 6, "OR needs something"),
    Refused("flood OR OR storm", 6, "OR needs something"),
    Refused("(flood OR)", 7, "OR needs something"),
    Refused("(OR)", 1, "OR needs something"),
    Refused("-OR", 1, "OR needs something"),
    Refused("AND", 0, "AND needs something"),
    Refused("flood AND", 6, "AND needs something"),
    Refused("flood AND OR storm", 6, "AND needs something"),
    Refused('"flood', 0, "quotation is not closed"),
    Refused('flood "storm" "', 14, "quotation is not closed"),
    Refused('"flood\\"', 0, "quotation is not closed"),
    Refused('from:"ada', 5, "quotation is not closed"),
    Refused("from:", 0, "from: needs a value"),
    Refused("flood from: ada", 6, "example: from:ada"),
    Refused("from:@", 0, "needs a value"),
    Refused('to:""', 0, "needs a value"),
    Refused("-from:", 1, "needs a value"),
    Refused("url:---", 4, "no word of a link"),
    Refused("lang:english", 5, "no language code"),
    Refused("lang:e", 5, "no language code"),
    Refused("since:yesteday", 6, "did you mean 'yesterday'"),
    Refused("since:soon", 6, "is no date"),
    Refused("since:2026-13-01", 6, "is no date that exists"),
    Refused("until:2026-02-30", 6, "is no date that exists"),
    Refused("since:0000-01-01", 6, "is no date"),
    Refused('since:"999999999 days ago"', 6, "is no date that exists"),
    Refused('since:"999999999 years ago"', 6, "is no date that exists"),
    Refused("flood since:", 6, "needs a value"),
    Refused("within_time:soon", 12, "no length of time"),
    Refused("within_time:0h", 12, "longer than nothing"),
    Refused("within_time:999999999w", 12, "at most 100 years"),
    Refused("filter:link_s", 7, "did you mean filter:links"),
    Refused("-filter:media2", 8, "did you mean filter:media"),
    Refused("filter:quotes", 7, "it takes links, media, replies, reposts"),
    Refused("label:nice", 6, "it takes coordinated"),
    Refused("min_faves:many", 10, "whole number"),
    Refused("min_faves:-1", 10, "whole number"),
    Refused("min_reposts:1.5", 12, "whole number"),
    Refused("min_replies:99999999999999999999", 12, "whole number"),
    Refused("(" * 65 + "a" + ")" * 65, 64, "more than 64"),
    Refused("-" * 65 + "a", 64, "more than 64"),
    Refused("-(" * 40 + "a" + ")" * 40, 64, "more than 64"),
    Refused("a" * 4097, 4096, "at most 4,096 characters"),
    Refused("flood \ud800", 6, "no character"),
    Refused("flood \udcff", 6, "no character"),
)  # fmt: skip

BOMBS: Final = (
    "(" * 100_000, ")" * 100_000, "a" * 100_000, '"' * 100_000, "\x00\xff\udc80" * 30_000, "-" * 4096, "-" * 4095 + "a", "(" * 4096,
    '"' * 4095, "a OR " * 819, "a:" * 2048, 'a:"' * 1365, "http://(" * 512, "\\" * 4096, "(a+)+" * 64 + "!", "(.*)*" * 12,
    "a" * 2000 + "!" * 2000,
    "\u0301\u0316" * 2048, "\ufdfa" * 4096, "x:y " * 1024, "since:" + "9" * 4000, "within_time:" + "9h" * 2000, "min_faves:" + "9" * 4000,
    "-(" * 32 + "a" + ")" * 32, "#" * 4096, "@a." * 1365, "$" * 4096, "a " * 2048, "“" * 4095, "(a OR " * 64 + "b" + ")" * 64,
)  # fmt: skip
"""Each is read or refused, quickly."""
