"""The base of all drawers."""

from collections.abc import Callable
from typing import Any

import ipywidgets

from course_lib.lab.session import Session
from course_lib.lab.view.controls import button, hint_html
from course_lib.lab.view.user_changes import UserChanges
from course_lib.lab.view.view import View


class Drawer:
    """One section of controls, told of each change of branches and, if it is open, of each slow frame."""

    title: str
    tooltip: str
    widget: ipywidgets.Widget

    def __init__(self, session: Session, view: View) -> None:
        self.session = session
        self.view = view
        self._changes = UserChanges(view.as_callback)

    def reset(self) -> None:
        """The branches or the current one have changed."""
        self.draw()

    def draw(self) -> None:
        """Show what is new."""

    def _button(self, text: str, tooltip: str, method: Callable[[], Any]) -> ipywidgets.Button:
        pressed = button(text, tooltip)
        pressed.on_click(self.view.as_callback(method))
        return pressed

    def _buttons(self, *buttons: tuple[str, str, Callable[[], Any]]) -> list[ipywidgets.Button]:
        """A button for each text, tooltip and method."""
        return [self._button(*each) for each in buttons]

    def _stack(self, how: str, *widgets: ipywidgets.Widget) -> None:
        """Put widgets below a line that says how to use them."""
        self.widget = ipywidgets.VBox([ipywidgets.HTML(hint_html(how)), *widgets])
