"""Sliders and buttons above a picture; moving one draws the picture again."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from course_lib.extras import pandas as pd
from course_lib.figures.dot_rows import warning_chart
from course_lib.figures.picture import Picture, listed
from course_lib.figures.static_display import display_live
from course_lib.studies.alarms import ALARMS, warnings_of


@dataclass(frozen=True)
class Explorer:
    """Sliders above a picture; without a live kernel it shows the first picture and a sentence."""

    widget: Any
    """An ipywidget with the sliders above the picture."""
    first: Picture
    sentence: str

    def _ipython_display_(self) -> None:
        display_live(self.widget, self.first, self.sentence)


def explore(draw: Callable[..., Picture], **sliders: Any) -> Explorer:
    """Show sliders above the picture that `draw` makes from their values.

    The first drawing raises an error of `draw`; later ones show it instead of the picture.

    Args:
        draw: takes the sliders' values as keywords.
        sliders: ipywidgets with a `value`; buttons (`ToggleButton`) share one row.
    """
    import ipywidgets  # here, so that checkers work without the notebook's packages

    view = ipywidgets.HTML()

    def picture() -> Picture:
        return draw(**{name: slider.value for name, slider in sliders.items()})

    def moved(_: Any) -> None:
        try:
            view.value = picture().html()
        except Exception as error:
            view.value = f"<b>{escape(type(error).__name__)}</b>: {escape(str(error))}"

    first = picture()
    view.value = first.html()
    for slider in sliders.values():
        slider.style.description_width = "initial"  # else a long name is cut off
        slider.observe(moved, "value")
    buttons = [slider for slider in sliders.values() if isinstance(slider, ipywidgets.ToggleButton)]
    rows = [slider for slider in sliders.values() if slider not in buttons]
    if buttons:
        rows.append(ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"}))
    names = [slider.description or name for name, slider in sliders.items()]
    sentence = f"Run this cell to move the sliders: {listed(names)}."
    return Explorer(ipywidgets.VBox([*rows, view]), first, sentence)


def alarm_sliders(signals: pd.DataFrame) -> Explorer:
    """Show a slider for each alarm's threshold above a picture of the steps at which the alarms go off.

    Args:
        signals: the signals of several runs, from `course_lib.studies.alarms.signals_of`.
    """
    import ipywidgets

    sliders: dict[str, Any] = {}
    for name, alarm in ALARMS.items():
        low, high = alarm.range
        sign = ">" if alarm.above else "<"
        how = {"description": f"{alarm.label} {sign}", "value": alarm.threshold, "continuous_update": False}
        how |= {"layout": {"width": "520px"}, "readout_format": ".2f"}
        if high / low > 50:
            log = {"min": math.log10(low), "max": math.log10(high), "step": 0.01}
            sliders[name] = ipywidgets.FloatLogSlider(**log, **how)
        else:
            sliders[name] = ipywidgets.FloatSlider(min=low, max=high, step=0.01, **how)
    steps = int(signals["step"].max())
    return explore(lambda **thresholds: warning_chart(warnings_of(signals, thresholds), steps), **sliders)
