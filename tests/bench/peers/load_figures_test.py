#!/usr/bin/env python3
"""Tests of load_figures.py."""

import unittest

import load_figures


def record(due, arrivals, **changes):
    return {"due": due, "arrivals": arrivals, "finished": arrivals[-1], "tokens": len(arrivals), "asked_tokens": len(arrivals),
            "prompt_tokens": 10, "reused": 0, **changes}


class PercentileTest(unittest.TestCase):
    def test_interpolates_between_the_nearest_values(self):
        for values, percent, expected in (([], 50, None), ([3], 99, 3), ([1, 2], 50, 1.5), ([4, 1, 3, 2], 50, 2.5),
                                          (list(range(101)), 99, 99), ([0, 10], 99, 9.9)):
            with self.subTest(values=values[:4], percent=percent):
                self.assertEqual(load_figures.percentile(values, percent), expected)


class FiguresTest(unittest.TestCase):
    def test_latency_counts_from_when_a_request_was_due(self):
        values = load_figures.figures([record(1.0, [1.5, 1.75], sent=1.25, reused=5), record(2.0, [2.5, 3.0])])
        self.assertEqual(values["TTFT p50"], 500)
        self.assertEqual(values["inter-token p50"], 375)
        self.assertEqual(values["output"], 2.0)
        self.assertEqual(values["reuse"], 25)
        self.assertEqual(values["completed"], 100)

    def test_what_failed_or_came_short_counts_only_as_not_completed(self):
        failed = {"due": 0.0, "prompt_tokens": 10, "asked_tokens": 2, "error": "no", "finished": 9.0}
        values = load_figures.figures([record(0.0, [0.5, 1.0]), failed, record(0.0, [7.0], asked_tokens=2)])
        self.assertEqual(values["TTFT p99"], 500)
        self.assertEqual(values["output"], 2.0)
        self.assertAlmostEqual(values["completed"], 100 / 3)

    def test_nothing_completed_leaves_nothing_measured(self):
        failed = {"due": 0.0, "prompt_tokens": 10, "asked_tokens": 2, "error": "no", "finished": 9.0}
        values = load_figures.figures([failed])
        self.assertEqual(values, {**dict.fromkeys(values), "completed": 0})
        self.assertRaises(RuntimeError, load_figures.capacity, [failed])

    def test_capacity_is_requests_over_the_last_ones_end(self):
        self.assertEqual(load_figures.capacity([record(0, [1.0]), record(0, [4.0])]), 0.5)


class CompareTest(unittest.TestCase):
    def test_says_who_is_ahead(self):
        for ours, peer, less, expected in ((1, 2, True, "ours"), (2, 1, True, "peer"), (1, 2, False, "peer"), (2, 1, False, "ours"),
                                           (1, 1, True, "equal"), (None, 1, True, "peer"), (1, None, False, "ours"),
                                           (None, None, True, "equal"), (0, 1, False, "peer")):
            with self.subTest(ours=ours, peer=peer, less=less):
                self.assertEqual(load_figures.who_is_ahead(ours, peer, less), expected)

    def test_ratio_is_ours_over_the_peers(self):
        ours = {name: 1.0 for name, _, _ in load_figures.FIGURES}
        rows = load_figures.compare(ours, {**ours, "TTFT p50": 4.0, "output": 2.0, "reuse": 0.0})
        by_name = {row.figure: row for row in rows}
        self.assertEqual([by_name[name].ratio for name in ("TTFT p50", "output", "reuse")], [0.25, 0.5, None])
        self.assertEqual([by_name[name].ahead for name in ("TTFT p50", "output", "reuse", "TTFT p99")],
                         ["ours", "peer", "ours", "equal"])


if __name__ == "__main__":
    unittest.main()
