"""The row of drawers, which hold all controls beyond Start and Stop. At most one is open."""

import ipywidgets

from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.drawers.inside_drawer import InsideDrawer
from course_lib.lab.drawers.keep_drawer import KeepDrawer
from course_lib.lab.drawers.past_drawer import PastDrawer
from course_lib.lab.drawers.race_drawer import RaceDrawer
from course_lib.lab.drawers.rescue_drawer import RescueDrawer
from course_lib.lab.drawers.surgery_drawer import SurgeryDrawer
from course_lib.lab.session import Session
from course_lib.lab.view.view import View


class Drawers:
    """A row of buttons. Each opens its drawer below the row and closes the drawer that was open."""

    def __init__(self, session: Session, view: View) -> None:
        self.past = PastDrawer(session, view)
        self.race = RaceDrawer(session, view)
        self.surgery = SurgeryDrawer(session, view)
        self.rescue = RescueDrawer(session, view)
        self.inside = InsideDrawer(session, view)
        self.keep = KeepDrawer(session, view)
        drawers: list[Drawer] = [self.past, self.race, self.surgery, self.rescue, self.inside, self.keep]
        self._view = view
        self.all: dict[str, Drawer] = {drawer.title: drawer for drawer in drawers}
        self.buttons = {
            title: ipywidgets.ToggleButton(
                description=title, tooltip=drawer.tooltip, layout=ipywidgets.Layout(width="auto")
            )
            for title, drawer in self.all.items()
        }
        self._place = ipywidgets.VBox()
        row = ipywidgets.HBox(list(self.buttons.values()))
        row.layout = ipywidgets.Layout(flex_flow="row wrap")
        row.add_class("course-lab-drawers")
        self.widget = ipywidgets.VBox([row, self._place])
        for title, button in self.buttons.items():
            button.observe(lambda change, title=title: self._toggled(title, change["new"]), "value")

    @property
    def open(self) -> Drawer | None:
        """The drawer that is open."""
        return next((self.all[title] for title, button in self.buttons.items() if button.value), None)

    def reset(self) -> None:
        """The branches or the current one have changed."""
        for drawer in self.all.values():
            drawer.reset()

    def draw(self) -> None:
        """Show what is new in the open drawer."""
        drawer = self.open
        if drawer is not None:
            drawer.draw()

    def _toggled(self, title: str, opened: bool) -> None:
        if opened:
            for other, button in self.buttons.items():
                if other != title:
                    button.value = False
        drawer = self.open
        self._place.children = [] if drawer is None else [drawer.widget]
        if drawer is not None:
            self._view.show(drawer)
