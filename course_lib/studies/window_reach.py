"""The reach of tokens through the windows of Swin's blocks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from course_lib.models.swin import shifted_mask, to_windows

Bools = npt.NDArray[np.bool_]


def visible(side: int, window: int, shift: int) -> Bools:
    """True where a place (row) of a map (side, side) sees another (column) in one block: (side², side²)."""
    places = torch.arange(side**2).view(1, side, side, 1).roll((-shift, -shift), (1, 2))
    inside = to_windows(places, window)[0, ..., 0]  # (windows, window²): where each place of a window is from
    seen = torch.zeros(side**2, side**2, dtype=torch.bool)
    seen[inside[:, :, None], inside[:, None, :]] = shifted_mask(side, window, shift)
    return seen.numpy()


def known(side: int, window: int, shifts: Sequence[int]) -> Bools:
    """True where a place depends on another after blocks with these shifts: (side², side²)."""
    reach = np.eye(side**2, dtype=bool)
    for shift in shifts:
        reach = visible(side, window, shift) @ reach
    return reach
