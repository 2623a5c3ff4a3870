"""The line of verify-bench on the paper's experiment: correct reuse repeats the cold tokens, and the published call's outputs
are explained by what it computes. The runs are those of `make paper` (tests/bench/paper), with fewer repeats."""

import os
import shutil
import statistics
import sys

from measuring import judge
from report import QUICK, check, run, show
from server_process import ROOT

PAPER = os.path.join(ROOT, "tests", "bench", "paper")
sys.path.insert(0, PAPER)
import figures  # noqa: E402  of the experiment
from measured import PAPER as PUBLISHED, Measured, plain, shares  # noqa: E402
from paper_models import MODELS  # noqa: E402

PYTHON = os.path.join(ROOT, ".venv-oracle", "bin", "python")
RESULTS = os.path.join("build", "paper", "verify")
NAMES = ["smollm2", "dialogpt-2-layers" if QUICK else "dialogpt"]
REPEATS, DEPTH_REPEATS, GENERATED = (1, 1, 40) if QUICK else (5, 3, 1000)
SECONDS = 90 if QUICK else 1200  # of both models, on two cores


def check_published(m):
    """P0 computes what the rule says, from the same cold outputs, and that is why its outputs are others."""
    pairs = m.pairs["P0", m.equal]
    served = {p.prompt: p.cold[0]["output"] for p in m.pairs["P1", m.equal]}
    baseline = sum(p.cold[0]["output"] == served[p.prompt] for p in pairs)
    check(f"{m.model.name}: the cold tokens beside P0 are those served", f"{baseline}/{len(pairs)}", "6/6", baseline == len(pairs) == 6)
    suffixes = {row["prompt"]: row["fed"].split() for row in figures.select(m.rows, arm="RP1", set="paper", ends=m.equal)}
    by_rule = 0
    for p in pairs:
        row, suffix = p.warm[0], suffixes[p.prompt]
        k = int(row["reused_tokens"])
        whole = [int(word.split("@")[1]) for word in suffix] == list(range(k, int(row["prompt_tokens"])))
        by_rule += whole and row["fed"].split() == figures.published_feed(suffix, k)
    check(f"{m.model.name}: P0 feeds the ids and positions of the published rule", f"{by_rule}/{len(pairs)}", "6/6", by_rule == len(pairs) == 6)
    lost = sum(int(p.warm[0]["prompt_tokens"] - p.warm[0]["reused_tokens"]) - len(p.warm[0]["fed"].split()) for p in pairs)
    differs = len(pairs) - figures.same_outputs(pairs)
    similarity = m.similarity("P0", m.equal)
    check(f"{m.model.name}: P0 drops suffix tokens, and outputs differ", f"{lost} tokens, {differs}/{len(pairs)} outputs, similarity "
          f"{plain(similarity)}", "> 0, > 0, < 1", lost > 0 and differs > 0 and similarity < 1)
    show(f"{m.model.name}: P0 as the published code compares, may end early",
         f"{plain(m.similarity('P0', 'eos', 'similarity_as_published', empty=True))} (the paper: {PUBLISHED['similarity']})")


def check_model(m):
    for arm in ("P1", "P2"):
        same, total = m.same_of_ten(arm), m.of_ten(arm)
        check(f"{m.model.name}: {arm} = B token for token", f"{same}/{total}", "10/10", same == total == 10)
    hits = sum(p.warm[0]["disk_tokens"] == p.warm[0]["reused_tokens"] > 0 for p in m.pairs["P2", m.equal])
    check(f"{m.model.name}: P2 retrieves and loads from disk", f"{hits}/6", "6/6", hits == 6)
    same, reused = figures.same_outputs(m.generated), sum(p.warm[0]["reused_tokens"] > 0 for p in m.generated)
    check(f"{m.model.name}: generated, P1 = B token for token, with reuse", f"{same}/{len(m.generated)}, {reused} with reuse",
          f"all {GENERATED}", same == len(m.generated) == GENERATED == reused)
    check_published(m)
    repeats = statistics.mode(len(p.cold) for p in m.pairs["P1", m.equal])
    show(f"{m.model.name}: speedup end to end, {repeats} repeats", f"P1 {shares(m.speedup('P1', m.equal))}, P2 {shares(m.speedup('P2', m.equal))}")


def line_4_paper():
    shutil.rmtree(os.path.join(ROOT, RESULTS), ignore_errors=True)
    page = os.path.join(RESULTS, "paper.md")
    code, output, seconds = run([PYTHON, os.path.join(PAPER, "paper.py"), "--models", ",".join(NAMES), "--results", RESULTS, "--page", page,
                                 "--repeats", str(REPEATS), "--depth-repeats", str(DEPTH_REPEATS), "--generated", str(GENERATED)])
    if code != 0:
        print(output[-3000:])
        check("the paper's experiment ran", f"exit {code}", "exit 0", False)
        return
    print(output[output.find("|  | paper |"):])
    import paper
    loaded = [paper.load(MODELS[name], os.path.join(ROOT, RESULTS, "raw", name)) for name in NAMES]
    for each in loaded:
        check_model(Measured(each))
    files = [page, *(os.path.join(RESULTS, f"{name}.csv") for name in ("baseline", "recycled", "merged")),
             *(os.path.join(RESULTS, "paper", f"{name}-{plot}.svg") for name in NAMES for plot in ("latency", "speedup", "reuse"))]
    there = sum(os.path.getsize(os.path.join(ROOT, file)) > 0 for file in files if os.path.exists(os.path.join(ROOT, file)))
    check("the page, its plots and the CSV files", f"{there}/{len(files)}", "all", there == len(files))
    judge("seconds of both models", f"{seconds:.0f}", f"<= {SECONDS}", seconds <= SECONDS,
          max(each["facts"]["foreign_cores"] for each in loaded))
