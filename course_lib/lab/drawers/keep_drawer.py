"""The drawer that keeps results: records, figures, the run itself, and the code that makes it."""

from collections.abc import Callable
from pathlib import Path

import ipywidgets

from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.controls import row
from course_lib.lab.view.export import write_figure, write_records
from course_lib.lab.view.view import View
from course_lib.runs.to_script import to_script

FOLDER = "lab-files"
"""The default folder of files, in the notebook's folder."""


class KeepDrawer(Drawer):
    """Buttons that write files and read them."""

    title = "Keep it"
    tooltip = "Records, figures, the run itself, and the code that makes it again"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        style, about = {"description_width": "50px"}, "Where files are written; it is made if need be"
        self.folder = ipywidgets.Text(value=FOLDER, description="folder", tooltip=about, style=style)
        self.records, self.figures, self.save, self.code, self.load = self._buttons(
            ("Records (CSV)", "The records of all branches as one table", self.write_records),
            ("Figure (PNG, SVG)", "Losses and probes of all branches, as they are now", self.write_figures),
            ("Save run", "The branch that is shown, to go on with at any time", self.save_run),
            ("Copy as code", "The lines that make the branch that is shown in a script", self.show_code),
            ("Load run", "Take the place of all branches, ready to go on", self.load_run),
        )
        self.file = ipywidgets.Combobox(
            description="run file",
            placeholder="path of a saved run",
            ensure_option=False,
            continuous_update=False,
            style=style,
            layout=ipywidgets.Layout(width="360px"),
        )
        self.lines = ipywidgets.Textarea(
            layout=ipywidgets.Layout(width="auto", height="150px", display="none"),
            description="code",
            tooltip="Select all (Ctrl+A) and copy (Ctrl+C)",
            style=style,
        )
        self._stack(
            "Files are written whole or not at all; the status line says where to.",
            row(self.folder, self.records, self.figures, self.save, self.code),
            row(self.file, self.load),
            self.lines,
        )

    def _button(self, text: str, tooltip: str, method: Callable[[], str]) -> ipywidgets.Button:
        """A button whose method returns a message, which is shown beside the state."""
        return super()._button(text, tooltip, lambda: self.session.say(method()))

    def write_records(self) -> str:
        """Write the records of all branches as one CSV file."""
        path = write_records(self._path("records.csv"), list(self.session.branches))
        return f"Written: {path}"

    def write_figures(self) -> str:
        """Write the figure of all branches as PNG and as SVG."""
        paths = [self._path("figure.png"), self._path("figure.svg")]
        title = write_figure(paths, list(self.session.branches))
        return f"Written: {paths[0]} and {paths[1].name} ({title})"

    def save_run(self) -> str:
        """Write the shown branch at the moment that is shown."""
        shown = self.session.shown
        name = f"{shown.config.model}-{self.session.branches.current.name}-step{shown.updates}.safetensors"
        path = self._path(name)
        self.session.between_steps(lambda: self.session.shown.save(path))
        self.file.options = [*dict.fromkeys([str(path), *self.file.options])]
        self.file.value = str(path)
        return f"Saved: {path}"

    def load_run(self) -> str:
        """Replace all branches by a saved run."""
        if not self.file.value:
            raise ValueError("run file is '': expected the path of a saved run; Save run writes one")
        run = self.session.load(self.file.value)
        return f"Loaded: {self.file.value}, at step {run.updates} of {run.config.steps}. Start goes on."

    def show_code(self) -> str:
        """Show the lines of code that make the shown branch up to the moment that is shown."""
        self.lines.value = to_script(self.session.shown)
        self.lines.rows = self.lines.value.count("\n") + 1
        self.lines.layout.display = ""
        return "Code below: select all (Ctrl+A), copy (Ctrl+C), and run it as a script."

    def _path(self, name: str) -> Path:
        text = self.folder.value.strip()
        if not text:
            raise ValueError(f"folder is {self.folder.value!r}: expected its name; try {FOLDER!r}")
        folder = Path(text).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name
