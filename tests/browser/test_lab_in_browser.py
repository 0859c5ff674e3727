"""Notebook 02 in a real JupyterLab: run it, move τ, press Start and Stop, and look at what is shown."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from .jupyterlab_page import REPOSITORY, launch, needed_browser, open_notebook, run_all_cells, serve, shot

NOTEBOOK = "02_watch_it_crash.ipynb"
LOSS_COLOR = "rgb(51, 51, 51)"  # the run before is drawn in grey
SOON = 60_000  # milliseconds; a slow machine takes some of them


@pytest.fixture
def page(tmp_path):
    browser = needed_browser()
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    with serve(tmp_path) as address, launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        open_notebook(page, address, f"notebooks/{NOTEBOOK}")
        yield page


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
def test_a_reader_crashes_and_stops_a_gpt(page):
    run_all_cells(page, seconds=300)  # a slow machine takes minutes
    lab = page.locator(".course-lab").first
    lab.wait_for(state="attached")
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    lab.scroll_into_view_if_needed()
    status = lab.locator(".course-lab-status")
    # Out of sight, JupyterLab leaves a cell undrawn. A cell of the notebook has trained this lab's first run.
    expect(status).to_contain_text("finished", timeout=SOON)
    lab.get_by_role("button", name="Reset").click()
    expect(status).to_contain_text("ready", timeout=SOON)
    before = curve_length(lab)

    lab.get_by_label("optimizer").select_option(label="AdamW²")
    tau = lab.locator(".widget-inline-hbox", has_text="τ of AdamW²")
    readout = tau.locator(".widget-readout")
    shown = readout.inner_text()
    expect(tau.locator(".noUi-handle")).to_have_attribute("aria-disabled", "false", timeout=SOON)
    tau.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).not_to_have_text(shown, timeout=SOON)

    lab.get_by_role("button", name="Start").click()
    expect(status).to_contain_text("training", timeout=SOON)
    expect(status).to_contain_text(re.compile(r"step [1-9]\d"), timeout=SOON)  # ten steps at least
    lab.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("stopped", timeout=SOON)
    assert steps_made(status) < 300
    assert curve_length(lab) > before
    shot(lab, "lab")
