"""The lab outside a notebook: as a Voilà page."""

import re

import pytest
from playwright.sync_api import expect

from .jupyterlab_page import APP_STEPS, HANG, launch, needed_browser, serve_app, shot


@pytest.fixture
def page():
    browser = needed_browser()
    with launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(HANG * 1000)
        yield page


@pytest.mark.browser
def test_the_page_of_the_lab_trains_stops_and_changes_its_task(page, tmp_path):
    with serve_app(tmp_path) as address:
        page.goto(address)
        lab = page.locator(".course-lab")
        status = lab.locator(".course-lab-status")
        expect(status).to_contain_text("ready")
        expect(lab.get_by_role("slider", name="learning rate")).to_have_count(1)  # named
        lab.get_by_role("button", name="Start").click()
        expect(status).to_contain_text(re.compile(r"training.*step [1-9]"))
        lab.get_by_role("button", name="Stop").click()
        expect(status).to_contain_text("stopped")
        assert 1 <= int(re.search(r"step (\d+)", status.inner_text()).group(1)) < APP_STEPS["copy"]
        assert lab.locator("svg.bqplot, .bqplot svg").count() >= 4
        shot(page, "app", full_page=True)
        page.get_by_label("task").select_option(index=1)
        expect(status).to_contain_text(f"step 0 of {APP_STEPS['recall']}")
        expect(lab).to_have_count(1)
        lab.get_by_role("button", name="Start").click()
        expect(status).to_contain_text("training")
        assert status.count() == 1
        assert page.get_by_text("Traceback").count() == 0
        assert page.get_by_text("import ipywidgets").count() == 0, "the page shows no code"
