#!/usr/bin/env python3
"""The paper's experiment (arXiv 2512.11851): serves each model, asks its prompts in the arms B, P1 and P2 (`reprise paper`), and
P0 beside them (paper_bench), then writes what was measured.

usage: paper.py [--models smollm2,dialogpt] [--results results] [--page docs/paper.md] …   Run with .venv-oracle.

results/raw/MODEL.csv          every request of B, P1 and P2      (MODEL-runner.csv: of RB, P0 and RP1)
results/baseline.csv           cold requests                      results/recycled.csv   requests with reuse
results/merged.csv             each prompt and arm beside its cold one, by medians over the repeats
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time

import figures
import measured
import page
import paper_models

ROOT = paper_models.ROOT
BIN = os.path.join(ROOT, os.environ.get("BIN", "build/release/bin"))
sys.path.append(os.path.join(ROOT, "tests", "bench", "peers"))
from rows import busy_seconds, children_seconds  # noqa: E402  of the peers' harness

ASK = ('exec "$BIN/reprise" --address "$REPRISE_ADDRESS" --admin-address "$REPRISE_ADMIN_ADDRESS" --timeout 600 '
       'paper "$@"')


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(measured.FULL_MODELS))
    parser.add_argument("--results", default="results")
    parser.add_argument("--page", default="", help="the page to write, with plots in a folder of its name")
    parser.add_argument("--repeats", type=int, default=measured.FULL_COUNTS["repeats"])
    parser.add_argument("--depth-repeats", type=int, default=measured.FULL_COUNTS["depth_repeats"])
    parser.add_argument("--generated", type=int, default=measured.FULL_COUNTS["generated"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--draft", action="store_true", help="write a page below docs/ from less than the whole experiment, saying so")
    parser.add_argument("--no-runs", action="store_true", help="only write again what the CSV files say")
    return parser.parse_args()


def run(command, environment=None):
    done = subprocess.run([str(word) for word in command], cwd=ROOT, check=False,
                          env={**os.environ, "BIN": BIN, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"paper: exit {done.returncode} of {command[0]}")


def write_model(model):
    if not model.random_weights or os.path.exists(os.path.join(ROOT, model.folder)):
        return
    print(f"== Writing {model.folder}", flush=True)
    os.makedirs(os.path.join(ROOT, os.path.dirname(model.folder)), exist_ok=True)
    run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "paper_models.py"), model.name, model.folder])


def measure(model, options, raw):
    """Runs all arms of one model; the CSV files, and what is to be known of the machine meanwhile."""
    print(f"== {model.title}", flush=True)
    started, busy, own = time.monotonic(), busy_seconds(), children_seconds()
    counts = ["--repeats", options.repeats, "--output-tokens", model.output_tokens, "--equal-tokens", model.equal_tokens]
    settings = [f"model.path={model.folder}", f"model.thread_count={options.threads}", f"cache.host_bytes={model.host_bytes}",
                "cache.store.write_selectively=false"]
    run(["deploy/with_server.sh", *[word for setting in settings for word in ("--set", setting)], "--", "bash", "-c", ASK, "paper",
         *counts, "--depth-repeats", options.depth_repeats, "--generated", options.generated, "--output", f"{raw}.csv"],
        {"REPRISE_PORT_BASE": os.environ.get("REPRISE_PAPER_PORT_BASE", "8470")})
    run([os.path.join(BIN, "paper_bench"), model.folder, f"{raw}-runner.csv", "--threads", options.threads, *counts])
    seconds = time.monotonic() - started
    foreign = max(0.0, busy_seconds() - busy - (children_seconds() - own)) / seconds
    with open(f"{raw}.run.json", "w", encoding="utf-8") as file:
        json.dump({"cpu": cpu_name(), "cores": os.cpu_count(), "threads": options.threads, "seconds": round(seconds),
                   "foreign_cores": round(foreign, 2), "repeats": options.repeats, "generated": options.generated,
                   "depth_repeats": options.depth_repeats}, file)


def cpu_name():
    """The model's name, and its family, which virtual machines do not hide."""
    facts = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return f"{facts.get('model name', 'unknown')}, family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"


def load(model, raw):
    """Rows and facts of a model's runs."""
    rows = figures.read_rows(f"{raw}.csv") + figures.read_rows(f"{raw}-runner.csv")
    with open(f"{raw}.run.json", encoding="utf-8") as file:
        facts = json.load(file)
    with open(f"{raw}.csv.model.json", encoding="utf-8") as file:
        facts["served"] = json.load(file)
    return {"model": model, "rows": rows, "facts": facts}


def write_csv(path, lines):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({name: "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
                             for name, value in line.items()})


def write_results(runs, folder):
    tagged = [{"model": run_["model"].name, **row} for run_ in runs for row in run_["rows"]]
    cold = set(figures.COLD_OF.values())
    write_csv(os.path.join(folder, "baseline.csv"), [row for row in tagged if row["arm"] in cold])
    write_csv(os.path.join(folder, "recycled.csv"), [row for row in tagged if row["arm"] not in cold])
    write_csv(os.path.join(folder, "merged.csv"),
              [{"model": run_["model"].name, **line} for run_ in runs for line in figures.merged(run_["rows"])])


def check_page(path, draft, gaps):
    """Ends the program before it writes a page of the documentation from less than the whole experiment, unless that is told."""
    documentation = os.path.relpath(os.path.join(ROOT, path), ROOT).split(os.sep)[0] == "docs" if path else False
    if documentation and gaps and not draft:
        sys.exit(f"paper: --page {path}: missing {'; '.join(gaps)}. --draft writes it all the same, saying so")


def main():
    options = parse()
    if not options.no_runs:
        names = options.models.split(",")
        check_page(options.page, options.draft, page.missing(names, [vars(options)] * len(names)))
    results = os.path.join(ROOT, options.results)
    os.makedirs(os.path.join(results, "raw"), exist_ok=True)
    runs = []
    for name in options.models.split(","):
        model = paper_models.MODELS[name]
        raw = os.path.join(results, "raw", name)
        if not options.no_runs:
            write_model(model)
            measure(model, options, raw)
        runs.append(load(model, raw))
    write_results(runs, results)
    check_page(options.page, options.draft,
               page.missing([each["model"].name for each in runs], [each["facts"] for each in runs]))
    text = page.text(runs, os.path.splitext(os.path.basename(options.page))[0])
    print(page.tables(runs))
    if options.page:
        import plots
        target = os.path.join(ROOT, options.page)
        plots.write(runs, os.path.splitext(target)[0])
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"== Wrote {options.page} and results in {options.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
