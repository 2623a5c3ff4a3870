"""Writes sentence embeddings of all-MiniLM-L6-v2 by sentence-transformers, fp32.

tests/golden/embedding/sentences.json and embeddings.bin (float32 [sentences, 384], unit length).
"""

import csv
import json
import os

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

import corpus

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def sentences():
    texts = []
    for name in ("test_prompts.csv", "cache_prompts.csv"):
        with open(os.path.join(ROOT, "tests/data/paper", name), newline="", encoding="utf-8") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    # sentence-transformers takes "[CLS]" in text for the token; the server does not.
    texts += [data.decode() for data in corpus.strings()[500:560] if b"[" not in data]
    return texts + ["word " * 600]  # longer than the encoder's window


def load():
    """The folder lacks sentence-transformers' own files: mean pooling and normalisation are named here."""
    words = Transformer(os.path.join(ROOT, "models/all-minilm-l6-v2"), max_seq_length=256)
    pooling = Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[words, pooling, Normalize()], device="cpu")


def main():
    texts = sentences()
    vectors = load().encode(texts, batch_size=1, convert_to_numpy=True)
    with open(os.path.join(HERE, "embedding/sentences.json"), "w", encoding="utf-8") as file:
        json.dump(texts, file, ensure_ascii=True, indent=0)
    vectors.astype("<f4").tofile(os.path.join(HERE, "embedding/embeddings.bin"))
    print(vectors.shape)


if __name__ == "__main__":
    main()
