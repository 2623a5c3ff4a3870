"""Writes a small Llama of random weights with a tokenizer of bytes, as a Hugging Face folder: a real server runs thousands
of requests on it in a minute."""

import array
import json
import math
import os
import random
import struct

from server_process import ROOT

BYTES = 256  # ids 0 to 255 of GPT-2's byte-level vocabulary; the next id ends a text
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 264, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    "rope_theta": 10000.0, "eos_token_id": BYTES,
}


def write_tokenizer(folder, end_of_text):
    with open(os.path.join(ROOT, "tests/golden/tokenizer/gpt2/tokenizer.json"), encoding="utf-8") as file:
        tokenizer = json.load(file)
    vocabulary = {token: token_id for token, token_id in tokenizer["model"]["vocab"].items() if token_id < BYTES}
    vocabulary[end_of_text] = BYTES
    tokenizer["model"]["vocab"], tokenizer["model"]["merges"] = vocabulary, []
    tokenizer["added_tokens"] = [{"id": BYTES, "content": end_of_text, "special": True}]
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"eos_token": end_of_text}, file)


def shapes(config):
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, heads)
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)


def write_weights(folder, config, seed=1):
    """Writes config.json, and weights large enough that the next token follows from all before it."""
    numbers = random.Random(seed)
    header, data = {}, bytearray()
    for name, shape in shapes(config):
        count = math.prod(shape)
        values = array.array("f", [1.0] * count if len(shape) == 1 else [numbers.gauss(0, 0.3) for _ in range(count)])
        begin = len(data)
        data += values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def write(folder, seed=1, end_of_text="<|endoftext|>", **changes):
    """`changes` go over the fields of config.json."""
    os.makedirs(folder)
    write_tokenizer(folder, end_of_text)
    write_weights(folder, {**CONFIG, **changes}, seed)
    return folder
