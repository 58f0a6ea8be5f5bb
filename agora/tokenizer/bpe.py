"""The tokenizer: byte-level byte pair encoding. Any bytes go in and come out again; special tokens never come from text.

    agora tokenizer train vocab_size=8192
    agora tokenizer encode "Hello, square"

Ids: 0-3 are the special tokens, 4-259 the bytes, the rest merges. `save` writes a folder that transformers loads:
tokenizer.json, tokenizer_config.json (with the chat template).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from agora.errors import ConfigError, DataError
from agora.files import write_atomically
from agora.text.codepoints import large_strings
from agora.tokenizer.chat_template import CHAT_TEMPLATE
from agora.tokenizer.encoding import BatchEncoder, TokenTable
from agora.tokenizer.pretokens import PATTERN

END_OF_TEXT: Final = "<|endoftext|>"
IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
PAD: Final = "<|pad|>"
SPECIAL_TOKENS: Final = (END_OF_TEXT, IM_START, IM_END, PAD)
NUM_BYTES: Final = 256
_INVALID_BYTES = re.compile("([\udc80-\udcff]+)")


class Tokenizer:
    """Encode and decode. Build one with `train` or `load`."""

    def __init__(self, model: dict[str, Any]) -> None:
        """`model`: the parsed `model` part of tokenizer.json (type BPE with vocab and merges)."""
        self._vocab: dict[str, int] = model["vocab"]
        self._merges = [_pair(merge) for merge in model["merges"]]
        self._pieces: dict[int, str] = {index: piece for piece, index in self._vocab.items()}
        self._bytes: dict[int, bytes] = {}  # of the tokens that were asked for
        self.special = {name: self._vocab[name] for name in SPECIAL_TOKENS}
        self._byte_ids = [self._vocab[character] for character in _byte_characters()]
        self._encoder = BatchEncoder(self._merger())

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
        """Learn merges from `texts`; the same texts in the same order give the same tokenizer.

        Raises ConfigError when `vocab_size` cannot hold the bytes and special tokens.
        """
        smallest = NUM_BYTES + len(SPECIAL_TOKENS)
        if vocab_size < smallest:
            raise ConfigError(
                f"vocab_size={vocab_size} must be at least {smallest}: {NUM_BYTES} bytes and {len(SPECIAL_TOKENS)} special tokens"
            )
        learner = tokenizers.Tokenizer(models.BPE())
        learner.pre_tokenizer = _pre_tokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
        learner.train_from_iterator(_clean(texts), trainer)
        return cls(json.loads(learner.to_str())["model"])

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a folder written by `save`. Raises DataError when it is missing or is not such a tokenizer."""
        path = Path(folder) / "tokenizer.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"tokenizer {path} cannot be read: {error.strerror}; make one with: agora tokenizer train") from error
        except ValueError as error:
            raise DataError(f"tokenizer {path} is not valid JSON: {error}") from error
        if PATTERN not in _patterns(content):
            raise DataError(f"tokenizer {path} cuts text by another rule than Agora's; make one with: agora tokenizer train")
        model = content["model"]
        if missing := [name for name in (*SPECIAL_TOKENS, *_byte_characters()) if name not in model["vocab"]]:
            raise DataError(f"tokenizer {path} has no token {missing[0]!r}; make one with: agora tokenizer train")
        return cls(model)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; each file is replaced as a whole."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1_000_000, "clean_up_tokenization_spaces": False,
            "add_prefix_space": False, "eos_token": IM_END, "pad_token": PAD, "bos_token": None, "unk_token": None,
            "chat_template": CHAT_TEMPLATE,
        }  # fmt: skip
        write_atomically(folder / "tokenizer.json", self._published().to_str(pretty=True).encode())
        write_atomically(folder / "tokenizer_config.json", (json.dumps(config, indent=2) + "\n").encode())

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Special tokens written in it are plain text; lone surrogates become their three bytes."""
        try:
            return self._encoder.encode(pa.array([text], type=pa.large_string())).rows()[0]
        except UnicodeEncodeError:
            return self.encode_bytes(text.encode("utf-8", "surrogatepass"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Token ids of any bytes; what is not UTF-8 becomes one token per byte."""
        ids: list[int] = []
        for piece in _INVALID_BYTES.split(data.decode("utf-8", "surrogateescape")):
            if _INVALID_BYTES.match(piece):
                ids.extend(self._byte_ids[ord(character) - 0xDC00] for character in piece)
            elif piece:
                ids.extend(self.encode(piece))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, many at once."""
        try:
            return self._encoder.encode(pa.array(texts, type=pa.large_string())).rows()
        except UnicodeEncodeError:
            return [self.encode(text) for text in texts]

    def encode_table(self, texts: pa.Array | pa.ChunkedArray) -> TokenTable:
        """Token ids of an Arrow column: the fast path of packing. Nulls count as empty text."""
        return self._encoder.encode(large_strings(texts))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; a special token's are its name. Raises DataError for an id outside the vocabulary."""
        token = int(token)
        known = self._bytes.get(token)
        if known is None:
            piece = self._pieces.get(token)
            if piece is None:
                raise DataError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
            table = _character_bytes()
            known = piece.encode() if piece in self.special else bytes(table[character] for character in piece)
            self._bytes[token] = known
        return known

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The exact bytes of `ids`."""
        drop = set(self.special.values()) if skip_special else set()
        return b"".join(self.token_bytes(token) for token in ids if token not in drop)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD, lone surrogates come back as they were."""
        data = self.decode_bytes(ids, skip_special=skip_special)
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace")

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._vocab)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over everything that decides ids, in hex; independent of library versions."""
        content = {"pattern": PATTERN, "vocab": sorted(self._vocab.items()), "merges": self._merges, "special": list(SPECIAL_TOKENS)}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _merger(self) -> tokenizers.Tokenizer:
        """Encodes one pretoken per input. It has no special tokens, so no input can produce one."""
        vocab = {piece: index for piece, index in self._vocab.items() if piece not in self.special}
        merger = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=self._merges))
        merger.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return merger

    def _published(self) -> tokenizers.Tokenizer:
        """The same tokenizer for Hugging Face, where special tokens are recognised in text."""
        published = tokenizers.Tokenizer(models.BPE(vocab=self._vocab, merges=self._merges))
        published.pre_tokenizer = _pre_tokenizer()
        published.decoder = decoders.ByteLevel()
        published.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
        return published


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _patterns(content: dict[str, Any]) -> list[str]:
    parts = (content.get("pre_tokenizer") or {}).get("pretokenizers", [])
    return [part["pattern"].get("Regex", "") for part in parts if "pattern" in part]


def _clean(texts: Iterable[str]) -> Iterator[list[str]]:
    """Batches for the trainer, lone surrogates replaced (it takes valid text only)."""
    iterator = iter(texts)
    while batch := [text.encode("utf-8", "replace").decode("utf-8") for text in itertools.islice(iterator, 4096)]:
        yield batch


@functools.cache
def _byte_characters() -> tuple[str, ...]:
    """The character that stands for each byte in byte-level vocabularies (printable Latin-1 as itself, the others from U+0100 on).

    Source: the GPT-2 encoder (openai/gpt-2, encoder.py), the convention of every byte-level BPE file.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(0x100)
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(NUM_BYTES))


@functools.cache
def _character_bytes() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(_byte_characters())}
