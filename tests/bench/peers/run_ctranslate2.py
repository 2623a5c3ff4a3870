#!/usr/bin/env python3
"""Measures CTranslate2. Its matrix library is chosen by environment variables, read when it loads:

--setting  mkl=0|1     CT2_USE_MKL: oneDNN or Intel MKL (by default the CPU's vendor decides)
           packed=0|1  CT2_USE_EXPERIMENTAL_PACKED_GEMM: MKL over weights packed once
A prefill is the time to the first token, which CTranslate2 makes of the prompt without its last token and then one step.
"""

import json
import os
import time

import common
import models

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}


def generate(generator, prompt, tokens):
    """The time at which each token came, in seconds from the call."""
    times = []
    started = time.perf_counter()

    def on_token(_):
        times.append(time.perf_counter() - started)
        return False
    generator.generate_batch([prompt], max_length=tokens, min_length=tokens, include_prompt_in_result=False,
                             beam_size=1, sampling_topk=1, callback=on_token)
    assert len(times) == tokens, f"{len(times)} tokens came, not {tokens}"
    return times


def main():
    options = common.parse(__doc__, COMPUTE_TYPES)
    setting = common.words(options.setting)
    for key, name in (("mkl", "CT2_USE_MKL"), ("packed", "CT2_USE_EXPERIMENTAL_PACKED_GEMM")):
        if key in setting:
            os.environ[name] = setting[key]
    import ctranslate2
    compute_type = COMPUTE_TYPES[options.dtype]
    folder = models.path(options.model, f"ct2-{compute_type}")
    generator = ctranslate2.Generator(folder, device="cpu", compute_type=compute_type, inter_threads=1,
                                      intra_threads=options.threads)
    with open(os.path.join(folder, "vocabulary.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)
    prompt = [vocabulary[i] for i in common.prompt_ids(len(vocabulary), 1024)]

    def prefill(length):
        return 1000 * generate(generator, prompt[:length], 1)[0]

    def decode():
        times = generate(generator, prompt[:common.CONTEXT], common.DECODE_STEPS + 1)
        return 1000 * (times[-1] - times[0]) / common.DECODE_STEPS

    samples = common.measure(prefill, decode, options.repeats)
    common.report("ctranslate2", ctranslate2.__version__, options, samples, f"compute_type={generator.compute_type}")


if __name__ == "__main__":
    main()
