"""Summaries of final losses and accuracies over learning rates, and over τ."""

import numpy as np
import numpy.typing as npt

from course_lib.extras import pandas as pd
from course_lib.studies.arms import ARMS


def lr_sensitivity(losses: npt.NDArray[np.float64], initial: float) -> float:
    """Mean of min(loss, initial) − the best loss, over the learning rates; a NaN counts as `initial`.

    Losses are (learning rates,) in nats, evenly spaced on a log scale. A diverged run counts as `initial`,
    the loss of the untrained model. Source: Wortsman et al. 2023 (arXiv 2309.14322).
    """
    capped = np.fmin(losses, initial)
    return float(capped.mean() - capped.min())


def mean_by_lr(frame: pd.DataFrame, value: str = "final_val_loss") -> pd.DataFrame:
    """Mean over seeds: one row per arm, in the order of the registry, one column per learning rate."""
    mean = frame.pivot_table(value, "arm", "lr", aggfunc="mean")
    return mean.loc[[arm for arm in ARMS if arm in mean.index]]


def sensitivity_table(frame: pd.DataFrame, initial: float) -> pd.DataFrame:
    """Per arm: its best mean loss, at which learning rate, and its sensitivity (`lr_sensitivity`).

    `frame` has the columns `arm`, `lr`, `seed`, `final_val_loss`; `initial` is the untrained model's loss.
    """
    mean = mean_by_lr(frame)
    # A learning rate that an arm was not run at is left out; a loss that is NaN is a run that diverged.
    tried = frame.groupby("arm")["lr"].unique()
    sensitivities = [lr_sensitivity(row[tried[arm]].to_numpy(), initial) for arm, row in mean.iterrows()]
    return pd.DataFrame(
        {"best loss": mean.min(axis=1), "at lr": mean.idxmin(axis=1), "sensitivity": sensitivities}
    )


def best_mean(runs: pd.DataFrame, arm: str) -> tuple[float, float]:
    """An arm's best learning rate, and its mean accuracy over the seeds there."""
    means = mean_by_lr(runs, "final_val_accuracy").loc[arm]
    return float(means.idxmax()), float(means.max())


def good_taus(frame: pd.DataFrame, slack: float) -> npt.NDArray[np.float64]:
    """The values of τ whose mean final loss is within `slack` nats of the best."""
    mean = frame.groupby("tau")["final_val_loss"].mean()
    return np.asarray(mean.index[mean <= mean.min() + slack])
