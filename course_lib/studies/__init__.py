"""What is asked of many runs: arms compared, crashes rescued, groups operated on, alarms, links followed."""

from course_lib.studies.compare_arms import ArmResult, compare
from course_lib.studies.rescue import Cure, Rescue, Trial

__all__ = ["ArmResult", "Cure", "Rescue", "Trial", "compare"]
