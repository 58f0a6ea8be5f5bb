"""What engine_speed compares with Agora's engine: Transformers and llama.cpp, on the very same random weights, each driven the fastest way
that its Python interface has. A contestant decodes so many tokens in each of so many rows, greedily, and returns the processor time of it.

llama.cpp is no dependency: pip install llama-cpp-python gguf (a C++ build of several minutes). Absent peers are named in the result.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from agora.engine import BatchEngine, Delta, SamplingConfig
from agora.engine.native import NativeNetwork, Precision
from agora.errors import GenerationError
from agora.model.config import ModelConfig
from agora.model.hf import hf_weights, save_hf
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

Decode = Callable[[int, int], float]  # (rows, tokens of each) -> processor seconds
PROMPT_TOKENS = 16
SHAPES = {
    "12M": ModelConfig(
        vocab_size=8192, dim=256, num_layers=8, num_heads=4, num_kv_heads=2, hidden_dim=1024, tie_embeddings=False, max_seq_len=1024
    ),
    "110M": ModelConfig(vocab_size=32768, dim=768, num_layers=12, num_heads=12, num_kv_heads=6, hidden_dim=2304, max_seq_len=1024),
}
TEXTS = ["Rain again. The trains are late, and nobody at the station knows why."]


def prompts(config: ModelConfig, rows: int) -> list[list[int]]:
    """Different random tokens for each row: no row can borrow another's keys and values."""
    numbers = torch.Generator().manual_seed(rows)
    return torch.randint(300, config.vocab_size, (rows, PROMPT_TOKENS), generator=numbers).tolist()  # type: ignore[no-any-return]


def agora(model: Transformer, precision: Precision, threads: int) -> Decode:
    """The whole engine: its thread, scheduler, sampler and streams of text."""
    # Ids that this tokenizer lacks could not be shown; the answers go through a tokenizer of the model's size.
    tokenizer = sized_tokenizer(model.config.vocab_size)
    network = NativeNetwork(model, precision=precision, num_pages=1024, max_rows=256, threads=threads)
    engine = BatchEngine(network, tokenizer)

    def spend(rows: int, tokens: int) -> tuple[float, int]:
        sampling = SamplingConfig(temperature=0, max_tokens=tokens)
        begun, drawn = time.process_time(), engine.stats()["drawn_tokens"]
        streams = [engine.stream(prompt, sampling) for prompt in prompts(model.config, rows)]
        said: list[list[Delta | GenerationError]] = [[] for _ in streams]
        for stream, texts in zip(streams, said, strict=True):
            stream.listen(texts.append)  # as the server listens
        assert engine.wait_until_idle()
        assert all(isinstance(texts[-1], Delta) and texts[-1].finish_reason for texts in said)
        return time.process_time() - begun, engine.stats()["drawn_tokens"] - drawn

    def decode(rows: int, steps: int) -> float:
        # the first token comes with the prompt; an answer that happens to end early is paid by the token
        first_s, _ = spend(rows, 1)
        all_s, drawn = spend(rows, steps + 1)
        return (all_s - first_s) * rows * steps / (drawn - rows)

    return decode


def sized_tokenizer(size: int) -> Tokenizer:
    """A tokenizer of `size` ids: that of a short text, and words of its own for the rest."""
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    for token in range(tokenizer.vocab_size, size):
        tokenizer._vocab[f"w{token}"] = token
        tokenizer._pieces[token] = f"w{token}"
    return tokenizer


def transformers(model: Transformer, dtype: torch.dtype, threads: int) -> Decode:
    """Qwen3ForCausalLM with its dynamic cache, step by step without `generate` and its checks, which only cost time."""
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import DynamicCache, Qwen3ForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        save_hf(model, Path(folder) / "m")
        peer = Qwen3ForCausalLM.from_pretrained(Path(folder) / "m", dtype=dtype).eval()

    @torch.inference_mode()
    def decode(rows: int, steps: int) -> float:
        torch.set_num_threads(threads)
        cache = DynamicCache(config=peer.config)
        out = peer(input_ids=torch.tensor(prompts(model.config, rows)), past_key_values=cache, use_cache=True, logits_to_keep=1)
        begun = time.process_time()
        for _ in range(steps):
            tokens = out.logits[:, -1].argmax(-1, keepdim=True)
            out = peer(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return time.process_time() - begun

    return decode


def llama_cpp(model: Transformer, kind: Literal["q8_0", "bf16"], threads: int) -> Decode:
    """llama.cpp through the C interface of llama-cpp-python; raises ModuleNotFoundError when it or gguf is missing."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(model, path, kind)
        network = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert network
    vocab_size = model.config.vocab_size

    def decode(rows: int, steps: int) -> float:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = rows * (PROMPT_TOKENS + steps + 8), 512, 512
        options.n_seq_max, options.n_threads, options.n_threads_batch = rows, threads, threads
        context = llama_cpp.llama_init_from_model(network, options)
        assert context
        batch = llama_cpp.llama_batch_init(512, 0, 1)

        def add(token: int, position: int, row: int, wanted: bool) -> None:
            n = batch.n_tokens
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.logits[n] = token, position, 1, wanted
            batch.seq_id[n][0] = row
            batch.n_tokens = n + 1

        tokens = []
        for row, prompt in enumerate(prompts(model.config, rows)):
            batch.n_tokens = 0
            for position, token in enumerate(prompt):
                add(token, position, row, position == PROMPT_TOKENS - 1)
            assert llama_cpp.llama_decode(context, batch) == 0
            tokens.append(_argmax(llama_cpp.llama_get_logits_ith(context, PROMPT_TOKENS - 1), vocab_size))
        begun = time.process_time()
        for step in range(steps):
            batch.n_tokens = 0
            for row, token in enumerate(tokens):
                add(token, PROMPT_TOKENS + step, row, True)
            assert llama_cpp.llama_decode(context, batch) == 0
            tokens = [_argmax(llama_cpp.llama_get_logits_ith(context, row), vocab_size) for row in range(rows)]
        spent = time.process_time() - begun
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        return spent

    return decode


def _argmax(logits: Any, vocab_size: int) -> int:
    return int(np.argmax(np.ctypeslib.as_array(logits, shape=(vocab_size,))))


_GGUF_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(model: Transformer, path: Path, kind: Literal["q8_0", "bf16", "f32"]) -> None:
    """The weights as a GGUF file without a vocabulary, matrices in `kind`, norms in float32."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.hidden_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    types = gguf.GGMLQuantizationType
    wanted = {"q8_0": types.Q8_0, "bf16": types.BF16, "f32": types.F32}[kind]
    for name, weight in hf_weights(model).items():
        data = weight.float().numpy()
        form = wanted if data.ndim == 2 else types.F32
        writer.add_tensor(_gguf_name(name), gguf.quants.quantize(data, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{_GGUF_NAMES[module]}.weight"
