"""Attention drawn over the pictures that it looks at, and the accuracies of runs on images."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from seaborn import color_palette
from torch import Tensor

from course_lib.data import CLASSES, Baseline
from course_lib.figures.palette import ARM_COLORS, REFERENCE_COLOR
from course_lib.figures.picture import Picture, finish, label, listed, panels
from course_lib.figures.run_charts import spoken
from course_lib.runs import Run
from course_lib.studies.arms import LABELS

SEEN = (0.91, 0.35, 0.05)
"""Colour of what is looked at, laid over the grey picture."""
FULL = 6
"""Times its fair share of attention that give a patch full colour."""
SHOWN = 5
"""Images that are drawn."""


def examples(run: Run, images: int = SHOWN) -> tuple[Tensor, list[str]]:
    """Test images of as many classes, as the run's model takes them, and the names of their classes.

    Returns:
        (images, channels, side, side) on the run's device; names.
    """
    inputs, labels = run.task.batch(0, 200, "validation")
    # The last image of each class: those at the front are what the probes look at.
    places = {int(label): i for i, label in enumerate(labels)}
    chosen = [places[c] for c in sorted(places)][:: max(1, len(places) // images)][:images]
    batch, _ = run._to_device((inputs[chosen], labels[chosen]))
    return batch, [CLASSES[labels[i]] for i in chosen]


def looked_at(attention: Tensor) -> Tensor:
    """How much of all attention each token gets: (images, heads, queries, keys) → (images, keys), sum 1.

    The mean over heads and queries of the weights; 1/keys for each token if attention is uniform.
    """
    return attention.mean((1, 2))


def favourites(attention: Tensor) -> float:
    """Number of keys that are the favourite of any query, mean over images and heads."""
    chosen = attention.argmax(-1).flatten(0, 1)
    return float(np.mean([len(head.unique()) for head in chosen]))


def same_for_all(attention: Tensor) -> float:
    """How alike the maps of different images are: 1 if attention never looks at what is in the picture.

    The overlap Σ min(a, b) of what two images' tokens get of all attention, mean over pairs of images.
    """
    shares = looked_at(attention)
    pairs = torch.combinations(torch.arange(len(shares)))
    return float(torch.minimum(shares[pairs[:, 0]], shares[pairs[:, 1]]).sum(-1).mean())


def attention_over_images(
    attention: Mapping[str, Tensor], images: Tensor, names: Sequence[str], note: str = ""
) -> Picture:
    """What a ViT's attention looks at, laid over the pictures: a row for each look, a column for each image.

    A patch is the redder, the more of all attention it gets (all heads and queries of a layer) beyond its
    fair share, which leaves it grey; `FULL` times that is full colour. Below each picture stands what the
    class token gets, which has no place in it.

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
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=9)
    counts = {}
    for row, (look, weights) in zip(axes, attention.items(), strict=True):
        shares = looked_at(weights.float().cpu())
        for i, axis in enumerate(row):
            axis.imshow(_overlaid(grey[i], shares[i]))
            axis.set_xticks([])
            axis.set_yticks([])
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
    """A grey picture (side, side) under what its patches get of all attention: (side, side, 3)."""
    patches = shares[1:]
    n = round(len(patches) ** 0.5)
    strength = ((patches * len(shares) - 1) / (FULL - 1)).clamp(0, 1).reshape(1, 1, n, n)
    mask = F.interpolate(strength, size=grey.shape, mode="nearest")[0, 0, :, :, None]
    # A dark picture shows the colour better than a white one: grey values use three quarters of the scale.
    return ((1 - mask) * 0.75 * grey[..., None] + mask * torch.tensor(SEEN)).numpy()


def accuracy_by_lr(runs: pd.DataFrame, lines: Sequence[Baseline]) -> Picture:
    """Final accuracies of arms against the learning rate: a dot for a seed, a line through the means.

    Args:
        runs: columns `arm`, `lr`, `seed`, `final_val_accuracy`, as experiments/images.py writes them.
        lines: what a trained model has to beat; those with an accuracy are drawn, with their names.
    """
    figure, ((axis,),) = panels(8, 4.2)
    arms = [arm for arm in ARM_COLORS if arm in set(runs["arm"])]
    for i, arm in enumerate(arms):
        own = runs[runs["arm"] == arm]
        shift = 1.025 ** (i - (len(arms) - 1) / 2)  # else the dots of two arms lie on each other
        means = own.groupby("lr")["final_val_accuracy"].mean()
        axis.plot(own["lr"] * shift, own["final_val_accuracy"], "o", color=ARM_COLORS[arm], alpha=0.6)
        axis.plot(means.index * shift, means, color=ARM_COLORS[arm], linewidth=2, label=LABELS[arm])
    axis.set_xscale("log")
    rates = sorted(set(runs["lr"]))
    axis.set_xticks(rates, [f"{lr:g}" for lr in rates])
    axis.set_xticks([], minor=True)
    axis.set_ylim(0, 1)
    for line in lines:
        if line.accuracy is not None:
            axis.axhline(line.accuracy, color=REFERENCE_COLOR, linestyle="--", linewidth=1)
            axis.annotate(
                line.name, (1, line.accuracy), xycoords=axis.get_yaxis_transform(), xytext=(4, 0),
                textcoords="offset points", color=REFERENCE_COLOR, fontsize=9, va="center",
            )  # fmt: skip
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=len(arms))
    label(axis, "learning rate", "test accuracy at the last step")
    best = {arm: best_mean(runs, arm) for arm in arms}
    facts = [f"{spoken(arm)} {mean:.2f} (at {lr:g})" for arm, (lr, mean) in best.items()]
    title = f"Each at the best of its learning rates: {listed(facts)}"
    every = "; ".join(
        f"{LABELS[str(arm)]} at {lr:g}: {own.mean():.2f}"
        for (arm, lr), own in runs.groupby(["arm", "lr"])["final_val_accuracy"]
    )
    return finish(figure, title, f"Accuracy against learning rate, mean over seeds. {every}.")


def best_mean(runs: pd.DataFrame, arm: str) -> tuple[float, float]:
    """An arm's best learning rate, and its mean accuracy over the seeds there."""
    means = runs[runs["arm"] == arm].groupby("lr")["final_val_accuracy"].mean()
    return float(means.idxmax()), float(means.max())


def patch_maps(image: Tensor, maps: Mapping[str, object]) -> Picture:
    """Maps of patches beside the picture that they belong to.

    Args:
        image: (channels, side, side).
        maps: name → (rows, columns), sum 1.
    """
    tables = {name: torch.as_tensor(table).double().numpy() for name, table in maps.items()}
    top = max(table.max() for table in tables.values())
    figure, (axes,) = panels(2.9 * (1 + len(maps)), 3.4, 1, 1 + len(maps))
    axes[0].imshow(image[0].float().cpu(), cmap="gray")
    axes[0].set_title("the picture", fontsize=9)
    for axis, (name, table) in zip(axes[1:], tables.items(), strict=True):
        drawn = axis.imshow(table, cmap=color_palette("mako_r", as_cmap=True), vmin=0, vmax=top)
        axis.set_title(name, fontsize=9)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(drawn, ax=list(axes), label="weight (sum 1)", fraction=0.02)
    facts = [f"{table.max():.2f} ({name})" for name, table in tables.items()]
    title = f"The largest weight that a patch gets: {listed(facts)}; uniform {1 / table.size:.2f}"
    return finish(figure, title, f"A picture, and maps of what is looked at in it. {title}.")
