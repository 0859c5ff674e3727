"""What a widget shows where nothing is live: a picture of it, and a sentence that says how to use it."""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

from PIL import Image

from course_lib.figures.picture import Picture

LIMIT = 60_000
"""Bytes that the PNG file of a fallback may take."""
_DOTS = (120, 100, 85, 70, 55, 40)  # per inch, tried in turn until the file is small enough


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
    """The picture, if there is one, as an <img> of at most `LIMIT` bytes, and the sentence below it."""
    image = "" if picture is None else _image(picture)
    return f'<div class="course-lab-static">{image}<p><em>{escape(sentence)}</em></p></div>'


def _image(picture: Picture) -> str:
    data = base64.b64encode(small_png(picture)).decode("ascii")
    return (
        f'<img alt="{escape(picture.alt, quote=True)}" style="max-width: 100%" '
        f'src="data:image/png;base64,{data}">'
    )


def small_png(picture: Picture, limit: int = LIMIT) -> bytes:
    """The picture as a PNG file of 64 colours, as sharp as `limit` bytes allow."""
    for dots in _DOTS:
        drawn, file = io.BytesIO(), io.BytesIO()
        picture.figure.savefig(drawn, format="png", dpi=dots)
        Image.open(drawn).convert("RGB").quantize(64).save(file, format="PNG", optimize=True)
        if file.tell() <= limit:
            break
    return file.getvalue()
