#!/usr/bin/env python3
"""Checks the product end to end and prints each figure beside its bound.

QUICK=1 skips fresh roots, the continuous-integration run and the idle test and
uses smaller counts. The last line is "N passed, N failed".
"""

import csv
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from bench_readme import readme_call
from report import QUICK, check, run, run_lines, show
from server_process import BIN, ROOT, Server

FRESH_ROOT = os.environ.get("REPRISE_FRESH_ROOT", "/var/tmp/reprise-fresh-root")


def paper_prompts(name):
    with open(os.path.join(ROOT, "tests/data/paper", name), newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def check_demo(label, code, output, seconds, limit):
    hits = re.search(r"cache hits\s+6/6\s+(\d+/\d+)", output)
    same = re.search(r"outputs identical to cold\s+not stated\s+(\d+/\d+)", output)
    deep = "Every prompt reused all it could and repeated its cold output." in output
    ok = code == 0 and deep and bool(hits) and hits[1] == "6/6" and bool(same) and same[1] == "6/6"
    check(f"{label}: hits, identical outputs, full depth",
          f"hits {hits[1] if hits else '-'}, identical {same[1] if same else '-'}, all reusable tokens reused: {deep}",
          "6/6, 6/6, True", ok)
    if not ok:
        print(output[-3000:])
    if limit:
        check(f"{label}: seconds", f"{seconds:.1f}", f"< {limit}", seconds < limit)
    else:
        show(f"{label}: seconds", f"{seconds:.1f}")


def line_1_two_commands():
    if QUICK:
        code, output, seconds = run(["make", "demo"])
        check_demo("make demo", code, output, seconds, 60)
        return
    # A root that an earlier run has filled would hide a package missing from packages.txt.
    run(["rm", "-rf", "--one-file-system", FRESH_ROOT])
    script = os.path.join(ROOT, "tests/verify/fresh_root.sh")
    for label, limit in (("make demo, fresh Debian 12 root, first", None), ("make demo, second", 60)):
        code, output, seconds = run([script, FRESH_ROOT, "make", "demo"])
        check_demo(label, code, output, seconds, limit)
        table = output.find("prompt  ")
        if table >= 0:
            print(output[table:])


def line_2_tests():
    code, output, seconds = run(["make", "test"])
    tests = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", output)
    check("make test: all green", f"{tests[3] if tests else 0} tests, {tests[2] if tests else '?'} failed, {seconds:.0f} s",
          "0 failed", code == 0 and bool(tests) and tests[2] == "0")
    if code != 0:
        print(output[-3000:])
    if QUICK:
        return
    code, output, seconds = run(["bash", ".ci/run"])
    check(".ci/run: minutes", f"{seconds / 60:.1f}, exit {code}", "< 30, exit 0", code == 0 and seconds < 1800)
    if code != 0:
        print(output[-3000:])


def line_3_oracles():
    """Oracle tests print lines of the form: oracle NAME key=value …"""
    lines = []
    for binary in sorted(glob.glob(os.path.join(BIN, "*oracle*_test"))):
        code, output, _ = run([binary])
        check(f"{os.path.basename(binary)}: exit code", str(code), "0", code == 0)
        lines += re.findall(r"^oracle .*$", output, re.M)
    for line in lines:
        print(f"      {line}")
    text = "\n".join(lines)
    logits = [float(v) for v in re.findall(r"max_abs_diff=(\S+)", text)]
    check("logits against Hugging Face, max abs difference", f"{max(logits, default=9):.2e} over {len(logits)} models",
          "<= 1e-4", bool(logits) and max(logits) <= 1e-4)
    greedy = re.search(r"greedy prompts=(\d+) tokens=(\d+) differences=(\d+)", text)
    check("greedy ids on SmolLM2 against Hugging Face", greedy[0] if greedy else "not run",
          "20 prompts x 64 tokens, 0 differences", bool(greedy) and greedy.groups() == ("20", "1280", "0"))
    tokenizers = re.findall(r"strings=(\d+) differences=(\d+)", text)
    strings = sum(int(n) for n, _ in tokenizers)
    check("tokenizer strings against Hugging Face", f"{strings} strings over {len(tokenizers)} tokenizers",
          ">= 10,000, 0 differences",
          strings >= 10000 and all(d == "0" for _, d in tokenizers))


def ask_all(server, *options):
    return [server.generate(p, "-n", "32", "--ignore-eos", *options) for p in paper_prompts("test_prompts.csv")]


def line_4_restart(work):
    data = os.path.join(work, "data")
    semantic = "cache.retrieval_mode=SEMANTIC"
    cached = paper_prompts("cache_prompts.csv")
    with Server(data, semantic) as server:
        cold = ask_all(server, "--cache", "bypass")
        for prompt in cached:
            server.generate(prompt, "-n", "0")
        server.wait_cached(len(cached))
        ask_all(server, "--cache", "force")
        server.wait_cached(len(cached) + 6)
        warm = ask_all(server, "--cache", "force")
        durable = server.metric("reprise_store_durable_segments_total")
        check("restart: durable segments before kill -9", f"{durable:.0f}", ">= 10", durable >= 10)
        server.kill()
    check_after_restart(data, semantic, cold, warm)
    check_emptied_index(data, semantic)


def check_after_restart(data, semantic, cold, warm):
    with Server(data, semantic) as server:
        again = ask_all(server, "--cache", "force")
        reported = sum(int(r["reuse"]["disk_read_bytes"]) for r in again)
        read = server.metric("reprise_store_read_bytes_total")
        stored = int(server.stats()["disk"]["read_bytes"])
        ready = server.ready_seconds
    depth = [(r["reuse"]["disk_token_count"], r["reuse"]["host_token_count"], w["usage"]["cached_token_count"])
             for r, w in zip(again, warm)]
    check("restart: tokens from the store, from memory, before the kill", str(depth),
          "store = before, > 0; memory 0", all(d == w > 0 and h == 0 for d, h, w in depth))
    same = sum(a["token_ids"] == c["token_ids"] and len(a["token_ids"]) == 32 for a, c in zip(again, cold))
    check("restart: replies equal to cold", f"{same}/6", "6/6", same == 6)
    check("restart: bytes read, as the store, the metric and the replies say", f"{stored}, {read:.0f}, {reported}",
          "equal, > 0", stored == read == reported and reported > 0)
    show("restart: start to ready, seconds", f"{ready:.2f}")


def check_emptied_index(data, semantic):
    for path in glob.glob(os.path.join(data, "similarity", "*")):
        os.remove(path)
    with Server(data, semantic, "cache.similarity.rebuild=false") as server:
        replies = ask_all(server, "--cache", "force")
        hits = sum(r["usage"]["cached_token_count"] > 0 for r in replies)
    check("SEMANTIC over an emptied FAISS index: hits", f"{hits} of {len(replies)}", "0 of 6",
          hits == 0 and len(replies) == 6)


def bench(server, *arguments):
    code, output, _ = run([os.path.join(BIN, "serve_bench"), server.address, *arguments])
    if code != 0:
        raise RuntimeError(output)
    return json.loads(output)


def line_5_benchmarks(work):
    with Server(os.path.join(work, "bench"), "model.thread_count=2", "model.weight_dtype=BF16",
                "cache.retrieval_mode=PREFIX") as server:
        first = bench(server, "ttft", "3" if QUICK else "15")
        show("SmolLM2 bf16, 2 threads, batch 1, 544 tokens, 512 cached, TTFT ms",
             f"cold {first['cold_ttft_ms']}, warm {first['warm_ttft_ms']}, ratio {first['ratio']}x, {first['pairs']} pairs")
        overhead = bench(server, "overhead", "20" if QUICK else "200")
        check("gRPC over in-process, p50 ms", f"{overhead['p50_ms']} (p99 {overhead['p99_ms']}, n {overhead['requests']})",
              "<= 1", overhead["p50_ms"] <= 1)
        if not QUICK:
            idle = bench(server, "idle", "200", "2")
            check("idle CountTokens, 200 requests 2 s apart, max ms", f"{idle['max_ms']} (p99 {idle['p99_ms']})", "< 20",
                  idle["max_ms"] < 20)
            check("idle CountTokens, p50 ms", str(idle["p50_ms"]), "<= 1", idle["p50_ms"] <= 1)
    python = os.path.join(ROOT, ".venv-oracle/bin/python")
    script = os.path.join(ROOT, "tests/bench/hf_decode.py")
    code, output, _ = run([python, script, "--dtype", "bf16", "--threads", "2", "--context", "512"])
    figure = re.search(r"^transformers .*ms_per_token=(\S+)$", output, re.M)
    check("Hugging Face decode was measured in the same run", figure[0] if figure else output.strip()[-300:], "a figure",
          code == 0 and bool(figure))
    if figure:
        theirs = float(figure[1])
        show("decode ms/token at context 512, bf16, 2 threads, batch 1",
             f"ours {first['decode_ms_per_token']}, Hugging Face {theirs:.2f}, ratio {theirs / first['decode_ms_per_token']:.2f}x")


def line_6_interfaces(work):
    with Server(os.path.join(work, "interfaces")) as server:
        server.generate("Hello", "-n", "4")
        text = server.http("/metrics")[1]
        code, output, _ = run(["promtool", "check", "metrics"], input=text)
        check("promtool check metrics", output.strip() or "clean", "clean", code == 0 and not output.strip())
        python = os.path.join(ROOT, ".venv-oracle/bin/python")
        code, output, _ = run([python, os.path.join(ROOT, "tests/verify/reflection_client.py"), server.address])
        check("Python client with only reflection calls both RPCs", output.strip()[-120:], "both", code == 0)
        readme_call(server)
        exit_code = server.stop()
        check("SIGTERM: exit code", str(exit_code), "0", exit_code == 0)


def line_7_layers():
    code, output, _ = run([sys.executable, os.path.join(ROOT, "tests/checks/layers_test.py")])
    check("layer check fails on a planted violation of R1-R5", output.strip().splitlines()[-1] if output.strip() else "",
          "all caught", code == 0)


def main():
    work = tempfile.mkdtemp(prefix="reprise-verify-")
    lines = [line_1_two_commands, line_2_tests, line_3_oracles, lambda: line_4_restart(work),
             lambda: line_5_benchmarks(work), lambda: line_6_interfaces(work), line_7_layers]
    code = run_lines(lines)
    shutil.rmtree(work, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
