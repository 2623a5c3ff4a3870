"""Damaged entries are detected, are misses and change no reply; what the check costs."""

import json
import os
import tempfile

from cache_prompts import Cold, ask, settings_of, verify_store
from cache_storage_faults import prompts
from measuring import judge, run_json
from report import QUICK, check, run
from server_process import BIN, Server
from tiny_llama import write_tiny_llama

BENCH = os.path.join(BIN, "integrity_bench")
HASH_GB_PER_S, HASH_SHARE = 15, 0.35


def check_trials(work):
    count = 1000 if QUICK else 10000
    code, output, _ = run([BENCH, "trials", str(count), work])
    if code != 0:
        raise RuntimeError(output)
    got = json.loads(output.splitlines()[-1])
    check("damaged entries detected",
          f"{got['detected']} of {got['trials']} ({got['flips']} bits flipped, {got['truncations']} cut short, {got['swaps']} swapped; "
          f"{got['segments']} segments, {got['in_files']} of them in the files, {got['records']} records, {got['prompts']} prompts)",
          f"all, >= {count}", got["detected"] == got["trials"] >= count)
    check("of them returned; quarantined; counted", f"{got['returned']}; {got['quarantined']}; {got['counted']}",
          f"0; {got['trials']}; {got['trials']}",
          got["returned"] == 0 and got["quarantined"] == got["counted"] == got["trials"])


def check_replies(work):
    """A server over a store of which every segment is damaged."""
    model = write_tiny_llama(os.path.join(work, "model"))
    os.makedirs(os.path.join(work, "cold"))
    data = os.path.join(work, "served", "data")
    os.makedirs(os.path.dirname(data))
    asked = prompts("damaged", 20 if QUICK else 100)
    rounds = 1 if QUICK else 3
    found = reused = wrong = replied = corrupt = 0
    with Cold(work, model) as cold:
        for seed in range(rounds):
            with Server(data, *settings_of(model)) as server:
                ask(server, "FORCE", asked)
            damaged = run_json([BENCH, "damage", data, seed])["damaged"]
            code, figures, _ = verify_store(data)
            found += code == 4 and figures["damaged_segments"] >= damaged - 1
            with Server(data, *settings_of(model)) as server:
                events = [event for event in ask(server, "FORCE", asked, 6) if event.kind == "reply"]
                corrupt += server.metric("reprise_store_corrupt_segments_total")
            replied += len(events)
            reused += sum(event.cached for event in events)
            wrong += cold.wrong(events)
    check("replies over stores of which all is damaged", f"{replied}, {wrong} differ from cold, {reused} tokens reused, {corrupt:.0f} segments "
          "counted as damaged", f"{rounds * len(asked)}, 0, 0, > 0",
          replied == rounds * len(asked) and wrong == reused == 0 and corrupt > 0)
    check("stores that the scrub calls damaged, all segments named", f"{found} of {rounds}", "all", found == rounds)
    code, _, output = verify_store(data)
    check("the scrub of the last store after a drain", output.splitlines()[-1], "sound", code == 0)
    damaged = run_json([BENCH, "damage", data, rounds])["damaged"]
    codes = [verify_store(data, *flags)[0] for flags in ((), ("--repair",), ())]
    check(f"the scrub of {damaged} damaged segments: exit codes before, of and after a repair", str(codes), "[4, 0, 0]",
          codes == [4, 0, 0])


def check_cost(work):
    got = run_json([BENCH, "rate", work])
    judge("XXH3-128 of a segment, one thread, GB/s", f"{got['hash_gb_per_s']:.1f}", f">= {HASH_GB_PER_S}",
          got["hash_gb_per_s"] >= HASH_GB_PER_S, got["foreign_cores"])
    judge(f"its share of loading {got['segments']} segments of {got['segment_bytes'] / 1e6:.1f} MB from the page cache",
          f"{got['hash_share']:.3f} (load {got['load_gb_per_s']:.1f} GB/s)", f"<= {HASH_SHARE}", got["hash_share"] <= HASH_SHARE,
          got["foreign_cores"])


def line_2_integrity():
    with tempfile.TemporaryDirectory(prefix="reprise-integrity-", ignore_cleanup_errors=True) as work:
        check_trials(work)
        check_replies(work)
        check_cost(work)
