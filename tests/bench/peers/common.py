"""What the peers' runners share: where files lie, the prompts, the timing and the one line of JSON.

Every runner measures one peer with one model, weight format, number of threads and setting, and prints
  {"peer", "version", "model", "dtype", "threads", "setting", "flags", "repeats", "samples",
   "prefill_544_ms", "prefill_1000_ms", "decode_ms_at_512"}
Figures are medians of `samples`, which are taken in turn so that a busy moment hits all alike. A prefill ends
with the logits of the prompt's last token; a decode sample is the mean over DECODE_STEPS tokens that follow 512.
Ours, build/release/bin/engine_bench, takes the same arguments, --setting aside, and prints the same line.
"""

import argparse
import json
import os
import statistics
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PEERS = os.path.join(ROOT, "build", "peers")
MODELS = os.path.join(PEERS, "models")
LLAMA_BIN = os.path.join(PEERS, "llama.cpp", "build", "bin")
BIN = os.path.join(ROOT, "build", "release", "bin")

PREFILLS = (544, 1000)
CONTEXT = 512
DECODE_STEPS = 24
FIGURES = ("prefill_544_ms", "prefill_1000_ms", "decode_ms_at_512")
MAX_FOREIGN_CORES = 0.15  # of other programs, above which a measurement says nothing


def parse(description, dtypes):
    """The arguments of a runner."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["smollm2", "dialogpt"])
    parser.add_argument("--dtype", choices=list(dtypes), required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--setting", default="", help="as the runner's docstring says")
    return parser.parse_args()


def words(setting):
    """The dict that a setting's key=value words spell."""
    return dict(word.split("=", 1) for word in setting.split())


def prompt_ids(vocabulary, length, seed=0):
    """Ids that are the same for every peer, away from special tokens."""
    state, ids = seed * 2654435761 + 12345, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append(300 + (state >> 33) % (vocabulary - 600))
    return ids


def milliseconds(work, *arguments):
    started = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - started)


def measure(prefill, decode, repeats):
    """Samples of all figures. `prefill(n)` and `decode()` return milliseconds and run once unmeasured first."""
    samples = {name: [] for name in FIGURES}
    prefill(CONTEXT // 4)
    decode()
    for _ in range(repeats):
        for length in PREFILLS:
            samples[f"prefill_{length}_ms"].append(prefill(length))
        samples["decode_ms_at_512"].append(decode())
    return samples


def report(peer, version, options, samples, flags=""):
    """Prints the line of JSON."""
    line = {"peer": peer, "version": version, "model": options.model, "dtype": options.dtype,
            "threads": options.threads, "setting": options.setting, "flags": flags, "samples": samples}
    print(json.dumps({**line, **summary(samples)}), flush=True)


def summary(samples):
    """The figures of samples: medians, and how many there are."""
    return {**{name: round(statistics.median(values), 3) for name, values in samples.items() if values},
            "repeats": max(len(values) for values in samples.values())}
