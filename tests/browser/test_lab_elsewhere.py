"""The lab outside JupyterLab: as a Voilà page, and in Notebook 7."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from .jupyterlab_page import REPOSITORY, launch, needed_browser, serve, serve_app, shot

NOTEBOOK = "02_watch_it_crash.ipynb"
SOON = 90_000  # milliseconds; a slow machine takes some of them

pytestmark = pytest.mark.browser


@pytest.fixture
def page():
    browser = needed_browser()
    with launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(SOON)
        yield page


def start_and_stop(lab):
    """Press Start, see it train, press Stop, and see it stop before its end."""
    status = lab.locator(".course-lab-status")
    expect(status).to_contain_text("ready", timeout=SOON)
    expect(lab.get_by_role("slider", name="learning rate")).to_have_count(1, timeout=SOON)  # named
    lab.get_by_role("button", name="Start").click()
    expect(status).to_contain_text(re.compile(r"training.*step [1-9]\d?\b"), timeout=SOON)
    lab.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("stopped", timeout=SOON)
    assert int(re.search(r"step (\d+)", status.inner_text()).group(1)) < 300


def test_the_page_of_the_lab_trains_stops_and_changes_its_task(page, tmp_path):
    with serve_app(tmp_path) as address:
        page.goto(address)
        lab = page.locator(".course-lab")
        start_and_stop(lab)
        assert lab.locator("svg.bqplot, .bqplot svg").count() >= 4
        shot(page, "app", full_page=True)
        page.get_by_label("task").select_option(index=1)
        expect(lab.locator(".course-lab-status")).to_contain_text("step 0 of 400", timeout=SOON)
        expect(lab).to_have_count(1)
        start_and_stop_again = lab.locator(".course-lab-status")
        lab.get_by_role("button", name="Start").click()
        expect(start_and_stop_again).to_contain_text("training", timeout=SOON)
        assert page.locator(".course-lab-status").count() == 1
        assert page.get_by_text("Traceback").count() == 0
        assert page.get_by_text("import ipywidgets").count() == 0, "the page shows no code"


def test_the_lab_works_in_notebook_7(page, tmp_path):
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    with serve(tmp_path, "notebook") as address:
        page.goto(address.format(f"notebooks/{NOTEBOOK}"))
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()  # the kernel is up
        cell = page.locator(".jp-CodeCell", has_text="from course_lib.lab import Lab").first
        cell.scroll_into_view_if_needed()
        cell.click()
        page.keyboard.press("Shift+Enter")
        lab = page.locator(".course-lab").first
        lab.wait_for(state="attached")
        lab.scroll_into_view_if_needed()
        start_and_stop(lab)
        assert lab.locator("svg.bqplot, .bqplot svg").count() >= 4
        shot(page, "notebook7", full_page=True)
