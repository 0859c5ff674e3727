"""What the live lab costs, and how soon it answers, in a real JupyterLab with its tab open.

    python bench/lab.py [--preset live] [--rounds 5] [--drawer "Look inside"]

One kernel trains in turn without the lab and with it, with the same number of threads: first with the tab
open, shown by a headless Chromium on this machine, which draws without a GPU: its share of the cores comes
off the training; then with the tab closed. What a frame costs is CPU time of the kernel's thread that draws
it.
What a long run costs in memory: bench/lab_memory.py.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from jupyterlab_page import Page, find_browser, launch, open_notebook, serve

LAB = """
from course_lib import Run, preset
from course_lib.lab import Lab
from time import thread_time
lab = Lab({preset!r})
draw, costs = lab._draw, []
def timed(**options):
    start = thread_time()
    draw(**options)
    costs.append(thread_time() - start)
lab._draw = timed  # what the thread that trains will call
lab
"""
HEADLESS = """
import time
import torch
run = Run(preset({preset!r}))
start = time.perf_counter()
for record in run:
    pass
print("headless", run.config.steps / (time.perf_counter() - start), torch.get_num_threads())
"""
WITH_LAB = """
run, worker = lab.result(), lab._worker
print("lab", run.config.steps / worker.seconds)
"""
FRAMES = """
from statistics import quantiles
cuts = quantiles(costs, n=20)
print("frames", 1000 * cuts[9], 1000 * cuts[18])
"""
CLOSED = """
import threading
ratios = []
def measure():
    time.sleep(3)  # the tab is closed meanwhile
    for _ in range({rounds}):
        run = Run(preset({preset!r}))
        start = time.perf_counter()
        for record in run:
            pass
        headless = time.perf_counter() - start
        lab.reset()
        lab.start()
        lab.result()
        ratios.append(headless / lab._worker.seconds)
closed = threading.Thread(target=measure, daemon=True)
closed.start()
print("closed", 0)
"""
REOPENED = """
from statistics import median
closed.join()
print("ratio", median(ratios), min(ratios), max(ratios))
"""
CLOSED_SECONDS = 40
"""More than a round takes with the tab closed; what is left is waited for when it is open again."""
# Clicks a button, waits for a text, and counts how often the loss curve is redrawn until then. Nothing is
# polled: what this costs would come off the training.
CLICK = """
([button, selector, text]) => new Promise((resolve, reject) => {
  const lab = document.querySelector('.course-lab');
  let frames = 0;
  const curve = new MutationObserver(() => frames++);
  curve.observe(lab.querySelector('.course-lab-chart'),
    {subtree: true, attributes: true, attributeFilter: ['d']});
  const words = new MutationObserver(() => {
    if (!lab.querySelector(selector).textContent.includes(text)) return;
    curve.disconnect();
    words.disconnect();
    resolve({seconds: (performance.now() - start) / 1000, frames});
  });
  for (const html of lab.querySelectorAll('.widget-html-content'))
    words.observe(html, {childList: true, subtree: true});
  setTimeout(() => reject(new Error(`no "${text}" after ${button}`)), 120000);
  const start = performance.now();
  [...lab.querySelectorAll('button')].find(b => b.textContent.trim() === button).click();
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="live")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--drawer", help="title of a drawer that is open meanwhile")
    options = parser.parse_args()
    browser = find_browser()
    if browser is None:
        sys.exit(
            "no Chromium here: expected chromium, chromium-browser or google-chrome; try apt install chromium"
        )
    with tempfile.TemporaryDirectory() as folder:
        _write_notebook(Path(folder) / "bench.ipynb", options.preset, options.rounds)
        with serve(Path(folder)) as address, launch(browser) as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            open_notebook(page, address, "bench.ipynb")
            found = _measure(page, options.rounds, options.drawer)
            frames = _printed(page, 3)
            _printed(page, 4)
            page.keyboard.press("Control+s")
            page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
            page.goto("about:blank")
            time.sleep(CLOSED_SECONDS * options.rounds)
            open_notebook(page, address, "bench.ipynb")
            closed = _printed(page, 5)
    _report(options.preset, found)
    print(f"  {'a frame, ms of the kernel':32} {frames[0]:8.2f}  (95 % below {frames[1]:.2f})  ≤ 3")
    print(f"  {'ratio with the tab closed':32} {closed[0]:8.3f}  ({closed[1]:.3f} – {closed[2]:.3f})  ≥ 0.90")


def _write_notebook(path: Path, preset: str, rounds: int) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = (LAB, HEADLESS, WITH_LAB, FRAMES, CLOSED, REOPENED)
    sources = [source.format(preset=preset, rounds=rounds).strip() for source in cells]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def _measure(page: Page, rounds: int, drawer: str | None) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {
        name: [] for name in ("headless", "lab", "ratio", "frames", "stop", "collapse")
    }
    _run_cell(page, 0)
    page.wait_for_selector(".course-lab-status")
    if drawer:
        page.locator(".course-lab-drawers button", has_text=drawer).click()
    for _ in range(rounds):
        (headless, _threads) = _printed(page, 1)
        trained = _click(page, "Start", ".course-lab-status", "finished")
        (lab,) = _printed(page, 2)
        found["headless"].append(headless)
        found["lab"].append(lab)
        found["ratio"].append(lab / headless)
        found["frames"].append(trained["frames"] / trained["seconds"])
        _click(page, "Reset", ".course-lab-status", "ready")
        found["collapse"].append(_click(page, "Start", ".course-lab-verdict", "malignant")["seconds"])
        found["stop"].append(_click(page, "Stop", ".course-lab-status", "stopped")["seconds"])
    return found


def _click(page: Page, button: str, selector: str, text: str) -> dict[str, Any]:
    return dict(page.evaluate(CLICK, [button, selector, text]))


def _run_cell(page: Page, index: int) -> None:
    cell = page.locator(".jp-CodeCell").nth(index)
    cell.locator(".jp-InputPrompt").click()
    before = cell.locator(".jp-InputPrompt").inner_text()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        "([i, before]) => { const cell = document.querySelectorAll('.jp-CodeCell')[i];"
        " const prompt = cell.querySelector('.jp-InputPrompt').innerText;"
        " return prompt !== before && !prompt.includes('*') }",
        arg=[index, before],
    )


def _printed(page: Page, index: int) -> list[float]:
    """Run a cell and give the numbers that it prints."""
    _run_cell(page, index)
    output = page.locator(".jp-CodeCell").nth(index).locator(".jp-OutputArea-output").first
    output.scroll_into_view_if_needed()
    numbers = [float(word) for word in output.inner_text().split()[1:]]
    page.locator(".course-lab-status").scroll_into_view_if_needed()
    return numbers


def _report(preset: str, found: dict[str, list[float]]) -> None:
    rows = (
        ("steps a second without the lab", "headless", "{:.1f}", ""),
        ("steps a second with the lab", "lab", "{:.1f}", ""),
        ("ratio", "ratio", "{:.3f}", "≥ 0.90"),
        ("frames a second", "frames", "{:.1f}", "≥ 5"),
        ("from Stop to 'stopped', ms", "stop", "{:.0f}", "≤ 200"),
        ("from Start to a collapse, s", "collapse", "{:.2f}", "≤ 5"),
    )
    print(f"{preset}, median of {len(found['lab'])} rounds (least – most)")
    for title, name, form, wanted in rows:
        values = [v * 1000 for v in found[name]] if name == "stop" else found[name]
        middle, least, most = (form.format(f(values)) for f in (statistics.median, min, max))
        print(f"  {title:32} {middle:>8}  ({least} – {most})  {wanted}")


if __name__ == "__main__":
    main()
