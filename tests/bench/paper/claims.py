"""What the paper claims, what was measured of it, and whether that holds: decided here from the figures."""

import figures
from measured import MAX_FOREIGN_CORES, PAPER, numbers, percent, plain, shares


def over_models(ms, say):
    return "<br>".join(f"{m.model.name}: {say(m)}" for m in ms)


def timed(ms, verdict):
    """A verdict on times, which say nothing when other programs had the cores."""
    foreign = max(m.facts["foreign_cores"] for m in ms)
    return f"undecided: other programs had {foreign:.2f} cores" if foreign > MAX_FOREIGN_CORES else verdict


HOLDS, FAILS = "holds", "does not hold"
FASTER = 1e-9  # share of the time saved: more than nothing


def decided(intervals, claim):
    """Whether all of these reach `claim`, or one of them surely does not, as far as their intervals tell."""
    if all(interval.low >= claim for interval in intervals):
        return HOLDS
    if any(interval.high < claim for interval in intervals):
        return FAILS
    known = all(figures.has_bounds(interval) for interval in intervals)
    return f"undecided: {'interval too wide' if known else 'too few repeats for an interval'}"


def faster_with_overlap(ms):
    def say(m):
        return ", ".join(f"{arm} {shares(m.speedup(arm, m.equal))}" for arm in ("P1", "P2"))

    memory, disk = [decided([m.speedup(arm, m.equal) for m in ms], FASTER) for arm in ("P1", "P2")]
    if HOLDS in (memory, disk):
        verdict = HOLDS if disk == HOLDS else f"holds without retrieval and load; with them {disk}"
    else:
        verdict = "does not hold for prompts this short" if memory == FAILS else memory
    return ["consistent speedups when prefix overlap exists", f"whole replies of equal length: {over_models(ms, say)}", timed(ms, verdict)]


def faster_when_deep(ms):
    """Not among the paper's prompts, but what it argues for."""
    def deepest(m, arm):
        return [m.depth[arm][-1]]

    def saved(m, arm):
        return figures.bootstrap(deepest(m, arm), lambda items: figures.mean_saved_share(items, "first_token_ms"))

    def say(m):
        tokens = int(deepest(m, "P1")[0].warm[0]["reused_tokens"])
        return f"first token, {tokens} cached tokens: P1 {shares(saved(m, 'P1'))}, P2 {shares(saved(m, 'P2'))}"
    verdict = decided([saved(m, arm) for m in ms for arm in ("P1", "P2")], FASTER)
    return ["a hit is a net win when T_enc(k) > T_load", over_models(ms, say), timed(ms, verdict)]


def average_speedup(ms):
    verdict = decided([m.speedup("P1", m.equal) for m in ms], PAPER["speedup"])
    return [f"{percent(PAPER['speedup'])} faster on average", over_models(ms, lambda m: f"P1 {shares(m.speedup('P1', m.equal))}"),
            timed(ms, f"{verdict} for replies of equal length" if verdict == FAILS else verdict)]


def similar_outputs(ms):
    def say(m):
        return (f"P1 {m.same_of_ten('P1')}/{m.of_ten('P1')} and P2 {m.same_of_ten('P2')}/{m.of_ten('P2')} equal token for token; "
                f"P0 {figures.same_outputs(m.pairs['P0', m.equal])}/{len(m.pairs['P0', m.equal])}, similarity "
                f"{plain(m.similarity('P0', m.equal))}, as the published code compares "
                f"{plain(m.similarity('P0', m.equal, 'similarity_as_published'))}")
    exact = all(m.same_of_ten(arm) == m.of_ten(arm) for m in ms for arm in ("P1", "P2"))
    differs = all(figures.same_outputs(m.pairs["P0", m.equal]) < len(m.pairs["P0", m.equal]) for m in ms)
    verdict = ("holds, and more: correct reuse changes nothing" if exact else "does not hold") + \
        ("; the published call does change outputs" if differs else "")
    return [f"no material degradation of outputs (similarity {PAPER['similarity']})", over_models(ms, say), verdict]


def baseline_without_overlap(ms):
    def say(m):
        same = ", ".join(f"{arm} {figures.same_outputs(m.unrelated[arm])}/{len(m.unrelated[arm])}" for arm in ("P1", "P2"))
        times = ", ".join(f"{arm} {shares(m.unrelated_speedup(arm))}" for arm in ("P1", "P2"))
        return f"equal outputs {same}; time saved {times}"
    same = all(figures.same_outputs(m.unrelated[arm]) == len(m.unrelated[arm]) for m in ms for arm in ("P1", "P2"))
    slower = timed(ms, "") == "" and any(m.unrelated_speedup("P2").high < 0 for m in ms)
    verdict = ("holds for outputs" if same else "does not hold") + ("; looking for a prefix by embedding costs time" if slower else "")
    return ["when overlap is absent, behaviour matches the baseline", over_models(ms, say), verdict]


def alpha_above_one(ms):
    low, high = PAPER["alpha"]
    alphas = [m.alpha(m.pairs["P1", m.equal]) for m in ms]
    verdict = decided(alphas, low)
    said = "<br>".join(f"{m.model.name}: {numbers(alpha, 2)}" for m, alpha in zip(ms, alphas))
    return [f"S ≈ α·k/m with α of {low} to {high}", said,
            timed(ms, f"{verdict}; above 1 its own model cannot be" if verdict == FAILS else verdict)]


def more_context(ms):
    windows = ", ".join(f"{m.model.name} {m.served['context_length']}" for m in ms)
    return ["usable context expands", f"positions, with the cache and without: {windows}; reused tokens take theirs like all others",
            "does not hold: time is saved, no position is"]


def claims(ms):
    """Rows of claim, what was measured, verdict."""
    return [claim(ms) for claim in (faster_with_overlap, average_speedup, similar_outputs, baseline_without_overlap, faster_when_deep,
                                    alpha_above_one, more_context)]
