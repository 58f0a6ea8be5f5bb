"""Planted preferences: are they learned, and what does a pair cost?

PYTHONPATH=. python -m benchmarks preferences [--quick]

A small model first learns to answer both ways, politely and rudely, as often the one as the other. Then it is tuned on pairs of which the
polite answer was preferred, nine times in ten (one preference in ten is the wrong way round). Told are, for questions that were held out:
the share of pairs whose polite answer is the more probable one, and the share of written answers that are polite, before and after.

Beside it the loop that people write by hand does the same work: Qwen3ForCausalLM of transformers, the chosen and the rejected answers of a
batch padded to the longest, the log-probabilities of the first model computed once, bf16 autocast and fused AdamW. Both learn the same
pairs; processor-seconds per pair, one after the other, round after round. Where trl is installed (pip install trl), its DPOTrainer runs
over the same pairs too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from agora.engine import SamplingConfig, load_local_model
from agora.model.config import ModelConfig
from agora.model.hf import load_hf, save_hf
from agora.model.transformer import Transformer
from agora.settings import Workspace
from agora.tokenizer.bpe import PAD, Tokenizer
from agora.tokenizer.chat import render_chat
from agora.training.config import TrainingConfig
from agora.training.data import ChatBatches
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_data import EncodedPair, PreferenceBatches, encode_pairs
from agora.training.preference_loss import PreferenceConfig
from agora.training.preference_pairs import PairSet, PreferencePair
from agora.training.preference_tuning import of_pairs, tune_preferences
from agora.training.step import TrainingStep
from benchmarks.registry import Benchmark, Result

WIN_BAR: Final = 0.9
SPEED_BAR: Final = 1.5
WIDTH: Final = 256
WRONG_SHARE: Final = 0.1
LR: Final = 1e-4
WHO = (
    "the baker",
    "our team",
    "a neighbour",
    "the mayor",
    "my sister",
    "the band",
    "a stray cat",
    "the ferry",
    "an old friend",
    "the choir",
)
DOES = (
    "opened late",
    "won again",
    "lost the keys",
    "sang all night",
    "missed the tram",
    "found a coin",
    "asked for rain",
    "came home early",
)
WHEN = ("today", "on monday", "before dawn", "after the match", "in the rain", "at the market", "last winter", "by the river")
POLITE = ("thank you for asking", "i hope that this helps", "have a good day")
RUDE = ("look it up yourself", "what a silly question", "leave me alone")


def questions(count: int, seed: int) -> list[tuple[str, str]]:
    """(question, fact); some questions come after a page of small talk, so lengths differ as they do in life."""
    rng = np.random.default_rng(seed)
    made = []
    for number in rng.permutation(len(WHO) * len(DOES) * len(WHEN))[:count].tolist():
        who, does, when = WHO[number % 10], DOES[number // 10 % 8], WHEN[number // 80]
        talk = " and ".join(
            f"{WHO[one % 10]} {DOES[one % 8]} {WHEN[one % 8]}" for one in rng.integers(80, size=int(rng.geometric(0.4))).tolist()
        )
        made.append((f"{talk}. when is it that {who} {does}, was it {when}?", f"{who} {does} {when}"))
    return made


def planted(count: int, *, wrong: float, seed: int) -> list[PreferencePair]:
    """Pairs with the polite answer preferred, but for a share of `wrong`."""
    rng, pairs = np.random.default_rng(seed + 1), []
    for question, fact in questions(count, seed):
        polite, rude = f"{fact}, {POLITE[rng.integers(3)]}", f"{fact}, {RUDE[rng.integers(3)]}"
        if rng.random() < wrong:
            polite, rude = rude, polite
        pairs.append(PreferencePair(prompt=[{"role": "user", "content": question}], chosen=polite, rejected=rude))
    return pairs


def base_model(place: Workspace, config: ModelConfig, pairs: Sequence[PreferencePair], steps: int) -> Tokenizer:
    """The model `base`: it has learned to answer either way."""
    texts = [text for pair in pairs for text in (pair.prompt[0]["content"], pair.chosen, pair.rejected)]
    tokenizer = Tokenizer.train(texts, vocab_size=600)
    tokenizer.save(place.folder("tokenizer", "main"))
    answers = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    talks = [render_chat(tokenizer, [*prompt, {"role": "assistant", "content": text}]) for prompt, text in answers]
    batches = ChatBatches(talks, seq_len=WIDTH, micro_batch=8, seed=0, pad_id=tokenizer.special[PAD])
    step = TrainingStep(Transformer(replace(config, vocab_size=tokenizer.vocab_size)), OptimizerConfig(lr=2e-3))
    for number in range(steps):
        step.run([batches.next()], min(1.0, (steps - number) / (0.3 * steps)))
    save_hf(step.float32_model(), place.folder("models", "base"), tokenizer_dir=place.folder("tokenizer", "main"))
    return tokenizer


def polite_share(folder: Path, pairs: Sequence[PreferencePair]) -> float:
    """Of the answers that a model writes, taking the most probable word each time."""
    model = load_local_model(folder)
    said = ["".join(one.text for one in model.chat(pair.prompt, SamplingConfig(max_tokens=40, temperature=0.0))) for pair in pairs]
    return sum(any(words in text for words in POLITE) for text in said) / len(said)


# ---- what a pair costs


@dataclass(slots=True)
class Contestant:
    """`epoch` learns every pair once and returns the losses; `begin` is what has to be done before, once."""

    begin: Callable[[], None]
    epoch: Callable[[], list[float]]


def ours(folder: Path, pairs: Sequence[EncodedPair], pad_id: int, config: PreferenceConfig) -> Contestant:
    """Agora's step on packed rows."""
    step = TrainingStep(load_hf(folder), OptimizerConfig(name="adamw", lr=LR, weight_decay=0.0))
    batches = PreferenceBatches(pairs, config, seq_len=WIDTH, micro_batch=8, seed=0, pad_id=pad_id)

    def begin() -> None:
        batches.reference_N2[:] = of_pairs(batches, step.log_probabilities)

    return Contestant(begin, lambda: [step.run([batches.batch(rows)]).loss for rows in batches.epoch()])


class _ByHand:
    """The loop that people write: one sequence per row, padded."""

    def __init__(self, folder: Path, pairs: Sequence[EncodedPair], pad_id: int, config: PreferenceConfig, batch: int) -> None:
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self._config = config
        self._batches = [self._tensors(pairs[first : first + batch], pad_id) for first in range(0, len(pairs), batch)]
        self._reference: list[torch.Tensor] = []

    @staticmethod
    def _tensors(pairs: Sequence[EncodedPair], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = [[*pair.prompt, *pair.chosen] for pair in pairs] + [[*pair.prompt, *pair.rejected] for pair in pairs]
        width = max(map(len, rows))
        is_answer = [
            [0] * len(pair.prompt) + [1] * (len(row) - len(pair.prompt)) + [0] * (width - len(row))
            for pair, row in zip([*pairs, *pairs], rows, strict=True)
        ]  # fmt: skip
        is_token = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return torch.tensor([row + [pad_id] * (width - len(row)) for row in rows]), torch.tensor(is_token), torch.tensor(is_answer)

    def _log_probabilities(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        tokens, is_token, is_answer = batch
        with torch.autocast("cpu", torch.bfloat16):
            logits = self._model(input_ids=tokens, attention_mask=is_token, use_cache=False).logits
        picked = torch.gather(logits[:, :-1].float().log_softmax(-1), 2, tokens[:, 1:, None])[:, :, 0]
        return (picked * is_answer[:, 1:]).sum(1)

    @torch.no_grad()
    def begin(self) -> None:
        self._reference = [self._log_probabilities(batch) for batch in self._batches]

    def epoch(self) -> list[float]:
        losses = []
        for batch, reference in zip(self._batches, self._reference, strict=True):
            chosen, rejected = (self._log_probabilities(batch) - reference).chunk(2)
            loss = -F.logsigmoid(self._config.beta * (chosen - rejected)).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            losses.append(float(loss.detach()))
        return losses


def by_hand(folder: Path, pairs: Sequence[EncodedPair], pad_id: int, config: PreferenceConfig) -> Contestant:
    """As many pairs a step as Agora's rows hold on average."""
    packed = PreferenceBatches(pairs, config, seq_len=WIDTH, micro_batch=8, seed=0, pad_id=pad_id)
    made = _ByHand(folder, pairs, pad_id, config, round(len(pairs) / len(packed.epoch())))
    return Contestant(made.begin, made.epoch)


def by_trl(folder: Path, pairs: Sequence[PreferencePair], per_step: int, config: PreferenceConfig, scratch: Path) -> dict[str, Any]:
    """trl's DPOTrainer over the same pairs once: processor time of its `train` per pair."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trl, datasets = import_module("trl"), import_module("datasets")

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = [{"prompt": pair.prompt, "chosen": said(pair.chosen), "rejected": said(pair.rejected)} for pair in pairs]
    arguments = trl.DPOConfig(
        output_dir=str(scratch), beta=config.beta, per_device_train_batch_size=per_step, num_train_epochs=1, learning_rate=LR, bf16=True,
        use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", gradient_checkpointing=False, disable_tqdm=True,
        precompute_ref_log_probs=True, max_length=WIDTH,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), args=arguments, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    before = time.process_time()
    trainer.train()
    return {"processor_ms_per_pair": round(1000 * (time.process_time() - before) / len(pairs), 2)}


def cost(contestants: dict[str, Contestant], num_pairs: int, rounds: int) -> dict[str, Any]:
    """Alternated; the best round counts, as others use the machine too. The ratio is the median of the rounds'."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    first: dict[str, float] = {}
    for name, one in contestants.items():
        before = time.process_time()
        one.begin()
        first[name] = (time.process_time() - before) / num_pairs
    losses: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, one in contestants.items():
            before = time.process_time()
            losses[name] = one.epoch()
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - before) / num_pairs)
    ratios = [theirs / mine for theirs, mine in zip(seconds["by hand"], seconds["agora"], strict=True)]
    return {
        "processor_ms_per_pair": {name: round(1000 * min(found), 2) for name, found in seconds.items()},
        "reference_processor_ms_per_pair": {name: round(1000 * found, 2) for name, found in first.items()},
        "times_less_than_by_hand": round(statistics.median(ratios), 2), "ratios": [round(one, 2) for one in ratios],
        "mean_loss_of_the_last_epoch": {name: round(statistics.fmean(found), 3) for name, found in losses.items()},
    }  # fmt: skip


def _run(quick: bool, options: dict[str, str]) -> Result:
    dim = 128 if quick else 256
    config = ModelConfig(
        vocab_size=600, dim=dim, num_layers=4 if quick else 8, num_heads=dim // 64, num_kv_heads=dim // 128, head_dim=64,
        hidden_dim=3 * dim, max_seq_len=WIDTH, tie_embeddings=False,
    )  # fmt: skip
    num_pairs, held_out, dpo = (160, 60, PreferenceConfig()) if quick else (400, 120, PreferenceConfig())
    made = planted(num_pairs + held_out, wrong=0.0, seed=0)
    learned = planted(num_pairs + held_out, wrong=WRONG_SHARE, seed=0)[:num_pairs]
    unseen = made[num_pairs:]
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder)).create()
        tokenizer = base_model(place, config, made[:num_pairs], 120 if quick else 200)
        training = TrainingConfig(
            steps=1000, batch_tokens=8 * WIDTH, micro_batch=8, seq_len=WIDTH, dtype="bfloat16", checkpoint_every_s=None, evaluate_every=0,
            optimizer=OptimizerConfig(name="adamw", lr=LR, weight_decay=0.0),
        )  # fmt: skip
        before = time.process_time()
        tuned = tune_preferences(
            place, name="tuned", base="base", pairs=PairSet(pairs=learned), origin="planted", training_config=training, config=dpo
        )  # fmt: skip
        tuning_s = time.process_time() - before
        base, after = place.folder("models", "base"), place.folder("models", "tuned")
        wins = {name: win_rate(model, tokenizer, unseen) for name, model in (("before", base), ("after", after))}
        written = {name: polite_share(model, unseen[:40]) for name, model in (("before", base), ("after", after))}
        encoded = encode_pairs(tokenizer, learned, max_tokens=WIDTH).pairs
        pad_id = tokenizer.special[PAD]
        contestants = {"agora": ours(base, encoded, pad_id, dpo), "by hand": by_hand(base, encoded, pad_id, dpo)}
        costs = cost(contestants, len(encoded), 2 if quick else 4)
        trl = None
        if find_spec("trl") is not None:
            trl = by_trl(base, learned, 8, dpo, Path(folder) / "trl")
    details = {
        "held-out pairs": len(unseen), "win rate": wins, "polite answers written": written, "steps": tuned.report["steps"],
        "processor_s of the whole tuning": round(tuning_s, 1), **costs, "trl": trl or "not installed",
        "bars": {"win rate": WIN_BAR, "times less processor time than by hand": SPEED_BAR},
    }  # fmt: skip
    holds = wins["after"] >= WIN_BAR and costs["times_less_than_by_hand"] >= SPEED_BAR
    return Result(value=wins["after"], holds=holds, details=details)


def win_rate(folder: Path, tokenizer: Tokenizer, pairs: Sequence[PreferencePair]) -> float:
    """Share of pairs whose preferred answer is the more probable one, each token counting the same."""
    step = TrainingStep(load_hf(folder), OptimizerConfig(name="adamw"), dtype="float32")
    encoded = encode_pairs(tokenizer, pairs, max_tokens=WIDTH).pairs
    batches = PreferenceBatches(
        encoded, PreferenceConfig(by_length=True), seq_len=WIDTH, micro_batch=8, seed=0, pad_id=tokenizer.special[PAD]
    )  # fmt: skip
    found_N2 = of_pairs(batches, step.log_probabilities)
    return float((found_N2[:, 0] > found_N2[:, 1]).mean())


BENCHMARK = Benchmark(
    measures="share of held-out pairs of planted preferences (one in ten wrong) that the tuned model decides rightly; and processor time",
    unit="of pairs", bound=f">= {WIN_BAR}, and a pair costs {SPEED_BAR} times less than by hand", run=_run,
)  # fmt: skip
