"""The line of verify-bench on peers: our server, llama-server and a Hugging Face loop under the same load, with every row marked
where a peer is ahead. Who is ahead has no bound: losses are shown. The run is that of `make bench-peers`, with fewer requests."""

import json
import os
import sys
import tempfile

from report import QUICK, check, run, show
from server_process import PEERS_PYTHON, ROOT

PEERS = os.path.join(ROOT, "tests", "bench", "peers")
ORACLE_PYTHON = os.path.join(ROOT, ".venv-oracle", "bin", "python")
sys.path.insert(0, PEERS)
import load_figures  # noqa: E402  of the harness
import load_page  # noqa: E402

REQUESTS = 4 if QUICK else 12
PROFILES = ["api"] if QUICK else ["chat", "api", "cold"]
SYSTEMS = 3


def prepare():
    """What the peers run on, made once."""
    for command in ([os.path.join(PEERS, "setup.sh")], [PEERS_PYTHON, os.path.join(PEERS, "models.py")]):
        code, output, _ = run(command)
        if code != 0:
            raise RuntimeError(f"{command[-1]}: exit {code}: {output[-1000:]}")


def is_same_load(load):
    """Whether all systems were sent the same lengths at the same times."""
    sent = [[(one["due"], one["prompt_tokens"], one["asked_tokens"]) for one in done["records"]] for done in load["systems"].values()]
    return len(sent) == SYSTEMS and all(each == sent[0] for each in sent)


def losses(results):
    """Counted here from the figures, not by what marks them."""
    count = 0
    for each in results["profiles"]:
        for load in each["loads"]:
            ours = load["systems"][load_page.OURS]["figures"]
            for peer in load_page.peers(load):
                for name, _, less_is_better in load_figures.FIGURES:
                    mine, theirs = ours[name], load["systems"][peer]["figures"][name]
                    if theirs is not None:
                        count += mine is None or (theirs < mine if less_is_better else theirs > mine)
    return count


def check_results(results, page):
    loads = [load for each in results["profiles"] for load in each["loads"]]
    same = sum(map(is_same_load, loads))
    check("systems sent the same lengths at the same times", f"{same}/{len(loads)} loads of {SYSTEMS} systems", "all",
          same == len(loads) == 2 * len(PROFILES))
    for load in loads:
        for name, done in load["systems"].items():
            complete = sum(map(load_figures.is_complete, done["records"]))
            check(f"{name}: replies of the length asked for", f"{complete}/{len(done['records'])}", "all",
                  complete == len(done["records"]) == REQUESTS)
    marked = sum(line.startswith("| ") and f"**{load_page.MARK}" in line for line in page.splitlines())
    rows = load_page.comparisons(results)
    check("rows where a peer is ahead, and rows marked", f"{losses(results)} of {len(rows)}, {marked} marked", "equal", losses(results) == marked)


def line_5_peers():
    prepare()
    with tempfile.TemporaryDirectory() as work:
        out, page = os.path.join(work, "load.json"), os.path.join(work, "benchmarks.md")
        code, output, seconds = run([ORACLE_PYTHON, os.path.join(PEERS, "load.py"), "--requests", str(REQUESTS), "--profiles", *PROFILES,
                                     "--out", out, "--page", page])
        print(output)
        if not os.path.exists(out):
            check("load.py ran", f"exit {code}", "exit 0", False)
            return
        with open(out, encoding="utf-8") as file:
            results = json.load(file)
        with open(page, encoding="utf-8") as file:
            text = file.read()
    check("load.py ran", f"exit {code}, {seconds:.0f} s", "exit 0", code == 0)
    check_results(results, text)
    worst = max(done["foreign_cores"] for each in results["profiles"] for load in each["loads"] for done in load["systems"].values())
    show("peers: cores that other programs had at worst", f"{worst:.2f}")
