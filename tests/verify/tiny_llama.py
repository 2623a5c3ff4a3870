"""A Llama of random weights with a real tokenizer, which a server loads in milliseconds."""

import array
import json
import os
import random
import shutil
import struct

from server_process import ROOT

TOKENIZER = os.path.join(ROOT, "tests", "golden", "tokenizer", "gpt2")
VOCABULARY, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT = 1201, 64, 4, 2, 32, 2, 2048
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN, "max_position_embeddings": CONTEXT, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "num_hidden_layers": LAYERS, "head_dim": HEAD_DIM, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "vocab_size": VOCABULARY, "attention_bias": False, "mlp_bias": False,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "bos_token_id": None, "eos_token_id": 1200,
}
SEGMENT_BYTES = 64 * LAYERS * 2 * KV_HEADS * HEAD_DIM * 2  # a full segment's payload in bf16


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows * HEAD_DIM, HIDDEN)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield prefix + "mlp.gate_proj.weight", (2 * HIDDEN, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (2 * HIDDEN, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, 2 * HIDDEN)


def write_tiny_llama(folder):
    """Weights large enough that the next token follows from all before it."""
    chosen = random.Random(1)
    header, payload = {}, bytearray()
    for name, shape in shapes():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        norm = "norm" in name
        values = array.array("f", ([1.0] * size if norm else [chosen.gauss(0, 0.25) for _ in range(size)]))
        begin = len(payload)
        payload += values.tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(payload)]}
    text = json.dumps(header).encode()
    os.makedirs(folder, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, name), folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + payload)
    return folder
