"""Innocent communities on top of ordinary posts: none may be labelled. Each is written by hand and recurs for two weeks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integrity.boards import WORDS, Board, labelled, ordinary, run_scan, sentence

DAY = 86_400.0
Maker = Callable[[Board, np.random.Generator], None]


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def own_words(board: Board, rng: np.random.Generator, who: list[str], per_account: int = 15) -> None:
    for name in who:
        for at in rng.uniform(0, 14 * DAY, per_account):
            board.post(name, at, sentence(rng))


def friends(board: Board, rng: np.random.Generator) -> None:
    """Ten friends who pass on each other's posts within a few minutes to hours, whenever they happen to look."""
    who = names("friend", 10)
    own_words(board, rng, who, 5)
    for _ in range(90):
        author, at = str(rng.choice(who)), rng.uniform(0, 13 * DAY)
        ref = board.post(author, at, sentence(rng))
        for name in who:
            if name != author and rng.random() < 0.5:
                board.repost(name, at + 60 + rng.exponential(5400), ref, author)


def homework(board: Board, rng: np.random.Generator) -> None:
    """A class of 25 that posts the same answer, within an evening, eight times."""
    who = names("pupil", 25)
    own_words(board, rng, who)
    for week in range(8):
        at, text = (1 + week * 1.5) * DAY + 16 * 3600, sentence(rng, 14)
        for name in who:
            if rng.random() < 0.7:
                board.post(name, at + rng.uniform(0, 5 * 3600), text)


def share_button(board: Board, rng: np.random.Generator) -> None:
    """A button that writes one text and the reader's own link; 150 readers at any time, a few of them often."""
    own_words(board, rng, names("o", 60), 2)
    often = names("reader", 12)
    for number in range(400):
        name = str(rng.choice(often)) if rng.random() < 0.5 else f"o{rng.integers(120)}"
        text = "I have just read this wonderful story in the Harbour Gazette and so should you"
        board.post(name, rng.uniform(0, 14 * DAY), text, urls=[f"https://gazette.example/s/{number}"])


def game_results(board: Board, rng: np.random.Generator) -> None:
    """Twenty players of one daily game whose app writes the result; most play with the morning coffee."""
    who = names("player", 20)
    own_words(board, rng, who)
    for day in range(14):
        for name in who:
            if rng.random() < 0.9:
                text = f"Daily bridge puzzle {100 + day}: solved in {rng.integers(2, 7)} of 6 tries, can you beat me?"
                board.post(name, (day + 0.3) * DAY + rng.normal(0, 2400), text, urls=["https://puzzle.example"])


def horoscopes(board: Board, rng: np.random.Generator) -> None:
    """Fifteen people whose horoscope app posts the day's words for them every morning at the same minute, with its link."""
    who = names("star", 15)
    own_words(board, rng, who)
    for day in range(14):
        text = f"{sentence(rng, 14)} read more in my horoscope app"
        for name in who:
            if rng.random() < 0.95:
                board.post(name, (day + 0.25) * DAY + rng.uniform(0, 50), text, urls=["https://stars.example/today"])


def birthdays(board: Board, rng: np.random.Generator) -> None:
    """Thirty friends; on a birthday most wish a happy one, in the usual words, at some hour of the day."""
    who = names("guest", 30)
    own_words(board, rng, who)
    for day in range(14):
        child = who[day]
        ref = board.post(child, day * DAY + 7 * 3600, f"I am {rng.integers(20, 60)} today")
        for name in who:
            if name != child and rng.random() < 0.6:
                text = f"@{child} happy birthday to you my dear friend"
                board.repost(name, day * DAY + 7 * 3600 + rng.uniform(300, 12 * 3600), ref, child, kind="reply", text=text)


def lyrics(board: Board, rng: np.random.Generator) -> None:
    """Forty fans of a singer quote lines of a few songs all the time, more of them on six evenings with a concert."""
    who, lines = names("fan", 40), [sentence(rng, 8) for _ in range(12)]
    own_words(board, rng, who)
    for name in who:
        for at in rng.uniform(0, 14 * DAY, 6):
            board.post(name, at, str(rng.choice(lines)))
        for concert in range(6):
            for _ in range(rng.integers(0, 3)):
                board.post(name, (1 + 2 * concert) * DAY + 20 * 3600 + rng.uniform(0, 3 * 3600), str(rng.choice(lines)))


def chain_letters(board: Board, rng: np.random.Generator) -> None:
    """Eight chain letters go from hand to hand among sixty people, each taking a day or two."""
    who = names("hand", 60)
    own_words(board, rng, who)
    for letter in range(8):
        text = sentence(rng, 20) + " copy this and send it on to your friends"
        at = letter * 1.5 * DAY
        for name in rng.permutation(who)[:35]:
            at += rng.exponential(3600)
            board.post(str(name), at, text)


def viewing_club(board: Board, rng: np.random.Generator) -> None:
    """Twenty friends watch one long show on one evening and write the same catch phrases within seconds of hearing them."""
    who = names("viewer", 20)
    own_words(board, rng, who)
    for minute in range(0, 300, 6):
        text = sentence(rng, 6)
        for name in who:
            if rng.random() < 0.4:
                board.post(name, 5.7 * DAY + minute * 60 + rng.uniform(5, 50), text)


def service_desks(board: Board, rng: np.random.Generator) -> None:
    """Eight desks of one company answer customers from set phrases all day long."""
    desks, phrases = names("desk", 8), [sentence(rng, 16) for _ in range(4)]
    for number in range(2500):
        asker = f"customer{number}"
        at = rng.integers(0, 14) * DAY + 8 * 3600 + rng.uniform(0, 9 * 3600)
        ref = board.post(asker, at - 600, sentence(rng))
        text = f"@{asker} hello {rng.choice(WORDS)} {rng.choice(phrases)}"
        board.repost(str(rng.choice(desks)), at, ref, asker, kind="reply", text=text)


def other_time_zone(board: Board, rng: np.random.Generator) -> None:
    """Forty people far away: they pass on what everybody passes on, in their own waking hours."""
    far, near = names("far", 40), names("o", 120)
    for _ in range(120):
        start = rng.uniform(0, 12 * DAY)
        ref = board.post(str(rng.choice(near)), start, sentence(rng))
        for who, wake in ((far, 1.0), (near, 14.0)):
            for name in rng.choice(who, min(len(who), int(rng.integers(15, 60))), replace=False):
                for _ in range(60):
                    at = start + rng.exponential(40_000)
                    if (at / 3600 - wake) % 24 < 8:
                        board.repost(str(name), at, ref)
                        break


def colleagues(board: Board, rng: np.random.Generator) -> None:
    """Twelve colleagues pass on the posts of their three bosses in the coffee break, within twenty minutes, every day."""
    who = names("clerk", 12)
    own_words(board, rng, who)
    for day in range(14):
        for boss in range(3):
            ref = board.post(f"boss{boss}", day * DAY + 9 * 3600 + rng.uniform(0, 3600), sentence(rng))
            for name in who:
                if rng.random() < 0.7:
                    board.repost(name, day * DAY + 10 * 3600 + rng.uniform(0, 1200), ref, f"boss{boss}")


def slogans(board: Board, rng: np.random.Generator) -> None:
    """Forty fans of a singer, who on ten evenings at eight post the slogan of the day with the agreed hashtags, as the club asks."""
    who = names("clubfan", 40)
    own_words(board, rng, who)
    for evening in range(10):
        text = sentence(rng, 8)
        for name in who:
            if rng.random() < 0.7:
                at = (1.2 * evening // 1 + 0.1) * DAY + 18 * 3600 + rng.uniform(0, 1500)
                board.post(name, at, text, hashtags=["Singer", f"Day{evening}"])


COMMUNITIES: list[Maker] = [
    friends, homework, share_button, game_results, horoscopes, birthdays, lyrics, chain_letters, viewing_club, service_desks,
    other_time_zone, colleagues, slogans,
]  # fmt: skip


@pytest.mark.parametrize("make", COMMUNITIES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_innocent_community_is_not_labelled(make: Maker, seed: int, tmp_path: Path) -> None:
    board = Board()
    rng = np.random.default_rng(seed)
    ordinary(board, rng)
    make(board, rng)
    assert labelled(run_scan(board, tmp_path)) == set(), make.__doc__


@pytest.mark.parametrize("seed", [1, 2])
def test_people_of_another_time_zone_are_no_closer_than_chance_says(seed: int, tmp_path: Path) -> None:
    """Twenty-five people who are awake when few others are. Compared with sharers of the whole day they would be twice as close."""
    board = Board()
    rng = np.random.default_rng(seed)
    ordinary(board, rng)
    far, near = names("far", 25), names("near", 400)
    for _ in range(100):
        start = rng.uniform(0, 12 * DAY)
        ref = board.post(str(rng.choice(near)), start, sentence(rng))
        for who, wake, hours, count in ((far, 1, 8, rng.integers(6, 15)), (near, 8, 16, rng.integers(40, 120))):
            for name in rng.choice(who, count, replace=False):
                times = start + rng.exponential(30_000, 60)
                awake = times[(times / 3600 - wake) % 24 < hours]
                if len(awake):
                    board.repost(str(name), float(awake[0]), ref)
    result = run_scan(board, tmp_path)
    assert labelled(result) == set()
    groups = [one for one in result.campaigns if sum(m.account in far for m in one.members) > 0.8 * len(one.members)]
    assert groups, "the search should find them, and the tests should not confirm them"
    assert all(test.q_value > 0.001 for one in groups for test in one.evidence if test.test == "timing")
