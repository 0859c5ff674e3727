"""A run as a script that repeats it, with the changes during the run."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from course_lib.runs.config import GroupSettings, RunConfig
from course_lib.runs.presets import PRESETS
from course_lib.runs.run import Run
from course_lib.runs.settings import LIVE_SETTINGS, Change


def to_script(run: Run) -> str:
    """Write a script that repeats `run` up to now, with every change at its step.

    On the same machine it gives the same records, bit for bit. The script calls the run `run`.
    """
    base, lines = _config(run.origin), []
    groups = run.origin.groups
    at = 0
    for step in sorted({change.step for change in run.changes}):
        changes = [change for change in run.changes if change.step == step]
        if step > at:
            lines += [f"while run.updates < {step}:", "    run.step()"]
            at = step
        lines += _changed(changes, groups)
        groups = next((c.value for c in reversed(changes) if c.setting == "groups"), groups)
    if run.finished:
        lines += ["for record in run:", "    print(record.step, record.loss)"]
    elif run.updates > at:
        lines += [f"while run.updates < {run.updates}:", "    run.step()"]
    if run.records:
        lines.append("print(run.verdict())")
    named = "preset" if base.startswith("preset") else "RunConfig"
    imports = [f"from course_lib import Run, {named}"]
    if any("Cure(" in line for line in lines):
        imports.append("from course_lib.studies.rescue import Cure")
    return "\n".join([*imports, "", f"run = Run({base})", *lines, ""])


def _changed(changes: list[Change], groups: Mapping[str, GroupSettings]) -> list[str]:
    """Lines for what was set between two steps. Only the last value of each setting counts."""
    last = {change.setting: change.value for change in changes}
    put_back = last.pop("put_back", None)
    after = [] if put_back is None else [f"run = Cure(put_back={put_back!r}).apply(run)"]
    if set(last) - set(LIVE_SETTINGS):
        if groups and "groups" not in last:  # those that the config began with may not fit
            last["groups"] = groups
        return [f"run = run.fork({_arguments(last)})", *after]
    lines = [f"run.{name} = {last[name]!r}" for name in LIVE_SETTINGS if name in last and name != "groups"]
    wanted = last.get("groups", groups)
    for group in [*wanted, *(name for name in groups if name not in wanted)]:
        own = wanted.get(group, {})
        if own != groups.get(group, {}):
            lines.append(f"run.set_group({group!r}, {own!r})")
    return [*lines, *after]


def _config(config: RunConfig) -> str:
    """Write a config as changes of the preset, or of the defaults, that it differs least from."""
    bases = {f"preset({name!r}": _different(config, base) for name, base in PRESETS.items()}
    bases["RunConfig("] = _different(config, RunConfig())
    start, different = min(bases.items(), key=lambda item: len(item[1]))
    comma = ", " if different and not start.endswith("(") else ""
    return f"{start}{comma}{_arguments(different)})"


def _different(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    return {
        field.name: getattr(config, field.name)
        for field in fields(RunConfig)
        if getattr(config, field.name) != getattr(base, field.name)
    }


def _arguments(values: Mapping[str, Any]) -> str:
    order = [field.name for field in fields(RunConfig)]
    return ", ".join(f"{name}={values[name]!r}" for name in sorted(values, key=order.index))
