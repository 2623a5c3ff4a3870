"""Bounds of the comparison, and its tables.

Prefill of 544 tokens: at least min(1.1 x the best peer, 0.85 x the peak of the dtype's arithmetic in the same run).
Decoding: at least the best peer. First token, reuse of 512 of 544 tokens: cold / warm >= 12, warm <= 0.6 x and
cold <= 0.8 x llama-server's. A check is VOID, and not kept, when the row says nothing: other programs had more than
MAX_FOREIGN_CORES while ours or a peer ran, or a program was faster than the peak that was measured.
"""

import common
import models

PEAKS = {"fp32": "fp32_gflops", "bf16": "bf16_gflops", "int8": "int8_gops", "q4_1": "int8_gops"}


def prefill_operations(model, tokens):
    """Multiplies and adds of a prompt: the matrices, causal attention, and the output of the last token."""
    shape = models.shape(model)
    attention = 4 * shape["layers"] * shape["width"] * tokens * (tokens + 1) / 2
    return 2 * tokens * shape["layer_weights"] + attention + 2 * shape["output_weights"]


def speed_check(row, figure):
    """Ours against the best peer for one figure; its bound, where it has one, in milliseconds."""
    ours, best = row.ours(), row.best(figure)
    check = {"name": figure, "ours_ms": ours and ours[figure], "best_ms": best and best[figure],
             "best_peer": best and best["peer"], "best_setting": best and best["setting"], "ratio": None, "bound_ms": None,
             "bound": "no bound", "ok": True}
    if best and figure == "prefill_544_ms":
        peak_ms = prefill_operations(row.model, 544) / (0.85e6 * row.floor()[PEAKS[row.dtype]])
        check.update(bound_ms=max(best[figure] / 1.1, peak_ms), bound=">= min(1.1 x best, 0.85 x peak)")
    if best and figure == "decode_ms_at_512":
        check.update(bound_ms=best[figure], bound=">= 1.0 x best")
    if ours and best:
        check["ratio"] = best[figure] / ours[figure]
    if check["bound_ms"]:
        check["ok"] = bool(ours) and ours[figure] <= check["bound_ms"]
    return check


def why_void(row):
    """Why a row's figures cannot be compared, or an empty string."""
    foreign = max([line["foreign_cores"] for line in row.lines.values()], default=0.0)
    if foreign > common.MAX_FOREIGN_CORES:
        return f"other programs had {foreign:.2f} cores"
    peak = row.floor()[PEAKS[row.dtype]]
    for line in row.lines.values():
        milliseconds = line.get("prefill_544_ms") or line.get("cold_ttft_ms")
        rate = prefill_operations(row.model, 544) / (1e6 * milliseconds)
        if rate > peak:
            return f"{line['peer']} ran at {rate:.0f} G/s, above the peak of {peak:.0f} that was measured"
    return ""


def ratio_check(name, value, bound, ok):
    return {"name": name, "ratio": value, "bound": bound, "ok": value is not None and ok(value)}


def first_token_checks(row):
    ours = row.ours()
    cold, warm = row.best("cold_ttft_ms"), row.best("warm_ttft_ms")

    def against(figure, peer):
        return ours[figure] / peer[figure] if ours and peer else None
    return [ratio_check("cold / warm", ours and ours["cold_ttft_ms"] / ours["warm_ttft_ms"], ">= 12", lambda r: r >= 12),
            ratio_check("warm / llama-server's", against("warm_ttft_ms", warm), "<= 0.6", lambda r: r <= 0.6),
            ratio_check("cold / llama-server's", against("cold_ttft_ms", cold), "<= 0.8", lambda r: r <= 0.8)]


def result(row):
    """All that is known of a row, as JSON."""
    is_speed = row.figures == common.FIGURES
    checks = [speed_check(row, figure) for figure in row.figures] if is_speed else first_token_checks(row)
    void = why_void(row)
    for check in checks:
        check.update(void=void, ok=check["ok"] and not (void and check["bound"] != "no bound"))
    return {"row": row.name, "floor": row.floor(), "figures": list(row.figures), "ours": row.ours(),
            "peers": [line for line in row.lines.values() if line is not row.ours()],
            "errors": [{"peer": peer, "setting": setting, "error": text} for (peer, setting), text in row.errors.items()],
            "checks": checks}


def text(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def show(row):
    """Prints a row's measurements, fastest first, and its checks."""
    floor = row["floor"]
    print(f"\n== {row['row']}   floor: read {floor['read_gb_per_s']} GB/s, fp32 {floor['fp32_gflops']}, "
          f"bf16 {floor['bf16_gflops']} GFLOP/s, int8 {floor['int8_gops']} GOP/s")
    print("".join(f"{figure.removesuffix('_ms'):>24}" for figure in row["figures"]) + "   ms")
    lines = ([row["ours"]] if row["ours"] else []) + sorted(row["peers"], key=lambda line: line[row["figures"][-1]])
    for line in lines:
        figures = "".join(f"{text(line.get(figure), 2):>24}" for figure in row["figures"])
        print(f"{figures}   {line['peer']} [{line['setting'] or 'defaults'}] n={line['repeats']} "
              f"foreign={line['foreign_cores']}")
    if row["checks"][0]["void"]:
        print(f"  void: {row['checks'][0]['void']}")
    for error in row["errors"]:
        print(f"  not measured: {error['peer']} [{error['setting']}]: {error['error']}")
    for check in row["checks"]:
        show_check(check)


def show_check(check):
    verdict = "    " if check["bound"] == "no bound" else "VOID" if check["void"] else "PASS" if check["ok"] else "FAIL"
    detail = ""
    if "best_peer" in check:
        detail = (f"ours {text(check['ours_ms'])} ms, best {text(check['best_ms'])} ms by {check['best_peer']} "
                  f"[{check['best_setting'] or 'defaults'}], at most {text(check['bound_ms'])} ms")
    print(f"{verdict}  {check['name']:<24} {text(check['ratio'], 2)}x  [{check['bound']}]  {detail}", flush=True)


def summary(results):
    """Prints the peers' versions and flags and the count of checks with a bound."""
    rows = results["rows"] + results["first_token"]
    print("\n== Versions and flags")
    known = {(line["peer"], line["version"], str(line["flags"])) for row in rows for line in row["peers"] + [row["ours"]] if line}
    for peer, version, flags in sorted(known):
        print(f"{peer}: {version}; {flags}")
    bounded = [check for row in rows for check in row["checks"] if check["bound"] != "no bound"]
    passed = sum(check["ok"] for check in bounded)
    print(f"\n{passed} of {len(bounded)} bounds kept")
