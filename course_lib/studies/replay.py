"""The learning rates that a bound lets through, as a schedule."""

import numpy as np
import torch

from course_lib.extras import pandas as pd
from course_lib.optim import AdamW2
from course_lib.runs import Run


def mean_alpha(run: Run) -> float:
    """α of the last step, mean over the bounded matrices, as a share of the run's base learning rate."""
    optimizer = run.optimizer
    assert isinstance(optimizer, AdamW2)
    used = torch.stack([report.lr for report in optimizer.last_step.values()])
    return used.mean().item() / run.lr


def settled_step(share: "pd.Series[float]", level: float = 0.5) -> int | None:
    """The first step from which on a share stays at `level` or above; None if there is none."""
    below = np.flatnonzero(share < level)
    step = int(below[-1]) + 1 if len(below) else 0
    return step if step < len(share) else None
