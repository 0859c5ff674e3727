"""Curves of the links of the circle, and of the lower bounds of the entropy."""

from collections.abc import Mapping

from course_lib.figures.palette import LAYER_COLORS, REFERENCE_COLOR, styled
from course_lib.figures.picture import Picture, finish, label, legend, listed, panels
from course_lib.studies.circle import LINKS, Followed


def circle_history(runs: Mapping[str, Followed], layer: int, until: int) -> Picture:
    """The links of the circle against the step, up to `until`, with a panel for each link."""
    figure, axes = panels(9.6, 4.9, 2, 3, sharex=True)
    facts = []
    for run, style in styled(runs, linewidth=2):
        table = run.of(layer).loc[:until]
        for axis, name in zip(axes.flat, LINKS, strict=False):
            axis.plot(table.index, table[name], **style)
        end = table.iloc[-1]
        facts.append(
            f"{style['label']}: X at {end['tokens']:.1f}, W_qᵀW_k at {end['product']:.1f}, "
            f"entropy {end['entropy']:.2f}"
        )
    for axis, text in zip(axes.flat, LINKS.values(), strict=False):
        label(axis, "step", "", text, ylim=(0, None))
        axis.xaxis.set_tick_params(labelbottom=True)
    for row, name in enumerate(("effective rank", "rank, or entropy")):
        axes[row, 0].set_ylabel(name)
    last = axes.flat[-1]
    last.axis("off")
    last.legend(*axes.flat[0].get_legend_handles_labels(), frameon=False, fontsize=10, loc="center")
    title = f"Layer {layer + 1}, step {until}. " + "; ".join(facts)
    return finish(figure, title, f"Five links against step. {title}.")


def gradient_beside_update(followed: Followed, until: int) -> Picture:
    """Effective rank of W_q's gradient and of Adam's update, by layer, mean over heads."""
    layers = followed.table.index.get_level_values("layer").unique()
    figure, axes = panels(9.2, 3.2, 1, len(layers), sharey=True)
    facts = []
    for layer, axis in zip(layers, axes[0], strict=True):
        table = followed.of(layer).loc[:until]
        axis.plot(table.index, table["gradient_q"], color=LAYER_COLORS[0], label="gradient of W_q")
        axis.plot(table.index, table["update"], color=LAYER_COLORS[1], label="Adam's update ΔW")
        label(axis, "step", "effective rank, per head", f"layer {layer + 1}", ylim=(0, None))
        end = table[["gradient_q", "update"]].median()
        facts.append(f"{end['gradient_q']:.1f} and {end['update']:.1f} in layer {layer + 1}")
    legend(axes[0, 0])
    title = f"Median effective rank of gradient and update: {', '.join(facts)}"
    return finish(figure, title, f"Effective rank against step, gradient below update or not. {title}.")


def floor_history(runs: Mapping[str, Followed], layer: int, until: int) -> Picture:
    """Measured entropy, and its lower bounds by the scores' range and by σ₁, for each arm's run."""
    figure, axes = panels(9.2, 3.5, 1, len(runs), sharey=True)
    gone, held = [], True
    for axis, (run, style) in zip(axes[0], styled(runs), strict=True):
        table = run.of(layer).loc[:until]
        color = style["color"]
        axis.plot(table["entropy"], color=color, linewidth=2, label="measured")
        axis.plot(table["floor"], color=color, linestyle="--", label="floor of the scores' range")
        axis.plot(table["sigma_floor"], color=REFERENCE_COLOR, linestyle=":", label="floor of σ₁")
        legend(axis)
        label(axis, "step", f"entropy H, layer {layer + 1}", style["label"], color, ylim=(-0.02, 1.03))
        held &= bool((table["sigma_floor"] <= table["floor"] + 1e-4).all())
        held &= bool((table["floor"] <= table["entropy"] + 1e-4).all())
        low = table["sigma_floor"] < 0.01
        when = f"at step {low.idxmax()}" if low.any() else "never"
        gone.append(f"{when} ({style['label']})")
    kept = "Entropy stays above both floors" if held else "Entropy falls below a floor"
    title = f"{kept}; the one that σ₁ sets is gone {listed(gone)}"
    return finish(figure, title, f"Entropy and its floors against step. {title}.")
