"""Weights learned from judgements, and confidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agora.errors import DataError
from agora.search.confidence import SIGNS, Confidence, train_confidence
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.request import read_passage
from agora.search.rerank import FEATURES, Judged, Reranker, features, train_reranker
from agora.text.embeddings import LexicalEmbeddings
from tests.search.conftest import NOW, post

TOPICS = ("ferry storm island", "bread price week", "bridge closed noon", "match goal minute", "school exam result", "river flood warning")


def made_queries() -> list[Judged]:
    """Queries in which the right one of four candidates has the largest `text_share`, and everything else is noise."""
    rng = np.random.default_rng(1)
    judged = []
    for _ in range(60):
        rows = rng.normal(size=(4, len(FEATURES)))
        right = int(np.argmax(rows[:, FEATURES.index("text_share")]))
        judged.append(Judged(rows, np.arange(4) == right))
    return judged


def test_what_decides_in_the_judgements_gets_the_weight() -> None:
    trained = train_reranker(made_queries(), trained_on="made up")
    assert FEATURES[int(np.argmax(np.abs(trained.weights)))] == "text_share"
    again = train_reranker(made_queries(), trained_on="made up")
    assert again == trained


def test_weights_are_where_the_likelihood_is_greatest() -> None:
    """The slow twin: small steps in every direction lose likelihood."""
    judged = made_queries()
    trained = train_reranker(judged, trained_on="made up", penalty=0.01)

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for one in judged:
            scores = (one.rows - np.array(trained.means)) / np.array(trained.spreads) @ weights
            total += float(np.log(np.exp(scores).sum()) - scores[one.is_right].mean())
        return total / len(judged) + 0.005 * float(weights @ weights)

    best = np.array(trained.weights)
    for step in np.eye(len(best)) * 1e-3:
        assert loss(best + step) > loss(best) < loss(best - step)


def test_a_reranker_comes_back_from_its_file_and_another_format_is_refused(tmp_path: Path) -> None:
    trained = train_reranker(made_queries(), trained_on="made up")
    trained.save(tmp_path / "r.json")
    assert Reranker.load(tmp_path / "r.json") == trained
    content = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**content, "features": ["other"]}))
    with pytest.raises(DataError, match="train it anew"):
        Reranker.load(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read"):
        Reranker.load(tmp_path / "r.json")


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        train_reranker([Judged(np.zeros((2, len(FEATURES))), np.zeros(2, np.bool_))], trained_on="nothing")


def test_a_searcher_with_a_reranker_orders_by_it_and_shows_its_parts(index_of: Callable[..., EmbeddedIndex]) -> None:
    embeddings = LexicalEmbeddings()
    rows = [post(f"p{place}", "ada", f"{topic} number {place}") for place, topic in enumerate(TOPICS)]
    index = index_of(rows, embeddings=embeddings)
    plain = Searcher(index, embeddings=embeddings)
    judged = []
    for place, topic in enumerate(TOPICS):
        ranked = plain.rank(read_passage(topic), NOW)
        assert features(ranked.found, ranked.compared).shape == (len(ranked.compared.ids), len(FEATURES))
        judged.append(Judged.of(ranked.found, ranked.compared, [f"p{place}"]))
    searcher = Searcher(index, embeddings=embeddings, reranker=train_reranker(judged, trained_on="topics"))
    hits = searcher.find("flood by the river", passage=True, now=NOW).hits
    assert hits[0].post["id"] == "p5"
    assert set(FEATURES) <= set(hits[0].parts)
    assert hits[0].score == pytest.approx(sum(hits[0].parts.values()))


def test_confidence_tells_the_kinds_apart_that_it_was_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    there, gone = rng.normal(1, 1, (200, len(SIGNS))), rng.normal(-1, 1, (200, len(SIGNS)))
    trained = train_confidence(list(there), list(gone), trained_on="made up")
    assert np.mean([trained.of(one) > 0.5 for one in there]) > 0.9
    assert np.mean([trained.of(one) > 0.5 for one in gone]) < 0.1
    trained.save(tmp_path / "c.json")
    assert Confidence.load(tmp_path / "c.json") == trained
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        Confidence.load(tmp_path / "c.json")
