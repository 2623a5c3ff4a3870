#!/usr/bin/env python3
"""The rate of oneDNN's products through libtorch over weights reordered once, as one line of JSON:
  {"dtype", "threads", "version", "rates": {SHAPE: {"median", "best"}}}
Rates are in giga-operations per second of all threads; a multiply-add is two. int8 products read unsigned rows that
are quantised already and write fp32, with a scale per feature. It takes what build/release/bin/matrix_rate takes."""

import argparse
import json
import statistics

import torch

import common
from run_torch import prepacked


def quantised(weight):
    scale = weight.abs().amax(1) / 127
    values = (weight / scale[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(values, None)
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    return lambda x: torch.ops.onednn.qlinear_pointwise(x, 0.02, 128, packed, scale, zeros, None, 1.0, 0,
                                                        torch.float32, "none", [], "")


def rate(dtype, shape, repeats):
    rows, features, depth = (int(size) for size in shape.split("x"))
    weight = torch.rand(features, depth) - 0.5
    if dtype == "int8":
        x, product = torch.randint(0, 256, (rows, depth), dtype=torch.uint8), quantised(weight)
    else:
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        x, product = torch.rand(rows, depth).to(kind), prepacked(kind)(weight, None)
    product(x)
    milliseconds = [common.milliseconds(product, x) for _ in range(repeats)]
    operations = 2e-6 * rows * features * depth
    return {"median": operations / statistics.median(milliseconds), "best": operations / min(milliseconds)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dtype", choices=["fp32", "bf16", "int8"])
    parser.add_argument("threads", type=int)
    parser.add_argument("repeats", type=int)
    parser.add_argument("shapes", nargs="+", metavar="ROWSxFEATURESxDEPTH")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    rates = {shape: rate(options.dtype, shape, options.repeats) for shape in options.shapes}
    print(json.dumps({"dtype": options.dtype, "threads": options.threads, "version": torch.__version__, "rates": rates}))


if __name__ == "__main__":
    main()
