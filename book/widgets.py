"""Widgets as they stood when their notebook had run: a page without a kernel shows a picture of them.

Boxes, texts and controls become HTML; a bqplot figure is drawn again by matplotlib from the points in its
state, with its title and axes.
"""

import base64
import io
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.transforms import Transform

from course_lib.figures.picture import Picture, panels

MIME = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
NOTE = "In Jupyter this is live. Here it stands as the run of this page has left it."

_REFERENCE = "IPY_MODEL_"


class Widgets:
    """All widgets of one executed notebook.

    Args:
        metadata: the notebook's.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.models = metadata.get("widgets", {}).get(MIME, {}).get("state", {})

    def html(self, model_id: str) -> str:
        """The widget as HTML without scripts; empty if nothing is to be seen, as of a closed bar."""
        inside = self._html(model_id)
        return f'<div class="live"><p class="live-note">{NOTE}</p>{inside}</div>' if inside else ""

    def _html(self, reference: str) -> str:
        model = self.models.get(reference.removeprefix(_REFERENCE))
        if model is None:
            return ""
        name, state = model["model_name"].removesuffix("Model"), model["state"]
        if "children" in state:
            return self._box(name, state)
        if name in ("HTML", "HTMLMath", "Label"):
            return str(state["value"])
        if name == "Button":
            return f'<span class="live-button">{escape(state["description"])}</span>'
        if name == "Figure":
            return self._figure(reference)
        if name in ("RadioButtons", "Select", "ToggleButtons"):
            chosen = state.get("index")
            items = (
                f"<li>{'● ' if i == chosen else '○ '}{escape(label)}</li>"
                for i, label in enumerate(state["_options_labels"])
            )
            return f'<ul class="live-choices">{"".join(items)}</ul>'
        if "description" in state and ("value" in state or "_options_labels" in state):
            return _control(state)
        return ""

    def _box(self, name: str, state: Mapping[str, Any]) -> str:
        children = [child.removeprefix(_REFERENCE) for child in state["children"]]
        if any(self.models.get(child, {}).get("model_name") == "FloatProgressModel" for child in children):
            return ""  # a progress bar: over when the page is made
        parts = [self._html(child) for child in children]
        titles = state.get("titles") or []
        parts = [f"<h4>{escape(t)}</h4>{p}" for t, p in zip(titles, parts, strict=False)] if titles else parts
        kind = {"HBox": "live-row", "GridBox": "live-grid"}.get(name, "live-column")
        inside = "".join(f"<div>{part}</div>" for part in parts if part)
        return f'<div class="{kind}">{inside}</div>' if inside else ""

    # --- bqplot's figures -----------------------------------------------------------------------

    def _figure(self, reference: str) -> str:
        figure = self._state(reference)
        canvas, ((axis,),) = panels(4.2, 2.9)
        for axis_reference in figure["axes"]:
            self._axis(axis, axis_reference)
        scales = [self._state(axis_reference)["scale"] for axis_reference in figure["axes"]]
        for mark in figure["marks"]:
            model = self.models[mark.removeprefix(_REFERENCE)]
            draw = _MARKS.get(model["model_name"])
            if draw is not None and model["state"].get("visible", True):
                # A mark with a y scale of its own, from 0 to 1, runs over the full height of the chart.
                tall = model["state"]["scales"]["y"] not in scales
                draw(self, axis, self._state(mark), axis.get_xaxis_transform() if tall else axis.transData)
        axis.set_title(figure["title"], fontsize=10, fontweight="bold", loc="left")
        alt = f"{figure['title']}. A chart of the lab; the line below the charts says what it shows."
        return Picture(canvas, figure["title"], alt).html()

    def _axis(self, axis: Axes, reference: str) -> None:
        state = self._state(reference)
        scale = self._state(state["scale"])
        side = "y" if state.get("side") in ("left", "right") else "x"
        set_label, set_limits, set_scale, set_ticks = (
            getattr(axis, f"set_{side}{what}") for what in ("label", "lim", "scale", "ticks")
        )
        set_label(state["label"] or "")
        if self.models[state["scale"].removeprefix(_REFERENCE)]["model_name"] == "LogScaleModel":
            set_scale("log")
        ticks = state.get("tick_values")
        if isinstance(ticks, np.ndarray) and len(ticks):
            names = state.get("tick_labels") or {}
            set_ticks(ticks, [names.get(repr(float(t)), f"{t:g}") for t in ticks])
            if names:
                axis.tick_params(axis=side, length=0)
        if scale.get("min") is not None and scale.get("max") is not None:
            set_limits(scale["min"], scale["max"])

    def _state(self, reference: str) -> dict[str, Any]:
        """A model's state with its arrays in place."""
        model = self.models[reference.removeprefix(_REFERENCE)]
        state = dict(model["state"])
        for buffer in model.get("buffers", []):
            raw = base64.b64decode(buffer["data"])
            name, *rest = buffer["path"]
            if not rest:
                state[name] = raw
            elif isinstance(state.get(name), dict) and "dtype" in state[name]:
                array = np.frombuffer(raw, state[name]["dtype"])
                state[name] = array.reshape(state[name]["shape"])
        return state

    def _lines(self, axis: Axes, state: Mapping[str, Any], transform: Transform) -> None:
        x, y = (np.atleast_2d(np.asarray(state[name], dtype=float)) for name in ("x", "y"))
        for i, row in enumerate(y):
            column = x[i if len(x) == len(y) else 0]
            if len(set(column)) < 2 and len(set(row)) < 2:
                continue  # how the lab keeps an empty line
            axis.plot(
                column,
                row,
                linestyle=state["line_style"],
                color=state["colors"][i % len(state["colors"])],
                linewidth=state["stroke_width"],
                transform=transform,
            )

    def _labels(self, axis: Axes, state: Mapping[str, Any], transform: Transform) -> None:
        texts = state["text"] if isinstance(state["text"], list) else []  # an empty one is an array
        side = {"end": "right", "middle": "center"}.get(state["align"], "left")
        style = {"fontsize": 7, "ha": side, "va": "center", "color": state["colors"][0]}
        for x, y, text in zip(state["x"], state["y"], texts, strict=False):
            axis.text(x, y, text, transform=transform, **style)

    def _picture(self, axis: Axes, state: Mapping[str, Any], transform: Transform) -> None:
        pixels = imread(io.BytesIO(self._state(state["image"])["value"]))
        extent = (*state["x"], *state["y"])
        axis.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", transform=transform)


_Draw = Callable[[Widgets, Axes, Mapping[str, Any], Transform], None]
_MARKS: dict[str, _Draw] = {
    "LinesModel": Widgets._lines,
    "LabelModel": Widgets._labels,
    "ImageModel": Widgets._picture,
}


def _control(state: Mapping[str, Any]) -> str:
    if "_options_labels" in state:
        value = state["_options_labels"][state["index"]] if state["index"] is not None else "none"
    else:
        value = f"{state['value']:.3g}" if isinstance(state["value"], float) else str(state["value"])
    return f'<span class="live-control">{escape(state["description"])}: <b>{escape(value)}</b></span>'
