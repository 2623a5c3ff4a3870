"""The lines of verify-bench on the HTML report: opened in headless Chromium, wide and narrow, light and dark, with hostile names
in every field. REPRISE_SCREENSHOTS=FOLDER keeps the screenshots."""

import os
import subprocess
import tempfile

import sample_run
import tiny_model
from chromium_page import Chromium
from report import check
from server_process import BIN, ROOT, Server

VIEWS = {"desktop, light": (1280, 900, False), "desktop, dark": (1280, 900, True),
         "phone, light": (390, 844, False), "phone, dark": (390, 844, True)}
SCREENSHOTS = os.environ.get("REPRISE_SCREENSHOTS", "")

# Canvases with something drawn on them: more than one colour.
DRAWN = """[...document.querySelectorAll("figure[data-chart]")].filter((figure) => {
  const canvas = figure.querySelector("canvas");
  if (!canvas) return false;
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size > 10;
}).length"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOREIGN = """document.querySelectorAll("img, svg, iframe, object, embed, link:not([rel=icon]), script[src], [onload], [onerror]").length
  + (window.hacked ? 1000 : 0) + document.scripts.length - 3"""
# Least contrast of texts against what is behind them, as WCAG 2 has it.
CONTRAST = """(() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = numbers(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return Math.min(...[...document.querySelectorAll("h1, h2, h3, p, td, th, dt, dd, figcaption, button, summary, li")].map((element) => {
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
})()"""
TOGGLED = """[...document.querySelectorAll("button[data-cumulative]")].filter((button) => {
  button.click();
  return button.getAttribute("aria-pressed") === "true" && button.closest("figure").querySelector("canvas");
}).length"""


def reprise(*arguments):
    done = subprocess.run([os.path.join(BIN, "reprise"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"reprise {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def look(browser, path, name, view):
    """What one view of a page comes to, as (name, value, bound, whether it holds)."""
    width, height, dark = VIEWS[view]
    browser.complaints.clear()
    browser.requests.clear()
    browser.show(width, height, dark)
    browser.open(path)
    charts = browser.evaluate("document.querySelectorAll('figure[data-chart]').length")
    facts = [("charts drawn", browser.evaluate(DRAWN), f"{charts}, >= 6", lambda n: n == charts >= 6),
             ("wider than the screen, px", browser.evaluate(OVERFLOW), "0", lambda n: n == 0),
             ("foreign elements", browser.evaluate(FOREIGN), "0", lambda n: n == 0),
             ("charts without a text", browser.evaluate("document.querySelectorAll('.plot:not([aria-label])').length"), "0",
              lambda n: n == 0),
             ("least contrast", round(browser.evaluate(CONTRAST), 1), ">= 4.5", lambda n: n >= 4.5),
             ("switched to cumulative", browser.evaluate(TOGGLED), ">= 2", lambda n: n >= 2)]
    if SCREENSHOTS:
        browser.open(path)
        browser.screenshot(os.path.join(SCREENSHOTS, f"{name}-{view.replace(', ', '-')}.png"))
    asked = [url for url in browser.requests if not url.startswith(("file:", "data:"))]
    facts.append(("addresses asked for", len(asked), "0", lambda n: n == 0))
    facts.append(("words on the console", len(browser.complaints), "0", lambda n: n == 0))
    return facts


def check_page(browser, path, name, views=tuple(VIEWS)):
    for view in views:
        facts = look(browser, path, name, view)
        for complaint in browser.complaints:
            print(f"      {complaint}")
        wrong = [f"{fact} {value} [{bound}]" for fact, value, bound, holds in facts if not holds(value)]
        said = "; ".join(f"{fact} {value}" for fact, value, _, _ in facts)
        check(f"{name}: {view}", "; ".join(wrong) or said, "as the screen needs", not wrong)


def check_that_faults_are_seen(browser, folder):
    """A page with a script error, an element that is too wide and an address outside, each of which must be found."""
    path = os.path.join(folder, "faulty.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write("<!DOCTYPE html><body><div style='width:5000px'>x</div><img src='http://127.0.0.1:9/x.png'>"
                   "<script>throw new Error('planted')</script></body>")
    browser.complaints.clear()
    browser.requests.clear()
    browser.show(390, 844, False)
    browser.open(path)
    seen = [any("planted" in complaint for complaint in browser.complaints), browser.evaluate(OVERFLOW) > 1000,
            any(url.startswith("http:") for url in browser.requests)]
    check("planted faults of a page that are seen", str(sum(seen)), "3", all(seen))


def real_run(work):
    """A short load test of a real server with a small model; returns its page."""
    model = tiny_model.write(os.path.join(work, "model"))
    page = os.path.join(work, "real.html")
    with Server(os.path.join(work, "cache"), f"model.path={model}", "model.thread_count=2", "cache.similarity.enabled=false") as server:
        reprise("--address", server.address, "bench", "--profile", "chat", "--rate", "40", "--duration", "6", "--no-progress",
                "--slo", "error_ratio=50%", "--output", os.path.join(work, "real"), "--html", page)
    return page


def line_1_html():
    with tempfile.TemporaryDirectory() as work:
        a = sample_run.write(os.path.join(work, "a"))
        b = sample_run.write(os.path.join(work, "b"), speed=1.3)
        page = reprise("bench", "report", a).strip()
        both = os.path.join(work, "both.html")
        table = reprise("bench", "compare", a, b, "--html", both)
        paired = [line for line in table.splitlines() if "requests paired" in line]
        check("bench compare: pairs and verdicts", paired[0] if paired else "no pairs", "pairs, B better",
              bool(paired) and " better" in table and " worse" not in table)
        real = real_run(work)
        with Chromium() as browser:
            check_page(browser, real, "report of a real run")
            check_page(browser, page, "report with hostile names")
            check_page(browser, both, "comparison")
            for name, folder in (("of one request", sample_run.write(os.path.join(work, "one"), requests=1)),
                                 ("of extreme values", sample_run.write_extreme(os.path.join(work, "extreme")))):
                check_page(browser, reprise("bench", "report", folder).strip(), f"report {name}", ["desktop, light"])
            check_that_faults_are_seen(browser, work)
