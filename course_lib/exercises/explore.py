"""Sliders and buttons over a picture: move one, and the picture is drawn anew."""

from collections.abc import Callable
from html import escape
from typing import Any

from course_lib.plots.picture import Picture


def explore(draw: Callable[..., Picture], **sliders: Any) -> Any:
    """A widget with the sliders above the picture that `draw` makes of their values.

    An error in `draw` is shown in the picture's place; the first drawing raises it.

    Args:
        draw: takes the values by the sliders' names.
        sliders: ipywidgets with a `value`; buttons (`ToggleButton`) stand in one row.
    """
    import ipywidgets  # here, so that checkers work without the notebook's packages

    view = ipywidgets.HTML()

    def picture() -> str:
        return draw(**{name: slider.value for name, slider in sliders.items()}).html()

    def moved(_: Any) -> None:
        try:
            view.value = picture()
        except Exception as error:
            view.value = f"<b>{escape(type(error).__name__)}</b>: {escape(str(error))}"

    view.value = picture()
    for slider in sliders.values():
        slider.style.description_width = "initial"  # else a long name is cut off
        slider.observe(moved, "value")
    buttons = [slider for slider in sliders.values() if isinstance(slider, ipywidgets.ToggleButton)]
    rows = [slider for slider in sliders.values() if slider not in buttons]
    if buttons:
        rows.append(ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"}))
    return ipywidgets.VBox([*rows, view])
