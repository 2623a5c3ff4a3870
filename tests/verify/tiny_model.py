"""Writes a small Llama of random weights with a tokenizer of bytes, as a Hugging Face folder: a real server runs thousands
of requests on it in a minute."""

import json
import os
import random
import struct

from server_process import ROOT

BYTES = 256  # ids 0 to 255 of GPT-2's byte-level vocabulary; the next id ends a text
VOCABULARY = 264
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM, CONTEXT = 32, 64, 2, 2, 1, 16, 1024


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


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        yield prefix + "self_attn.q_proj.weight", (HEADS * HEAD_DIM, HIDDEN)
        yield prefix + "self_attn.k_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN)
        yield prefix + "self_attn.v_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield prefix + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INNER)


def write_weights(folder, seed):
    numbers = random.Random(seed)
    header, data = {}, b""
    for name, shape in shapes():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * count if len(shape) == 1 else [numbers.gauss(0, 0.3) for _ in range(count)]
        blob = struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(blob)]}
        data += blob
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def write(folder, seed=1, end_of_text="<|endoftext|>", **changes):
    """`changes` go over the fields of config.json."""
    os.makedirs(folder)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
              "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "max_position_embeddings": CONTEXT,
              "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True, "rope_theta": 10000.0,
              "eos_token_id": BYTES, **changes}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    write_tokenizer(folder, end_of_text)
    write_weights(folder, seed)
    return folder
