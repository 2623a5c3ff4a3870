#!/usr/bin/env python3
"""Holds the Grafana dashboard, the alert rules, their tests and the runbook to docs/metrics.md and to each other.

Queries are run by tests/verify/bench_dashboards.py, which has a Prometheus; this needs none.
"""

import json
import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUFFIXES = ("_bucket", "_sum", "_count")
# Shown by other families of the same kind, or of no use over time.
NOT_SHOWN = {"reprise_store_compressed_segments_total", "reprise_store_evicted_bytes_total",
             "reprise_store_skipped_bytes_total", "reprise_request_disk_read_bytes_total", "reprise_namespace_quota_bytes",
             "reprise_predicted_prefill_seconds", "reprise_process_open_files_limit"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def documented():
    """Name -> (type, labels) of each family of docs/metrics.md."""
    rows = re.findall(r"^\| `(reprise_\w+)` \| (\w+) \| ([^|]+) \|", read("docs/metrics.md"), re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def family_of(sample, families):
    if sample in families:
        return sample
    for suffix in SUFFIXES:
        family = sample[:-len(suffix)]
        if sample.endswith(suffix) and families.get(family, ("",))[0] == "histogram":
            return family
    return None


def query_errors(query, families):
    """Samples and labels in `query` that docs/metrics.md does not have."""
    for sample, _, selector in re.findall(r"\b(reprise_\w+)(\{([^}]*)\})?", query):
        family = family_of(sample, families)
        if family is None or (families[family][0] == "histogram" and sample == family):
            yield f"{sample} is no sample of docs/metrics.md"
            continue
        known = families[family][1] | {"job", "instance"} | ({"le"} if sample.endswith("_bucket") else set())
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            if label not in known:
                yield f"{sample} has no label {label}"


def alerts():
    """Name -> text of each rule."""
    parts = re.split(r"^\s+- alert: (\w+)$", read("deploy/prometheus/alerts.yml"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


class DashboardTest(unittest.TestCase):
    def setUp(self):
        self.families = documented()
        self.dashboard = json.loads(read("deploy/grafana/dashboards/reprise.json"))
        self.panels = [panel for panel in self.dashboard["panels"] if panel["type"] != "row"]
        self.assertGreater(len(self.families), 70)
        self.assertGreater(len(self.panels), 40)

    def test_asks_only_for_what_is_exported(self):
        for panel in self.panels:
            self.assertTrue(panel["targets"], panel["title"])
            for target in panel["targets"]:
                self.assertEqual(list(query_errors(target["expr"], self.families)), [], panel["title"])
                self.assertIn("$job", target["expr"], panel["title"])

    def test_shows_every_family(self):
        shown = {family_of(name, self.families) for panel in self.panels for target in panel["targets"]
                 for name in re.findall(r"\breprise_\w+", target["expr"])}
        self.assertEqual(set(self.families) - shown, NOT_SHOWN)

    def test_every_panel_names_its_metrics_and_has_a_unit(self):
        for panel in self.panels:
            asked = {family_of(n, self.families) for t in panel["targets"] for n in re.findall(r"\breprise_\w+", t["expr"])}
            named = {family_of(n, self.families) for n in re.findall(r"`(reprise_\w+)`", panel["description"])}
            self.assertLessEqual(named, asked, panel["title"])
            self.assertLessEqual(asked - named, {"reprise_prompt_tokens_total"}, panel["title"])
            if panel["type"] in ("stat", "timeseries"):
                self.assertIn("unit", panel["fieldConfig"]["defaults"], panel["title"])

    def test_titles_and_ids_are_unique_and_nothing_overlaps(self):
        taken = {}
        for panel in self.dashboard["panels"]:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24, panel["title"])
            for x in range(grid["x"], grid["x"] + grid["w"]):
                for y in range(grid["y"], grid["y"] + grid["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
        for key in ("id", "title"):
            values = [panel[key] for panel in self.dashboard["panels"]]
            self.assertEqual(len(values), len(set(values)), key)


class AlertTest(unittest.TestCase):
    def test_asks_only_for_what_is_exported(self):
        families = documented()
        self.assertGreater(len(alerts()), 10)
        for name, rule in alerts().items():
            expression = rule[rule.index("expr:"):rule.index("labels:")]
            self.assertEqual(list(query_errors(expression, families)), [], name)

    def test_failed_means_the_same_in_alert_panel_runbook_and_metrics(self):
        labels = read("core/telemetry/labels.h")
        begun = {name: re.findall(r'"(\w+)"', re.search(rf"{name}\[\] = \{{([^}}]*)\}}", labels)[1]) for name in ("kGenerationMethods", "kAlertCodes")}
        panels = {panel["title"]: panel["targets"][0]["expr"] for panel in json.loads(read("deploy/grafana/dashboards/reprise.json"))["panels"]
                  if panel["type"] != "row"}
        runbook = dict(zip(*[iter(re.split(r"^## (\w+)$", read("docs/runbook.md"), flags=re.M)[1:])] * 2))
        for alert, panel, codes in (("RepriseErrors", "Failed by the server", "INTERNAL|UNKNOWN|DATA_LOSS"), ("RepriseRefusing", "Refused", "RESOURCE_EXHAUSTED")):
            for query in (alerts()[alert], panels[panel]):
                self.assertEqual(re.findall(r'code=~?"([^"]+)"', query), [codes], alert)
                self.assertEqual(re.findall(r'method=~"([^"]+)"', query), ["|".join(begun["kGenerationMethods"])] * 2, alert)
            self.assertIn(codes.replace("|", ", ", 1).replace("|", " or "), runbook[alert])
            self.assertLessEqual(set(codes.split("|")), set(begun["kAlertCodes"]))

    def test_each_has_severity_text_and_a_section_of_the_runbook(self):
        sections = re.findall(r"^## (\w+)$", read("docs/runbook.md"), re.M)
        self.assertEqual(sections, list(alerts()), "sections and alerts are the same, in the same order")
        for name, rule in alerts().items():
            self.assertRegex(rule, r"severity: (critical|warning)\n", name)
            self.assertIn("summary: ", rule, name)
            self.assertIn("description: ", rule, name)
            self.assertIn(f"runbook_url: docs/runbook.md#{name.lower()}\n", rule, name)

    def test_each_has_a_firing_and_a_silent_case(self):
        tests = dict(zip(*[iter(re.split(r"^  - name: (\w+)$", read("tests/verify/alerts_test.yml"), flags=re.M)[1:])] * 2))
        self.assertEqual(list(tests), list(alerts()))
        for name, test in tests.items():
            self.assertIn('instance="bad"}\', value: 1}', re.sub(r'"bad", \w+="\w+"', '"bad"', test), name)
            self.assertIn('instance="good"', test, name)

    def test_the_runbook_speaks_of_panels_that_are_there(self):
        titles = {panel["title"] for panel in json.loads(read("deploy/grafana/dashboards/reprise.json"))["panels"]}
        named = set()
        for paragraph in re.findall(r"[Pp]anels? .*?(?:\. |: |\.\n|\n\n)", read("docs/runbook.md"), re.S):
            named |= {re.sub(r"\s+", " ", title) for title in re.findall(r'"([^"]+)"', paragraph)}
        self.assertGreater(len(named), 10)
        self.assertEqual(named - titles, set())


class ComposeTest(unittest.TestCase):
    def test_mounts_what_is_there(self):
        mounts = re.findall(r"- (\./\S+?):(/\S+):ro", read("deploy/docker-compose.yaml"))
        self.assertGreaterEqual(len(mounts), 4)
        for source, _ in mounts:
            self.assertTrue(os.path.exists(os.path.join(ROOT, "deploy", source)), source)
        targets = {target for _, target in mounts}
        provider = read("deploy/grafana/provisioning/dashboards/reprise.yaml")
        self.assertIn(re.search(r"path: (\S+)", provider)[1], targets)


if __name__ == "__main__":
    unittest.main()
