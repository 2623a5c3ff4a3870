"""Writes docs/paper.md from the rows of the runs. Every figure of ours on it is computed here; the paper's are in PAPER."""

import statistics

import figures
from claims import claims
from figures import bootstrap, select
from measured import ARMS, FULL_COUNTS, FULL_MODELS, HIGH, MAX_FOREIGN_CORES, PAPER, Measured, mean_or_none, numbers, percent, plain, shares, table

INTRODUCTION = """\
# The paper's experiment, again

{draft}This page is written by `make paper` (`tests/bench/paper/page.py`) from `results/*.csv`; no figure on it was typed in.

[arXiv 2512.11851](https://arxiv.org/abs/2512.11851) caches the KV of ten prompts of DialoGPT-medium, finds one by sentence embedding for
each of six longer prompts, and hands it to `generate()` when the cached prompt is a token prefix. It reports that this is
{speedup} faster on average, with outputs of similarity {similarity} to those without the cache.

| arm | what it is | where |
| --- | --- | --- |
| B | cold: the whole prompt is computed | `reprise paper`, over gRPC |
| P0 | the published call: the suffix's ids, the prefix's KV and a mask of the suffix's length | `paper_bench`, no server; compared with RB, the cold prompt there |
| P1 | correct reuse, the prefix in memory, found token by token | `reprise paper` |
| P2 | correct reuse as the paper's flow has it: embedding, vector search and loading from disk, all in the time | `reprise paper` |

Speedup is the paper's: (L_cold − L_reuse) ÷ L_cold. Latency is the caller's, of the whole reply. Brackets are 95 % bootstrap
intervals over the repeats (1,000 resamples), given from {least} repeats on; "mean" is over prompts, each by its median. Arms take
turns from round to round.
Similarity is the cosine of all-MiniLM-L6-v2 embeddings of the *new* tokens.

"""
DRAFT = """\
**This is a draft.** Missing of the experiment that `make paper` runs: {missing}.

"""
CHANGES = """\
Why the published call changes outputs: in Transformers 4.45.2 the published call drops tokens of the suffix and numbers positions anew, without a word
(`tests/bench/paper/published_call.h`). With at most as many suffix tokens as cached ones, only the last is computed, told it is the
suffix's last position; with more, the first k of them vanish. The model answers another, shorter prompt.

"""
LENGTHS = """\
Its replies also end elsewhere, and so take another time: a speedup that includes replies of other lengths measures where they end, not
reuse.

"""
COUNTED = {"repeats": "repeats", "depth_repeats": "repeats by depth", "generated": "generated prompts"}
RANDOM = "With random weights the replies mean nothing: of P0's, only that they differ says something.\n\n"
REPEAT = """\
## To repeat it

```
make paper                      # both models, {repeats} repeats; results/*.csv and this page
build/release/bin/reprise paper # against any server of yours: see --help
```

The prompts are in `tests/data/paper`; the generated ones follow from `--seed`. On a GPU or another CPU the times are others, the tokens
of P1 and P2 are those of B all the same.
"""


def output_counts(pairs):
    return (f"{', '.join(str(int(p.cold[0]['output_tokens'])) for p in pairs)} → "
            f"{', '.join(str(int(p.warm[0]['output_tokens'])) for p in pairs)}")


def results_rows(m, ends):
    """The paper's results table row by row, then what it leaves out."""
    pairs = [m.pairs[arm, ends] for arm in ARMS]
    prompt_similarities = [p.warm[0]["prompt_similarity"] for p in m.pairs["P2", ends]]
    found = [value for value in prompt_similarities if value is not None]
    hits = [sum(p.warm[0]["reused_tokens"] > 0 for p in each) for each in pairs]
    no_cache = [m.unrelated_speedup(arm) if ends == m.equal else None for arm in ("P1", "P2")]
    nothing = ["–", "–"]
    return [
        ["", "paper", "P0, published call", "P1, correct reuse", "P2, with retrieval and load"],
        ["cache hits", f"{PAPER['hits']}/{PAPER['prompts']}", *[f"{h}/{len(each)}" for h, each in zip(hits, pairs)]],
        ["tokens reused", PAPER["tokens"], *[int(sum(p.warm[0]["reused_tokens"] for p in each)) for each in pairs]],
        ["average speedup (mean of ratios)", percent(PAPER["speedup"]), *[shares(m.speedup(arm, ends)) for arm in ARMS]],
        ["speedup of the mean latencies", percent(1 - PAPER["reuse_s"] / PAPER["cold_s"]),
         *[shares(bootstrap(each, figures.saved_share_of_means)) for each in pairs]],
        ["average output similarity", plain(PAPER["similarity"]), *[plain(m.similarity(arm, ends)) for arm in ARMS]],
        ["– with two empty replies as 1", "", *[plain(m.similarity(arm, ends, empty=True)) for arm in ARMS]],
        ["– as the published code compares", "", plain(m.similarity("P0", ends, "similarity_as_published", empty=True)), *nothing],
        ["average prompt similarity", plain(PAPER["prompt_similarity"]), "–", "–", plain(mean_or_none(found))],
        [f"prompts of similarity > {HIGH}", f"{PAPER['high']}/{PAPER['prompts']}", "–", "–",
         f"{sum(value > HIGH for value in found)}/{len(prompt_similarities)}"],
        ["average latency cold, ms", f"{1e3 * PAPER['cold_s']:.0f}", *[numbers(m.latency(arm, ends, True)) for arm in ARMS]],
        ["average latency with reuse, ms", f"{1e3 * PAPER['reuse_s']:.0f}",
         *[numbers(m.latency(arm, ends, False)) for arm in ARMS]],
        ["no cache: speedup without overlap", "nan", "–", *["–" if i is None else shares(i) for i in no_cache]],
        ["outputs equal to cold", "not stated", *[f"{figures.same_outputs(each)}/{len(each)}" for each in pairs]],
        ["both replies empty", "not stated", *[f"{sum(map(figures.is_empty, each))}/{len(each)}" for each in pairs]],
        ["reply tokens, cold → reuse", "not stated", *[output_counts(each) for each in pairs]],
    ]


def results_text(m):
    text = table(results_rows(m, "eos"))
    lengths = f"Replies of up to {m.model.output_tokens} tokens, as the paper has them: a reply may end early.\n\n{text}\n"
    if m.equal == "eos":
        return lengths + "No reply ended early: the lengths are equal already, and this is the second table too.\n"
    return (f"{lengths}End of text ignored, {m.model.equal_tokens} tokens each, so that every arm does the same work:\n\n"
            f"{table(results_rows(m, 'length'))}")


def published_rows(m):
    rows = [["prompt", "k", "suffix", "P0 computes (id@position)", "belongs at", "similarity, equal lengths"]]
    for p in m.pairs["P0", m.equal]:
        row = p.warm[0]
        k, tokens = int(row["reused_tokens"]), int(row["prompt_tokens"])
        rows.append([row["text"], k, f"{tokens - k} tokens", f"`{row['fed']}`", f"{k}..{tokens - 1}",
                     plain(row["similarity_equal_lengths"])])
    return rows


def published_text(m):
    fed = sum(len(p.warm[0]["fed"].split()) for p in m.pairs["P0", m.equal])
    new = sum(int(p.warm[0]["prompt_tokens"] - p.warm[0]["reused_tokens"]) for p in m.pairs["P0", m.equal])
    rule = ("" if m.is_gpt2 else "On this architecture the library's call raises an error for suffixes no longer than the prefix; the "
            "table has the rule of GPT-2, applied to this model.\n\n")
    return (f"{rule}{table(published_rows(m))}\nOf {new} suffix tokens P0 computes {fed}. Its outputs equal the cold ones for "
            f"{figures.same_outputs(m.pairs['P0', m.equal])} of {len(m.pairs['P0', m.equal])} prompts.\n")


def depth_rows(m):
    rows = [["cached tokens k", "k/m", "TTFT cold, ms", "TTFT P1, ms", "saved by P1", "TTFT P2, ms", "saved by P2", "load from disk, ms"]]
    for one, two in zip(m.depth["P1"], m.depth["P2"]):
        def first(interval_of, item):
            return bootstrap([item], lambda items: interval_of(items))
        cold = statistics.median(figures.column(one.cold, "first_token_ms"))
        row = one.warm[0]
        saved = [first(lambda items: figures.mean_saved_share(items, "first_token_ms"), item) for item in (one, two)]
        rows.append([int(row["common_tokens"]), f"{row['common_tokens'] / row['prompt_tokens']:.2f}", f"{cold:.1f}",
                     f"{statistics.median(figures.column(one.warm, 'first_token_ms')):.1f}", shares(saved[0]),
                     f"{statistics.median(figures.column(two.warm, 'first_token_ms')):.1f}", shares(saved[1]),
                     f"{statistics.median(figures.column(two.warm, 'actual_load_ms')):.2f}"])
    return rows


def costs_text(m):
    """The fitted costs, alpha, and from where on loading pays."""
    end_to_end = m.alpha(m.pairs["P1", m.equal])
    deep = m.alpha(m.depth["P1"], "first_token_ms")
    gain = m.encode.slope - m.load.slope
    pays = max(0.0, m.load.intercept / gain) if gain > 0 else None
    crossover = "at no depth" if pays is None else f"from {pays:.0f} cached tokens on"
    paper = select(m.rows, arm="B", set="paper", ends=m.equal)
    tokens = statistics.mean(row["prompt_tokens"] for row in paper)
    replies = statistics.mean(row["output_tokens"] for row in paper)
    encode = m.encode.intercept + m.encode.slope * tokens
    bound = encode / (encode + m.decode * (replies - 1))
    low, high = PAPER["alpha"]
    reused = statistics.mean(p.warm[0]["reused_tokens"] for p in m.pairs["P2", m.equal])
    lookup = statistics.median(row["lookup_ms"] for p in m.pairs["P2", m.equal] for row in p.warm)
    return (f"* The {reused:.1f} tokens reused on average take {m.encode.slope * reused:.2f} ms to compute by the fit below; embedding and vector "
            f"search take {lookup:.2f} ms, and loading {m.load.intercept + m.load.slope * reused:.2f} ms.\n"
            f"* T_enc(n) = {m.encode.intercept:.2f} + {m.encode.slope:.3f} n ms; T_dec = {m.decode:.2f} ms a token; "
            f"T_load(k) = {m.load.intercept:.2f} + {m.load.slope:.4f} k ms from disk. T_enc(k) − T_enc(0) exceeds T_load {crossover}.\n"
            f"* α of S ≈ α·k/m: {numbers(end_to_end, 2)} end to end on the paper's prompts, {numbers(deep, 2)} for the first token at depths "
            f"of 16 to {int(max(p.warm[0]['common_tokens'] for p in m.depth['P1']))}. The paper's {low}–{high} exceeds 1, which its own model "
            f"rules out: α = T_enc(m) ÷ (T_enc(m) + T_dec), here {bound:.2f}, even if every prompt token cost alike.\n")


def machine_text(m):
    f = m.facts
    return (f"{f['cpu']}, {f['cores']} cores, {f['threads']} threads; weights and arithmetic `{m.served['numerics_id']}`, KV "
            f"{m.served['kv_dtype']}; batch 1, greedy; {f['repeats']} repeats of the paper's prompts, {f['depth_repeats']} of those by depth; "
            f"{f['seconds'] / 60:.0f} minutes. Other programs had {f['foreign_cores']:.2f} cores meanwhile"
            f"{': the times say little then, the tokens all' if f['foreign_cores'] > MAX_FOREIGN_CORES else ''}.\n")


def generated_text(m):
    p1 = m.generated
    reused = sum(int(p.warm[0]["reused_tokens"]) for p in p1)
    same = figures.same_outputs(p1)
    return f"{m.model.name}: {same}/{len(p1)} generated prompts give the cold tokens with reuse, {reused} tokens reused."


def tables(runs):
    """What is printed at the end of a run."""
    lines = []
    for run in runs:
        m = Measured(run)
        lines += [f"== {m.model.title}", results_text(m), generated_text(m),
                  *[f"{arm} = B token for token: {m.same_of_ten(arm)}/{m.of_ten(arm)}" for arm in ("P1", "P2")], ""]
    return "\n".join(lines)


def model_text(m, plots):
    name = m.model.name
    return (f"## {m.model.title}\n\n{machine_text(m)}\n### The results table\n\n{results_text(m)}\n"
            f"{RANDOM if m.model.random_weights else ''}### What the published call computes\n\n{published_text(m)}\n### By depth of reuse\n\n{table(depth_rows(m))}\n"
            f"{costs_text(m)}\n![time to first token by depth of reuse]({plots}/{name}-latency.svg)\n\n"
            f"![speedup by depth of reuse]({plots}/{name}-speedup.svg)\n\n![depth of reuse]({plots}/{name}-reuse.svg)\n\n")


def missing(names, facts):
    """What runs of the models `names` lack of the whole experiment, in words; `facts` are theirs, one each."""
    lacking = [f"the model {name}" for name in FULL_MODELS if name not in names]
    for name, counts in zip(names, facts):
        lacking += [f"{full - counts[key]} of {full} {COUNTED[key]} of {name}" for key, full in FULL_COUNTS.items() if counts[key] < full]
    return lacking


def why_text(ms):
    """Explanations of what the tokens show, which no other program can disturb."""
    pairs = [p for m in ms for arm, ends in (("P0", "eos"), ("P0", m.equal)) for p in m.pairs[arm, ends]]
    changes = figures.same_outputs(pairs) < len(pairs)
    lengths = any(p.cold[0]["output_tokens"] != p.warm[0]["output_tokens"] for p in pairs)
    return (CHANGES if changes else "") + (LENGTHS if lengths else "")


def text(runs, plots):
    """The page; `plots` is the folder of its pictures, beside it."""
    ms = [Measured(run) for run in runs]
    rows = [["the paper claims", "measured", "verdict"], *claims(ms)]
    gaps = missing([m.model.name for m in ms], [m.facts for m in ms])
    busy = [f"a machine of its own for {m.model.name} (other programs had {m.facts['foreign_cores']:.2f} cores)" for m in ms
            if m.facts["foreign_cores"] > MAX_FOREIGN_CORES]
    parts = [INTRODUCTION.format(speedup=percent(PAPER["speedup"]), similarity=PAPER["similarity"], least=figures.LEAST_REPEATS,
                                 draft=DRAFT.format(missing="; ".join(gaps + busy)) if gaps else ""),
             "## What holds\n\n", table(rows), "\n", why_text(ms), *[model_text(m, plots) for m in ms],
             "## Generated prompts\n\n", *[f"* {generated_text(m)}\n" for m in ms], "\n",
             REPEAT.format(repeats=FULL_COUNTS["repeats"])]
    return "".join(parts)
