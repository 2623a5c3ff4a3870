#!/usr/bin/env python3
"""Times greedy decoding of SmolLM2 by Hugging Face transformers, batch 1.

Prints one line ending in ms_per_token=FIGURE: the median over the steps after
--context prompt tokens. Run with .venv-oracle (docker/setup/install-oracle.sh).
"""

import argparse
import os
import statistics
import time

import torch
import transformers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=512, help="prompt tokens before the timed steps")
    parser.add_argument("--steps", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.join(ROOT, "models"), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf", dtype=DTYPES[options.dtype]).eval()
    steps = []
    with torch.inference_mode():
        out = model(torch.randint(0, model.config.vocab_size, (1, options.context)), use_cache=True)
        for _ in range(options.steps):
            started = time.perf_counter()
            token = out.logits[:, -1:].argmax(-1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            steps.append(1000 * (time.perf_counter() - started))
    print(f"transformers {transformers.__version__} {options.dtype} threads={options.threads} batch=1 "
          f"context={options.context} steps={options.steps} ms_per_token={statistics.median(steps):.2f}")


if __name__ == "__main__":
    main()
