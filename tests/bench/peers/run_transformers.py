#!/usr/bin/env python3
"""Measures Hugging Face transformers.

--setting  attention=sdpa|eager  attn_implementation
           cache=dynamic|static
"""

import torch
import transformers

import common
import models


def make_cache(model, kind):
    if kind == "static":
        return transformers.StaticCache(config=model.config, max_cache_len=1024)
    return transformers.DynamicCache(config=model.config)


def main():
    options = common.parse(__doc__, ["fp32", "bf16"])
    setting = common.words(options.setting)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        models.path(options.model, "hf"), dtype=torch.float32 if options.dtype == "fp32" else torch.bfloat16,
        attn_implementation=setting.get("attention", "sdpa")).eval()
    ids = torch.tensor([common.prompt_ids(model.config.vocab_size, 1024)])

    def forward(start, end, cache):
        model(ids[:, start:end], past_key_values=cache, use_cache=True, logits_to_keep=1)

    def prefill(length):
        return common.milliseconds(forward, 0, length, make_cache(model, setting.get("cache")))

    def decode():
        cache = make_cache(model, setting.get("cache"))
        forward(0, common.CONTEXT, cache)
        steps = range(common.CONTEXT, common.CONTEXT + common.DECODE_STEPS)
        return sum(common.milliseconds(forward, i, i + 1, cache) for i in steps) / common.DECODE_STEPS

    samples = common.measure(prefill, decode, options.repeats)
    common.report("transformers", transformers.__version__, options, samples, f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
