"""A GPT-2 or Llama decoder of plain torch operations over a static KV cache, batch 1: what libtorch gives a program
that calls it directly. `make_linear(weight, bias)` decides how matrices are stored and multiplied."""

import json
import os

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import models


def attend(q, keys, values):
    """Causal attention of q [heads, n, dim] over keys and values [kv_heads, end, dim], by libtorch's fused kernel. Only
    whole prompts and single tokens are measured, so n is `end` or 1."""
    return F.scaled_dot_product_attention(q[None], keys[None], values[None], is_causal=q.shape[1] > 1,
                                          enable_gqa=q.shape[0] != keys.shape[0])[0]


def attend_by_products(q, keys, values):
    """The same for one token in plain products: the query heads that share a KV head are the rows of one."""
    if q.shape[1] > 1:
        return attend(q, keys, values)
    grouped = q.reshape(keys.shape[0], -1, q.shape[-1]) * q.shape[-1] ** -0.5
    return (torch.softmax(grouped @ keys.transpose(1, 2), -1) @ values).reshape(q.shape)


class Decoder:
    def __init__(self, model, dtype, make_linear, attention=attend):
        folder = models.path(model, "hf")
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        self.dtype, self.attention = dtype, attention
        weights = load_file(os.path.join(folder, "model.safetensors"))
        self.layers = (self._gpt2 if self.config["model_type"] == "gpt2" else self._llama)(weights, make_linear)
        shape = (len(self.layers), 2, self.kv_heads, self.context, self.head_dim)
        self.kv = torch.zeros(shape, dtype=dtype)

    def _gpt2(self, weights, make_linear):
        weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
        c = self.config
        self.heads = self.kv_heads = c["n_head"]
        self.context, self.vocabulary, self.head_dim = c["n_positions"], c["vocab_size"], c["n_embd"] // c["n_head"]
        self.embedding, self.positions = weights["wte.weight"].to(self.dtype), weights["wpe.weight"].to(self.dtype)
        self.cos = None
        self.output = make_linear(weights["wte.weight"], None)

        def norm(name):
            weight, bias = weights[f"{name}.weight"].to(self.dtype), weights[f"{name}.bias"].to(self.dtype)
            return lambda x: F.layer_norm(x, weight.shape, weight, bias, c["layer_norm_epsilon"])

        def linear(name):
            return make_linear(weights[f"{name}.weight"].T.contiguous(), weights[f"{name}.bias"])

        def layer(at):
            up, down = linear(f"{at}.mlp.c_fc"), linear(f"{at}.mlp.c_proj")
            return (norm(f"{at}.ln_1"), linear(f"{at}.attn.c_attn"), linear(f"{at}.attn.c_proj"), norm(f"{at}.ln_2"),
                    lambda x: down(F.gelu(up(x), approximate="tanh")))

        self.final_norm = norm("ln_f")
        return [layer(f"h.{i}") for i in range(c["n_layer"])]

    def _llama(self, weights, make_linear):
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
        c = self.config
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.context, self.vocabulary, self.head_dim = 1024, c["vocab_size"], c["hidden_size"] // c["num_attention_heads"]
        self.embedding, self.positions = weights["embed_tokens.weight"].to(self.dtype), None
        theta = c["rope_parameters"]["rope_theta"]
        angles = torch.outer(torch.arange(self.context).float(), theta ** -(torch.arange(0, self.head_dim, 2) / self.head_dim))
        self.cos, self.sin = angles.cos().repeat(1, 2).to(self.dtype), angles.sin().repeat(1, 2).to(self.dtype)
        self.output = make_linear(weights["embed_tokens.weight"], None)

        def norm(name):
            weight = weights[f"{name}.weight"].to(self.dtype)
            return lambda x: F.rms_norm(x, weight.shape, weight, c["rms_norm_eps"])

        def joined(at, *names):
            return make_linear(torch.cat([weights[f"{at}.{name}.weight"] for name in names]), None)

        def layer(at):
            gate_up, down = joined(at, "mlp.gate_proj", "mlp.up_proj"), joined(at, "mlp.down_proj")

            def mlp(x):
                gate, up = gate_up(x).chunk(2, -1)
                return down(F.silu(gate) * up)
            return (norm(f"{at}.input_layernorm"), joined(at, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                    joined(at, "self_attn.o_proj"), norm(f"{at}.post_attention_layernorm"), mlp)

        self.final_norm = norm("norm")
        return [layer(f"layers.{i}") for i in range(c["num_hidden_layers"])]

    def _rotate(self, x, start):
        cos, sin = self.cos[start:start + x.shape[1]], self.sin[start:start + x.shape[1]]
        low, high = x.chunk(2, -1)
        return x * cos + torch.cat((-high, low), -1) * sin

    def forward(self, ids, start):
        """Writes the KV of ids at positions start… and returns the logits of the last one."""
        count, end = len(ids), start + len(ids)
        x = self.embedding[ids]
        if self.positions is not None:
            x = x + self.positions[start:end]
        for (norm_1, qkv, output, norm_2, mlp), kv in zip(self.layers, self.kv):
            heads = qkv(norm_1(x)).view(count, -1, self.head_dim).transpose(0, 1)
            q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads))
            if self.cos is not None:
                q, k = self._rotate(q, start), self._rotate(k, start)
            kv[0, :, start:end], kv[1, :, start:end] = k, v
            attended = self.attention(q, kv[0, :, :end], kv[1, :, :end])
            x = x + output(attended.transpose(0, 1).reshape(count, -1))
            x = x + mlp(norm_2(x))
        return self.output(self.final_norm(x[-1:]))
