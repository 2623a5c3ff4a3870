#!/usr/bin/env python3
"""Measures our server, llama-server and a Hugging Face loop under the same load, in turn and in one run. Run with .venv-oracle.

usage: load.py [--profiles NAME …] [--requests N] [--length-scale X] [--out FILE] [--page FILE]
For each profile of `reprise bench` all get the same token ids at the same times, at two rates that the run finds: one that
the slowest can nearly keep up with, and one that ours can. QUICK=1: the profile api, fewer requests. --out gets every
record as JSON; --page the page that load_page.py makes of it. Exits non-zero where ours did not complete a request.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile

import common
import load_driver
import load_figures
import load_page
import load_systems
import load_workload
import rows

MODEL, THREADS = "smollm2", 2
PROFILES = ["api"] if rows.QUICK else ["chat", "api", "cold"]
REQUESTS = 8 if rows.QUICK else 24
CAPACITY_REQUESTS = 4 if rows.QUICK else 6
SHARE_OF_CAPACITY = 0.7
SEEDS = {"capacity": 1, "slowest": 2, "ours": 3}  # of the workload: nothing of one list is in the caches for another


def machine():
    """What the figures hold for."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "system": platform.platform(terse=True),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)}


def measure_list(systems, requests, rate):
    """Results by the systems' names; every list of the requests is sent whole."""
    results = {}
    for system in systems:
        done = load_driver.run(system, requests, rate)
        done["figures"] = load_figures.figures(done["records"])
        results[system.name] = done
        shown = {name: value and round(value, 1) for name, value in done["figures"].items()}
        print(f"   {system.name}: {shown}, other programs had {done['foreign_cores']} cores", flush=True)
    return results


def measure_profile(systems, measured, options, save):
    """Fills a profile's part of the results, and saves after each load."""
    ours, profile = systems[0], measured["profile"]

    def listed(name, count):
        with tempfile.TemporaryDirectory() as work:
            return load_workload.record(ours.client.model(), profile, count, SEEDS[name], options.length_scale, os.path.join(work, "run"))
    print(f"== {profile}: capacity", flush=True)
    warm_up = measure_list(systems, listed("capacity", CAPACITY_REQUESTS), None)
    capacities = {name: load_figures.capacity(done["records"]) for name, done in warm_up.items()}
    measured["capacities"] = capacities
    for name, limit in (("slowest", min(capacities.values())), ("ours", capacities[ours.name])):
        rate = SHARE_OF_CAPACITY * limit
        print(f"== {profile}: {rate:.2f} requests/s", flush=True)
        measured["loads"].append({"rate": rate, "of": name, "systems": measure_list(systems, listed(name, options.requests), rate)})
        save()


def write(results, options):
    """After each load, so that what was measured is there when a run is cut short."""
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    if options.page:
        with open(os.path.join(common.ROOT, options.page), "w", encoding="utf-8") as file:
            file.write(load_page.page(results))


def measure(options):
    results = {"started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": machine(),
               "model": MODEL, "threads": THREADS, "requests": options.requests, "capacity_requests": CAPACITY_REQUESTS,
               "length_scale": options.length_scale, "share_of_capacity": SHARE_OF_CAPACITY, "asked": options.profiles,
               "command": " ".join(["load.py", *sys.argv[1:]]), "versions": {}, "profiles": []}
    systems = []
    try:
        for system in load_systems.SYSTEMS:
            systems.append(system(MODEL, THREADS))
        results["versions"] = {system.name: system.version() for system in systems}
        for profile in options.profiles:
            results["profiles"].append({"profile": profile, "capacities": {}, "loads": []})
            measure_profile(systems, results["profiles"][-1], options, lambda: write(results, options))
    finally:
        for system in systems:
            system.stop()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="*", default=PROFILES)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--length-scale", type=float, default=0.125)
    parser.add_argument("--out", default=os.path.join(common.PEERS, "load.json"))
    parser.add_argument("--page", help="the Markdown page to write")
    options = parser.parse_args()
    results = measure(options)
    print("\n" + load_page.tables(results))
    ours = [load["systems"][load_page.OURS]["figures"] for each in results["profiles"] for load in each["loads"]]
    return 0 if all(figures["completed"] == 100 for figures in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
