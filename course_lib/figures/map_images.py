"""Images of attention: weights of one query, maps, maps beside their rank, and maps over pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn import color_palette
from torch import Tensor

from course_lib.figures.palette import LAYER_COLORS, REFERENCE_COLOR, spoken, styled
from course_lib.figures.picture import Picture, bare, finish, label, legend, listed, panels, reference_line
from course_lib.probes import entropy
from course_lib.runs import Run
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK
from course_lib.studies.map_measures import favourites, looked_at, map_place, ranks_apart, same_for_all

_MARKS = "osD^vPX*"
SEEN = (0.91, 0.35, 0.05)
"""Colour (red, green, blue) that is laid over the patches that attention looks at."""
FULL = 6
"""A patch with this many times its fair share of attention gets full colour."""


def weights_row(weights: Tensor, keys: Sequence[str], note: str = "") -> Picture:
    """Bars of one query's weights (keys,) over its visible keys. `note` begins the title."""
    values = weights.double().numpy()
    seen = torch.ones(1, len(values), dtype=torch.bool)
    h = entropy(weights[None], seen).item()
    figure, ((axis,),) = panels(6.4, 2.9)
    bars = axis.bar(range(len(values)), values, color=LAYER_COLORS[0])
    axis.bar_label(bars, fmt="%.2f", fontsize=9)
    reference_line(axis, 1 / len(values), "uniform")
    axis.set_xticks(range(len(values)), [f"“{key}”" for key in keys])
    label(axis, "key", "weight (sum 1)", ylim=(0, 1.12))
    largest = keys[int(values.argmax())]
    title = f"{note}entropy {h:.2f}: the largest weight, on “{largest}”, is {values.max():.2f}"
    shares = ", ".join(f"{key} {value:.2f}" for key, value in zip(keys, values, strict=True))
    return finish(figure, title, f"Bars of one query's attention weights: {shares}.")


def entropy_beside_rank(maps: Mapping[str, Tensor]) -> Picture:
    """Causal maps (tokens, tokens) by name, and a plane with the entropy and the rank of each."""
    places = {name: map_place(a) for name, a in maps.items()}
    n = len(maps)
    figure = Figure(figsize=(9.2, 4.3), layout="constrained")
    columns = 1 if n == 1 else 2
    rows = -(-n // columns)
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[1] * columns + [2.1 if n > 1 else 1.6])
    plane = figure.add_subplot(grid[:, -1])
    plane.spines[["top", "right"]].set_visible(False)
    for i, (name, attention) in enumerate(maps.items()):
        color = LAYER_COLORS[i]
        draw_map(figure.add_subplot(grid[i // columns, i % columns]), attention, name, color)
        plane.plot(*places[name], _MARKS[i], color=color, markersize=10, clip_on=False, label=name)
    _plane(plane, max(2.5, 1.15 * max(r for _, r in places.values())))
    if n > 1:
        legend(plane, "upper right")
    facts = [f"{name}: entropy {h:.2f}, rank {r:.2f} × uniform's" for name, (h, r) in places.items()]
    alt = f"Attention maps and their places. {'; '.join(facts)}."
    return finish(figure, _places_finding(places), alt)


def _places_finding(places: Mapping[str, tuple[float, float]]) -> str:
    if len(places) == 1:
        ((h, r),) = places.values()
        sharp = "sharp" if h < LOW_ENTROPY else "not sharp"
        poor = "below" if r < LOW_RANK else "not below"
        return f"Entropy {h:.2f} ({sharp}), rank {r:.2f} × uniform's ({poor} it)"
    sharp_names = [n for n, (h, _) in places.items() if h < LOW_ENTROPY]
    ranks = [places[n][1] for n in sharp_names]
    if ranks_apart([places[n] for n in sharp_names]):
        return (
            f"{listed(sharp_names)} are equally sharp, yet their ranks lie far apart: "
            f"from {min(ranks):.2f} to {max(ranks):.2f} × uniform's"
        )
    return "; ".join(f"{n}: entropy {h:.2f}, rank {r:.2f}" for n, (h, r) in places.items())


def _plane(axis: Axes, top: float) -> None:
    reference_line(axis, LOW_RANK)
    axis.axvline(LOW_ENTROPY, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    grey: dict[str, Any] = {"color": REFERENCE_COLOR, "fontsize": 9}
    axis.text(0.99, LOW_RANK + 0.03, "uniform attention", ha="right", va="bottom", **grey)
    axis.text(0.05, 0.02, "sharp,\nlow rank", va="bottom", **grey)
    axis.text(0.05, top * 0.99, "sharp,\nhigh rank", va="top", **grey)
    axis.set(xlim=(-0.02, 1.02), ylim=(0, top))
    label(axis, "entropy H (1 = uniform, 0 = one-hot)", "effective rank (× uniform attention's)")


def draw_map(axis: Axes, attention: Tensor, name: str, color: str = "black") -> None:
    """Draw one map: queries down, keys along, white (0) to dark (1)."""
    axis.imshow(attention.float().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    bare(axis, name, color=color)
    axis.set_xlabel("key", fontsize=9)
    axis.set_ylabel("query", fontsize=9)


def attention_maps(runs: Mapping[str, Run], layer: int = 0) -> Picture:
    """Every head's map of a layer, counted from 0, with a row of images for each arm's run."""
    maps = {arm: run.observe().maps[layer] for arm, run in runs.items()}
    heads = len(next(iter(maps.values())))
    figure, axes = panels(9.2, 2.2 * len(maps) + 0.6, len(maps), heads)
    counts = {}
    for (arm, stack), (_, style), row in zip(maps.items(), styled(maps), axes, strict=True):
        for head, axis in enumerate(row):
            axis.spines[["top", "right"]].set_visible(True)
            draw_map(axis, stack[head], f"head {head + 1}" if axis in axes[0] else "")
            axis.set_xlabel("key" if axis in axes[-1] else "")
        row[0].set_ylabel(f"{style['label']}\nquery", fontsize=9, color=style["color"])
        counts[spoken(arm)] = favourites(stack[None])
    facts = [f"{n:.0f} ({name})" for name, n in counts.items()]
    tokens = next(iter(maps.values())).shape[-1]
    title = f"Of {tokens} keys, the queries of a head in layer {layer + 1} favour {', '.join(facts)}"
    return finish(figure, title, f"Attention maps of layer {layer + 1}, one row per run. {title}.")


def attention_over_images(
    attention: Mapping[str, Tensor], images: Tensor, names: Sequence[str], note: str = ""
) -> Picture:
    """What a ViT's attention looks at, laid over the pictures: a row for each look, a column for each image.

    A patch gets redder, the more of the attention of all heads and queries it gets. With its fair share or
    less it stays grey, with `FULL` times that it has full colour. The share of the class token, which has no
    place in the picture, stands below it.

    Args:
        attention: look → weights of one layer (images, heads, tokens, tokens), class token first.
        images: (images, channels, side, side), of any scale.
        names: what the images show.
        note: what was looked at, for the title.
    """
    grey = images[:, 0].float().cpu()
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    grey = (grey - low) / (high - low).clamp(min=1e-9)
    rows, columns = len(attention), len(images)
    figure, axes = panels(9.2, 1.9 * rows + 0.7, rows, columns)
    counts = {}
    for row, (look, weights) in zip(axes, attention.items(), strict=True):
        shares = looked_at(weights.float().cpu())
        for i, axis in enumerate(row):
            axis.imshow(_overlaid(grey[i], shares[i]))
            bare(axis, names[i] if axis in axes[0] else "", 9)
            axis.spines[:].set_visible(False)
            axis.set_xlabel(f"class token {shares[i, 0]:.0%}", fontsize=8)
        row[0].set_ylabel(look, fontsize=9)
        counts[look] = (favourites(weights), same_for_all(weights))
    facts = [f"{count:.0f} ({look})" for look, (count, _) in counts.items()]
    tokens = next(iter(attention.values())).shape[-1]
    title = f"{note}of {tokens} tokens, the queries of a head favour {listed(facts)}"
    alike = "; ".join(f"{look} {overlap:.0%}" for look, (_, overlap) in counts.items())
    alt = (
        f"Pictures of {listed(list(names))}, with the patches that attention looks at in red, one row per "
        f"look. {title}. How alike what is looked at is from picture to picture: {alike}."
    )
    return finish(figure, title, alt)


def _overlaid(grey: Tensor, shares: Tensor) -> npt.NDArray[np.float32]:
    """Colour a grey picture (side, side) by its patches' shares of attention: (side, side, 3)."""
    patches = shares[1:]
    n = round(len(patches) ** 0.5)
    strength = ((patches * len(shares) - 1) / (FULL - 1)).clamp(0, 1).reshape(1, 1, n, n)
    mask = F.interpolate(strength, size=grey.shape, mode="nearest")[0, 0, :, :, None]
    # A dark picture shows the colour better than a white one: grey values use three quarters of the scale.
    return ((1 - mask) * 0.75 * grey[..., None] + mask * torch.tensor(SEEN)).numpy()


def patch_maps(image: Tensor, maps: Mapping[str, object]) -> Picture:
    """A picture (channels, side, side) and, by name, maps of its patches (rows, columns) that sum to 1."""
    tables = {name: torch.as_tensor(table).double().numpy() for name, table in maps.items()}
    top = max(table.max() for table in tables.values())
    figure, (axes,) = panels(2.9 * (1 + len(maps)), 3.4, 1, 1 + len(maps))
    axes[0].imshow(image[0].float().cpu(), cmap="gray")
    bare(axes[0], "the picture", 9)
    for axis, (name, table) in zip(axes[1:], tables.items(), strict=True):
        drawn = axis.imshow(table, cmap=color_palette("mako_r", as_cmap=True), vmin=0, vmax=top)
        bare(axis, name, 9)
    figure.colorbar(drawn, ax=list(axes), label="weight (sum 1)", fraction=0.02)
    facts = [f"{table.max():.2f} ({name})" for name, table in tables.items()]
    title = f"The largest weight that a patch gets: {listed(facts)}; uniform {1 / table.size:.2f}"
    return finish(figure, title, f"A picture, and maps of what is looked at in it. {title}.")
