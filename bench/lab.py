"""What the live lab costs, and how soon it answers, in a real JupyterLab with its tab open, then closed.

    python bench/lab.py [--preset live] [--rounds 5] [--runs 15] [--drawer "Look inside"]

All times are given in reference steps: a training step without the lab, measured in the same run, so that
figures from different machines compare.
Each training alternates between blocks of steps with the lab, which draws and keeps moments, and without:
each ratio is of two neighbouring blocks, so that what else this machine does cancels out. The tab is shown by
a headless Chromium on this machine, which draws without a GPU: its share of the cores comes off the training.
What a frame costs is CPU time of the kernel's thread that draws it.
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
from course_lib.lab import Lab
from time import thread_time
lab = Lab({preset!r})
draw, costs = lab.view.frame, []
def timed():
    start = thread_time()
    draw()
    costs.append(thread_time() - start)
lab.view.frame = timed  # what the thread that trains will call
lab
"""
FRAMES = """
from statistics import mean, median, quantiles
print("frames", 1000 * mean(costs), 1000 * quantiles(costs, n=20)[18])
"""
COMPARED = """
import threading
from time import perf_counter
from course_lib.runs.timeline import Timeline
BLOCK = 50
lab.close()
long = Lab({preset!r})
session, show = long.session, long.view.frame
apply, keep, stamps, pairs = session._apply, Timeline.keep_if_due, [], []
def alone():
    return long.busy and long.run.updates // BLOCK % 2
def stamped(branch):
    stamps.append(perf_counter())
    apply(branch)
def train():
    pairs.clear()
    for _ in range({runs}):
        stamps.clear()
        long.reset()
        long.start()
        long.result()
        blocks = [stamps[i + BLOCK] - stamps[i] for i in range(0, len(stamps) - BLOCK, BLOCK)]
        pairs.extend(zip(blocks[2::2], blocks[3::2]))  # not those at the start, which make threads
session._apply = stamped  # called before each step
long.view.frame = lambda: None if alone() else show()
Timeline.keep_if_due = lambda timeline: None if alone() else keep(timeline)
long
"""
TRAIN = """
training = threading.Thread(target=train, daemon=True)
training.start()
"""
RATIOS = """
training.join()
ratios = [without / beside for beside, without in pairs]
speed = BLOCK / median(without for _, without in pairs)
print("ratio", median(ratios), *quantiles(ratios, n=4)[::2], speed, len(ratios))
"""
SECONDS = 6
"""How long frames are counted in each round."""
# Clicks a button, waits for a text, if any, and counts how often the loss curve is redrawn until then, or for
# some seconds. Nothing is polled: what this costs would come off the training.
CLICK = """
([button, selector, text, seconds]) => new Promise((resolve, reject) => {
  const lab = document.querySelector('.course-lab');
  let frames = 0;
  const curve = new MutationObserver(() => frames++);
  curve.observe(lab.querySelector('.course-lab-chart'),
    {subtree: true, attributes: true, attributeFilter: ['d']});
  const end = () => {
    curve.disconnect();
    words.disconnect();
    resolve({seconds: (performance.now() - start) / 1000, frames});
  };
  const words = new MutationObserver(() => {
    if (lab.querySelector(selector).textContent.includes(text)) end();
  });
  if (seconds) setTimeout(end, 1000 * seconds);
  else for (const html of lab.querySelectorAll('.widget-html-content'))
    words.observe(html, {childList: true, subtree: true});
  setTimeout(() => reject(new Error(`no "${text}" after ${button}`)), 120000);
  const start = performance.now();
  [...lab.querySelectorAll('button')].find(b => b.textContent.trim() === button).click();
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="live")
    parser.add_argument("--rounds", type=int, default=5, help="of Start, Reset and Stop")
    parser.add_argument("--runs", type=int, default=15, help="of which half is made without the lab")
    parser.add_argument("--drawer", help="title of a drawer that is open meanwhile")
    options = parser.parse_args()
    browser = find_browser()
    if browser is None:
        sys.exit(
            "no Chromium here: expected chromium, chromium-browser or google-chrome; try apt install chromium"
        )
    with tempfile.TemporaryDirectory() as folder:
        _write_notebook(Path(folder) / "bench.ipynb", options.preset, options.runs)
        with serve(Path(folder)) as address, launch(browser) as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 1000})
            open_notebook(page, address, "bench.ipynb")
            found = _answers(page, options.rounds)
            frames = _printed(page, 1)
            _run_cell(page, 2)
            if options.drawer:
                long = page.locator(".course-lab").last
                long.locator(".course-lab-drawers button", has_text=options.drawer).click()
            began = time.perf_counter()
            _run_cell(page, 3)
            opened = _printed(page, 4)
            seconds = time.perf_counter() - began
            _run_cell(page, 3)
            page.keyboard.press("Control+s")
            page.wait_for_function("!document.querySelector('.jp-mod-dirty')")
            page.goto("about:blank")
            time.sleep(1.1 * seconds)
            open_notebook(page, address, "bench.ipynb")
            closed = _printed(page, 4)
    _report(options.preset, found, frames, {"open": opened, "closed": closed})


def _write_notebook(path: Path, preset: str, runs: int) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    sources = [
        source.format(preset=preset, runs=runs).strip() for source in (LAB, FRAMES, COMPARED, TRAIN, RATIOS)
    ]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def _answers(page: Page, rounds: int) -> dict[str, list[float]]:
    """How often the first lab shows something new, and how soon it does what it is told."""
    found: dict[str, list[float]] = {name: [] for name in ("frames", "stop", "collapse")}
    _run_cell(page, 0)
    page.wait_for_selector(".course-lab-status")
    for _ in range(rounds):
        trained = _click(page, "Start", "", "", SECONDS)
        found["frames"].append(trained["frames"] / trained["seconds"])
        _click(page, "Stop", ".course-lab-status", "stopped")
        _click(page, "Reset", ".course-lab-status", "ready")
        found["collapse"].append(_click(page, "Start", ".course-lab-verdict", "malignant")["seconds"])
        found["stop"].append(_click(page, "Stop", ".course-lab-status", "stopped")["seconds"])
    return found


def _click(page: Page, button: str, selector: str, text: str, seconds: float = 0.0) -> dict[str, Any]:
    return dict(page.evaluate(CLICK, [button, selector, text, seconds]))


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
        timeout=0,
    )
    page.locator(".course-lab-status").last.scroll_into_view_if_needed()


def _printed(page: Page, index: int) -> list[float]:
    """Run a cell and give the numbers that it prints."""
    _run_cell(page, index)
    output = page.locator(".jp-CodeCell").nth(index).locator(".jp-OutputArea-output").first
    output.scroll_into_view_if_needed()
    return [float(word) for word in output.inner_text().split()[1:]]


def _report(
    preset: str, found: dict[str, list[float]], frames: list[float], ratios: dict[str, list[float]]
) -> None:
    step = 1 / statistics.median(speed for *_, speed, _ in ratios.values())
    print(f"{preset}: the reference step takes {1000 * step:.1f} ms here")
    print("speed with the lab beside without: median (quartiles)")
    for tab, (middle, low, high, _, pairs) in ratios.items():
        about = f"{pairs:.0f} pairs of blocks"
        print(f"  {'ratio, tab ' + tab:32} {middle:8.3f}  ({low:.3f} – {high:.3f})  ≥ 0.90; {about}")
    mean, most = (cost / 1000 / step for cost in frames)
    print("in reference steps")
    print(f"  {'CPU time of a frame, mean':32} {mean:8.3f}  (95 % below {most:.3f})")
    print(f"median of {len(found['frames'])} rounds (least – most), in reference steps")
    found["frames"] = [1 / rate for rate in found["frames"]]
    for title, name in (
        ("from one frame to the next", "frames"),
        ("from Stop to 'stopped'", "stop"),
        ("from Start to a collapse", "collapse"),
    ):
        values = [seconds / step for seconds in found[name]]
        middle, least, longest = (f(values) for f in (statistics.median, min, max))
        print(f"  {title:32} {middle:8.1f}  ({least:.1f} – {longest:.1f})")


if __name__ == "__main__":
    main()
