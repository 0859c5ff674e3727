"""Swin's windows: which tokens a token sees and depends on, the mask, and the position bias."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from course_lib.figures.palette import LAYER_COLORS
from course_lib.figures.picture import Picture, bare, finish, listed, panels
from course_lib.models import Attention
from course_lib.models.swin import shifted_mask
from course_lib.studies.window_reach import known, visible


def what_a_token_sees(
    image: npt.NDArray[np.uint8], side: int, window: int, shifts: Sequence[int], query: tuple[int, int]
) -> Picture:
    """An image under the windows of one block per shift; the query and what it sees in colour.

    Args:
        image: (height, width), 0 to 255.
        side: of the map of tokens.
        window: side of a window, in tokens.
        shifts: tokens that the windows of each block are shifted by.
        query: (row, column) of the token whose sight is shown.
    """
    figure, (axes,) = panels(3.6 * len(shifts), 3.9, 1, len(shifts))
    row, column = query
    counts = []
    for axis, shift in zip(axes, shifts, strict=True):
        seen = visible(side, window, shift)[row * side + column].reshape(side, side)
        counts.append(int(seen.sum()))
        axis.imshow(image, cmap="gray_r", extent=(0, side, side, 0), alpha=0.75)
        shade = np.zeros((side, side, 4))
        shade[seen] = (*_rgb(LAYER_COLORS[0]), 0.35)
        axis.imshow(shade, extent=(0, side, side, 0))
        _grid(axis, side, window, shift)
        axis.plot(column + 0.5, row + 0.5, "s", color=LAYER_COLORS[1], markersize=7)
        name = "windows" if shift == 0 else f"windows shifted by {shift}"
        bare(axis, f"{name}: {counts[-1]} places")
    sights = [
        f"{n} ({'shifted by ' + str(s) if s else 'no shift'})" for n, s in zip(counts, shifts, strict=True)
    ]
    title = f"Of {side**2} places the marked token sees {listed(sights)}"
    return finish(figure, title, f"An image under a grid of windows, one panel per shift. {title}.")


def what_a_token_knows(side: int, window: int, blocks: Sequence[Sequence[int]]) -> Picture:
    """How many places each token depends on after some blocks, one map for each list of shifts."""
    figure, (axes,) = panels(3.3 * len(blocks), 3.7, 1, len(blocks))
    facts = []
    for axis, shifts in zip(axes, blocks, strict=True):
        counts = known(side, window, shifts).sum(1).reshape(side, side)
        axis.imshow(counts, cmap="Blues", vmin=0, vmax=side**2, extent=(0, side, side, 0))
        for n in np.unique(counts):
            row, column = _middle(counts == n)
            color = "white" if n > side**2 / 2 else "black"
            axis.text(column, row, str(n), ha="center", va="center", color=color)
        spoken = "block" if len(shifts) == 1 else "blocks"
        name = f"{len(shifts)} {spoken}, " + (
            f"shifts {', '.join(map(str, shifts))}" if any(shifts) else "no shift"
        )
        bare(axis, name)
        span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        facts.append(f"{span} ({name})")
    title = f"Of {side**2} places a token knows {'; '.join(facts)}"
    return finish(figure, title, f"Maps of how many places each token knows of. {title}.")


def mask_of_shifted_windows(side: int, window: int, shift: int) -> Picture:
    """The rolled map, coloured by where its places come from, and the mask of each window."""
    masks = shifted_mask(side, window, shift)
    figure, (axes,) = panels(2.3 * (len(masks) + 1), 2.9, 1, len(masks) + 1)
    wrapped = (np.arange(side) >= side - shift).astype(int)
    region = 2 * wrapped[:, None] + wrapped
    colors = np.array([_rgb(color) for color in LAYER_COLORS[:4]])
    axes[0].imshow(0.45 + 0.55 * colors[region], extent=(0, side, side, 0))
    _grid(axes[0], side, window, 0)
    per_row = side // window
    for i in range(len(masks)):
        x, y = (i % per_row + 0.5) * window, (i // per_row + 0.5) * window
        axes[0].text(x, y, str(i + 1), ha="center", va="center", fontsize=12, fontweight="bold")
    bare(axes[0], f"the map, rolled by {shift}")
    for i, (axis, mask) in enumerate(zip(axes[1:], masks, strict=True), 1):
        axis.imshow(mask.numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        bare(axis, f"window {i}")
        axis.set_xlabel("key", fontsize=9)
        axis.set_ylabel("query", fontsize=9)
    shares = [f"{mask.float().mean():.0%}" for mask in masks]
    title = f"Shares of query–key pairs that the mask lets through, window by window: {', '.join(shares)}"
    alt = f"The rolled map in four colours, and one mask of {window**2}² per window. {title}."
    return finish(figure, title, alt)


def position_bias(layers: dict[str, Attention]) -> Picture:
    """The position bias of scores, by the key's place relative to the query: a row of heads for each layer.

    Raises:
        ValueError: a layer has no position bias.
    """
    tables = {}
    for name, layer in layers.items():
        if layer.position_bias is None:
            raise ValueError(f"{name} has no position bias: expected attention in windows; try a Swin's")
        table = layer.position_bias.table.weight.detach().cpu()
        reach = round(len(table) ** 0.5)
        # The table is indexed by query minus key. Flipped, it is indexed by key minus query.
        tables[name] = table.T.unflatten(1, (reach, reach)).flip(1, 2).numpy()
    heads = max(len(t) for t in tables.values())
    most = max(float(np.abs(t).max()) for t in tables.values())
    figure, axes = panels(2.5 * heads + 1.2, 2.5 * len(tables) + 0.7, len(tables), heads)
    for (name, table), row in zip(tables.items(), axes, strict=True):
        edge = table.shape[1] / 2
        for head, axis in enumerate(row):
            if head >= len(table):
                axis.set_axis_off()
                continue
            image = axis.imshow(
                table[head], cmap="RdBu_r", vmin=-most, vmax=most, extent=(-edge, edge, edge, -edge)
            )
            axis.set_title(f"{name}, head {head + 1}", fontsize=10)
            axis.set_xlabel("key right of the query (tokens)", fontsize=8)
            axis.set_ylabel("key below (tokens)", fontsize=8)
            axis.tick_params(labelsize=8)
    figure.colorbar(image, ax=axes, label="added to the score", shrink=0.8)
    facts = [f"{name} {t.min():+.2f} to {t.max():+.2f}" for name, t in tables.items()]
    title = f"Position biases: {'; '.join(facts)}"
    return finish(figure, title, f"Images of the relative position bias, one per head. {title}.")


def _grid(axis: Axes, side: int, window: int, shift: int) -> None:
    """Draw the borders of the windows and of the image."""
    for edge in {0, side, *range(shift, side, window)}:
        axis.axhline(edge, color="black", linewidth=1.4, clip_on=False)
        axis.axvline(edge, color="black", linewidth=1.4, clip_on=False)
    axis.set(xlim=(0, side), ylim=(side, 0))


def _middle(places: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(row, column) of the middle of the first rectangle of places, from the upper left."""
    top, left = (int(where[0]) for where in np.nonzero(places))
    height = int(np.append(places[top:, left], False).argmin())
    width = int(np.append(places[top, left:], False).argmin())
    return top + height / 2, left + width / 2


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
