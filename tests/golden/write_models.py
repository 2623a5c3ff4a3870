"""Writes small random-weight models and the logits Hugging Face transformers gives them.

tests/golden/model/NAME: config.json, model.safetensors (or shards with an index),
ids.bin (int32), logits.bin (float32 [len(ids), vocabulary]), both little-endian.
"""

import os
import shutil

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


# name: (model, tokens, largest shard). 90 tokens cross a block border and the
# original context of the scaled variants.
MODELS = {
    "gpt2": (gpt2, 90, "1GB"),
    "gpt2_sharded": (gpt2, 20, "60KB"),
    "llama": (lambda: llama(tie_word_embeddings=True), 90, "1GB"),
    "llama_untied": (lambda: llama(tie_word_embeddings=False), 20, "1GB"),
    "llama_multi_head": (lambda: llama(num_key_value_heads=4, head_dim=20), 20, "1GB"),
    "llama_theta": (lambda: scaled("default", rope_theta=500000.0), 90, "1GB"),
    "llama_linear": (lambda: scaled("linear", factor=4.0), 90, "1GB"),
    "llama_dynamic": (lambda: scaled("dynamic", factor=2.0), 90, "1GB"),
    "llama_yarn": (lambda: scaled("yarn", factor=4.0, original_max_position_embeddings=32), 90, "1GB"),
    "llama_llama3": (lambda: scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                    original_max_position_embeddings=32), 90, "1GB"),
}


def randomize(model):
    """Norms and biases start at one and zero, which would hide their being dropped."""
    for name, parameter in model.named_parameters():
        offset = 1.0 if "norm" in name or ".ln_" in name else 0.0
        mean = offset if name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.15)


def main():
    for seed, (name, (make, tokens, shard)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = make().float().eval()
        randomize(model)
        model.tie_weights()
        folder = os.path.join(HERE, "model", name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, max_shard_size=shard)
        ids = torch.randint(0, VOCABULARY, (1, tokens))
        with torch.no_grad():
            logits = model(ids).logits[0]
        ids[0].numpy().astype("<i4").tofile(os.path.join(folder, "ids.bin"))
        logits.numpy().astype("<f4").tofile(os.path.join(folder, "logits.bin"))
        os.remove(os.path.join(folder, "generation_config.json"))
        print(name, os.listdir(folder), float(numpy.abs(logits.numpy()).max()))


if __name__ == "__main__":
    main()
