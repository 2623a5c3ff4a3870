"""Lines of verify-bench on the load test itself: its totals beside the server's, its schedule, its workloads."""

import json
import os
import re
import subprocess
import tempfile
import time

import tiny_llama
import tiny_model
from report import QUICK, check, show
from server_process import BIN, ROOT, SMOLLM2, Server, free_ports

SECONDS = 15 if QUICK else 60
CAPACITY_REQUESTS = 24 if QUICK else 100
NEAR_CAPACITY = 0.8
CHAT = ["--profile", "chat", "--length-scale", "0.25", "--speedup", "100"]  # many requests, later turns among them
LEAST_REQUESTS = 20  # on a slow machine the run is longer
TRACES = {"mooncake": "mooncake.jsonl", "azure": "azure.csv", "burstgpt": "burstgpt.csv", "sharegpt": "sharegpt.json",
          "messages": "messages.jsonl"}
PROFILES = ["chat", "api", "doc-qa", "long-chat", "cold", "paper", "adversarial"]

# Totals of a run, the server's counter of each, and the field of a request's line in its log.
TOTALS = {
    "prompt_token_count": ("reprise_prompt_tokens_total", "prompt_tokens"),
    "cached_token_count": ("reprise_cached_prompt_tokens_total", "cached_tokens"),
    "computed_token_count": ("reprise_computed_prompt_tokens_total", "computed_tokens"),
    "output_token_count": ("reprise_output_tokens_total", "output_tokens"),
    "ideal_token_count": ("reprise_ideal_prompt_tokens_total", "ideal_tokens"),
    "in_flight_token_count": ("reprise_in_flight_prompt_tokens_total", "in_flight_tokens"),
    "split_token_count": ("reprise_split_prompt_tokens_total", "split_tokens"),
    "disk_read_bytes": ("reprise_request_disk_read_bytes_total", "disk_bytes_read"),
}
TIERS = ["device", "host", "disk"]

# Fields of a request's record and of its line in the server's log; times in ms and in s.
COUNTS = {"prompt_token_count": "prompt_tokens", "cached_token_count": "cached_tokens",
          "computed_token_count": "computed_tokens", "output_token_count": "output_tokens",
          "device_token_count": "device_tokens", "host_token_count": "host_tokens", "disk_token_count": "disk_tokens",
          "ideal_token_count": "ideal_tokens", "decision": "decision", "reason": "reason", "miss_reason": "miss_reason",
          "finish_reason": "finish_reason", "code": "code", "disk_read_bytes": "disk_bytes_read"}
TIMES = {"server_ttft_ms": "time_to_first_token_seconds", "server_queue_ms": "queue_seconds",
         "server_prefill_ms": "prefill_seconds", "server_decode_ms": "decode_seconds"}


def bench(address, folder, *arguments):
    """Runs a load; its exit code, its run and its requests, and what it printed on standard error."""
    command = [os.path.join(BIN, "reprise"), "--address", address, "bench", "--no-progress", "--grace", "120", "--output",
               folder, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    path = os.path.join(folder, "run.json")
    if not os.path.exists(path):
        return done.returncode, None, [], done.stderr
    with open(path, encoding="utf-8") as file:
        run = json.load(file)
    with open(os.path.join(folder, "requests.jsonl"), encoding="utf-8") as file:
        requests = [json.loads(line) for line in file]
    return done.returncode, run, requests, done.stderr


def counters(server):
    """Every sample of the server's counters, and of requests those of StreamGenerate."""
    samples = {}
    for name, labels, value in re.findall(r"^(\w+)(\{[^}]*\})? (\S+)$", server.http("/metrics")[1], re.M):
        samples[name + labels] = float(value)
    return samples


def total(samples, name, label=""):
    return sum(value for key, value in samples.items() if (key == name or key.startswith(name + "{")) and label in key)


def request_lines(server, prefix):
    """The server's log lines of requests whose ids begin with `prefix`, by id."""
    lines = {}
    with open(server.log_path, encoding="utf-8", errors="replace") as file:
        for text in file:
            if '"event":"request"' in text and prefix in text:
                line = json.loads(text)
                lines[line["request_id"]] = line
    return lines


def compare_counters(run, before, after):
    totals = run["summary"]["totals"]
    pairs = {"sent_count": ("reprise_requests_total", 'method="StreamGenerate"')}
    pairs.update({name: (metric, "") for name, (metric, _) in TOTALS.items()})
    pairs.update({f"{tier}_token_count": ("reprise_cached_prompt_tokens_total", f'tier="{tier}"') for tier in TIERS})
    wrong = []
    for name, (metric, label) in pairs.items():
        counted = total(after, metric, label) - total(before, metric, label)
        if counted != totals[name]:
            wrong.append(f"{name}: {totals[name]}, server {counted:.0f}")
    check(f"chat: {len(pairs)} totals of the report against the server's metrics",
          "; ".join(wrong) or f"all equal: {totals['sent_count']} requests, {totals['prompt_token_count']} prompt, "
          f"{totals['cached_token_count']} cached, {totals['output_token_count']} output tokens",
          "equal", not wrong)


def compare_lines(requests, lines):
    wrong = []
    for request in requests:
        line = lines.get(request["request_id"])
        if line is None:
            wrong.append(f"{request['request_id']}: not logged")
            continue
        wrong += [f"{request['request_id']}: {ours} {request[ours]}, log {line[theirs]}"
                  for ours, theirs in COUNTS.items() if request[ours] != line[theirs]]
        wrong += [f"{request['request_id']}: {ours} {request[ours]} ms, log {line[theirs]} s"
                  for ours, theirs in TIMES.items() if abs(request[ours] - 1000 * line[theirs]) > 0.001]
    wrong += [f"{one}: logged, not recorded" for one in lines.keys() - {r["request_id"] for r in requests}]
    check(f"chat: {len(COUNTS) + len(TIMES)} fields of each request against the server's log",
          "; ".join(wrong[:3]) or f"all equal in {len(requests)} lines", "equal", not wrong)


def compare_sums(run, lines):
    wrong = [f"{name}: {run['summary']['totals'][name]}" for name, (_, field) in TOTALS.items()
             if run["summary"]["totals"][name] != sum(line[field] for line in lines.values())]
    check("chat: totals against sums over the server's log", "; ".join(wrong) or "all equal", "equal", not wrong)


def settle(server):
    """Waits until nothing runs, so that everything before is counted."""
    limit = time.monotonic() + 60
    while server.metric("reprise_running_sequences") + server.metric("reprise_queued_requests") > 0 or \
            server.metric("reprise_requests_started_total") != server.metric("reprise_requests_total"):
        if time.monotonic() > limit:
            raise RuntimeError("requests still run after 60 s")
        time.sleep(0.1)


def measure_capacity(server, work):
    """Requests/s with eight sessions at a time."""
    _, run, _, errors = bench(server.address, os.path.join(work, "capacity"), *CHAT, "--concurrency", "8", "--requests",
                              str(CAPACITY_REQUESTS), "--workload-seed", "9")
    if run is None:
        raise RuntimeError(f"reprise bench: {errors.strip()}")
    settle(server)
    return run["summary"]["totals"]["completed_count"] / run["wall_seconds"]


def line_1_totals():
    with tempfile.TemporaryDirectory() as work, \
            Server(os.path.join(work, "cache"), f"model.path={SMOLLM2}") as server:
        capacity = measure_capacity(server, work)
        show("SmolLM2, chat: capacity with 8 sessions at a time, requests/s", f"{capacity:.2f}")
        rate = NEAR_CAPACITY * capacity
        seconds = max(SECONDS, LEAST_REQUESTS / rate)
        before = counters(server)
        code, run, requests, errors = bench(server.address, os.path.join(work, "run"), *CHAT, "--rate", f"{rate:.3f}",
                                            "--duration", f"{seconds:.0f}")
        if run is None:
            raise RuntimeError(f"reprise bench: {errors.strip()}")
        settle(server)
        after = counters(server)
        lines = request_lines(server, requests[0]["request_id"].rsplit("-", 1)[0] + "-")
    totals, latency = run["summary"]["totals"], run["summary"]["latency"]
    check(f"chat at {100 * NEAR_CAPACITY:.0f} % of it for {seconds:.0f} s: requests, all completed",
          f"{totals['completed_count']} of {totals['sent_count']}, exit code {code}", "all, some reuse, 0",
          code == 0 and totals["completed_count"] == totals["sent_count"] and totals["cached_token_count"] > 0)
    compare_counters(run, before, after)
    compare_lines(requests, lines)
    compare_sums(run, lines)
    between = latency["network_ttft"]["all"]
    check("chat: TTFT at the client less at the server, p50, ms", f"{between['p50']:.2f} (p99 {between['p99']:.2f}; client "
          f"p50 {latency['client_ttft']['all']['p50']:.1f})", "within 2", abs(between["p50"]) < 2)


class ScriptedServer:
    """tests/bench/scripted_server on a free port; a context manager that ends it."""

    def __init__(self, first_token_ms, tokens, token_ms):
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.process = subprocess.Popen([os.path.join(BIN, "scripted_server"), self.address, str(first_token_ms), str(tokens),
                                         str(token_ms)], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("scripted_server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def line_2_schedule():
    """The median of several runs counts."""
    runs, seconds = (3, 4) if QUICK else (5, 15)
    with tempfile.TemporaryDirectory() as work, ScriptedServer(20, 16, 2) as server:
        for arrival in ("uniform", "poisson", "gamma"):
            delays, first, complete = [], [], True
            for number in range(runs):
                code, run, _, errors = bench(server.address, os.path.join(work, f"{arrival}-{number}"), "--profile", "cold",
                                             "--arrival", arrival, "--rate", "200", "--duration", str(seconds),
                                             "--max-tokens", "16", "--workload-seed", str(number + 1))
                if run is None:
                    raise RuntimeError(f"reprise bench: {errors.strip()}")
                totals, latency = run["summary"]["totals"], run["summary"]["latency"]
                complete = complete and code == 0 and totals["completed_count"] == totals["sent_count"]
                delays.append(latency["send_delay"]["all"])
                first.append(latency["client_ttft"]["all"]["p50"])
            median = sorted(delays, key=lambda delay: delay["p99"])[runs // 2]
            check(f"{arrival}, 200 requests/s of a scripted server: schedule kept, ms",
                  f"p99 {median['p99']:.3f} (p50 {median['p50']:.3f}, max {median['max']:.2f}; of runs "
                  f"{', '.join(format(d['p99'], '.2f') for d in delays)}; {median['count']} requests)", "p99 <= 1, all completed",
                  median["p99"] <= 1 and complete)
            show(f"{arrival}: first token where the script says 20 ms, p50, ms", f"{min(first):.2f}")
        show("a Python thread that only sleeps as often: late at p99, ms", f"{sleeper_delay(seconds, 200):.2f}")


def write_chat_model(folder):
    """The tiny Llama with the two tokens and the template of ChatML."""
    tiny_llama.write_tiny_llama(folder)
    markers = ["<|im_start|>", "<|im_end|>"]
    for name, change in (("tokenizer.json", lambda t: t["added_tokens"].extend(
            {"id": tiny_llama.VOCABULARY + i, "content": one, "special": True} for i, one in enumerate(markers))),
                         ("tokenizer_config.json", lambda t: t.update(chat_template="<|im_start|>"))):
        path = os.path.join(folder, name)
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        change(content)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file)
    tiny_model.write_weights(folder, {**tiny_llama.CONFIG, "vocab_size": tiny_llama.VOCABULARY + len(markers)})
    return folder


def sleeper_delay(seconds, rate):
    """How late a thread wakes up that only sleeps: p99 in ms. What the machine itself does to a schedule."""
    start, late = time.monotonic(), []
    for number in range(int(seconds * rate)):
        due = start + number / rate
        time.sleep(max(0, due - time.monotonic()))
        late.append(1000 * (time.monotonic() - due))
    return sorted(late)[int(0.99 * (len(late) - 1))]


def check_run(name, result, least):
    code, run, _, errors = result
    if run is None:
        check(name, errors.strip()[-200:], "runs", False)
        return
    totals = run["summary"]["totals"]
    check(name, f"{totals['completed_count']} of {totals['sent_count']} completed, {totals['prompt_token_count']} prompt tokens, "
          f"{totals['cached_token_count']} cached; {run['summary']['codes']} {run['summary']['errors'] or ''}".rstrip(),
          f"all, >= {least}",
          code == 0 and totals["sent_count"] >= least and totals["completed_count"] == totals["sent_count"])


def check_malformed(server, work):
    for number, (form, file) in enumerate(TRACES.items()):
        with open(os.path.join(ROOT, "tests/data/traces", file), encoding="utf-8") as good:
            text = good.read()
        path = os.path.join(work, f"bad-{file}")
        bad = '\n{"conversations": 7},\n' if form == "sharegpt" else "\nnothing that is known,,\n"
        lines = text.rstrip("\n").split("\n")
        with open(path, "w", encoding="utf-8") as out:
            out.write(lines[0] + bad + "\n".join(lines[1:]) + "\n")
        arguments = ["--trace", path, "--trace-format", form, "--arrival", "uniform", "--rate", "50", "--max-tokens", "4"]
        code, run, _, errors = bench(server.address, os.path.join(work, f"skip-{number}"), *arguments)
        named = re.search(rf"{re.escape(path)}:\d+: \S.*", errors)
        skipped = run["workload"]["malformed_line_count"] if run else -1
        check(f"{form} with a malformed line, --on-malformed skip", f"{skipped} skipped, "
              f"named: {named[0][len(work) + 1:][:60] if named else 'no'}, exit code {code}", "1, named, 0",
              code == 0 and skipped == 1 and named is not None)
        code, run, _, errors = bench(server.address, os.path.join(work, f"refuse-{number}"), *arguments, "--on-malformed",
                                     "refuse")
        named = re.search(rf"{re.escape(path)}:\d+: \S.*", errors)
        check(f"{form} with a malformed line, --on-malformed refuse", f"exit code {code}, named: {'yes' if named else 'no'}, "
              f"{'sent' if run else 'nothing sent'}", "2, named, nothing sent", code == 2 and named is not None and run is None)


def line_3_workloads():
    requests = 24 if QUICK else 100
    with tempfile.TemporaryDirectory() as work:
        model = write_chat_model(os.path.join(work, "model"))
        with Server(os.path.join(work, "cache"), f"model.path={model}") as server:
            for profile in PROFILES:
                result = bench(server.address, os.path.join(work, profile), "--profile", profile, "--rate", "50",
                               "--requests", str(requests), "--speedup", "1000")
                check_run(f"profile {profile}, tiny Llama", result, requests)
            for form, file in TRACES.items():
                result = bench(server.address, os.path.join(work, form), "--trace", f"tests/data/traces/{file}",
                               "--trace-format", form, "--on-malformed", "refuse", "--max-tokens", "8")
                check_run(f"trace {form}, tiny Llama", result, 6)
            check_malformed(server, work)
            for limit, expected in (("ttft_p99=60s", 0), ("ttft_p99=1us", 4), ("hit_ratio>=1.01", 4)):
                code, run, _, _ = bench(server.address, os.path.join(work, limit.replace("/", "")), "--profile", "api",
                                        "--rate", "100", "--requests", "20", "--slo", limit)
                check(f"--slo {limit}", f"exit code {code}, met {run['summary']['slo'][0]['met']}", str(expected),
                      code == expected and run["summary"]["slo"][0]["met"] == (expected == 0))
