"""Probes: measure attention and its weights from outside the model."""

from course_lib.probes.attention_maps import (
    attention_rank,
    effective_rank,
    entropy,
    max_logit,
    reference_rank,
    uniform_rank,
)
from course_lib.probes.entropy_bound import entropy_floor, score_gap_limit
from course_lib.probes.gradients import AttentionGradient, attention_gradients
from course_lib.probes.observe import HEAD_QUANTITIES, Observation, attention_maps, observe, site_spectrum
from course_lib.probes.sites import AttentionSite, attention_sites
from course_lib.probes.spectrum import (
    SEC_DIRECTIONS,
    qk_singular_values,
    sigma_max,
    spectral_energy_concentration,
    stable_rank,
)
from course_lib.probes.steps import StepProbe

__all__ = [
    "HEAD_QUANTITIES",
    "SEC_DIRECTIONS",
    "AttentionGradient",
    "AttentionSite",
    "Observation",
    "StepProbe",
    "attention_gradients",
    "attention_maps",
    "attention_rank",
    "attention_sites",
    "effective_rank",
    "entropy",
    "entropy_floor",
    "max_logit",
    "observe",
    "qk_singular_values",
    "reference_rank",
    "score_gap_limit",
    "sigma_max",
    "site_spectrum",
    "spectral_energy_concentration",
    "stable_rank",
    "uniform_rank",
]
