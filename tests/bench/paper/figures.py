"""Figures of the paper's experiment from the lines of its requests: pairing of arms, medians, bootstrap intervals, fits.
Pure functions over rows, and nothing but the standard library.

A row is one request as client/paper/paper_record.h writes it, with numbers as numbers. Speedups are shares of the cold
time that are saved, as in the paper: (L_cold - L_reuse) / L_cold.
"""

import collections
import csv
import math
import random
import statistics

TEXTS = ("set", "arm", "ends", "text", "finish", "fed", "output", "reply", "model")
RESAMPLES = 1000
LEAST_REPEATS = 10  # below which resampling says nothing of how far a median may be off
COLD_OF = {"P1": "B", "P2": "B", "P0": "RB", "RP1": "RB"}  # what an arm is compared with

Interval = collections.namedtuple("Interval", "value low high")  # -inf to inf: nothing is known of how far it may be off
Line = collections.namedtuple("Line", "intercept slope")
Pair = collections.namedtuple("Pair", "prompt cold warm")  # rows by repeat, in the same order


def number(text):
    return None if text == "" else float(text)


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: value if name in TEXTS else number(value) for name, value in row.items()}
                for row in csv.DictReader(file)]


def select(rows, **wanted):
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def pair(rows, arm, **wanted):
    """A Pair for each prompt of the rows wanted that both arms have, of the repeats that both have."""
    by_prompt = collections.defaultdict(lambda: ({}, {}))
    for row in select(rows, **wanted):
        if row["arm"] in (arm, COLD_OF[arm]):
            by_prompt[row["prompt"]][row["arm"] == arm][row["repeat"]] = row
    pairs = []
    for prompt, (cold, warm) in sorted(by_prompt.items()):
        repeats = sorted(cold.keys() & warm.keys())
        if repeats:
            pairs.append(Pair(prompt, [cold[r] for r in repeats], [warm[r] for r in repeats]))
    return pairs


def column(rows, name):
    return [row[name] for row in rows]


def saved_share(cold, warm):
    """Of two lists of times, by their medians."""
    return 1 - statistics.median(warm) / statistics.median(cold)


def mean_saved_share(pairs, times="client_ms"):
    """Mean over the prompts: the mean of ratios."""
    return statistics.mean(saved_share(column(p.cold, times), column(p.warm, times)) for p in pairs)


def saved_share_of_means(pairs, times="client_ms"):
    """Of the mean latencies: the ratio of means."""
    return 1 - mean_latency([p.warm for p in pairs], times) / mean_latency([p.cold for p in pairs], times)


def mean_latency(prompts, times="client_ms"):
    """Mean over prompts of each one's median over its repeats."""
    return statistics.mean(statistics.median(column(rows, times)) for rows in prompts)


def bootstrap(items, figure, seed=1, resamples=RESAMPLES):
    """figure(items) with its 95 % percentile interval over the repeats of each item: `items` are lists of repeats, or Pairs,
    whose repeats are drawn together. The prompts themselves are what they are and are not drawn. Without bounds where an item
    has fewer than LEAST_REPEATS, and where resampling shifts the figure so far that it does not lie within them."""
    value = figure(items)
    unknown = Interval(value, -math.inf, math.inf)
    if min(len(_repeats(item)) for item in items) < LEAST_REPEATS:
        return unknown
    draw = random.Random(seed)
    values = sorted(figure([_resampled(item, draw) for item in items]) for _ in range(resamples))
    low, high = values[int(0.025 * resamples)], values[min(resamples - 1, int(0.975 * resamples))]
    return Interval(value, low, high) if low <= value <= high else unknown


def has_bounds(interval):
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def _repeats(item):
    return item.cold if isinstance(item, Pair) else item


def _resampled(item, draw):
    repeats = len(_repeats(item))
    chosen = draw.choices(range(repeats), k=repeats)
    if isinstance(item, Pair):
        return Pair(item.prompt, [item.cold[i] for i in chosen], [item.warm[i] for i in chosen])
    return [item[i] for i in chosen]


def fit_line(points):
    """Least squares of y = intercept + slope x over (x, y)."""
    slope, intercept = statistics.linear_regression(*zip(*points))
    return Line(intercept, slope)


def fit_alpha(points):
    """Least squares of y = alpha x."""
    return statistics.linear_regression(*zip(*points), proportional=True).slope


def by_prompt(rows):
    """Lists of rows, one for each prompt of each set and way to end."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["set"], row["ends"], row["prompt"]].append(row)
    return [groups[key] for key in sorted(groups)]


def medians(rows, x, y):
    """A point for each prompt: its x, and the median of y over its repeats."""
    return [(group[0][x], statistics.median(column(group, y))) for group in by_prompt(rows)]


def encode_line(rows):
    """T_enc(n) in ms: prefill of n prompt tokens, cold."""
    return fit_line(medians(select(rows, arm="B", set="depth") + select(rows, arm="B", set="paper"), "prompt_tokens",
                            "prefill_ms"))


def decode_ms_per_token(rows):
    """T_dec in ms a token; the first of a reply comes with the prefill."""
    replies = [row for row in rows if row["arm"] == "B" and row["set"] != "generated" and row["output_tokens"] > 1]
    per_token = [row["decode_ms"] / (row["output_tokens"] - 1) for row in replies]
    return statistics.median(per_token)


def load_line(rows):
    """T_load(k) in ms: reading k tokens' KV from the store."""
    return fit_line(medians([row for row in select(rows, arm="P2") if row["disk_tokens"] > 0], "disk_tokens", "actual_load_ms"))


def alpha_points(pairs, times="client_ms"):
    """(k/m, S) for each prompt with reuse."""
    return [(p.warm[0]["reused_tokens"] / p.warm[0]["prompt_tokens"], saved_share(column(p.cold, times), column(p.warm, times)))
            for p in pairs if p.warm[0]["reused_tokens"] > 0]


def same_outputs(pairs):
    """How many prompts' warm output is the cold one in every repeat."""
    return sum(all(w["output"] == p.cold[0]["output"] for w in p.warm) for p in pairs)


def published_feed(correct, k):
    """What the published call feeds, as words id@position, by the rule of Transformers 4.45.2: of `correct`, the words of the whole
    suffix where it belongs, after k cached tokens."""
    ids = [word.split("@")[0] for word in correct]
    return [f"{ids[-1]}@{len(ids) - 1}"] if len(ids) <= k else [f"{id_}@{position}" for position, id_ in enumerate(ids[k:], k)]


def is_empty(pair_):
    """Whether neither reply has a token: two empty texts are as similar as texts can be, which says nothing."""
    return pair_.cold[0]["output_tokens"] == 0 and pair_.warm[0]["output_tokens"] == 0


def equal_length_ends(rows):
    """Which rows have replies of equal length: those that ignore end of text, or all when no reply ended early."""
    paper = select(rows, set="paper")
    if select(paper, ends="length"):
        return "length"
    lengths = {row["output_tokens"] for row in paper}
    if len(lengths) == 1:
        return "eos"
    raise ValueError("no replies of equal length: give reprise paper --equal-tokens")


def merged(rows):
    """Lines of merged.csv: each prompt of each arm beside its cold one, by medians."""
    lines = []
    for arm in ("P0", "RP1", "P1", "P2"):
        for key in sorted({(row["set"], row["ends"]) for row in rows}):
            for p in pair(rows, arm, set=key[0], ends=key[1]):
                cold, warm = p.cold[0], p.warm[0]
                lines.append({
                    "set": key[0], "ends": key[1], "arm": arm, "prompt": int(p.prompt), "text": cold["text"],
                    "repeats": len(p.cold), "prompt_tokens": int(cold["prompt_tokens"]),
                    "reused_tokens": int(warm["reused_tokens"]), "disk_tokens": int(warm["disk_tokens"]),
                    "prompt_similarity": warm["prompt_similarity"], "cold_output_tokens": int(cold["output_tokens"]),
                    "output_tokens": int(warm["output_tokens"]), "same_output": same_outputs([p]),
                    "both_empty": int(is_empty(p)), "similarity_new": warm["similarity_new"],
                    "similarity_equal_lengths": warm["similarity_equal_lengths"],
                    "similarity_as_published": warm["similarity_as_published"],
                    "cold_ms": statistics.median(column(p.cold, "client_ms")),
                    "reuse_ms": statistics.median(column(p.warm, "client_ms")),
                    "cold_first_token_ms": statistics.median(column(p.cold, "first_token_ms")),
                    "first_token_ms": statistics.median(column(p.warm, "first_token_ms")),
                    "speedup": saved_share(column(p.cold, "client_ms"), column(p.warm, "client_ms")),
                })
    return lines
