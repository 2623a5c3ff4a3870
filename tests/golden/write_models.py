"""Writes small random-weight models and the logits Hugging Face transformers gives them.

tests/golden/model/NAME: config.json, model.safetensors (or shards with an index) or
model.gguf, under the names of llama.cpp's gguf package; ids.bin (int32), logits.bin
(float32 [len(ids), vocabulary]), both little-endian.

usage: write_models.py [NAME...]; without names all of them.
"""

import os
import shutil
import sys

import gguf
import numpy
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY = 97
LLAMA = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}


def llama(**changes):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **changes}))


def scaled(kind, **parameters):
    return llama(rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **parameters})


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=128, n_embd=48, n_layer=2, n_head=4))


def gpt_neo():
    return transformers.GPTNeoForCausalLM(transformers.GPTNeoConfig(
        vocab_size=VOCABULARY, max_position_embeddings=128, hidden_size=48, num_layers=2, num_heads=4,
        attention_types=[[["global", "local"], 1]], window_size=8))


def qwen2(**changes):
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**{**LLAMA, **changes}))


def gemma3(**changes):
    """Three layers: local, global, local."""
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**{
        **LLAMA, "num_hidden_layers": 3, "head_dim": 16, "sliding_window": 8, "sliding_window_pattern": 2,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}, **changes}))


def write_gguf(model, folder):
    """The model as llama.cpp's converter writes Qwen2 and Gemma 3."""
    c = model.config
    architecture = {"qwen2": "qwen2", "gemma3_text": "gemma3"}[c.model_type]
    writer = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), architecture)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    gemma = architecture == "gemma3"
    if gemma:
        writer.add_key_length(c.head_dim)
        writer.add_sliding_window(c.sliding_window)
        writer.add_uint32("gemma3.attention.sliding_window_pattern", 2)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(c.rope_parameters["full_attention"]["factor"])
    writer.add_rope_freq_base((c.rope_parameters["full_attention"] if gemma else c.rope_parameters)["rope_theta"])
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture],
                                     c.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        value = value + 1 if gemma and name.endswith("norm.weight") else value
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), value.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def shards(largest):
    return lambda model, folder: model.save_pretrained(folder, max_shard_size=largest)


# name: (model, tokens, writer). 90 tokens cross a block border and the
# original context of the scaled variants.
ONE_FILE = shards("1GB")
MODELS = {
    "gpt2": (gpt2, 90, ONE_FILE),
    "gpt2_sharded": (gpt2, 20, shards("60KB")),
    "llama": (lambda: llama(tie_word_embeddings=True), 90, ONE_FILE),
    "llama_untied": (lambda: llama(tie_word_embeddings=False), 20, ONE_FILE),
    "llama_multi_head": (lambda: llama(num_key_value_heads=4, head_dim=20), 20, ONE_FILE),
    "llama_theta": (lambda: scaled("default", rope_theta=500000.0), 90, ONE_FILE),
    "llama_linear": (lambda: scaled("linear", factor=4.0), 90, ONE_FILE),
    "llama_dynamic": (lambda: scaled("dynamic", factor=2.0), 90, ONE_FILE),
    "llama_yarn": (lambda: scaled("yarn", factor=4.0, original_max_position_embeddings=32), 90, ONE_FILE),
    "llama_llama3": (lambda: scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                    original_max_position_embeddings=32), 90, ONE_FILE),
    "gpt_neo": (gpt_neo, 90, ONE_FILE),
    "qwen2": (lambda: qwen2(rope_parameters={"rope_type": "default", "rope_theta": 1e6}), 90, ONE_FILE),
    "qwen2_window": (lambda: qwen2(use_sliding_window=True, sliding_window=8, max_window_layers=1), 40, ONE_FILE),
    "qwen2_gguf": (lambda: qwen2(rope_parameters={"rope_type": "default", "rope_theta": 1e6},
                                 tie_word_embeddings=True), 40, write_gguf),
    "gemma3": (lambda: gemma3(query_pre_attn_scalar=20), 90, ONE_FILE),
    "gemma3_gguf": (lambda: gemma3(query_pre_attn_scalar=16), 40, write_gguf),
}


def randomize(model):
    """Norms and biases start at one and zero, which would hide their being dropped; Gemma's norms start at zero."""
    gemma = model.config.model_type == "gemma3_text"
    for name, parameter in model.named_parameters():
        offset = 1.0 if ("norm" in name or ".ln_" in name) and not gemma else 0.0
        mean = offset if name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.15)


def main():
    for seed, (name, (make, tokens, write)) in enumerate(MODELS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        torch.manual_seed(seed)
        model = make().float().eval()
        randomize(model)
        model.tie_weights()
        folder = os.path.join(HERE, "model", name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        write(model, folder)
        ids = torch.randint(0, VOCABULARY, (1, tokens))
        with torch.no_grad():
            logits = model(ids).logits[0]
        ids[0].numpy().astype("<i4").tofile(os.path.join(folder, "ids.bin"))
        logits.numpy().astype("<f4").tofile(os.path.join(folder, "logits.bin"))
        if os.path.exists(os.path.join(folder, "generation_config.json")):
            os.remove(os.path.join(folder, "generation_config.json"))
        print(name, os.listdir(folder), float(numpy.abs(logits.numpy()).max()))


if __name__ == "__main__":
    main()
