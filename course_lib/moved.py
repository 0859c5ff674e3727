"""Old module paths go on working for one version: importing one warns and gives the module that it became."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

_PLOTS = {
    "attention": "map_images sweeps",
    "bound": "step_curves spectra dot_rows",
    "compare": "comparison",
    "images": "map_images sweeps",
    "own_code": "step_curves",
    "rescue": "sweeps dot_rows heat_table",
    "runs": "step_curves map_images dot_rows",
    "spectrum": "spectra link_curves",
    "taming": "sweeps step_curves dot_rows",
    "windows": "window_images",
}
MOVED = {
    "course_lib.sharding": "course_lib.distributed.sharding",
    "course_lib.training": "course_lib.studies.rescue course_lib.runs",
    "course_lib.training.code": "course_lib.runs.to_script",
    "course_lib.training.compare": "course_lib.studies.compare_arms course_lib.studies.arms",
    "course_lib.training.distributed": "course_lib.distributed.process_group",
    "course_lib.training.rescue": "course_lib.studies.rescue",
    "course_lib.training.surgery": "course_lib.studies.surgery",
    "course_lib.training.warning": "course_lib.studies.alarms",
    "course_lib.plots": "course_lib.figures",
    **{
        f"course_lib.plots.{old}": " ".join(f"course_lib.figures.{name}" for name in new.split())
        for old, new in _PLOTS.items()
    },
    "course_lib.probes.attention": "course_lib.probes.attention_maps",
    "course_lib.probes.floor": "course_lib.probes.entropy_bound",
    "course_lib.models.groups": "course_lib.models.parameter_groups",
    "course_lib.data.text": "course_lib.data.corpus",
}
"""Old path → new ones. A module below an old package that is not named here kept its name, and is in the
package's last new one."""


class _OldPaths(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = _new_path(fullname)
        return None if new is None else spec_from_loader(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = _new_path(spec.name)
        assert new is not None
        warnings.warn(
            f"{spec.name} is now {' and '.join(new.split())}; the old path goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        old = ModuleType(spec.name)
        for module in new.split():
            old.__dict__.update(vars(import_module(module)))
        return old

    def exec_module(self, module: ModuleType) -> None:
        """The module is filled already."""


def _new_path(old: str) -> str | None:
    if old in MOVED:
        return MOVED[old]
    package, _, name = old.rpartition(".")
    old_packages = ("course_lib.training", "course_lib.plots")
    return f"{MOVED[package].split()[-1]}.{name}" if package in old_packages else None


def keep_old_paths() -> None:
    """Let Python look old paths up."""
    # First, since an old folder that still holds __pycache__ would count as a package without modules.
    sys.meta_path.insert(0, _OldPaths())
