"""Lines of verify-cache on the store: loads beside a plain file, opening a million records, look-ups, and the disk limit.

All figures come from store_bench (tests/bench). The folders lie below a temporary one and go with it."""

import os
import tempfile

from measuring import judge, run_json
from report import QUICK, check, show
from server_process import BIN

LOAD_BOUND = 0.5
OPEN_BOUND = 2.0
LOOKUP_BOUND = 50.0
ALIVE_BOUND = 0.7

RECORDS = 100_000 if QUICK else 1_000_000
LOAD_REPEATS = 5 if QUICK else 15
OPENS = 2 if QUICK else 3
MIB = 1 << 20
# limit, bytes of a segment, and how many times the limit is written.
CHURNS = [(64 * MIB, 256 << 10, 2)] if QUICK else [(64 * MIB, 256 << 10, 4), (1024 * MIB, 6 * MIB, 3)]


def bench(*words):
    return run_json([os.path.join(BIN, "store_bench"), *words])


def load_rates(folder):
    for threads in (1, 2):
        row = bench("load", os.path.join(folder, f"load{threads}"), threads, LOAD_REPEATS)
        name = f"RocksDB load of 512 tokens, verified, {threads} thread{'s' if threads > 1 else ''}"
        show(f"{name}: store, plain file", f"{row['store_gb_s']:.2f}, {row['file_gb_s']:.2f} GB/s")
        judge(f"{name}: of a plain file", f"{row['ratio']:.2f}", f">= {LOAD_BOUND}", row["ratio"] >= LOAD_BOUND,
              row["foreign_cores"])


def opening(folder):
    records = os.path.join(folder, "records")
    filled = bench("fill", records, RECORDS)
    check("records written", f"{filled['records']:,}", f">= {RECORDS // 16 * 16:,}", filled["records"] >= RECORDS // 16 * 16)
    rows = [bench("open", records, RECORDS) for _ in range(OPENS)]
    best = min(rows, key=lambda row: row["first_hit_s"])
    check("tokens of the first hit from the store", best["hit_tokens"], "> 0", all(row["hit_tokens"] > 0 for row in rows))
    show("memory of a record", f"{best['bytes_per_record']} bytes")
    judge(f"open with {RECORDS:,} records to the first hit", f"{best['first_hit_s']:.2f} s", f"<= {OPEN_BOUND} s",
          best["first_hit_s"] <= OPEN_BOUND, best["foreign_cores"])


def look_ups():
    row = bench("lookup", RECORDS)
    for tier, count in (("memory", row["blocks"]), ("disk", row["segments"])):
        p99 = row[f"{tier}_p99_us"]
        judge(f"look-up of 1,024 tokens, {tier} index of {count:,}, p99", f"{p99:.1f} us", f"<= {LOOKUP_BOUND} us",
              p99 <= LOOKUP_BOUND, row["foreign_cores"])


def line_5_load():
    with tempfile.TemporaryDirectory() as folder:
        load_rates(folder)
    with tempfile.TemporaryDirectory() as folder:
        opening(folder)
    look_ups()


def disk_bound():
    for limit, segment, factor in CHURNS:
        with tempfile.TemporaryDirectory() as folder:
            row = bench("churn", os.path.join(folder, "churn"), limit, segment, factor)
        name = f"limit {limit // MIB} MiB, segments of {segment >> 10} KiB, {factor} times written"
        check(f"{name}: most du / (limit + write buffer)", f"{row['most_to_bound']:.3f}", "<= 1", row["most_to_bound"] <= 1)
        check(f"{name}: least live / du at the limit", f"{row['alive_least']:.3f}", f">= {ALIVE_BOUND}",
              row["alive_least"] >= ALIVE_BOUND)
        check(f"{name}: prompts refused at the limit", f"{row['refused']} of {row['turns']}", "0", row["refused"] == 0)
