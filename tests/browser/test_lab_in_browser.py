"""The lab of Notebook 02 in a real JupyterLab and in Notebook 7: move τ, press Start and Stop, and look.

Its other cells are run by `make notebooks`.
"""

import contextlib
import re
import shutil

import pytest
from playwright.sync_api import TimeoutError, expect

from .jupyterlab_page import HANG, REPOSITORY, launch, needed_browser, replace, serve, shot

NOTEBOOK = "02_watch_it_crash.ipynb"
LOSS_COLOR = "rgb(51, 51, 51)"  # the run before is drawn in grey


@pytest.fixture(params=["jupyterlab", "notebook"])
def page(tmp_path, request):
    browser = needed_browser()
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    # A run that ends only when it is stopped.
    replace(tmp_path / "notebooks" / NOTEBOOK, 'lab = Lab(\\"copy\\")', "lab = Lab('copy', steps=100_000)")
    with serve(tmp_path, request.param) as address, launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(HANG * 1000)
        page.goto(address.format(f"notebooks/{NOTEBOOK}"))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        if request.param == "jupyterlab":
            page.get_by_text("| Idle").wait_for()  # the kernel is up
        else:
            page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        yield page


def run_cell(page, cell, shown):
    """Shift+Enter until `shown` is there: a page that is still loading drops it."""
    for _ in range(20):
        cell.scroll_into_view_if_needed()
        cell.click()
        page.keyboard.press("Shift+Enter")
        with contextlib.suppress(TimeoutError):
            return shown.wait_for(state="attached", timeout=60_000)
    raise AssertionError("the cell does not run")


def steps_made(status):
    return int(re.search(r"step (\d+)", status.inner_text()).group(1))


def curve_length(lab):
    """Characters of the path that draws the present run's loss: it grows with every point."""
    return lab.locator(".course-lab-chart").first.evaluate(
        "chart => Math.max(...[...chart.querySelectorAll('path.line')]"
        f".filter(path => getComputedStyle(path).stroke === '{LOSS_COLOR}')"
        ".map(path => path.getAttribute('d').length))"
    )


@pytest.mark.browser
def test_a_reader_starts_and_stops_the_lab_of_a_notebook(page, request):
    cell = page.locator(".jp-CodeCell", has_text="from course_lib.lab import Lab").first
    lab = page.locator(".course-lab").first
    run_cell(page, cell, lab)
    lab.scroll_into_view_if_needed()  # out of sight, JupyterLab leaves a cell undrawn
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    status = lab.locator(".course-lab-status")
    expect(status).to_contain_text("ready")
    expect(lab.get_by_role("slider", name="learning rate")).to_have_count(1)  # named
    before = curve_length(lab)

    lab.get_by_label("optimizer").select_option(label="AdamW²")
    tau = lab.locator(".widget-inline-hbox", has_text="τ of AdamW²")
    readout = tau.locator(".widget-readout")
    shown = readout.inner_text()
    expect(tau.locator(".noUi-handle")).to_have_attribute("aria-disabled", "false")
    tau.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).not_to_have_text(shown)

    lab.get_by_role("button", name="Start").click()
    expect(status).to_contain_text("training")
    expect(status).to_contain_text(re.compile(r"step [1-9]\d"))  # ten steps at least
    lab.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("stopped")
    assert 10 <= steps_made(status) < 100_000
    assert curve_length(lab) > before
    assert lab.locator("svg.bqplot, .bqplot svg").count() >= 4
    shot(page, request.node.callspec.id, full_page=True)
