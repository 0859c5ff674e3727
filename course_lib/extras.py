"""Packages that come with an extra. The core needs torch, numpy and safetensors only.

A module that needs more says `from course_lib.extras import pandas as pd`, and a room whose every module
needs more calls `require`. Where a package is missing, both raise an ImportError of one line that names the
extra.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pandas
    import platformdirs as platformdirs
    import pooch as pooch

EXTRAS = {
    "plots": ("pandas", "matplotlib", "seaborn", "PIL", "tqdm"),
    "data": ("pooch", "requests"),
    "lab": ("ipywidgets", "bqplot", "platformdirs", "jupyterlab"),
}
"""Extra → the packages that it brings, by their import names. `lab` brings the others, too."""


def require(what: str, *packages: str) -> None:
    """Check that `what` has the packages it needs.

    Raises:
        ImportError: one is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            extra = next(name for name, brought in EXTRAS.items() if package in brought)
            raise ImportError(
                f"{package} is not installed: {what} needs it; try pip install 'course-lib[{extra}]'",
                name=package,
            )


def __getattr__(name: str) -> Any:
    if not any(name in brought for brought in EXTRAS.values()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("this part of course_lib", name)
    return import_module(name)
