"""Studies of many runs: arms, rescues, surgery on parameter groups, alarms, links followed."""

from course_lib.studies.compare_arms import ArmResult, compare
from course_lib.studies.rescue import Cure, Rescue, Trial

__all__ = ["ArmResult", "Cure", "Rescue", "Trial", "compare"]
