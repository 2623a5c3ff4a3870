#!/usr/bin/env python3
"""Writes the peers' model files into build/peers/models, each once. Run with .venv-peers.

smollm2   SmolLM2-135M-Instruct, dequantised from the Q4_1 file that the demo uses
dialogpt  the shape of DialoGPT-medium with random weights (seed 0): speed does not depend on their values. Its
          tokenizer has 256 bytes, 50,000 merged pairs of bytes and <|endoftext|>
For each: hf/ (fp32 safetensors), f32, f16, bf16 and q8_0 .gguf, and CTranslate2 folders ct2-float32, ct2-int8.
"""

import json
import os
import shutil
import subprocess
import sys
import warnings

from common import LLAMA_BIN, MODELS, ROOT

SHIPPED = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
DIALOGPT = {"n_layer": 24, "n_head": 16, "n_embd": 1024, "n_positions": 1024, "vocab_size": 50257}
GPT2_LAYER_NAMES = {"ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
                    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
GPT2_NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def path(model, form):
    """Where a model lies: form is hf, ct2-TYPE, q4_1 (smollm2 as shipped), or a GGUF type."""
    if form == "q4_1":
        return SHIPPED
    name = form if form == "hf" or form.startswith("ct2-") else f"{form}.gguf"
    return os.path.join(MODELS, model, name)


def make(target, write):
    """Runs write(partial path), then renames, so that what is there is whole."""
    if os.path.exists(target):
        return
    print(f"== Writing {os.path.relpath(target, ROOT)}", flush=True)
    root, extension = os.path.splitext(target)
    partial = f"{root}.partial{extension}"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    write(partial)
    os.rename(partial, target)


def byte_pair_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in alphabet for b in alphabet][:50000]
    words = [*alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer, [*words, "<|endoftext|>"], [f"{a} {b}" for a, b in merges]


def write_dialogpt_folder(folder):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**DIALOGPT, bos_token_id=50256, eos_token_id=50256)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=byte_pair_tokenizer()[0], eos_token="<|endoftext|>", bos_token="<|endoftext|>",
                            unk_token="<|endoftext|>").save_pretrained(folder)


def gpt2_gguf_tensor(name, array):
    """The GGUF name and fp32 array of one Hugging Face GPT-2 tensor; its Conv1D matrices are transposed."""
    stem, suffix = name.removeprefix("transformer.").rsplit(".", 1)
    if not stem.startswith("h."):
        return f"{GPT2_NAMES[stem]}.{suffix}", array
    _, layer, part = stem.split(".", 2)
    is_matrix = array.ndim == 2
    return f"blk.{layer}.{GPT2_LAYER_NAMES[part]}.{suffix}", array.T.copy() if is_matrix else array


def write_dialogpt_gguf(file):
    import gguf
    from safetensors.numpy import load_file
    writer = gguf.GGUFWriter(file, "gpt2")
    writer.add_name("DialoGPT-medium shape, random weights")
    writer.add_block_count(DIALOGPT["n_layer"])
    writer.add_context_length(DIALOGPT["n_positions"])
    writer.add_embedding_length(DIALOGPT["n_embd"])
    writer.add_feed_forward_length(4 * DIALOGPT["n_embd"])
    writer.add_head_count(DIALOGPT["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(0)
    _, words, merges = byte_pair_tokenizer()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([1] * (len(words) - 1) + [3])  # normal, and one control token
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(words) - 1)
    writer.add_eos_token_id(len(words) - 1)
    for name, array in load_file(os.path.join(path("dialogpt", "hf"), "model.safetensors")).items():
        if name != "lm_head.weight":
            writer.add_tensor(*gpt2_gguf_tensor(name, array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_smollm2_folder(folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    source = {"pretrained_model_name_or_path": os.path.dirname(SHIPPED), "gguf_file": os.path.basename(SHIPPED)}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    del loaded.config.quantization_config  # a model that says it is quantised refuses to be saved
    model = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def quantize(source, gguf_type):
    def write(target):
        done = subprocess.run([os.path.join(LLAMA_BIN, "llama-quantize"), "--allow-requantize", source, target, gguf_type.upper()],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"llama-quantize {source} {gguf_type}: {done.stderr[-2000:]}")
    return write


def convert_ctranslate2(model, quantization):
    def write(target):
        import ctranslate2
        ctranslate2.converters.TransformersConverter(path(model, "hf")).convert(target, quantization=quantization)
    return write


def main():
    warnings.filterwarnings("ignore")
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    make(path("smollm2", "hf"), write_smollm2_folder)
    make(path("dialogpt", "hf"), write_dialogpt_folder)
    make(path("dialogpt", "f32"), write_dialogpt_gguf)
    make(path("smollm2", "f32"), quantize(SHIPPED, "f32"))
    for model in ("smollm2", "dialogpt"):
        for gguf_type in ("f16", "bf16", "q8_0"):
            make(path(model, gguf_type), quantize(path(model, "f32"), gguf_type))
        for quantization in ("float32", "int8"):
            make(path(model, f"ct2-{quantization}"), convert_ctranslate2(model, quantization))


def shape(model):
    """What the bounds need: matrix weights of the layers, of the output, and width, depth and heads of attention."""
    with open(os.path.join(path(model, "hf"), "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    if config["model_type"] == "gpt2":
        width, layers = config["n_embd"], config["n_layer"]
        per_layer = 12 * width * width
    else:
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        key_value = width * config["num_key_value_heads"] // config["num_attention_heads"]
        per_layer = 2 * width * (width + key_value) + 3 * width * config["intermediate_size"]
    return {"layers": layers, "width": width, "vocabulary": config["vocab_size"], "layer_weights": layers * per_layer,
            "output_weights": width * config["vocab_size"]}


if __name__ == "__main__":
    sys.exit(main())
