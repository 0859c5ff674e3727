"""Lab: a run to train and change by hand, shown in a notebook."""

from typing import TYPE_CHECKING, Any

import ipywidgets

from course_lib.figures.static_display import display_live
from course_lib.lab.drawers.drawers import Drawers
from course_lib.lab.session import Session
from course_lib.lab.view.a11y import control_names
from course_lib.lab.view.export import session_picture
from course_lib.lab.view.style import STYLE
from course_lib.lab.view.text import advice_html
from course_lib.lab.view.view import View
from course_lib.runs import RunConfig

OF_SESSION = (
    *("run", "branches", "past", "previous", "state", "busy", "message", "together", "lr", "warmup", "tau"),
    *("set_group", "next_config", "start", "step", "pause", "stop", "reset", "result"),
    *("rewind", "fork", "choose", "remove", "race", "load", "search_rescue"),
)
"""Attributes and methods of a lab that are its session's. What is set is checked there."""


class Lab:
    """A run with sliders, buttons and live charts, shown in a notebook as a cell's last expression.

        lab = Lab("live")
        lab

    Methods with the names of the buttons do the same from code, without a browser:

        lab.start()
        run = lab.result()
        lab.rewind(10)
        lab.fork(optimizer="adamw2", tau=0.05)
        lab.start()

    It consists of a `Session`, which trains, its view, and drawers with further controls. At most one session
    trains: making or starting a lab pauses the session that trains.

    Args:
        config: name of a preset, or a `RunConfig`.
        overrides: fields of the config to change.

    Raises:
        ValueError: no such preset or field, or a value out of range.
    """

    def __init__(self, config: str | RunConfig = "live", **overrides: Any) -> None:
        self.session = Session(config, **overrides)
        self.view = View(self.session)
        self.controls, self.panels = self.view.controls, self.view.panels
        self.drawers = Drawers(self.session, self.view)
        self.view.parts.append(self.drawers)
        self.session.listeners.append(self.view)
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(STYLE + advice_html()),
                self.controls.widget,
                self.view.actions,
                self.drawers.widget,
                self.panels.widget,
                self.view.live,
                control_names(),
            ]
        )
        self.widget.add_class("course-lab")
        self.view.branches_changed()
        self.view.changed()

    def _ipython_display_(self) -> None:
        picture = session_picture(self.session)
        sentence = f"{picture.title}. The lab is live in JupyterLab: run this cell to use it."
        display_live(self.widget, picture, sentence)

    def close(self) -> None:
        """End the thread and take the widgets away."""
        self.session.close()
        self.widget.close()

    if TYPE_CHECKING:  # what `OF_SESSION` names

        def __getattr__(self, name: str) -> Any: ...


class _OfSession:
    """An attribute of a lab that is an attribute of its session."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, lab: Lab | None, owner: type) -> Any:
        return getattr(Session, self.name, self) if lab is None else getattr(lab.session, self.name)

    def __set__(self, lab: Lab, value: Any) -> None:
        setattr(lab.session, self.name, value)


for _name in OF_SESSION:
    setattr(Lab, _name, _OfSession(_name))
