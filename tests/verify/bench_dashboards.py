"""The line of verify-bench on what operators look at: rules and their tests by promtool, and each query of the dashboard and
of the alerts against a real server under load, scraped by a real Prometheus."""

import json
import os
import tempfile
import time

import tiny_model
from prometheus_process import RULES, Prometheus
from report import QUICK, check, run, show
from server_process import BIN, ROOT, Server

ORACLE_PYTHON = os.path.join(ROOT, ".venv-oracle", "bin", "python")
DASHBOARD = os.path.join(ROOT, "deploy", "grafana", "dashboards", "reprise.json")
REQUESTS, THREADS = (1200, 24) if QUICK else (6000, 24)
# Small tiers and queues, so that there are evictions, refusals and loads; every hit is computed again.
SETTINGS = ["cache.host_bytes=1310720", "cache.store.max_bytes=4194304", "engine.max_queued_requests=10",
            "engine.max_running_sequences=8", "model.thread_count=2", "model.weight_dtype=FP32",
            "cache.store.flush_after_idle=0.05s", "cache.shadow_verify_percent=100"]
# What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "15s", "$__range": "1h", "$job": "reprise", "$instance": ".+"}


def promtool(*arguments, **options):
    code, output, _ = run(["promtool", *arguments], **options)
    if code != 0:
        print(output)
    return code == 0


def read_queries():
    """(panel, query) of each target and annotation of the dashboard, variables filled in."""
    with open(DASHBOARD, encoding="utf-8") as file:
        dashboard = json.load(file)
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    notes = [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"]]
    return [fill(queries), fill(notes)]


def fill(queries):
    filled = []
    for title, query in queries:
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        filled.append((title, query))
    return filled


def drive(server):
    """A load test, then mixed requests, some refused, cancelled, late and unreadable; returns the calls by outcome."""
    code, output, _ = run([os.path.join(BIN, "reprise"), "--address", server.address, "bench", "--profile", "chat", "--rate", "20",
                           "--duration", "5", "--no-progress"])
    if code != 0:
        raise RuntimeError(output[-2000:])
    script = os.path.join(ROOT, "tests", "verify", "mixed_requests.py")
    code, output, _ = run([ORACLE_PYTHON, script, server.address, server.admin_address, str(REQUESTS), str(THREADS)])
    if code != 0:
        raise RuntimeError(output[-2000:])
    return json.loads(output.splitlines()[-1])["outcomes"]


def empty_panels(prometheus, queries, start):
    """Titles and queries without one finite value since `start`, or that are refused."""
    empty = []
    for title, query in queries:
        try:
            if not prometheus.values(query, start, time.time()):
                empty.append(f"{title}: no value of {query}")
        except RuntimeError as error:
            empty.append(f"{title}: {error}: {query}")
    return empty


def check_rules(prometheus):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    wrong = [f"{rule['name']}: {rule.get('lastError', rule['health'])}" for rule in rules if rule["health"] != "ok"]
    for line in wrong:
        print(f"      {line}")
    check("alert rules that a live Prometheus evaluates", f"{len(rules) - len(wrong)} of {len(rules)}", "all, >= 10",
          not wrong and len(rules) >= 10)
    # The load refuses and preempts on purpose; nothing may be broken.
    firing = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"}
    broken = firing & {"RepriseDown", "RepriseErrors", "RepriseStuck", "RepriseRestarting", "RepriseShadowMismatch",
                       "RepriseStoreDamaged", "RepriseMemoryShort", "RepriseFilesShort"}
    check("alerts of a broken server that fire under load", ", ".join(sorted(broken)) or "none", "none", not broken)


def wait_for_alert(prometheus, name, seconds):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if any(alert["labels"]["alertname"] == name for alert in prometheus.get("alerts")["alerts"]):
            return True
        time.sleep(0.5)
    return False


def check_scrape(server):
    times = []
    for _ in range(10):
        started = time.monotonic()
        text = server.http("/metrics")[1]
        times.append(time.monotonic() - started)
    check("promtool check metrics of a live scrape", f"{len(text.splitlines())} lines", "no finding",
          promtool("check", "metrics", input=text))
    show("a scrape takes, ms", f"{sorted(times)[5] * 1000:.1f}")


def line_6_dashboard():
    check("promtool check rules", "deploy/prometheus/alerts.yml", "no finding", promtool("check", "rules", RULES))
    check("promtool check config", "deploy/prometheus/prometheus.yml", "no finding",
          promtool("check", "config", os.path.join(ROOT, "deploy", "prometheus", "prometheus.yml")))
    check("promtool test rules, each alert firing and silent", "tests/verify/alerts_test.yml", "no finding",
          promtool("test", "rules", os.path.join(ROOT, "tests", "verify", "alerts_test.yml")))
    panels, notes = read_queries()
    with tempfile.TemporaryDirectory() as work:
        model = tiny_model.write(os.path.join(work, "model"))
        with Server(os.path.join(work, "cache"), f"model.path={model}", *SETTINGS) as server:
            with Prometheus(work, f"127.0.0.1:{server.http_port}") as prometheus:
                start = time.time()
                outcomes = drive(server)
                time.sleep(6)  # the shadow's comparisons, and two more scrapes
                show("calls by outcome", ", ".join(f"{code} {count}" for code, count in sorted(outcomes.items())))
                empty = empty_panels(prometheus, panels, start)
                for line in empty:
                    print(f"      {line}")
                titles = {title for title, _ in panels}
                check("panels of the dashboard without an empty query", f"{len(panels) - len(empty)} of {len(panels)} queries, "
                      f"{len(titles)} panels", "all, >= 60 queries", not empty and len(panels) >= 60)
                planted = [("planted", 'rate(reprise_no_such_total{job="reprise"}[15s])'), ("planted", "sum(1 +"),
                           ("planted", "vector(0) / 0")]
                found = len(empty_panels(prometheus, planted, start))
                check("planted empty and wrong queries that are found", str(found), "3", found == len(planted))
                for _, query in notes:
                    prometheus.get("query", query=query)
                check_rules(prometheus)
                check_scrape(server)
                server.kill()
                told = wait_for_alert(prometheus, "RepriseDown", 20)
                check("RepriseDown after the server is killed", "pending" if told else "silent", "pending within 20 s", told)
