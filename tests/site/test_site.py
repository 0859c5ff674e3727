"""The built site in a real browser: links, figures, alt texts, no error, nothing fetched from elsewhere."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import pytest

from book.build import SITE, binder_address
from book.outputs import ROOT, course
from tests.browser.jupyterlab_page import launch, needed_browser

pytestmark = pytest.mark.site
NOTEBOOKS = course()
LOOK = """async () => {
    const images = [...document.images];
    images.forEach(image => image.loading = 'eager');
    await Promise.all(images.map(image => image.decode().catch(() => null)));
    return {
        links: [...document.querySelectorAll('a[href]')].map(link => link.href),
        ids: [...document.querySelectorAll('[id]')].map(element => element.id),
        broken: images.filter(image => !image.naturalWidth).map(image => image.src),
        mute: images.filter(image => !image.src.includes('_static') && (image.alt || '').trim().length < 20)
            .map(image => image.src),
        pictured: [...document.querySelectorAll('.cell')]
            .filter(cell => cell.querySelector('.cell_output img'))
            .flatMap(cell => [...cell.querySelectorAll('[id]')].map(element => element.id)),
        errors: [...document.querySelectorAll('.traceback, .stderr, .problematic, .system-message')]
            .map(element => element.innerText),
        text: document.body.innerText,
        overhang: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    };
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    """Where the site is served, built anew."""
    subprocess.run([sys.executable, "-m", "book.build"], cwd=ROOT, check=True)
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def visited(address):
    """What every page shows, by its path; and what the browser complained of."""
    browser = needed_browser()
    pages, complaints = {}, []
    with launch(browser) as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 900})
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda r: complaints.append(r.url) if not r.url.startswith((address, "data:")) else None,
        )
        page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        for file in sorted(SITE.rglob("*.html")):
            path = file.relative_to(SITE).as_posix()
            page.goto(address + path, wait_until="load")
            pages[path] = page.evaluate(LOOK)
    return pages, complaints


def test_there_is_a_page_for_every_notebook_and_those_beside_it(visited):
    pages, _ = visited
    expected = {f"notebooks/{path.stem}.html" for path in NOTEBOOKS}
    beside = ("index", "glossary", "experiments", "bibliography", "teachers", "speed", "architecture", "api")
    expected |= {f"{name}.html" for name in beside}
    assert expected <= set(pages)


def test_nothing_is_fetched_from_elsewhere_and_the_browser_has_no_complaint(visited):
    assert visited[1] == []


def test_no_internal_link_is_broken(visited, address):
    pages, _ = visited
    broken = []
    for path, seen in pages.items():
        for link in seen["links"]:
            target, fragment = urldefrag(urljoin(address + path, link))
            if not target.startswith(address):
                continue
            name = unquote(target.removeprefix(address)) or "index.html"
            if name in pages:
                if fragment and unquote(fragment) not in pages[name]["ids"]:
                    broken.append(f"{path} → {name}#{fragment}")
            elif not (SITE / name).is_file():
                broken.append(f"{path} → {name}")
    assert broken == []


def test_every_picture_is_there_and_says_what_it_shows(visited):
    pages, _ = visited
    assert [src for seen in pages.values() for src in seen["broken"]] == []
    assert [src for seen in pages.values() for src in seen["mute"]] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_page_lacks_a_figure_of_its_notebook(path, visited):
    expected = [
        cell.id
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and any("image/png" in o.get("data", {}) for o in cell.outputs)
    ]
    pictured = visited[0][f"notebooks/{path.stem}.html"]["pictured"]
    assert expected
    assert [cell for cell in expected if cell not in pictured] == []


def test_no_page_shows_an_error(visited):
    pages, _ = visited
    assert {path: seen["errors"] for path, seen in pages.items() if seen["errors"]} == {}
    words = ("Traceback (most recent call last)", "{{", "Error displaying widget")
    assert [(path, w) for path, seen in pages.items() for w in words if w in seen["text"]] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_says_where_to_run_it(path, visited):
    seen = visited[0][f"notebooks/{path.stem}.html"]
    assert binder_address(f"notebooks/{path.name}") in seen["links"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("mybinder.org/v2") == 1, "the address has one place"


def test_every_prediction_stands_in_the_index_of_experiments(visited):
    asked = sum(
        len(re.findall(r"= Prediction\(", cell.source))
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    )
    links = visited[0]["experiments.html"]["links"]
    answers = re.findall(r"notebooks/\d\d_\w+\.html#", "\n".join(links))
    assert len(answers) >= asked
    page = (SITE / "experiments.html").read_text(encoding="utf-8")
    assert page.count("<tr") >= asked


def test_every_paper_that_a_notebook_cites_stands_in_the_bibliography():
    listed = (ROOT / "book" / "pages" / "bibliography.md").read_text(encoding="utf-8")
    cited = {
        link
        for path in NOTEBOOKS
        for link in re.findall(r"https://arxiv\.org/abs/[\d.]+\d|https://ieeexplore[^)\s]+", path.read_text())
    }
    assert cited
    assert [link for link in sorted(cited) if link not in listed] == []


def test_a_window_of_800_pixels_needs_no_sideways_scrolling(visited):
    pages, _ = visited
    assert {path: seen["overhang"] for path, seen in pages.items() if seen["overhang"] > 0} == {}
