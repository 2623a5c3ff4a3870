#!/usr/bin/env python3
"""Checks the load test, the paper's experiment and what operators look at. Prints each figure beside its bound.

QUICK=1 uses smaller counts; LINES=1,3 runs some of the lines. The last line is "N passed, N failed". Each line is the
functions of that name in modules of this folder.
"""

import importlib
import sys

from report import run_lines

# By line: the modules, and the functions in them.
LINES = [
    [("bench_load", "line_1_totals"), ("bench_report", "line_1_html")],
    [("bench_load", "line_2_schedule")],
    [("bench_load", "line_3_workloads")],
    [("bench_paper", "line_4_paper")],
    [("bench_peers", "line_5_peers")],
    [("bench_dashboards", "line_6_dashboard"), ("bench_readme", "line_6_python_call")],
]


def run_line(parts):
    """Imported only now, so that a module that cannot be fails its own lines and no others."""
    for module, function in parts:
        getattr(importlib.import_module(module), function)()


def main():
    return run_lines([lambda parts=parts: run_line(parts) for parts in LINES])


if __name__ == "__main__":
    sys.exit(main())
