from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agora.errors import ModelError
from agora.model.config import ModelConfig
from agora.model.hf import hf_weights, load_hf, save_hf, save_hf_weights, weight_files
from agora.model.hf_config import config_from_hf, config_to_hf
from agora.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64, rope_theta=5e5
)
# (query heads, key heads, head_dim): equal heads, grouped, one key head; head_dim * heads is dim in the first only
HEADS = [(4, 4, 12), (6, 2, 16), (3, 1, 8)]
TOKENS = torch.randint(0, 97, (2, 40), generator=torch.Generator().manual_seed(0))


def transformers_model(heads: tuple[int, int, int], *, tied: bool) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=heads[0], num_key_value_heads=heads[1], head_dim=heads[2],
        intermediate_size=80, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 3e4},
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def assert_same_logits(ours: Transformer, theirs: Any) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(TOKENS)), theirs(TOKENS).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_folder_of_transformers_gives_the_same_logits(tmp_path: Path, heads: tuple[int, int, int], tied: bool) -> None:
    theirs = transformers_model(heads, tied=tied)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")
    assert ours.config.rope_theta == 3e4 and ours.config.tie_embeddings is tied
    assert_same_logits(ours, theirs)


@pytest.mark.parametrize("tied", [True, False])
def test_our_folder_gives_the_same_logits_in_transformers(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    ours = load_after_saving(transformers_model(HEADS[1], tied=tied), tmp_path)
    save_hf(ours, tmp_path / "ours")
    assert_same_logits(ours, transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours"))


def load_after_saving(theirs: Any, folder: Path) -> Transformer:
    theirs.save_pretrained(folder / "theirs")
    return load_hf(folder / "theirs")


def test_sharded_folder_loads(tmp_path: Path) -> None:
    theirs = transformers_model(HEADS[1], tied=False)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(weight_files(tmp_path / "theirs")) > 2
    assert_same_logits(load_hf(tmp_path / "theirs"), theirs)


def test_generation_agrees_with_transformers(tmp_path: Path) -> None:
    theirs = transformers_model(HEADS[1], tied=True)
    ours = load_after_saving(theirs, tmp_path)
    expected = theirs.generate(TOKENS[:1, :8], max_new_tokens=8, do_sample=False, pad_token_id=0)
    tokens = TOKENS[:1, :8]
    with torch.no_grad():
        while tokens.shape[1] < 16:
            tokens = torch.cat([tokens, ours.logits(ours(tokens)[:, -1]).argmax(-1, keepdim=True)], 1)
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_keeps_every_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = Transformer(CONFIG).to(dtype)
    save_hf(model, tmp_path / "m")
    loaded = load_hf(tmp_path / "m", dtype=dtype)
    assert loaded.config == CONFIG
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_config_round_trip_and_both_forms_of_rotary_settings() -> None:
    table = config_to_hf(CONFIG)
    assert config_from_hf(table) == CONFIG
    old = {key: value for key, value in table.items() if key != "rope_parameters"} | {"rope_scaling": None}
    new = {key: value for key, value in table.items() if key != "rope_theta"}
    assert config_from_hf(old).rope_theta == config_from_hf(new).rope_theta == 5e5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_bias": True}, "attention_bias=True"),
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has 'sliding_attention'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type='yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "rope_type='linear'"),
        ({"model_type": "qwen3_next"}, "model_type='qwen3_next'"),
        ({"model_type": "qwen3_moe"}, "missing num_experts"),
        ({"num_experts": 8}, "num_experts=8"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"head_dim": None}, "missing head_dim"),
        ({"num_key_value_heads": 4}, "num_heads=6 must be a multiple"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_type='linear' in rope_scaling"),
        ({"rope_parameters": {"rope_type": "default", "type": "yarn"}}, "rope_type='yarn' in rope_parameters"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters=.* must be one object"),
        ({"rope_parameters": [1]}, r"rope_parameters=\[1\] must be one object"),
        ({"rope_parameters": None, "rope_theta": "abc"}, "rope_theta='abc' must be a number"),
        ({"layer_types": 5}, "layer_types=5 must be a list"),
        ({"hidden_size": 40.0}, "hidden_size=40.0 must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True must be a whole number"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps=inf must be a number"),
        ({"initializer_range": "x"}, "initializer_range='x' must be a number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings='false' must be true or false"),
    ],
)
def test_what_the_network_cannot_do_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_from_hf({**config_to_hf(CONFIG), **change})


def test_model_type_must_be_there() -> None:
    with pytest.raises(ModelError, match="missing model_type"):
        config_from_hf({key: value for key, value in config_to_hf(CONFIG).items() if key != "model_type"})


@pytest.mark.parametrize("change", [{"hidden_size": 10**12}, {"num_hidden_layers": 10**7}, {"vocab_size": 10**30}])
def test_sizes_that_the_weights_do_not_bear_out_are_refused_at_once(tmp_path: Path, change: dict[str, int]) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config_to_hf(CONFIG), **change}))
    with pytest.raises(ModelError, match=r"config.json describes [0-9]+ parameters, but the weights hold"):
        load_hf(tmp_path / "m")


@pytest.mark.parametrize("places", [[1], {"a": 5}, None])
def test_an_index_of_another_form_is_refused(tmp_path: Path, places: object) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelError, match="weight_map must be an object of file names"):
        load_hf(tmp_path / "m")


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(ModelError, match="does not exist"):
        load_hf(folder)
    model = Transformer(CONFIG)
    save_hf(model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        load_hf(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no model.safetensors"):
        load_hf(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json cannot be read"):
        load_hf(folder)


def test_missing_unknown_and_misshapen_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "m"
    save_hf(Transformer(CONFIG), folder)
    whole = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    for change, message in (
        ({k: v for k, v in whole.items() if k != name}, "1 weights are missing, first 'model.layers.0.mlp.up_proj.weight'"),
        ({**whole, "model.layers.0.mlp.up_proj.bias": torch.zeros(1)}, "unknown weight 'model.layers.0.mlp.up_proj.bias'"),
        ({**whole, name: torch.zeros(3, 3)}, r"has shape \[3, 3\], but must be \[80, 48\]"),
    ):
        save_file(change, folder / "model.safetensors")
        with pytest.raises(ModelError, match=message):
            load_hf(folder)


def test_an_index_cannot_name_files_outside_the_folder(tmp_path: Path) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(ModelError, match=r"names '../other.safetensors'"):
        load_hf(tmp_path / "m")


def test_tokenizer_card_and_stop_tokens_go_along(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    added = [{"id": 5, "content": "<|endoftext|>"}, {"id": 7, "content": "<|im_end|>"}, {"id": 8, "content": "<|pad|>"}]
    (tokenizer / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    save_hf(Transformer(CONFIG), tmp_path / "m", tokenizer_dir=tokenizer, model_card="# card\n")
    generation = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [7, 5] and generation["pad_token_id"] == 8
    assert (tmp_path / "m" / "README.md").read_text() == "# card\n"
    assert (tmp_path / "m" / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()
    with pytest.raises(ModelError, match=r"has no tokenizer.json"):
        save_hf(Transformer(CONFIG), tmp_path / "n", tokenizer_dir=tmp_path)
    assert not (tmp_path / "n").exists()


def test_saving_again_replaces_the_folder_whole(tmp_path: Path) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m", model_card="# old\n")
    save_hf(Transformer(CONFIG, seed=1), tmp_path / "m")
    assert not (tmp_path / "m" / "README.md").exists()
    assert torch.equal(load_hf(tmp_path / "m").embedding, Transformer(CONFIG, seed=1).embedding)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_failed_save_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_hf(Transformer(CONFIG), tmp_path / "m")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("agora.model.hf._write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        save_hf(Transformer(CONFIG, seed=1), tmp_path / "m")
    monkeypatch.undo()
    assert torch.equal(load_hf(tmp_path / "m").embedding, Transformer(CONFIG).embedding)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_folders_are_swapped_where_the_system_has_no_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.files.sys.platform", "other")
    test_saving_again_replaces_the_folder_whole(tmp_path)


def test_a_model_never_takes_the_place_of_anything_else(tmp_path: Path) -> None:
    """Writing replaces a folder whole: `agora model export RUN .` must not cost a home folder."""
    (tmp_path / "home" / "letters").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    for name, message in (("home", r"holds letters, which is no part of a model"), ("file", "is a file; give the name of a new folder")):
        with pytest.raises(ModelError, match=message):
            save_hf(Transformer(CONFIG), tmp_path / name)
    assert (tmp_path / "home" / "letters").is_dir() and (tmp_path / "file").read_text() == "mine"
    save_hf(Transformer(CONFIG), tmp_path / "m", model_card="# old")
    (tmp_path / "m" / "notes.txt").write_text("by a person")
    with pytest.raises(ModelError, match=r"holds notes\.txt"):
        save_hf(Transformer(CONFIG, seed=1), tmp_path / "m")


def test_a_large_model_is_written_in_several_files_with_an_index(tmp_path: Path) -> None:
    model = Transformer(CONFIG)
    weights = hf_weights(model)
    save_hf_weights(model, lambda place: weights[place.name], tmp_path / "m", dtype=torch.float32, file_bytes=40_000)
    names = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(names) > 2 and names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == weights.keys() and index["metadata"]["total_size"] == sum(w.nbytes for w in weights.values())
    loaded = load_hf(tmp_path / "m")
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters(), strict=True))
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    tokens_BT = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model(tokens_BT)), theirs(tokens_BT).logits, rtol=1e-4, atol=1e-5)
