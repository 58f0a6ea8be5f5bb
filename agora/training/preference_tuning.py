"""Tuning by preferences: a model that answers learns which of two answers people would rather have. Goes in: a model folder and preference
pairs. Comes out: a run and an exported model, tuned by direct preference optimisation (preference_loss.py).

    agora train preferences --base chat --name chat-2

The log-probabilities of all answers under the model that is tuned are computed once, by the very step that trains, and kept in
RUN/reference.json. RUN/pairs.jsonl holds what the run learns from until the model is exported: a run that was stopped goes on with its own
pairs although more feedback has come since, but not with a pair that was withdrawn meanwhile.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from agora.cluster.layout import Layout
from agora.config import to_dict
from agora.errors import DataError
from agora.files import write_atomically
from agora.log import Progress, silent
from agora.model.hf import load_hf
from agora.settings import Workspace
from agora.tokenizer.bpe import PAD
from agora.training.config import TrainingConfig
from agora.training.export import TrainedModel, train_and_export
from agora.training.fit import refuse_what_cannot_fit
from agora.training.preference_data import EncodedPair, EpochOf, PreferenceBatches, encode_pairs, pairs_sha256
from agora.training.preference_loss import PreferenceConfig
from agora.training.preference_pairs import PairSet, load_pairs, write_pairs
from agora.training.run_folder import RunFolder
from agora.training.sharded_step import ShardedStep, refuse_divided_answers
from agora.training.source import preference_source
from agora.training.step import Batch, TrainingStep, log_probabilities
from agora.training.task import Task
from agora.training.tuning import Base, find_base, left_out
from agora.training.world import World, is_first_process

HELDOUT_SHARE: Final = 0.1
PAIRS_FILE: Final = "pairs.jsonl"
REFERENCE_FILE: Final = "reference.json"
NOTHING: Final = "there is no feedback"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceModel:
    """The tuned model; `report` says what became of the pairs, and how the answers of held-out pairs compare before and after."""

    trained: TrainedModel
    report: dict[str, Any]


def tune_preferences(
    workspace: Workspace,
    *,
    name: str,
    base: str,
    pairs: PairSet,
    origin: str,
    training_config: TrainingConfig,
    config: PreferenceConfig,
    recipe: str = "",
    licences: Sequence[str] = (),
    progress: Progress = silent,
    resume: bool = True,
    command: str = "",
    layout: Layout | None = None,
) -> PreferenceModel:
    """Tune `base` (a model of the workspace or a model folder) into `models/NAME`. `origin`: where the pairs are from, in words.

    Raises DataError without a usable pair and for a stopped run whose pairs were withdrawn, ModelError for a base that cannot be used,
    ConfigError for a layout that divides answers, and as `loop.train` does.
    """
    start = find_base(workspace, name, base, example="preferences")
    refuse_divided_answers(layout or Layout())
    run_dir, model_dir = workspace.folder("runs", name), workspace.folder("models", name)
    chosen = _pairs_of_run(run_dir, pairs) if resume else pairs
    task, learned, report = _task(start, chosen, training_config, config, origin, command)
    source = preference_source(
        start.folder, origin=origin, report=report, licences=licences, recipe=recipe, tokenizer_hash=task.data["tokenizer_hash"],
        settings=to_dict(config),
    )  # fmt: skip

    def prepare(step: TrainingStep | ShardedStep, folder: RunFolder, world: World, alive: Callable[[], None]) -> None:
        (differ,) = world.any(world.from_first(dict(task.data)) != task.data)
        if differ:
            raise DataError(
                "the processes read different pairs, as feedback came meanwhile; write them to a file (--out) and train on that"
            )
        if world.is_first:
            write_pairs(folder.path / PAIRS_FILE, chosen.pairs)
        for part, batches in learned.items():
            _fill_reference(batches, part, step, folder, world, alive, task.data)

    task = replace(task, source=source, layout=layout or Layout(), prepare=prepare)
    trained = train_and_export(run_dir, model_dir, task, progress=progress, resume=resume)
    if trained.model_dir is not None and is_first_process():
        report |= compare(learned.get("heldout"), model_dir, config)
        (run_dir / PAIRS_FILE).unlink(missing_ok=True)
    return PreferenceModel(trained=trained, report=report)


def _pairs_of_run(run_dir: Path, now: PairSet) -> PairSet:
    """Those that a stopped run began with, or all there are now. Raises DataError when some of the former do not stand any more."""
    if not (run_dir / PAIRS_FILE).exists():
        return now
    began = load_pairs(run_dir / PAIRS_FILE)
    known = {pair.content for pair in now.pairs}
    if withdrawn := sum(pair.content not in known for pair in began):
        raise DataError(
            f"{withdrawn:,} of the {len(began):,} pairs that {run_dir.name} learns from were deleted or rated otherwise since it began; "
            "start it again without them: --fresh"
        )
    if more := len(known) - len({pair.content for pair in began}):
        logger.info("%d pairs came since the run began; it goes on without them", more)
    return PairSet(pairs=began, left_out=now.left_out)


def _task(
    base: Base, found: PairSet, training: TrainingConfig, config: PreferenceConfig, origin: str, command: str
) -> tuple[Task, dict[str, PreferenceBatches], dict[str, Any]]:
    """What is to be learned, the batches by their part (training, heldout), and the account of the pairs."""
    if not found.pairs:
        raise DataError(f"no pair of answers to learn from: {left_out(found.left_out, nothing=NOTHING)} (in {origin})")
    tokenizer = base.tokenizer
    base.refuse_longer("preferences.seq_len", training.seq_len)
    learned, kept_back = found.split(HELDOUT_SHARE)
    if not learned:  # a few pairs about one question: there is nothing to hold out
        learned, kept_back = kept_back, []
    encoded = encode_pairs(tokenizer, learned, max_tokens=training.seq_len)
    if not encoded.pairs:
        why = {"held out": len(kept_back), f"longer than preferences.seq_len={training.seq_len} tokens": encoded.report["too_long"]}
        raise DataError(f"no pair of answers to learn from: {left_out({**found.left_out, **why}, nothing=NOTHING)} (in {origin})")
    shape: dict[str, Any] = {
        "seq_len": training.seq_len, "micro_batch": training.micro_batch, "seed": training.seed, "pad_id": tokenizer.special[PAD],
    }  # fmt: skip
    batches = {"training": PreferenceBatches(encoded.pairs, config, **shape)}
    heldout = _within(encode_pairs(tokenizer, kept_back, max_tokens=training.seq_len).pairs, training.evaluate_tokens)
    if heldout:
        batches["heldout"] = PreferenceBatches(heldout, config, **shape)
    else:
        logger.warning("none of the %d pairs is held out: the run will not tell whether others would agree", len(found.pairs))
    steps = _steps(batches["training"], training, config)
    refuse_what_cannot_fit(base.config, training, Layout())
    task = Task(
        kind="preferences", model=base.config, training=replace(training, steps=steps), batches=batches["training"],
        heldout=EpochOf(batches["heldout"]) if heldout else [], make_model=lambda: load_hf(base.folder), tokenizer_dir=base.folder,
        command=command,
        data={
            "base_sha256": base.sha256(), "tokenizer_hash": tokenizer.hash,
            "training_sha256": pairs_sha256(encoded.pairs), "heldout_sha256": pairs_sha256(heldout), "preferences": to_dict(config),
        },
    )  # fmt: skip
    return task, batches, {**encoded.report, "heldout": len(heldout), "left_out": found.left_out, "steps": steps}


def _steps(batches: PreferenceBatches, training: TrainingConfig, config: PreferenceConfig) -> int:
    """Those of `config.epochs`, training.steps at most."""
    rows_per_step = training.batch_tokens // training.seq_len
    return max(1, min(training.steps, math.ceil(config.epochs * batches.num_rows / rows_per_step)))


def _within(pairs: Sequence[EncodedPair], max_tokens: int) -> list[EncodedPair]:
    """The first pairs, together at most `max_tokens`."""
    sizes = np.cumsum([2 * pair.size for pair in pairs])
    return list(pairs[: int(np.searchsorted(sizes, max_tokens, side="right"))])


# ---- the model that tuning began from


def _fill_reference(
    batches: PreferenceBatches, part: str, step: TrainingStep | ShardedStep, folder: RunFolder, world: World,
    alive: Callable[[], None], data: Mapping[str, Any],
) -> None:  # fmt: skip
    """Its log-probabilities: from the run's folder, or computed by all processes together and kept there."""
    file, key = f"{part}-{REFERENCE_FILE}", {name: data[name] for name in ("base_sha256", f"{part}_sha256", "preferences")}
    known = world.from_first(folder.read(file) if world.is_first else {})
    if known.get("of") == key:
        batches.reference_N2[:] = np.asarray(known["log_probabilities"])
        return
    batches.reference_N2[:] = of_pairs(batches, step.log_probabilities, world, alive)
    if world.is_first:
        write_atomically(folder.path / file, json.dumps({"of": key, "log_probabilities": batches.reference_N2.tolist()}))


def of_pairs(
    batches: PreferenceBatches, score: Callable[[Batch], torch.Tensor], world: World | None = None, alive: Callable[[], None] | None = None
) -> npt.NDArray[np.float64]:
    """(pairs, 2): what `score` says of the chosen and the rejected answer of each pair. Several processes share the work."""
    world = world or World()
    rows, found = batches.epoch(), np.zeros((len(batches), 2))
    for first in range(0, len(rows), world.size):
        place = first + world.rank
        mine = rows[min(place, len(rows) - 1)]  # all take part in every pass
        answers_R2P = score(batches.batch(mine)).double().cpu().numpy()
        if alive is not None:
            alive()
        if place < len(rows):
            for row, members in enumerate(mine):
                found[members] = answers_R2P[row, :, : len(members)].T
    return np.array(world.sum(*found.ravel().tolist())).reshape(found.shape)


def compare(batches: PreferenceBatches | None, model_dir: Path, config: PreferenceConfig) -> dict[str, Any]:
    """How the answers of held-out pairs stand under the tuned model.

    win_rate_before, win_rate_after   share of pairs whose chosen answer is the more probable one, each token counting the same
    agree_share                       share whose chosen answer gained on the rejected one
    margin                            by how much on average, times beta (the h of preference_loss.py)
    """
    if batches is None:
        return {}
    before_N2, after_N2 = batches.reference_N2, of_pairs(batches, partial(log_probabilities, load_hf(model_dir).eval()))
    gained_N = (after_N2[:, 0] - after_N2[:, 1]) - (before_N2[:, 0] - before_N2[:, 1])
    lengths_N2 = np.ones((len(batches), 2)) if config.by_length else batches.answer_lengths()
    win = {name: float(_share((x / lengths_N2)[:, 0] - (x / lengths_N2)[:, 1])) for name, x in (("before", before_N2), ("after", after_N2))}
    return {
        "win_rate_before": win["before"], "win_rate_after": win["after"], "agree_share": float(_share(gained_N)),
        "margin": float(config.beta * gained_N.mean()),
    }  # fmt: skip


def _share(differences_N: npt.NDArray[np.float64]) -> float:
    """Of those above zero; ties count half."""
    return float((differences_N > 0).mean() + 0.5 * (differences_N == 0).mean())
