"""What the runs of one model measured, as the page and its claims need it, and how figures are written."""

import statistics

import figures
from figures import bootstrap, pair

# What arXiv 2512.11851 reports (T4, DialoGPT-medium, greedy, up to 100 new tokens).
PAPER = {"hits": 6, "prompts": 6, "tokens": 38, "speedup": 0.4646, "similarity": 0.594, "prompt_similarity": 0.819,
         "high": 4, "cold_s": 0.221, "reuse_s": 0.108, "alpha": (1.2, 1.5)}
MAX_FOREIGN_CORES = 0.15  # of other programs, above which times say nothing
HIGH = 0.8  # the paper's "high similarity"
ARMS = ("P0", "P1", "P2")
# What the experiment is; with less the page is a draft.
FULL_COUNTS = {"repeats": 30, "depth_repeats": 10, "generated": 1000}
FULL_MODELS = ("smollm2", "dialogpt")


def percent(value):
    return f"{100 * value:.1f} %"


def with_bounds(interval, written):
    """The value, and its interval where there is one."""
    bounds = f" [{written(interval.low)}, {written(interval.high)}]" if figures.has_bounds(interval) else ""
    return written(interval.value) + bounds


def shares(interval):
    return with_bounds(interval, percent)


def numbers(interval, digits=1):
    return with_bounds(interval, lambda value: f"{value:.{digits}f}")


def table(rows):
    head, *body = [[str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body]) + "\n"


def mean_or_none(values):
    values = [value for value in values if value is not None]
    return statistics.mean(values) if values else None


def plain(value, digits=3):
    return "–" if value is None else f"{value:.{digits}f}"


class Measured:
    """The figures of one model that the page speaks of, by arm."""

    def __init__(self, run):
        self.rows, self.facts, self.model = run["rows"], run["facts"], run["model"]
        self.served = self.facts["served"]
        self.is_gpt2 = self.served["architecture"] == "gpt2"
        self.equal = figures.equal_length_ends(self.rows)
        self.pairs = {(arm, ends): pair(self.rows, arm, set="paper", ends=ends) for arm in ARMS for ends in ("eos", "length")}
        self.unrelated = {arm: pair(self.rows, arm, set="unrelated", ends=self.equal) for arm in ("P1", "P2")}
        self.depth = {arm: pair(self.rows, arm, set="depth") for arm in ("P1", "P2")}
        self.generated = pair(self.rows, "P1", set="generated")
        self.encode = figures.encode_line(self.rows)
        self.decode = figures.decode_ms_per_token(self.rows)
        self.load = figures.load_line(self.rows)

    def speedup(self, arm, ends):
        return bootstrap(self.pairs[arm, ends], figures.mean_saved_share)

    def unrelated_speedup(self, arm):
        return bootstrap(self.unrelated[arm], figures.mean_saved_share)

    def latency(self, arm, ends, cold):
        return bootstrap([p.cold if cold else p.warm for p in self.pairs[arm, ends]], figures.mean_latency)

    def similarity(self, arm, ends, name="similarity_new", empty=False):
        """Mean over prompts; equal outputs are of similarity 1. None where an output that differs was not embedded."""
        values = []
        for p in self.pairs[arm, ends]:
            if figures.is_empty(p) and not empty:
                continue
            value = p.warm[0][name]
            values.append(1.0 if value is None and figures.same_outputs([p]) else value)
        return None if None in values else mean_or_none(values)

    def alpha(self, pairs, times="client_ms"):
        return bootstrap(pairs, lambda items: figures.fit_alpha(figures.alpha_points(items, times)))

    def same_of_ten(self, arm):
        ends = self.equal
        return figures.same_outputs(self.pairs[arm, ends]) + figures.same_outputs(self.unrelated[arm])

    def of_ten(self, arm):
        return len(self.pairs[arm, self.equal]) + len(self.unrelated[arm])
