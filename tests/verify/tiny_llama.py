"""A Llama of random weights with a real tokenizer, which a server loads in milliseconds."""

import os
import shutil

from server_process import ROOT
from tiny_model import write_weights

TOKENIZER = os.path.join(ROOT, "tests", "golden", "tokenizer", "gpt2")
VOCABULARY, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT = 1201, 64, 4, 2, 32, 2, 2048
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN, "max_position_embeddings": CONTEXT, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "num_hidden_layers": LAYERS, "head_dim": HEAD_DIM, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "vocab_size": VOCABULARY, "attention_bias": False, "mlp_bias": False,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "bos_token_id": None, "eos_token_id": 1200,
}
SEGMENT_BYTES = 64 * LAYERS * 2 * KV_HEADS * HEAD_DIM * 2  # a full segment's payload in bf16


def write_tiny_llama(folder):
    os.makedirs(folder, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, name), folder)
    write_weights(folder, CONFIG)
    return folder
