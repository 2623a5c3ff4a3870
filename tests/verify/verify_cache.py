#!/usr/bin/env python3
"""Checks the cache: crash safety, integrity, storage faults, speed, sharing, eviction, tenants, counters, similarity.
Prints each figure beside its bound.

QUICK=1 uses smaller counts; LINES=1,3 runs some of the lines. The last line is "N passed, N failed". Each line is the
function of that name in a module of this folder.
"""

import importlib
import sys

from report import run_lines

# By line: the modules and the functions in them.
LINES = [
    ("cache_faults", ["line_1_kills"]),
    ("cache_faults", ["line_2_integrity"]),
    ("cache_faults", ["line_3_faults"]),
    ("cache_planner", ["line_4_never_slower"]),
    ("cache_store", ["line_5_load", "disk_bound"]),
    ("cache_planner", ["line_6_in_flight"]),
    ("cache_planner", ["line_7_replay"]),
    ("cache_tenants", ["line_8_tenants"]),
    ("cache_explain", ["line_9_counters"]),
    ("cache_explain", ["line_10_faiss"]),
]


def run_line(module, functions):
    """Imported only now, so that a module that cannot be fails its own lines and no others."""
    loaded = importlib.import_module(module)
    for function in functions:
        getattr(loaded, function)()


def main():
    return run_lines([lambda module=module, functions=functions: run_line(module, functions) for module, functions in LINES])


if __name__ == "__main__":
    sys.exit(main())
