"""Writes models of real shapes with random weights in fp16 as Hugging Face folders, for machines without models: needs
numpy. The tokenizer is that of bytes in tiny_model.py, so prompts are given as ids below BYTES."""

import json
import os
import struct

import numpy

import tiny_model

MEDIUM = {  # DialoGPT-medium
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 1024,
    "n_layer": 24, "n_head": 16, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
    "eos_token_id": tiny_model.BYTES,
}
LLAMA_8B = {  # Llama 3, with a context and vocabulary that fit the checks
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    "rope_theta": 500000.0, "eos_token_id": tiny_model.BYTES,
}


def gpt2_shapes(config):
    width = config["n_embd"]
    yield "wte.weight", (config["vocab_size"], width)
    yield "wpe.weight", (config["n_positions"], width)
    for name in ["ln_f"] + [f"h.{i}.{norm}" for i in range(config["n_layer"]) for norm in ("ln_1", "ln_2")]:
        yield name + ".weight", (width,)
        yield name + ".bias", (width,)
    for i in range(config["n_layer"]):
        for name, rows, columns in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)):
            yield f"h.{i}.{name}.weight", (rows * width, columns * width)
            yield f"h.{i}.{name}.bias", (columns * width,)


def write(folder, config, scale=0.05, seed=1):
    """Weights are even in +-`scale`, norms about one."""
    os.makedirs(folder)
    tiny_model.write_tokenizer(folder, "<|endoftext|>")
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    shapes = list(gpt2_shapes(config) if config["model_type"] == "gpt2" else tiny_model.shapes(config))
    header, offset = {}, 0
    for name, shape in shapes:
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = numpy.random.default_rng(seed)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            values = (numbers.random(shape, dtype=numpy.float32) - 0.5) * (2 * scale)
            if len(shape) == 1 and name.endswith("weight"):
                values += 1
            file.write(values.astype(numpy.float16).tobytes())
    return folder
