#!/usr/bin/env python3
"""Tests the figures of the paper's experiment against data whose figures are known."""

import csv
import math
import os
import random
import statistics
import tempfile
import unittest

import claims
import figures
import measured
import page
import paper


def row(arm, prompt=0, repeat=0, **values):
    return {"set": "paper", "arm": arm, "ends": "length", "prompt": prompt, "repeat": repeat, "text": "p", "prompt_tokens": 12,
            "common_tokens": 8, "reused_tokens": 0 if arm in ("B", "RB") else 8, "disk_tokens": 8 if arm == "P2" else 0,
            "output_tokens": 4, "prompt_similarity": 0.9, "client_ms": 10.0, "first_token_ms": 5.0, "prefill_ms": 9.0,
            "decode_ms": 6.0, "actual_load_ms": 3.0, "lookup_ms": 7.5, "similarity_new": None, "similarity_equal_lengths": None,
            "similarity_as_published": None, "finish": "MAX_TOKENS", "fed": "", "output": "1 2 3 4", "reply": "", **values}


class PairingTest(unittest.TestCase):
    def test_pairs_arms_by_prompt_and_repeat(self):
        rows = [row("P1", 1, 0), row("B", 1, 1), row("P1", 1, 1), row("B", 0, 0), row("P1", 0, 0), row("P2", 0, 0), row("B", 2, 0),
                row("B", 1, 0, set="depth"), row("RB", 1, 0)]
        pairs = figures.pair(rows, "P1", set="paper", ends="length")
        self.assertEqual([p.prompt for p in pairs], [0, 1], "prompt 2 has no warm row")
        self.assertEqual([(c["repeat"], w["repeat"]) for c, w in zip(pairs[1].cold, pairs[1].warm)], [(1, 1)])
        self.assertTrue(all(c["arm"] == "B" for p in pairs for c in p.cold))

    def test_compares_the_runners_arms_with_the_runners_cold_one(self):
        rows = [row("B", client_ms=1.0), row("RB", client_ms=10.0), row("P0", client_ms=5.0)]
        self.assertAlmostEqual(figures.mean_saved_share(figures.pair(rows, "P0")), 0.5)

    def test_counts_outputs_that_are_the_same_in_every_repeat(self):
        rows = [row(arm, prompt, repeat) for arm in ("B", "P1") for prompt in (0, 1) for repeat in (0, 1)]
        self.assertEqual(figures.same_outputs(figures.pair(rows, "P1")), 2)
        rows[-1]["output"] = "1 2 3 5"
        self.assertEqual(figures.same_outputs(figures.pair(rows, "P1")), 1)

    def test_published_feed_is_the_last_id_or_those_after_as_many_as_are_cached(self):
        for correct, k, fed in (("7@2 8@3", 2, "8@1"), ("7@5 8@6", 5, "8@1"), ("7@2 8@3 9@4", 2, "9@2"), ("5@1 6@2 7@3", 1, "6@1 7@2")):
            self.assertEqual(figures.published_feed(correct.split(), k), fed.split(), correct)

    def test_reads_back_rows_with_numbers_and_texts(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.csv")
            wanted = row("P0", fed="13@4", reply='He said "no",\nand left', similarity_new=0.5)
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, wanted.keys())
                writer.writeheader()
                writer.writerow({name: "" if value is None else value for name, value in wanted.items()})
            self.assertEqual(figures.read_rows(path), [wanted])


class StatisticsTest(unittest.TestCase):
    def test_speedup_is_the_mean_of_the_prompts_ratios_of_medians(self):
        cold = {0: [10.0, 10.0, 1000.0], 1: [100.0, 100.0, 100.0]}
        warm = {0: [5.0, 5.0, 5.0], 1: [90.0, 90.0, 0.0]}
        rows = [row(arm, prompt, i, client_ms=ms) for arm, times in (("B", cold), ("P1", warm))
                for prompt, values in times.items() for i, ms in enumerate(values)]
        pairs = figures.pair(rows, "P1")
        self.assertAlmostEqual(figures.mean_saved_share(pairs), (0.5 + 0.1) / 2)
        self.assertAlmostEqual(figures.saved_share_of_means(pairs), 1 - 95 / 110)

    def test_bootstrap_is_the_value_itself_where_nothing_varies(self):
        rows = [row(arm, 0, i, client_ms=4.0 if arm == "P1" else 10.0) for arm in ("B", "P1") for i in range(30)]
        interval = figures.bootstrap(figures.pair(rows, "P1"), figures.mean_saved_share)
        self.assertEqual([round(v, 9) for v in interval], [0.6, 0.6, 0.6])

    def test_bootstrap_interval_of_a_median_covers_it_as_often_as_it_says(self):
        draw = random.Random(7)
        covered = 0
        for seed in range(60):
            rows = [row("B", 0, i, client_ms=draw.gauss(100, 10)) for i in range(40)]
            interval = figures.bootstrap([rows], figures.mean_latency, seed, resamples=200)
            self.assertLessEqual(interval.low, interval.value)
            self.assertGreaterEqual(interval.high, interval.value)
            covered += interval.low <= 100 <= interval.high
        self.assertGreaterEqual(covered, 50, "95 % of 60 is 57")

    def test_bootstrap_draws_pairs_together(self):
        # Each repeat takes another time, and in each the warm one takes half of the cold one's.
        rows = [row(arm, 0, i, client_ms=(i + 1) * (1.0 if arm == "P1" else 2.0)) for arm in ("B", "P1") for i in range(10)]
        interval = figures.bootstrap(figures.pair(rows, "P1"), figures.mean_saved_share)
        self.assertEqual([round(v, 9) for v in interval], [0.5, 0.5, 0.5])


    def test_bootstrap_gives_no_interval_of_few_repeats_nor_one_without_its_own_figure(self):
        rows = [row("B", 0, i, client_ms=i + 1.0) for i in range(10)]
        self.assertEqual(figures.bootstrap([rows[:9]], figures.mean_latency), (5.0, -math.inf, math.inf))
        self.assertTrue(figures.has_bounds(figures.bootstrap([rows], figures.mean_latency)))
        self.assertFalse(figures.has_bounds(figures.bootstrap([rows, rows[:9]], figures.mean_latency)), "of the fewest of all")
        # The number of different rows is lower in each resample than in the data.
        different = figures.bootstrap([rows], lambda items: len({r["repeat"] for r in items[0]}))
        self.assertEqual(different, (10, -math.inf, math.inf))
        self.assertEqual(measured.shares(figures.Interval(0.5, -math.inf, math.inf)), "50.0 %")
        self.assertEqual(measured.shares(figures.Interval(0.5, 0.25, 0.75)), "50.0 % [25.0 %, 75.0 %]")


class FitTest(unittest.TestCase):
    def rows(self):
        """T_enc = 3 + 0.5 n, T_dec = 2, T_load = 1 + 0.25 k, with an outlier in each prompt that a median leaves out."""
        rows = []
        for prompt, tokens in enumerate((48, 64, 96, 160, 288, 544)):
            depth = tokens - 32
            common = {"set": "depth", "prompt_tokens": tokens, "common_tokens": depth}
            for repeat, noise in enumerate((0,) * 9 + (100,)):
                rows.append(row("B", prompt, repeat, **common, prefill_ms=3 + 0.5 * tokens + noise, decode_ms=6.0 + noise))
                rows.append(row("P2", prompt, repeat, **common, disk_tokens=depth, actual_load_ms=1 + 0.25 * depth + noise))
        return rows

    def test_finds_the_costs_that_made_the_data(self):
        encode, load = figures.encode_line(self.rows()), figures.load_line(self.rows())
        self.assertAlmostEqual(encode.intercept, 3)
        self.assertAlmostEqual(encode.slope, 0.5)
        self.assertAlmostEqual(load.intercept, 1)
        self.assertAlmostEqual(load.slope, 0.25)
        self.assertAlmostEqual(figures.decode_ms_per_token(self.rows()), 2)

    def test_finds_alpha(self):
        self.assertAlmostEqual(figures.fit_alpha([(0.5, 0.6), (0.25, 0.3), (1.0, 1.2)]), 1.2)
        noise = random.Random(3)
        points = [(x / 50, 0.8 * x / 50 + noise.gauss(0, 0.02)) for x in range(1, 51)]
        self.assertAlmostEqual(figures.fit_alpha(points), 0.8, places=1)

    def test_alpha_leaves_out_prompts_without_reuse(self):
        rows = [row("B"), row("P1", client_ms=5.0), row("B", 1), row("P1", 1, reused_tokens=0)]
        self.assertEqual(figures.alpha_points(figures.pair(rows, "P1")), [(8 / 12, 0.5)])


def experiment(warm_ms=9.0, output="1 2 3 4"):
    """Rows of a whole run, small."""
    rows = FitTest().rows()
    rows += [dict(r, arm="P1", disk_tokens=0, first_token_ms=1.0) for r in rows if r["arm"] == "P2"]
    for repeat in range(10):
        for prompt in range(6):
            rows += [row("B", prompt, repeat), row("P1", prompt, repeat, client_ms=warm_ms, output=output),
                     row("P2", prompt, repeat, client_ms=warm_ms, output=output), row("RB", prompt, repeat),
                     row("P0", prompt, repeat, output="7", fed="13@3", similarity_new=0.5, similarity_equal_lengths=0.5,
                         similarity_as_published=0.6)]
            rows += [dict(r, ends="eos") for r in rows[-5:]]
        for prompt in range(6, 10):
            rows += [row(arm, prompt, repeat, set="unrelated", reused_tokens=0, disk_tokens=0) for arm in ("B", "P1", "P2")]
    rows += [row(arm, 0, 0, set="generated") for arm in ("B", "P1")]
    return rows


def run_of(rows):
    model = type("Model", (), {"name": "m", "title": "A model", "random_weights": False, "output_tokens": 100, "equal_tokens": 32})
    return {"rows": rows, "model": model,
            "facts": {"cpu": "c", "cores": 2, "threads": 2, "repeats": 3, "depth_repeats": 3, "generated": 1, "seconds": 60, "foreign_cores": 0.0,
                      "served": {"architecture": "llama", "numerics_id": "n", "kv_dtype": "bf16", "context_length": 1024}}}


class PageTest(unittest.TestCase):
    def verdicts(self, rows):
        return {claim: verdict for claim, _, verdict in claims.claims([measured.Measured(run_of(rows))])}

    def test_says_what_holds_by_what_was_measured(self):
        faster, slower = self.verdicts(experiment(warm_ms=5.0)), self.verdicts(experiment(warm_ms=11.0))
        claim = "consistent speedups when prefix overlap exists"
        self.assertEqual((faster[claim], slower[claim]), ("holds", "does not hold for prompts this short"))
        changed = self.verdicts(experiment(output="9"))
        claim = next(name for name in changed if name.startswith("no material degradation"))
        self.assertTrue(faster[claim].startswith("holds"))
        self.assertTrue(changed[claim].startswith("does not hold"))

    def test_decides_by_the_whole_interval(self):
        def interval(low, high):
            return figures.Interval((low + high) / 2, low, high)
        for intervals, verdict in (([(0.5, 0.6), (0.7, 0.9)], "holds"), ([(0.4, 0.49), (0.5, 0.6)], "does not hold"),
                                   ([(0.4, 0.6)], "undecided: interval too wide"), ([(0.5, 0.6), (0.4, 0.5)], "undecided: interval too wide"),
                                   ([(-math.inf, math.inf)], "undecided: too few repeats for an interval")):
            self.assertEqual(claims.decided([interval(*bounds) for bounds in intervals], 0.5), verdict, intervals)

    def test_claims_of_the_papers_figures_need_the_lower_end(self):
        others = [r for r in experiment() if r["arm"] != "P1" or r["set"] != "paper"]
        for times, speedup, alpha in (([1.0] * 10, "holds", "holds"), ([1.0, 3.0] * 5, "holds", "undecided: interval too wide"),
                                      ([3.0, 8.0] * 5, "undecided: interval too wide", "does not hold")):
            m = measured.Measured(run_of(others + [row("P1", prompt, repeat, client_ms=times[repeat]) for prompt in range(6)
                                                   for repeat in range(10)]))
            self.assertEqual(claims.average_speedup([m])[2], speedup, times)
            self.assertTrue(claims.alpha_above_one([m])[2].startswith(alpha), times)
        few = [measured.Measured(run_of([r for r in experiment() if r["repeat"] < 3]))]
        for claim in (claims.average_speedup, claims.alpha_above_one, claims.faster_when_deep, claims.faster_with_overlap):
            self.assertEqual(claim(few)[2], "undecided: too few repeats for an interval")

    def test_says_first_when_it_is_a_draft_and_what_is_missing(self):
        whole = {"repeats": 30, "depth_repeats": 10, "generated": 1000}
        self.assertEqual(page.missing(measured.FULL_MODELS, [whole, whole]), [])
        self.assertEqual(page.missing(["smollm2"], [dict(whole, repeats=3)]), ["the model dialogpt", "27 of 30 repeats of smollm2"])
        first = page.text([run_of(experiment())], "paper").split("\n\n")[1]
        self.assertTrue(first.startswith("**This is a draft"))
        self.assertIn("the model dialogpt; 27 of 30 repeats of m; 7 of 10 repeats by depth of m", " ".join(first.split()))

    def test_refuses_a_page_of_the_documentation_from_less_than_the_whole(self):
        for path, draft, gaps in (("docs/paper.md", False, []), ("docs/paper.md", True, ["x"]), ("build/paper.md", False, ["x"]), ("", False, ["x"])):
            paper.check_page(path, draft, gaps)
        with self.assertRaisesRegex(SystemExit, "--page docs/paper.md: missing x"):
            paper.check_page("docs/paper.md", False, ["x"])

    def test_explains_only_what_the_tokens_showed(self):
        same = [dict(r, output="1 2 3 4") for r in experiment()]
        longer = [dict(r, output_tokens=5) if r["arm"] == "P0" else r for r in experiment()]
        self.assertEqual(page.why_text([measured.Measured(run_of(same))]), "")
        self.assertEqual(page.why_text([measured.Measured(run_of(experiment()))]), page.CHANGES)
        self.assertEqual(page.why_text([measured.Measured(run_of(longer))]), page.CHANGES + page.LENGTHS)

    def test_decides_nothing_about_times_when_other_programs_had_the_cores(self):
        busy = run_of(experiment(warm_ms=5.0))
        busy["facts"]["foreign_cores"] = 1.0
        verdicts = {claim: verdict for claim, _, verdict in claims.claims([measured.Measured(busy)])}
        self.assertTrue(verdicts["consistent speedups when prefix overlap exists"].startswith("undecided"))
        self.assertTrue(verdicts["when overlap is absent, behaviour matches the baseline"].startswith("holds for outputs"))

    def test_shows_each_row_of_the_papers_table_and_no_gap(self):
        text = page.text([run_of(experiment())], "paper")
        for words in ("cache hits | 6/6 | 6/6 | 6/6 | 6/6", "average speedup", "average output similarity | 0.594 | 0.500",
                      "no cache", "both replies empty", "`13@3`", "10/10", "The 8.0 tokens reused on average take 4.00 ms", "search take 7.50 ms, and loading 3.00 ms", "T_load(k) = 1.00 + 0.2500 k"):
            self.assertIn(words, text)
        self.assertNotIn("None", text)
        self.assertNotIn("{", text)

    def test_keeps_empty_replies_apart(self):
        rows = experiment()
        for r in rows:
            if r["prompt"] == 0 and r["arm"] in ("RB", "P0"):
                r.update(output="", output_tokens=0)
                if r["arm"] == "P0":
                    r["similarity_new"] = 1.0
        m = measured.Measured(run_of(rows))
        self.assertAlmostEqual(m.similarity("P0", "length"), 0.5)
        self.assertAlmostEqual(m.similarity("P0", "length", empty=True), (5 * 0.5 + 1) / 6)

    def test_merges_each_arm_beside_its_cold_one(self):
        lines = [line for line in figures.merged(experiment()) if line["set"] == "paper" and line["ends"] == "length"]
        self.assertEqual(sorted({line["arm"] for line in lines}), ["P0", "P1", "P2"])
        self.assertEqual(len(lines), 18)
        self.assertAlmostEqual(statistics.mean(line["speedup"] for line in lines if line["arm"] == "P1"), 0.1)


if __name__ == "__main__":
    unittest.main()
