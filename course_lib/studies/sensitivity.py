"""How sensitive a method is to the learning rate."""

import numpy as np
import numpy.typing as npt


def lr_sensitivity(losses: npt.NDArray[np.float64], initial: float) -> float:
    """Mean of min(loss, initial) − the best loss, over the learning rates; a NaN counts as `initial`.

    Source: Wortsman et al. 2023 (arXiv 2309.14322).

    Args:
        losses: (learning rates,), in nats, evenly spaced on a log scale.
        initial: loss of the untrained model: what a run that diverged is worth.
    """
    capped = np.fmin(losses, initial)
    return float(capped.mean() - capped.min())
