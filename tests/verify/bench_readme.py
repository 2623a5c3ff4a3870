"""Runs the Python call that README.md shows, as it stands there but for the address."""

import os
import re
import tempfile

from report import check, run
from server_process import ROOT, Server

ORACLE_PYTHON = os.path.join(ROOT, ".venv-oracle", "bin", "python")
MOST_LINES = 10


def read_call():
    """The one block of Python in README.md."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```python\n(.*?)^```", file.read(), re.M | re.S)
    if len(blocks) != 1:
        raise RuntimeError(f"README.md has {len(blocks)} blocks of Python, expected one")
    return blocks[0]


def readme_call(server):
    call = read_call()
    there = call.replace("127.0.0.1:8470", server.address)
    code, output, _ = run([ORACLE_PYTHON, "-c", there])
    text = server.generate("The capital of France is", "-n", "8")["text"]
    check("README's Python call: text and usage", f"{len(call.splitlines())} lines, {' '.join(output.split())[:60]!r}",
          f"<= {MOST_LINES} lines, the text that `reprise generate` gives",
          code == 0 and len(call.splitlines()) <= MOST_LINES and there != call and output.startswith(text)
          and "output_token_count: 8" in output)


def line_6_python_call():
    with tempfile.TemporaryDirectory() as work:
        with Server(os.path.join(work, "data")) as server:
            readme_call(server)
