"""Pictures of runs and of studies, one file for each kind of picture."""

from course_lib.extras import require

require("course_lib.figures", "matplotlib", "seaborn", "pandas")
