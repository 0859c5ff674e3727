"""The view of a session: controls, status line, charts, texts for screen readers."""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets

from course_lib.lab.session import Listener, Session
from course_lib.lab.view.controls import Controls
from course_lib.lab.view.panels import Panels
from course_lib.lab.view.text import live_html, pending_text, status_html, summary, summary_of_branches

SLOW_SECONDS = 0.9
"""Least time between two frames with all curves and the status while a run trains. The next frame shows the
maps and the open drawer, and frames in between only the loss, so that no frame is long. The browser may lay
out and paint the page for each message of a frame. If both share their cores, that slows the training."""
SPOKEN_SECONDS = 5.0
"""Least time between two texts for screen readers while a run trains."""


class Part(Protocol):
    """Something that is drawn together with the view."""

    def reset(self) -> None:
        """The branches or the current one have changed."""

    def draw(self) -> None:
        """Show what is new."""


class View(Listener):
    """Shows a session, at the pace of its frames, and has the controls that act on it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.controls = Controls(session, self.as_callback)
        self.panels = Panels()
        self.parts: list[Part] = []
        """They are drawn together with the view."""
        self.status = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 420px", min_width="0"))
        self.live = ipywidgets.HTML()
        self.actions = ipywidgets.HBox([self.controls.button_row, self.status])
        self.actions.layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self._drawing = threading.Lock()
        self._drawn = 0.0
        self._pictures_due = False
        self._spoken: tuple[float, str] = (0.0, "")

    def as_callback(self, method: Callable[[], Any]) -> Callable[[Any], None]:
        """A widget's callback that shows the error of a refused action in the status line."""

        def callback(_: Any) -> None:
            try:
                method()
            except ValueError as error:
                self.session.say(str(error))
            except OSError as error:  # such as a full disk
                what = f"{error.filename or 'file'}: {error.strerror or error}: expected to write there"
                self.session.say(f"{what}; nothing of the lab is lost; try another folder")

        return callback

    def show(self, part: Part) -> None:
        """Bring a part up to date, once no other thread draws."""
        with self._drawing:
            part.draw()

    # --- what the session tells -----------------------------------------------------------------

    def settings_changed(self) -> None:
        self.controls.draw()

    def branches_changed(self) -> None:
        with self._drawing:
            self.controls.draw()
            self.panels.reset(self.session.branches, self.session.previous)
            for part in self.parts:
                part.reset()

    def changed(self) -> None:
        with self._drawing:
            self._draw_all(pictures=True, speak=True)

    def frame(self) -> None:
        with self._drawing:
            if not self.session.busy:
                self._draw_all(pictures=True, speak=True)
                return
            pictures = self._pictures_due
            fast = time.monotonic() - self._drawn < SLOW_SECONDS
            self._pictures_due = not (pictures or fast)
            if not fast:
                self._draw_all(pictures=pictures, speak=False)
                return
            self.panels.draw_loss()
            if pictures:
                self.panels.draw_maps()
                self._draw_parts()

    # --- drawing --------------------------------------------------------------------------------

    def _draw_parts(self) -> None:
        for part in self.parts:
            part.draw()

    def _draw_all(self, *, pictures: bool, speak: bool) -> None:
        """Draw curves, verdict and status, and with `pictures` maps and parts."""
        session = self.session
        self._drawn = time.monotonic()
        if pictures:
            self._pictures_due = False
        self.panels.draw(session.past, maps=pictures)
        state, speed, note = session.state, session.speed, session.message or pending_text(session)
        if state == "failed":
            note = f"{type(session.error).__name__}: {session.error}"
        branch = f"branch {session.branches.current.name} · " if len(session.branches) > 1 else ""
        if session.past is not None:
            state, speed = "looking back", 0.0
        self.status.value = status_html(state, session.shown, speed, note, branch)
        if pictures:
            self._draw_parts()
        self._speak(state, note, speak)

    def _speak(self, state: str, note: str, now: bool) -> None:
        then, spoken = self._spoken
        now = now or not spoken.startswith(state.capitalize())
        if now or time.monotonic() - then > SPOKEN_SECONDS:
            text = f"{state.capitalize()}. {note} {summary(self.session.shown, self.panels.judged)}"
            if len(self.session.branches) > 1:
                text += f" {summary_of_branches(self.session.branches)}"
            self._spoken = time.monotonic(), text
            self.live.value = live_html(text)
