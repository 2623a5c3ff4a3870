"""Writes strings and what Hugging Face tokenizers make of them.

tests/golden/tokenizer:
  strings.bin       per string: uint32 length, bytes
  NAME.bin          per string: 8 bytes, the start of SHA-256 over its ids (int32); for a
                    byte-level tokenizer and invalid UTF-8, over "invalid" and the offset (int32)
  NAME/tokenizer.json  small trained tokenizers of the families whose own files cannot be shipped
All integers little-endian. `write_tokenizers.py STRING` prints each tokenizer's ids instead.
"""

import glob
import hashlib
import json
import os
import struct
import sys

import gguf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import corpus

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(digits):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CONTRACTIONS + digits + REST), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(name, pre_tokenizer, special, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    texts = [data.decode() for data in corpus.strings()[:2000]]
    texts += [open(path, encoding="utf-8").read() for path in sorted(glob.glob(os.path.join(ROOT, "docs/adr/*.md")))]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    plain = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.add_special_tokens(special)
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"eos_token": special[-1]}, file)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"model_type": "gpt2" if name == "gpt2" else "llama"}, file)
    return plain


def write_gemma_gguf(vocabulary, control, symbols):
    """The vocabulary with scores in place of merges, as llama.cpp's converter writes it."""
    writer = gguf.GGUFWriter(os.path.join(HERE, "gemma.gguf"), "gemma3")
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(vocabulary))
    writer.add_token_scores([-float(i) for i in range(len(vocabulary))])
    writer.add_token_types([kinds.CONTROL if token in control else kinds.USER_DEFINED if token in symbols else
                            kinds.BYTE if token.startswith("<0x") else kinds.NORMAL for token in vocabulary])
    writer.add_bos_token_id(vocabulary["<bos>"])
    writer.add_eos_token_id(vocabulary["<eos>"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def gemma():
    """BPE as Gemma's tokenizer.json has it: characters, "▁" for spaces, bytes for what is no token; without its
    control tokens, which text does not become."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    texts = [data.decode() for data in corpus.strings()[:2000]]
    texts += [open(path, encoding="utf-8").read() for path in sorted(glob.glob(os.path.join(ROOT, "docs/adr/*.md")))]
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, limit_alphabet=250, show_progress=False))
    description = json.loads(trained.to_str())
    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    symbols = ["<table>", "<tab", "\n\n", "\n\n\n", "  ", "the"]
    pairs = description["model"]["merges"]
    alphabet = [token for token in description["model"]["vocab"] if len(token) == 1]
    tokens = dict.fromkeys(control + [f"<0x{byte:02X}>" for byte in range(256)] + symbols + alphabet +
                           ["".join(pair) for pair in pairs])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # As Hugging Face converts SentencePiece's scores: every pair that makes a token, in the tokens' order.
    merges = [[token[:at], token[at:]] for token in dict.fromkeys("".join(pair) for pair in pairs)
              for at in range(1, len(token)) if token[:at] in vocabulary and token[at:] in vocabulary]
    description["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                    "invert": False}
    description["model"].update(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": vocabulary[token], "content": token, "special": token in control, **flags}
             for token in control + symbols]
    write_gemma_gguf(vocabulary, control, symbols)
    folder = os.path.join(HERE, "gemma")
    os.makedirs(folder, exist_ok=True)
    for name, content in (("tokenizer.json", {**description, "added_tokens": added}),
                          ("tokenizer_config.json", {"eos_token": "<eos>", "bos_token": "<bos>", "add_bos_token": True}),
                          ("config.json", {"model_type": "gemma3_text"})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
    return Tokenizer.from_str(json.dumps({**description, "added_tokens": [t for t in added if not t["special"]]}))


def smollm2():
    """Vocabulary and merges of the GGUF file under the pre-tokenizer SmolLM2's tokenizer.json has."""
    reader = gguf.GGUFReader(os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(line.split(" ")) for line in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def minilm():
    """Without its added tokens: text that spells [CLS] is ordinary text to the server."""
    with open(os.path.join(ROOT, "models/all-minilm-l6-v2/tokenizer.json"), encoding="utf-8") as file:
        description = json.load(file)
    description["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


def byte_level_ids(tokenizer, data):
    try:
        return struct.pack(f"<{len(ids)}i", *ids) if (ids := tokenizer.encode(data.decode(), add_special_tokens=False).ids) else b""
    except UnicodeDecodeError as error:
        return b"invalid" + struct.pack("<i", error.start)


def word_piece_ids(tokenizer, data):
    ids = tokenizer.encode(data.decode(errors="replace")).ids
    return struct.pack(f"<{len(ids)}i", *ids)


def tokenizers():
    return {
        "gpt2": (train("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"]), byte_level_ids),
        "llama3": (train("llama3", split(r"\p{N}{1,3}"), ["<|begin_of_text|>", "<|eot_id|>"], ignore_merges=True),
                   byte_level_ids),
        "qwen2": (train("qwen2", split(r"\p{N}"), ["<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC()),
                  byte_level_ids),
        "gemma": (gemma(), byte_level_ids),
        "smollm2": (smollm2(), byte_level_ids),
        "minilm": (minilm(), word_piece_ids),
    }


def main():
    if len(sys.argv) > 1:
        for name, (tokenizer, encode) in tokenizers().items():
            data = encode(tokenizer, os.fsencode(sys.argv[1]))
            print(name, list(struct.unpack(f"<{len(data) // 4}i", data)) if not data.startswith(b"invalid") else data)
        return
    strings = corpus.strings()
    with open(os.path.join(HERE, "strings.bin"), "wb") as file:
        for data in strings:
            file.write(struct.pack("<I", len(data)) + data)
    for name, (tokenizer, encode) in tokenizers().items():
        with open(os.path.join(HERE, name + ".bin"), "wb") as file:
            for data in strings:
                file.write(hashlib.sha256(encode(tokenizer, data)).digest()[:8])
        print(name, len(strings))


if __name__ == "__main__":
    main()
