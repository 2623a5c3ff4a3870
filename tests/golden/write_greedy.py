"""Writes greedy continuations of SmolLM2 by Hugging Face transformers, fp32, from the GGUF file's weights.

tests/golden/greedy/smollm2.json: a list of {"prompt": text, "ids": prompt ids, "next": 64 ids}.
"""

import csv
import json
import os

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER, FILE = os.path.join(ROOT, "models"), "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = 64
OTHERS = ["def fibonacci(n):\n", "Once upon a time", "The capital of France is", "日本の首都は", "1, 2, 3, 5, 8,",
          "<|im_start|>user\nWrite a haiku about the sea.<|im_end|>\n<|im_start|>assistant\n"]


def prompts():
    texts = []
    for name in ("test_prompts.csv", "cache_prompts.csv"):
        with open(os.path.join(ROOT, "tests/data/paper", name), newline="", encoding="utf-8") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    return (OTHERS + texts)[:20]


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER, gguf_file=FILE)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=FILE, dtype=torch.float32).eval()
    records = []
    for text in prompts():
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        out = model.generate(**ids, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS, repetition_penalty=1.0,
                             eos_token_id=None, pad_token_id=0, suppress_tokens=None)
        count = ids["input_ids"].shape[1]
        records.append({"prompt": text, "ids": out[0, :count].tolist(), "next": out[0, count:].tolist()})
        assert len(records[-1]["next"]) == TOKENS, text
        print(len(records), flush=True)
    with open(os.path.join(HERE, "greedy/smollm2.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")


if __name__ == "__main__":
    main()
