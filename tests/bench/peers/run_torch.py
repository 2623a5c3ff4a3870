#!/usr/bin/env python3
"""Measures libtorch called directly (see torch_decoder.py).

--setting  linear=plain      F.linear over [features, depth]                          (fp32, bf16)
           linear=prepacked  oneDNN's linear over weights reordered once               (fp32, bf16)
           linear=weight     weight-only int8, bf16 activations, one scale per feature (int8)
           linear=dynamic    quantize_dynamic: int8 activations too, fp32 around       (int8)
           engine=NAME       quantised engine of linear=dynamic: x86, fbgemm, onednn
           attention=fused|products  of a single token
"""

import warnings

import torch
import torch.nn.functional as F

import common
from torch_decoder import Decoder, attend, attend_by_products


def plain(dtype):
    def make(weight, bias):
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        return lambda x: F.linear(x, weight, bias)
    return make


def prepacked(dtype):
    def make(weight, bias):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous())
        bias = None if bias is None else bias.to(dtype)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return make


def weight_only_int8(weight, bias):
    scale = weight.abs().amax(1) / 127
    values = (weight / scale[:, None]).round().to(torch.int8)
    scale, bias = scale.to(torch.bfloat16), torch.zeros(()) if bias is None else bias
    bias = bias.to(torch.bfloat16)
    return lambda x: torch._weight_int8pack_mm(x, values, scale) + bias


def dynamic_int8(weight, bias):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data = weight.contiguous()
    if bias is not None:
        linear.bias.data = bias
    return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, torch.qint8)[0]


def make_decoder(options):
    dtype = torch.float32 if options.dtype == "fp32" else torch.bfloat16
    setting = common.words(options.setting)
    attention = attend_by_products if setting.get("attention") == "products" else attend
    kind = setting.get("linear", "weight" if options.dtype == "int8" else "plain")
    if kind == "dynamic":
        torch.backends.quantized.engine = setting.get("engine", "x86")
        return Decoder(options.model, torch.float32, dynamic_int8, attention)
    make = weight_only_int8 if kind == "weight" else {"plain": plain, "prepacked": prepacked}[kind](dtype)
    return Decoder(options.model, dtype, make, attention)


def main():
    options = common.parse(__doc__, ["fp32", "bf16", "int8"])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    decoder = make_decoder(options)
    ids = torch.tensor(common.prompt_ids(decoder.vocabulary, 1024))

    def prefill(length):
        return common.milliseconds(decoder.forward, ids[:length], 0)

    def decode():
        steps = range(common.CONTEXT, common.CONTEXT + common.DECODE_STEPS)
        return sum(common.milliseconds(decoder.forward, ids[i:i + 1], i) for i in steps) / common.DECODE_STEPS

    samples = common.measure(prefill, decode, options.repeats)
    common.report("torch", torch.__version__, options, samples, f"oneDNN {torch.backends.mkldnn.is_available()}")


if __name__ == "__main__":
    main()
