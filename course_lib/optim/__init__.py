"""Optimizers whose steps are limited by the σ₁ bound."""

from course_lib.optim.adamw2 import AdamW2
from course_lib.optim.bound import SpectralBound
from course_lib.optim.bounded import BoundedMatrix, bounded_parameters
from course_lib.optim.limit import SIGMA_FLOOR
from course_lib.optim.report import BoundReport, StepReport

__all__ = [
    "SIGMA_FLOOR",
    "AdamW2",
    "BoundReport",
    "BoundedMatrix",
    "SpectralBound",
    "StepReport",
    "bounded_parameters",
]
