"""Pictures of attention itself: a row of weights, a map, entropy beside rank."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from course_lib.figures.palette import LAYER_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.probes import attention_rank, entropy, uniform_rank
from course_lib.runs.verdict import LOW_ENTROPY, LOW_RANK

_MARKS = "osD^vPX*"

EQUAL_ENTROPY = 0.05
"""Sharp maps whose entropies differ by no more than this are called equally sharp."""

FAR_RANKS = 1.5
"""Ranks are called far apart if the highest is at least this many times the lowest."""


def weights_row(weights: Tensor, keys: Sequence[str], note: str = "") -> Picture:
    """One query's weights over its keys, as bars.

    Args:
        weights: (keys,), all of them visible.
        keys: one label per key.
        note: what was set to get them, for the title.
    """
    values = weights.double().numpy()
    seen = torch.ones(1, len(values), dtype=torch.bool)
    h = entropy(weights[None], seen).item()
    figure, ((axis,),) = panels(6.4, 2.9)
    bars = axis.bar(range(len(values)), values, color=LAYER_COLORS[0])
    axis.bar_label(bars, fmt="%.2f", fontsize=9)
    axis.axhline(1 / len(values), color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.annotate(
        "uniform",
        (1, 1 / len(values)),
        xycoords=axis.get_yaxis_transform(),
        color=REFERENCE_COLOR,
        fontsize=9,
        va="center",
    )
    axis.set_xticks(range(len(values)), [f"“{key}”" for key in keys])
    axis.set_ylim(0, 1.12)
    label(axis, "key", "weight (sum 1)")
    title = (
        f"{note}entropy {h:.2f}: the largest weight, on “{keys[int(values.argmax())]}”, is {values.max():.2f}"
    )
    shares = ", ".join(f"{key} {value:.2f}" for key, value in zip(keys, values, strict=True))
    return finish(figure, title, f"Bars of one query's attention weights: {shares}.")


def map_place(attention: Tensor) -> tuple[float, float]:
    """Mean entropy H of a causal map (tokens, tokens), and its rank as a multiple of uniform's."""
    tokens = attention.shape[-1]
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    h = entropy(attention, visible).nanmean().item()
    return h, attention_rank(attention).item() / uniform_rank(tokens)


def entropy_beside_rank(maps: Mapping[str, Tensor]) -> Picture:
    """Causal maps, and where each stands: entropy along, rank up.

    Args:
        maps: name → attention (tokens, tokens).
    """
    places = {name: map_place(a) for name, a in maps.items()}
    n = len(maps)
    figure = panels(9.2, 4.3, 1, 1)[0]
    figure.clear()
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
        plane.legend(frameon=False, loc="upper right", fontsize=9)
    facts = [f"{name}: entropy {h:.2f}, rank {r:.2f} × uniform's" for name, (h, r) in places.items()]
    return finish(
        figure,
        _places_finding(places),
        "Attention maps and their places. " + "; ".join(facts) + ".",
    )


def _places_finding(places: Mapping[str, tuple[float, float]]) -> str:
    if len(places) == 1:
        ((h, r),) = places.values()
        sharp = "sharp" if h < LOW_ENTROPY else "not sharp"
        poor = "below" if r < LOW_RANK else "not below"
        return f"Entropy {h:.2f} ({sharp}), rank {r:.2f} × uniform's ({poor} it)"
    sharp_names = [n for n, (h, _) in places.items() if h < LOW_ENTROPY]
    ranks = [places[n][1] for n in sharp_names]
    if equally_sharp_ranks_apart([places[n] for n in sharp_names]):
        return (
            f"{listed(sharp_names)} are equally sharp, yet their ranks lie far apart: "
            f"from {min(ranks):.2f} to {max(ranks):.2f} × uniform's"
        )
    return "; ".join(f"{n}: entropy {h:.2f}, rank {r:.2f}" for n, (h, r) in places.items())


def equally_sharp_ranks_apart(places: Sequence[tuple[float, float]]) -> bool:
    """Whether (entropy, rank) pairs are equally sharp, with ranks far apart on both sides of uniform's."""
    if len(places) < 2:
        return False
    h, ranks = zip(*places, strict=True)
    equally_sharp = max(h) < LOW_ENTROPY and max(h) - min(h) <= EQUAL_ENTROPY
    return equally_sharp and min(ranks) < LOW_RANK < max(ranks) and max(ranks) >= FAR_RANKS * min(ranks)


def _plane(axis: Axes, top: float) -> None:
    axis.axhline(LOW_RANK, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    axis.axvline(LOW_ENTROPY, color=REFERENCE_COLOR, linestyle=":", linewidth=1)
    axis.text(
        0.99,
        LOW_RANK + 0.03,
        "uniform attention",
        color=REFERENCE_COLOR,
        fontsize=9,
        ha="right",
        va="bottom",
    )
    axis.text(0.05, 0.02, "sharp,\nlow rank", color=REFERENCE_COLOR, fontsize=9, va="bottom")
    axis.text(0.05, top * 0.99, "sharp,\nhigh rank", color=REFERENCE_COLOR, fontsize=9, va="top")
    axis.set(xlim=(-0.02, 1.02), ylim=(0, top))
    label(axis, "entropy H (1 = uniform, 0 = one-hot)", "effective rank (× uniform attention's)")


def draw_map(axis: Axes, attention: Tensor, name: str, color: str = "black") -> None:
    """One map as an image, queries down, keys along, white (0) to dark (1)."""
    axis.imshow(attention.float().numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(name, fontsize=10, color=color)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel("key", fontsize=9)
    axis.set_ylabel("query", fontsize=9)


def uniform_rank_curve(tokens: Sequence[int], marked: int) -> Picture:
    """Effective rank of uniform attention against the number of tokens, causal and not."""
    causal = [uniform_rank(t) for t in tokens]
    figure, ((axis,),) = panels(6.4, 3.2)
    axis.plot(tokens, tokens, color=REFERENCE_COLOR, linestyle="--", label="identity map (full rank)")
    axis.plot(tokens, causal, color=LAYER_COLORS[0], label="uniform, causal")
    axis.plot(tokens, [1.0] * len(tokens), color=LAYER_COLORS[1], label="uniform, everybody sees all")
    rank = uniform_rank(marked)
    axis.plot(marked, rank, "o", color=LAYER_COLORS[0])
    axis.annotate(f"{rank:.1f}", (marked, rank), xytext=(6, -12), textcoords="offset points", fontsize=10)
    axis.legend(frameon=False, fontsize=9)
    label(axis, "tokens in the sequence", "effective rank of the map")
    title = f"Uniform causal attention over {marked} tokens has effective rank {rank:.1f}"
    title += ", not 1" if f"{rank:.1f}" != "1.0" else ""
    alt = (
        "Effective rank against tokens: identity rises as the tokens, uniform causal "
        f"more slowly ({rank:.1f} at {marked}), uniform without a mask stays at 1."
    )
    return finish(figure, title, alt)


def scale_is_inverse_temperature(
    factors: Sequence[float], by_factor: Sequence[float], by_temperature: Sequence[float]
) -> Picture:
    """Entropy against the factor c of W_qᵀW_k, and against the temperature 1/c: one curve."""
    apart = float(np.abs(np.array(by_factor) - np.array(by_temperature)).max())
    figure, ((axis,),) = panels(6.4, 3.2)
    axis.semilogx(factors, by_factor, color=LAYER_COLORS[0], label="W_qᵀW_k multiplied by c")
    axis.semilogx(factors, by_temperature, "o", color=LAYER_COLORS[1], label="temperature 1/c", markersize=5)
    axis.legend(frameon=False, fontsize=9)
    axis.set_ylim(0, 1.03)
    label(axis, "factor c", "entropy H (1 = uniform)")
    same = apart < 1e-4
    change = by_factor[-1] - by_factor[0]
    moves = "falls" if change < -0.005 else "rises" if change > 0.005 else "goes"
    title = (
        f"Multiplying W_qᵀW_k by c {'is' if same else 'is not'} the same as temperature 1/c: "
        f"entropy {moves} from {by_factor[0]:.2f} to {by_factor[-1]:.2f}"
    )
    alt = (
        f"Entropy against c: it {moves} from {by_factor[0]:.2f} to {by_factor[-1]:.2f}; the dots of "
        f"temperature 1/c lie {'on' if same else 'off'} the line of factor c."
    )
    return finish(figure, title, alt)


def concentration(
    factors: Sequence[float],
    entropies: Mapping[str, npt.NDArray[np.float64]],
    ranks: Mapping[str, npt.NDArray[np.float64]],
) -> Picture:
    """Entropy and rank of maps as W_qᵀW_k grows, for spectra that are spread or concentrated.

    Args:
        factors: factors of W_qᵀW_k.
        entropies, ranks: name of the spectrum → (draws, factors); ranks in multiples of uniform's.
    """
    figure, ((left, right),) = panels(9.2, 3.6, 1, 2)
    for i, name in enumerate(entropies):
        for axis, values in ((left, entropies[name]), (right, ranks[name])):
            axis.semilogx(factors, values.T, color=LAYER_COLORS[i], alpha=0.25, linewidth=0.8)
            axis.semilogx(factors, values.mean(0), color=LAYER_COLORS[i], linewidth=2, label=name)
    right.axhline(LOW_RANK, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
    left.legend(frameon=False, fontsize=9)
    left.set_ylim(0, 1.03)
    right.set_ylim(bottom=0)
    label(left, "factor c of W_qᵀW_k", "entropy H (1 = uniform)")
    label(right, "factor c of W_qᵀW_k", "rank (× uniform attention's)")
    ends = {name: (entropies[name][:, -1].mean(), ranks[name][:, -1].mean()) for name in entropies}
    facts = [f"{name}: entropy {h:.2f}, rank {r:.2f}" for name, (h, r) in ends.items()]
    title = "At the largest factor: " + "; ".join(facts)
    if max(h for h, _ in ends.values()) < LOW_ENTROPY and _apart([r[:, -1] for r in ranks.values()]):
        title = f"All end sharp; the rank depends on the spectrum ({'; '.join(facts)})"
    return finish(
        figure,
        title,
        "Entropy and rank against the factor c. At its largest, " + "; ".join(facts) + ".",
    )


def _apart(draws: Sequence[npt.NDArray[np.float64]]) -> bool:
    """Whether the lowest and the highest sample share no range and their means lie far apart."""
    low, *_, high = sorted(draws, key=np.mean) if len(draws) > 1 else (draws[0], draws[0])
    return bool(low.max() < high.min() and high.mean() >= FAR_RANKS * low.mean())
