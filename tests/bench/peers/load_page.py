#!/usr/bin/env python3
"""Writes docs/benchmarks.md from the results of load.py. No figure on it is typed in.

usage: load_page.py RESULTS PAGE     the page again, from the JSON of a run
"""

import json
import sys

import load_figures
from common import MAX_FOREIGN_CORES

OURS = "reprise"
MARK = "PEER AHEAD"

INTRODUCTION = """\
# Beside other servers

This page is written whole by `make bench-peers` (`tests/bench/peers/load_page.py`) from the results of one run; no figure on it was
typed in. Our server, llama-server and a Hugging Face loop get the same requests at the same times and are measured by the same client.

{verdict}

"""
METHOD = """\
## How it was measured

- Model {model}, bf16 weights, {threads} compute threads for each server. Servers take turns: one is asked while the others idle.
- Requests are those that `reprise bench` sends for a [profile](bench.md#profiles), lengths times {length_scale}: {requests} for each load,
  recorded once, then sent to all as token ids, greedy, with replies of exactly the recorded length. What `chat` sends back as replies
  was made up at the recording, so reuse there is of prompts, not of a system's own replies.
- Open loop: a request is sent when it is due, whatever replies do; a turn does not wait for the reply before it. TTFT counts from
  when the request was due to the first chunk with tokens; inter-token gaps are between chunks; output is tokens over the time from
  the first request to the last reply; reuse is the share of prompt tokens that the server says it took from its cache. Latencies,
  output and reuse are of completed requests.
- Two loads for each profile: {share} % of what the slowest system, and of what ours, did with {capacity_requests} other requests sent at
  once. Those also warm every system; no prompt of one list is in another. At the second load a slower system's queue grows, and
  its TTFT is mostly waiting; the longer the list, the longer.
- With {requests} requests p99 of TTFT is close to the slowest request. Rows are one run each: small differences are noise.
- Ratio is ours ÷ the peer's; below 1 ours is ahead in times, above 1 in the other figures. Every row where a peer's figure is better at all
  says {mark}.
- Other programs' cores are those that neither the server nor the client used; above {foreign} the row is "disturbed": it says little.

| machine | |
| --- | --- |
| CPU | {cpu}, {cores} cores |
| memory | {memory_gib} GiB |
| system | {system} |
| started | {started} |
| command | `{command}` |
| profiles | {finished} |
{versions}

## To repeat it

```
make bench-peers          # all of it, and this page; QUICK=1: the profile api only, this page left as it is
.venv-oracle/bin/python tests/bench/peers/load.py --profiles chat --requests 100 --length-scale 0.25
```

On an idle machine. Every request's record is in `build/peers/load.json`.
"""


def text(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def peers(load):
    return [name for name in load["systems"] if name != OURS]


def disturbed(load, peer):
    return max(load["systems"][name]["foreign_cores"] for name in (OURS, peer)) > MAX_FOREIGN_CORES


def comparisons(results):
    """(profile, load, peer, Comparison) of every row."""
    return [(each["profile"], load, peer, row) for each in results["profiles"] for load in each["loads"] for peer in peers(load)
            for row in load_figures.compare(load["systems"][OURS]["figures"], load["systems"][peer]["figures"])]


def load_table(load):
    lines = ["| figure | reprise | peer | its figure | ratio | ahead |", "| --- | --- | --- | --- | --- | --- |"]
    for peer in peers(load):
        for row in load_figures.compare(load["systems"][OURS]["figures"], load["systems"][peer]["figures"]):
            ahead = {"peer": f"**{MARK}: {peer}**", "ours": OURS, "equal": "equal"}[row.ahead]
            lines.append(f"| {row.figure}, {row.unit} | {text(row.ours)} | {peer} | {text(row.peer)} | {text(row.ratio)} | "
                         f"{ahead}{', disturbed' if disturbed(load, peer) else ''} |")
    return "\n".join(lines)


def tables(results):
    parts = []
    for each in results["profiles"]:
        capacities = ", ".join(f"{name} {value:.2f}" for name, value in each["capacities"].items())
        parts.append(f"## Profile {each['profile']}\n\nCapacity, {results['capacity_requests']} requests at once, requests/s: {capacities}.\n")
        for load in each["loads"]:
            foreign = ", ".join(f"{name} {done['foreign_cores']:.2f}" for name, done in load["systems"].items())
            parts.append(f"### {each['profile']} at {load['rate']:.2f} requests/s, {100 * results['share_of_capacity']:.0f} % of the capacity of "
                         f"{'ours' if load['of'] == 'ours' else 'the slowest'}\n\n{load_table(load)}\n\nOther programs' cores: {foreign}.\n")
    return "\n".join(parts)


def verdict(results):
    rows = comparisons(results)
    parts = []
    for peer in dict.fromkeys(peer for _, _, peer, _ in rows):
        against = [(load, row) for _, load, name, row in rows if name == peer]
        count = {who: sum(row.ahead == who for _, row in against) for who in ("ours", "peer", "equal")}
        void = sum(disturbed(load, peer) for load, _ in against)
        parts.append(f"Of {len(against)} rows against {peer}, ours is ahead in {count['ours']}, the peer in {count['peer']}, equal in "
                     f"{count['equal']}; {void} are of loads that other programs disturbed.")
    if any(disturbed(load, peer) for _, load, peer, _ in rows):
        parts.append("Disturbed loads say little of how the systems compare, for us or for a peer: an idle machine has to repeat them.")
    return "\n".join(parts)


def finished(results):
    """The profiles that the page has whole, and those that the run was ended before."""
    done = [each["profile"] for each in results["profiles"] if len(each["loads"]) == 2]
    missing = [profile for profile in results["asked"] if profile not in done]
    return ", ".join(done) + (f"; not whole when the run was ended: {', '.join(missing)}" if missing else "")


def page(results):
    versions = "\n".join(f"| {name} | {version} |" for name, version in results["versions"].items())
    method = METHOD.format(**results["machine"], **{name: results[name] for name in (
        "model", "threads", "length_scale", "requests", "capacity_requests", "started", "command")}, share=round(100 * results["share_of_capacity"]),
                           mark=MARK, finished=finished(results), foreign=MAX_FOREIGN_CORES, versions=versions)
    return f"{INTRODUCTION.format(verdict=verdict(results))}{tables(results)}\n{method}"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(page(results))


if __name__ == "__main__":
    main()
