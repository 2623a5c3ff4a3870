"""What an unconstrained torch model of the DialoGPT-medium shape takes under CUDA graphs:
fp16, random weights, scaled_dot_product_attention, the head over the last row only. Prints
one JSON line with the keys of cuda_bench."""

import json
import statistics
import time

import torch
import torch.nn.functional as F

LAYERS, HEADS, WIDTH, VOCABULARY, CONTEXT = 24, 16, 1024, 50257, 1024
DEVICE = "cuda"


def half(*shape):
    return (torch.randn(*shape, device=DEVICE) * 0.03).half()


class Model:
    def __init__(self):
        self.tokens, self.positions = half(VOCABULARY, WIDTH), half(CONTEXT, WIDTH)
        self.layers = [
            {name: (half(out, depth), half(out)) for name, out, depth in (
                ("qkv", 3 * WIDTH, WIDTH), ("proj", WIDTH, WIDTH),
                ("up", 4 * WIDTH, WIDTH), ("down", WIDTH, 4 * WIDTH))}
            for _ in range(LAYERS)]
        self.norm = (torch.ones(WIDTH, device=DEVICE).half(), half(WIDTH))

    def forward(self, ids, cache, past):
        """`ids` [batch, n]; `cache` of `past` + n positions, written in place."""
        batch, n = ids.shape
        x = self.tokens[ids] + self.positions[past:past + n]
        for layer, (keys, values) in zip(self.layers, cache):
            h = F.layer_norm(x, (WIDTH,), *self.norm)
            q, k, v = F.linear(h, *layer["qkv"]).view(batch, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            keys[:, :, past:past + n] = k
            values[:, :, past:past + n] = v
            causal = n > 1 and past == 0
            a = F.scaled_dot_product_attention(q, keys[:, :, :past + n], values[:, :, :past + n],
                                               is_causal=causal)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, n, WIDTH), *layer["proj"])
            h = F.layer_norm(x, (WIDTH,), *self.norm)
            x = x + F.linear(F.gelu(F.linear(h, *layer["up"]), approximate="tanh"), *layer["down"])
        last = F.layer_norm(x[:, -1], (WIDTH,), *self.norm)
        return F.linear(last, self.tokens).argmax(-1)


def milliseconds(model, batch, n, past):
    ids = torch.zeros(batch, n, dtype=torch.long, device=DEVICE)
    shape = (batch, HEADS, past + n, WIDTH // HEADS)
    cache = [(half(*shape), half(*shape)) for _ in range(LAYERS)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            model.forward(ids, cache, past)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.forward(ids, cache, past)
    times = []
    for i in range(53):
        start = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        if i >= 3:
            times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 3)


@torch.inference_mode()
def main():
    model = Model()
    figures = {"numerics": f"torch {torch.__version__}, {torch.cuda.get_device_name()}"}
    for batch in (1, 8, 32):
        figures[f"decode_{batch}_ms"] = milliseconds(model, batch, 1, 512)
    for n in (16, 40, 64, 128, 256, 512, 1023):
        figures[f"prefill_{n}_ms"] = milliseconds(model, 1, n, 0)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
