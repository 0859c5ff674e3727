"""What a widget shows where nothing is live: a picture of it, and a sentence that says how to use it."""

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
    bundle = dict(widget._repr_mimebundle_(**options))
    return {**bundle, "text/plain": sentence, "text/html": fallback_html(picture, sentence)}


def fallback_html(picture: Picture | None, sentence: str) -> str:
    """The picture, if there is one, and the sentence below it."""
    image = "" if picture is None else picture.html()
    return f'<div class="course-lab-static">{image}<p><em>{escape(sentence)}</em></p></div>'
