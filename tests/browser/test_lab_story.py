"""The lab by mouse: crash, rewind, fork with τ, race, export; closed tabs, dead kernels, two labs.

And by keyboard and ear: what a screen reader is told is read from Chromium's accessibility tree.
"""

import re

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import expect

from .jupyterlab_page import launch, needed_browser, open_notebook, run_all_cells, serve, shot

LAB = """
from course_lib.lab import Lab
lab = Lab("copy", steps={steps}, d_model=32, heads=2, context=16, batch=8)
lab
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A folder, the address of a JupyterLab over it, and a browser: started once for all tests."""
    browser = needed_browser()
    folder = tmp_path_factory.mktemp("labs")
    with serve(folder) as address, launch(browser) as chromium:
        yield folder, address, chromium


@pytest.fixture
def page(jupyter):
    """A page as narrow as the lab has to do with."""
    _, _, chromium = jupyter
    page = chromium.new_page(viewport={"width": 1000, "height": 1400})  # some of it is the notebook's frame
    refused = []
    page.on("console", lambda message: refused.append(message.text) if _of_a_widget(message) else None)
    yield page
    page.close()
    assert refused == []


def _of_a_widget(message):
    """Whether a browser complains of what the lab has sent it."""
    return message.type == "error" and ("setting state" in message.text or "attribute" in message.text)


def notebook(jupyter, page, name, *cells):
    """Open a new notebook and run its cells; the labs in it."""
    folder, address, _ = jupyter
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in cells]
    nbformat.write(made, folder / name)
    open_notebook(page, address, name)
    run_all_cells(page)
    return page.locator(".course-lab")


def button(lab, name):
    return lab.locator("button").filter(has_text=re.compile(rf"^\s*{re.escape(name)}$"))


def status(lab):
    return lab.locator(".course-lab-status")


def told(lab, text):
    expect(status(lab)).to_contain_text(text)


def rows(lab):
    return lab.locator(".course-lab-branches tr").filter(has=lab.page.locator("td"))


def slider(lab, name):
    """The handle of a slider, for the keyboard."""
    return lab.locator(".widget-inline-hbox", has_text=name).locator(".noUi-handle")


@pytest.mark.browser
def test_crash_rewind_fork_race_and_keep(jupyter, page):
    folder, _, _ = jupyter
    lab = notebook(jupyter, page, "story.ipynb", LAB.format(steps=120)).first
    button(lab, "Start").click()
    told(lab, "finished")
    expect(lab.locator(".course-lab-verdict")).to_contain_text("malignant collapse")

    button(lab, "Rewind and fork").click()
    handle = slider(lab, "moment (step)")
    handle.focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    told(lab, "looking back")
    told(lab, "step 10 of 120")
    lab.get_by_label("optimizer").select_option(label="AdamW²")
    tau = lab.locator(".widget-inline-hbox", has_text="τ of AdamW²")
    # Only then do its keys do something: the kernel has to hear of the optimizer first.
    expect(tau.locator(".noUi-handle")).to_have_attribute("aria-disabled", "false")
    slider(lab, "τ of AdamW²").focus()
    page.keyboard.press("ArrowLeft")
    expect(tau.locator(".widget-readout")).to_have_text("0.03")
    button(lab, "Fork from here").click()
    told(lab, "branch B")
    told(lab, "finished")
    expect(rows(lab)).to_have_count(2)
    expect(rows(lab).nth(1)).to_contain_text("from A at step 10")
    expect(rows(lab).nth(1)).to_contain_text("AdamW², pre-LN, learning rate 0.05, no warmup, τ 0.03")
    shot(lab, "fork")

    button(lab, "Keep it").click()
    button(lab, "Records (CSV)").click()
    told(lab, "Written: lab-files/records.csv")
    button(lab, "Figure (PNG, SVG)").click()
    told(lab, "figure.svg")
    button(lab, "Copy as code").click()
    told(lab, "Code below")
    assert "run.fork(optimizer='adamw2', tau=0.03)" in lab.locator("textarea").input_value()
    table = pd.read_csv(folder / "lab-files" / "records.csv")
    assert set(table["branch"]) == {"A", "B"}
    assert (folder / "lab-files" / "figure.png").stat().st_size > 10_000

    button(lab, "Race").click()
    button(lab, "Add the usual three").click()
    button(lab, "Start race").click()
    told(lab, "training")
    expect(rows(lab)).to_have_count(3)
    told(lab, "finished")
    for i in range(3):
        expect(rows(lab).nth(i)).to_contain_text("120 of 120")
    shot(lab, "race")


@pytest.mark.browser
def test_a_closed_tab_finds_its_run_again(jupyter, page):
    _, address, _ = jupyter
    lab = notebook(jupyter, page, "tab.ipynb", LAB.format(steps=100_000)).first
    button(lab, "Start").click()
    told(lab, "training")
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    page.goto("about:blank")
    open_notebook(page, address, "tab.ipynb")
    lab = page.locator(".course-lab").first
    told(lab, "training")
    button(lab, "Stop").click()
    told(lab, "stopped")
    assert int(re.search(r"step (\d+)", status(lab).inner_text())[1]) > 0


@pytest.mark.browser
def test_two_labs_do_not_disturb_each_other(jupyter, page):
    cell = LAB.format(steps=100_000)
    labs = notebook(
        jupyter, page, "two.ipynb", cell, cell.replace("lab =", "other =").replace("\nlab", "\nother")
    )
    one, other = labs.nth(0), labs.nth(1)
    button(one, "Start").click()
    told(one, "training")
    slider(other, "learning rate").focus()
    page.keyboard.press("ArrowLeft")
    expect(status(other)).not_to_contain_text("learning rate 0.05,")
    told(one, "training")  # the other's slider is the other's
    expect(
        one.locator(".widget-inline-hbox", has_text="learning rate").locator(".widget-readout")
    ).to_have_text("0.050")
    button(other, "Start").click()
    told(other, "training")
    told(one, "paused")
    told(one, "Another lab has started; Start goes on.")
    held = int(re.search(r"step (\d+)", status(one).inner_text())[1])
    button(other, "Stop").click()
    told(other, "stopped")
    button(one, "Start").click()
    told(one, "training")
    button(one, "Stop").click()
    told(one, "stopped")
    assert int(re.search(r"step (\d+)", status(one).inner_text())[1]) > held


@pytest.mark.browser
def test_a_kernel_restarted_in_mid_run_leaves_advice(jupyter, page):
    lab = notebook(jupyter, page, "kernel.ipynb", LAB.format(steps=100_000)).first
    advice = lab.locator(".course-lab-advice")
    expect(advice).to_be_hidden()
    button(lab, "Start").click()
    told(lab, "training")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Restart Kernel…").first.click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(advice).to_be_visible()
    expect(advice).to_contain_text("Run its cell again")
    expect(button(lab, "Stop")).to_have_css("pointer-events", "none")
    shot(lab, "restarted")
    run_all_cells(page)  # as advised
    lab = page.locator(".course-lab").first
    told(lab, "ready")
    expect(lab.locator(".course-lab-advice")).to_be_hidden()


@pytest.mark.browser
def test_a_notebook_from_elsewhere_shows_a_picture_until_its_cell_is_run(jupyter, page):
    folder, address, _ = jupyter
    lab = notebook(jupyter, page, "mine.ipynb", LAB.format(steps=30) + "lab.start()\nlab.result()\nlab").first
    told(lab, "finished")
    still = page.locator(".course-lab-static")
    expect(still).to_be_hidden()  # beside the live view
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Shut Down Kernel").first.click()
    page.reload()
    expect(still).to_be_visible()  # in one's own notebook, reopened without its kernel
    shot(page, "own-without-kernel")
    theirs = nbformat.read(folder / "mine.ipynb", as_version=4)
    theirs.cells.append(nbformat.v4.new_markdown_cell("Another hand was here."))  # so that it is not trusted
    nbformat.write(theirs, folder / "theirs.ipynb")
    page.goto("about:blank")
    open_notebook(page, address, "theirs.ipynb")
    expect(still).to_be_visible()
    expect(still.locator("p")).to_contain_text("The lab is live in JupyterLab: run this cell to use it.")
    assert still.locator("img").evaluate("image => image.complete && image.naturalWidth") > 500
    assert "Four panels against step" in still.locator("img").get_attribute("alt")
    shot(page, "without-kernel")
    run_all_cells(page)
    told(page.locator(".course-lab").first, "finished")
    expect(still).to_be_hidden()


DRAWERS = ["Rewind and fork", "Race", "Surgery", "Rescue", "Look inside", "Keep it"]
CONTROLS = "button:enabled, select:enabled, input:enabled, textarea, [role=slider], [contenteditable=true]"


def heard(page):
    """What a screen reader finds in the lab: role, name, value and state of all that can be focused."""
    session = page.context.new_cdp_session(page)
    session.send("Accessibility.enable")
    lab = session.send("Runtime.evaluate", {"expression": "document.querySelector('.course-lab')"})
    tree = session.send("Accessibility.queryAXTree", {"objectId": lab["result"]["objectId"]})["nodes"]
    found = []
    for node in tree:
        state = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
        if state.get("focusable") and not node["ignored"]:
            role, name, value = (node.get(key, {}).get("value") for key in ("role", "name", "value"))
            found.append({"role": role, "name": (name or "").strip(), "value": value, **state})
    session.detach()
    return found


def tabbed(page):
    """How many controls can be seen, and which of them (by number) the Tab key reaches from the first on."""
    seen = f"[...document.querySelectorAll('.course-lab :is({CONTROLS})')].filter(e => e.checkVisibility())"
    count = page.evaluate(f"{seen}.length")
    page.evaluate(f"{seen}[0].focus()")
    reached = set()
    for _ in range(count):
        reached.add(page.evaluate(f"{seen}.indexOf(document.activeElement)"))
        page.keyboard.press("Tab")
    return count, reached


@pytest.mark.browser
def test_every_control_has_a_name_and_is_reached_by_the_tab_key(jupyter, page):
    lab = notebook(jupyter, page, "names.ipynb", LAB.format(steps=30)).first
    button(lab, "Start").click()
    told(lab, "finished")
    for title in DRAWERS:
        button(lab, title).click()
        expect(button(lab, title)).to_have_attribute("aria-pressed", "true")
        if title == "Keep it":
            button(lab, "Copy as code").click()
            told(lab, "Code below")
        controls = heard(page)
        nameless = [c for c in controls if not c["name"] or c["role"] == "generic"]
        assert nameless == [], title
        names = [(c["role"], c["name"]) for c in controls if c["role"] != "option"]
        assert len(names) == len(set(names)), f"{title}: two controls of the same name"
        count, reached = tabbed(page)
        assert reached == set(range(count)), title
        assert count >= 16


@pytest.mark.browser
def test_a_screen_reader_hears_a_slider_move_and_a_choice_made(jupyter, page):
    lab = notebook(jupyter, page, "heard.ipynb", LAB.format(steps=30)).first
    sliders = {c["name"]: c for c in heard(page) if c["role"] == "slider"}
    assert list(sliders) == ["learning rate", "warmup (steps)", "τ of AdamW²"]
    handle = slider(lab, "learning rate")
    expect(handle).to_have_attribute("aria-valuetext", "0.050")  # and not its logarithm
    handle.focus()
    page.keyboard.press("ArrowLeft")
    expect(handle).to_have_attribute("aria-valuetext", "0.045")
    expect(slider(lab, "τ of AdamW²")).to_have_attribute("aria-disabled", "true")

    typed = lab.get_by_role("textbox", name="learning rate, in figures")
    typed.fill("0.01")
    page.keyboard.press("Enter")
    expect(handle).to_have_attribute("aria-valuetext", "0.010")

    button(lab, "Surgery").click()
    shock = lab.get_by_role("button", name="W_q, W_k: shock ×3")
    expect(shock).to_have_attribute("aria-pressed", "false")
    shock.focus()
    page.keyboard.press("Enter")
    expect(shock).to_have_attribute("aria-pressed", "true")
