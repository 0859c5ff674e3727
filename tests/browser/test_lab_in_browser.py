"""Notebook 02 in a real JupyterLab: run it, move τ, press Start and Stop, and look at what is shown."""

import os
import re
import shutil

import pytest

from .jupyterlab_page import REPOSITORY, find_browser, launch, open_notebook, run_all_cells, serve

NOTEBOOK = "02_watch_it_crash.ipynb"


@pytest.fixture
def page(tmp_path):
    browser = find_browser()
    if browser is None:
        reason = "no Chromium or Chrome here: expected one; try installing the package chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    with serve(tmp_path) as address, launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        open_notebook(page, address, f"notebooks/{NOTEBOOK}")
        yield page


def steps_made(status):
    return int(re.search(r"step (\d+)", status.inner_text()).group(1))


def curve_length(lab):
    """Characters of the longest path that the loss chart draws: it grows with every point."""
    paths = lab.locator(".course-lab-chart").first.locator("path")
    return max(len(paths.nth(i).get_attribute("d") or "") for i in range(paths.count()))


@pytest.mark.browser
def test_a_reader_crashes_and_stops_a_gpt(page):
    run_all_cells(page)
    lab = page.locator(".course-lab").first
    lab.wait_for(state="attached")
    page.get_by_text("| Idle").wait_for(timeout=300_000)  # every cell has run; a slow machine takes minutes
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    lab.scroll_into_view_if_needed()
    status = lab.locator(".course-lab-status")
    assert "ready" in status.inner_text().lower()
    before = curve_length(lab)

    lab.get_by_label("optimizer").select_option(label="AdamW²")
    tau = lab.locator(".widget-inline-hbox", has_text="τ of AdamW²")
    shown = tau.locator(".widget-readout").inner_text()
    tau.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "([lab, old]) => [...lab.querySelectorAll('.widget-inline-hbox')].find(row => "
        "row.innerText.includes('τ of AdamW²')).querySelector('.widget-readout').innerText !== old",
        arg=[lab.element_handle(), shown],
    )

    lab.get_by_role("button", name="Start").click()
    page.wait_for_function(
        "status => /training/i.test(status.innerText)"
        " && Number(/step (\\d+)/.exec(status.innerText)[1]) > 20",
        arg=status.element_handle(),
    )
    lab.get_by_role("button", name="Stop").click()
    page.wait_for_function("status => /stopped/i.test(status.innerText)", arg=status.element_handle())
    assert steps_made(status) > 20
    assert curve_length(lab) > before
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        lab.screenshot(path=f"{folder}/lab.png")
