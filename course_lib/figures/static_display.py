"""Static displays of widgets: a picture, and a sentence that says how to use the widget."""

from collections.abc import Mapping
from html import escape
from typing import Any

from course_lib.figures.picture import Picture


def with_fallback(widget: Any, picture: Picture | None, sentence: str, **options: Any) -> Mapping[str, Any]:
    """The MIME bundle of a live widget with a static picture and a sentence beside it.

    A front end that knows the widget shows it. A code host, a page without a kernel and a text terminal show
    the picture and the sentence instead, or the sentence alone.

    Args:
        widget: an ipywidget.
        picture: what it shows now, None if the sentence says all of it.
        sentence: what one sees, and how to make it live.
        options: of `_repr_mimebundle_`.
    """
    image = "" if picture is None else picture.html()
    html = f'<div class="course-lab-static">{image}<p><em>{escape(sentence)}</em></p></div>'
    return {**widget._repr_mimebundle_(**options), "text/plain": sentence, "text/html": html}
