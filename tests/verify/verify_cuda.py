#!/usr/bin/env python3
"""Checks the server and its kernels on an NVIDIA GPU. Prints each figure beside its bound.

QUICK=1 uses smaller counts; LINES=1,5 runs some of the lines, PART=1, 2 or 3 a third of them, each under eight minutes.
REPRISE_BIN names the folder of the server, CUDA_BIN that of the GPU tests. The last line is "N passed, N failed".
"""

import importlib
import os
import sys

from report import run_lines

# By line: the modules and the functions in them.
LINES = [
    ("cuda_kernels", ["line_1_exactness"]),
    ("cuda_kernels", ["line_2_speed"]),
    ("cuda_serving", ["line_3_reuse"]),
    ("cuda_serving", ["line_4_streams"]),
    ("cuda_kernels", ["line_5_targets"]),
]
PARTS = {"1": "1", "2": "2,5", "3": "3,4"}


def run_line(module, functions):
    """Imported only now, so that a module that cannot be fails its own lines and no others."""
    loaded = importlib.import_module(module)
    for function in functions:
        getattr(loaded, function)()


def main():
    part = os.environ.get("PART", "")
    if part:
        os.environ["LINES"] = PARTS[part]
    return run_lines([lambda module=module, functions=functions: run_line(module, functions) for module, functions in LINES])


if __name__ == "__main__":
    sys.exit(main())
