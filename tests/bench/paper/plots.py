"""Pictures of docs/paper.md as SVG: time to first token and speedup by depth of reuse, and how deep the paper's prompts go."""

import os
import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "reprise", "svg.fonttype": "none", "font.size": 10})

import figures  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from measured import Measured  # noqa: E402

COLORS = {"B": "#7f7f7f", "P1": "#1f77b4", "P2": "#d95f02"}
SIZE = (6.4, 3.6)


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})  # the same bytes for the same figures
    plt.close(figure)


def axes(title, x, y):
    figure, axis = plt.subplots(figsize=SIZE)
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def depth_axis(axis, depths):
    axis.set_xscale("log", base=2)
    axis.set_xticks(depths, [str(depth) for depth in depths])
    axis.minorticks_off()


def bars(intervals, scale=1):
    """Error bars; of no length where there is no interval."""
    known = [i if figures.has_bounds(i) else figures.Interval(i.value, i.value, i.value) for i in intervals]
    return [[scale * (i.value - i.low) for i in known], [scale * (i.high - i.value) for i in known]]


def latency(m, path):
    figure, axis = axes(f"{m.model.name}: time to first token", "cached tokens (32 more are not)", "ms")
    depths = [int(p.warm[0]["common_tokens"]) for p in m.depth["P1"]]
    lists = {"B": [p.cold for p in m.depth["P1"]], **{arm: [p.warm for p in m.depth[arm]] for arm in ("P1", "P2")}}
    for arm, prompts in lists.items():
        intervals = [figures.bootstrap([rows], lambda items: figures.mean_latency(items, "first_token_ms")) for rows in prompts]
        axis.errorbar(depths, [i.value for i in intervals], fmt="o-", color=COLORS[arm], label=arm, capsize=3,
                      yerr=bars(intervals))
    depth_axis(axis, depths)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    save(figure, path)


def speedup(m, path):
    figure, axis = axes(f"{m.model.name}: share of the time to first token saved", "cached tokens (32 more are not)", "%")
    depths = [int(p.warm[0]["common_tokens"]) for p in m.depth["P1"]]
    for arm in ("P1", "P2"):
        intervals = [figures.bootstrap([p], lambda items: figures.mean_saved_share(items, "first_token_ms")) for p in m.depth[arm]]
        axis.errorbar(depths, [100 * i.value for i in intervals], fmt="o-", color=COLORS[arm], label=arm, capsize=3,
                      yerr=bars(intervals, 100))
    axis.plot(depths, [100 * p.warm[0]["common_tokens"] / p.warm[0]["prompt_tokens"] for p in m.depth["P1"]], "k:", label="k/m")
    axis.axhline(0, color="black", linewidth=0.8)
    depth_axis(axis, depths)
    axis.legend(frameon=False)
    save(figure, path)


def reuse(m, path):
    figure, axis = axes(f"{m.model.name}: the paper's prompts and the four without overlap", "prompt", "tokens")
    pairs = m.pairs["P1", m.equal] + m.unrelated["P1"]
    reused = [p.warm[0]["reused_tokens"] for p in pairs]
    computed = [statistics.median(row["prompt_tokens"] - row["reused_tokens"] for row in p.warm) for p in pairs]
    axis.bar(range(1, len(pairs) + 1), reused, color=COLORS["P1"], label="reused (P1)")
    axis.bar(range(1, len(pairs) + 1), computed, bottom=reused, color="#cccccc", label="computed")
    axis.set_xticks(range(1, len(pairs) + 1))
    axis.legend(frameon=False)
    save(figure, path)


def write(runs, folder):
    os.makedirs(folder, exist_ok=True)
    for run in runs:
        m = Measured(run)
        for draw in (latency, speedup, reuse):
            draw(m, os.path.join(folder, f"{m.model.name}-{draw.__name__}.svg"))
