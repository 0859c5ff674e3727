"""Lab: a run under the reader's hands."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

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

P = ParamSpec("P")
R = TypeVar("R")


def _of_session(method: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate["Lab", P], R]:
    """The session's method of the same name."""

    @wraps(method)
    def call(lab: "Lab", /, *args: P.args, **options: P.kwargs) -> R:
        return method(lab.session, *args, **options)

    return call


def _attribute(name: str) -> Any:
    """The session's attribute of the same name; what is set is checked there."""
    return property(
        lambda lab: getattr(lab.session, name),
        lambda lab, value: setattr(lab.session, name, value),
        doc=getattr(getattr(Session, name, None), "__doc__", None),
    )


class Lab:
    """A run with sliders, buttons and live charts, shown in a notebook as a cell's last expression.

        lab = Lab("live")
        lab

    From code it is driven by the methods of the same names as the buttons; nothing needs a browser:

        lab.start()
        run = lab.result()
        lab.rewind(10)
        lab.fork(optimizer="adamw2", tau=0.05)
        lab.start()

    It is a `Session`, which trains, with a view of it and drawers of further controls. One session trains at
    most: making or starting a lab pauses the one that trains.

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

    run = _attribute("run")
    branches = _attribute("branches")
    past = _attribute("past")
    previous = _attribute("previous")
    state = _attribute("state")
    busy = _attribute("busy")
    message = _attribute("message")
    together = _attribute("together")
    lr = _attribute("lr")
    warmup = _attribute("warmup")
    tau = _attribute("tau")
    set_group = _of_session(Session.set_group)
    next_config = _of_session(Session.next_config)
    start = _of_session(Session.start)
    step = _of_session(Session.step)
    pause = _of_session(Session.pause)
    stop = _of_session(Session.stop)
    reset = _of_session(Session.reset)
    result = _of_session(Session.result)
    rewind = _of_session(Session.rewind)
    fork = _of_session(Session.fork)
    choose = _of_session(Session.choose)
    remove = _of_session(Session.remove)
    race = _of_session(Session.race)
    load = _of_session(Session.load)
    search_rescue = _of_session(Session.search_rescue)
