"""Static displays of widgets: a picture, and a sentence that says how to use the widget."""

from html import escape
from typing import Any

from course_lib.figures.picture import Picture

LIVE = "course-live"
"""The class of a widget that has something static beside it."""
# JupyterLab shows none of a widget's other formats, and an error where its kernel is gone. So what is static
# is an output of its own, hidden while the widget beside it lives.
_HIDDEN = (
    f"<style>.jp-OutputArea:has(.{LIVE}:not(.jupyter-widgets-disconnected)) .course-lab-static "
    "{ display: none }</style>"
)


def display_live(widget: Any, picture: Picture | None, sentence: str, html: str = "") -> None:
    """Show a live widget, and in its place a picture and a sentence wherever the widget is not alive.

    That is so on a code host, on a page without a kernel, and in a notebook whose kernel is gone.

    Args:
        widget: an ipywidget.
        picture: what it shows now, None if words say all of it.
        sentence: what one sees, and how to make it live; the text of the output.
        html: the words in place of `sentence`, where they need more than one line.
    """
    from IPython.display import display

    image = "" if picture is None else picture.html()
    words = html or f"<p><em>{escape(sentence)}</em></p>"
    static = f'{_HIDDEN}<div class="course-lab-static">{image}{words}</div>'
    display({"text/plain": sentence, "text/html": static}, raw=True)
    widget.add_class(LIVE)
    display(widget)
