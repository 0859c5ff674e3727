"""The commands of `python -m course_lib`."""
