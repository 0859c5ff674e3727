"""A real JupyterLab, Notebook 7 or Voilà in a real browser, for the browser tests and for bench/lab.py."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--no-first-run",
)
HANG = 600
"""Seconds after which something is taken to hang; on a machine that others use too, all else may be slow."""

expect.set_options(timeout=HANG * 1000)


def find_browser() -> str | None:
    """Path of an installed Chromium, None if there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def needed_browser() -> str:
    """The same for a test, which is skipped without one; where everything has to be tested, it fails."""
    import pytest  # bench/lab.py does without

    browser = find_browser()
    if browser is None:
        reason = "no Chromium or Chrome here: expected one; try installing the package chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return browser


def shot(what: Page | Locator, name: str, **options: Any) -> None:
    """A picture of a page or a part of it, if the variable SCREENSHOTS names a folder for it."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        what.screenshot(path=f"{folder}/{name}.png", **options)


@contextlib.contextmanager
def serve(folder: Path, program: str = "jupyterlab") -> Iterator[str]:
    """A JupyterLab, or Notebook 7 (`program` "notebook"), over `folder`, with settings of its own; gives the
    address, token included, to format with the path of a notebook."""
    port, token = _free_port(), secrets.token_hex(16)
    command = [program, "--no-browser", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--KernelManager.transport_encryption=auto"]  # as `make lab` does
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with _running(command, folder, f"http://127.0.0.1:{port}/api?token={token}"):
        if program == "notebook":
            yield f"http://127.0.0.1:{port}/notebooks/{{}}?token={token}"
        else:
            yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"


def replace(file: Path, old: str, new: str) -> None:
    """Replace what stands in a file once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} has {text.count(old)} × {old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


APP_STEPS = {"copy": 100_000, "recall": 200_000, "live": 300_000}


@contextlib.contextmanager
def serve_app(folder: Path) -> Iterator[str]:
    """The lab as a Voilà page, as `make app` serves it, but for runs that end only when they are stopped.

    `folder` takes settings and logs.
    """
    port, app = _free_port(), folder / "app"
    shutil.copytree(REPOSITORY / "app", app)
    replace(app / "lab.ipynb", "Lab(task.value)", f"Lab(task.value, steps={APP_STEPS}[task.value])")
    command = ["voila", str(app / "lab.ipynb"), f"--Voila.config_file_paths={app}"]
    command += ["--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    command += ["--KernelManager.transport_encryption=auto"]  # as `make app` does
    with _running(command, folder, f"http://127.0.0.1:{port}/voila/static/"):
        yield f"http://127.0.0.1:{port}/"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _running(command: list[str], folder: Path, sign: str) -> Iterator[None]:
    """A Jupyter program that is up once there is an answer at `sign`, and is ended with its kernels."""
    home = folder / ".jupyter-home"
    _write_settings(home)
    environment = os.environ | {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
    }
    with (folder / "server.log").open("w") as log:
        program = [sys.executable, "-m", *command]
        server = subprocess.Popen(program, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_up(sign, server, folder / "server.log")
            yield
        finally:
            server.terminate()  # and with it its kernels
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _write_settings(home: Path) -> None:
    """No question about news, no update check, no side bar that takes room."""
    apputils = home / "settings" / "@jupyterlab" / "apputils-extension"
    apputils.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (apputils / "notification.jupyterlab-settings").write_text(json.dumps(quiet))


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=HANG):
                return
        except urllib.error.HTTPError:
            return  # an answer, too
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server did not come up in {HANG} s:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def launch(executable: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.set_default_timeout(HANG * 1000)
    page.goto(address.format(name))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("| Idle").wait_for()  # in the status bar
    if page.locator(".jp-SideBar.jp-mod-left .lm-mod-current").count():
        page.keyboard.press("Control+b")  # the file browser takes room


def run_all_cells(page: Page) -> None:
    """Run ▸ Run All Cells, and wait for the last of them (between two cells a kernel is idle, too).

    A notebook comes with numbers in its prompts, which become stars first.
    """
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
    page.wait_for_function(f"{prompts}.some(prompt => prompt.textContent.includes('*'))")
    page.wait_for_function(
        f"{prompts}.every(prompt => /\\[\\d+\\]/.test(prompt.textContent))", timeout=HANG * 1000
    )
