"""Checks of param groups and saved states that both bounded optimizers share.

They run before anything is changed, so that an optimizer that raises is as it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib import checks
from course_lib.optim.stack import Split, is_sharded

Place = tuple[str, Tensor, dict[str, Any]]
"""Name (position, if it has none), parameter and group."""

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""State that has the parameter's shape. torch's optimizers would read past the end of a smaller one."""


def places(groups: Iterable[dict[str, Any]]) -> Iterator[Place]:
    """Yield everything that an optimizer holds, in its order."""
    position = 0
    for group in groups:
        names = group.get("param_names", ())
        for i, parameter in enumerate(group["params"]):
            yield (names[i] if i < len(names) else str(position)), parameter, group
            position += 1


def check_tau(tau: Any, *, none: bool = False) -> Any:
    """Return τ if it is a positive number, or None if `none` allows a group without a bound."""
    if tau is None and none:
        return None
    hint = "a positive number, or None for a group without a bound" if none else "a positive number"
    return checks.number("tau", tau, f"{hint}; try 0.05")


def check_once(found: Iterable[Place], group: dict[str, Any]) -> None:
    """Refuse a parameter of `group` that is listed twice, in it or in an earlier group too."""
    seen = set()
    for name, parameter, its_group in found:
        if its_group is group and parameter in seen:
            raise ValueError(f"parameter {name} is listed twice: expected each once; take it out of the list")
        seen.add(parameter)


def check_unchanged(found: Iterable[Place], members: Sequence[Tensor], kind: str) -> None:
    """Refuse param groups that hold other parameters than in the last step."""
    now: list[tuple[str, Tensor | None, Any]] = [*found, ("nothing", None, {})]
    for (name, parameter, _), member in zip(now, [*members, None], strict=False):
        if parameter is not member:
            raise ValueError(
                f"the param groups have changed, and hold {name} where another parameter was: "
                f"expected the {len(members)} of the last step; "
                f"use add_param_group, or make a new {kind}"
            )


def check_matrix(name: str, parameter: Tensor, split: Split) -> None:
    """Refuse a bounded parameter that has no σ₁ or cannot be cut into its parts."""
    dim, parts = split
    if is_sharded(parameter) and dim == 0 and parts > 1:
        raise ValueError(
            f"parameter {name} is sharded by rows, and holds {parts} matrices one below the other: expected "
            "them side by side, or one; name the others with names=[...], or keep this one unsharded"
        )
    shape = tuple(parameter.shape)
    if not (0 <= dim < parameter.ndim and parts >= 1 and shape[dim] % parts == 0):
        raise ValueError(
            f"split of parameter {name} is {split}: expected (dim, parts) that cuts its shape {shape} "
            "into equal parts; (0, 1) leaves it whole"
        )
    if parameter.layout != torch.strided:
        odd = f"sparse ({parameter.layout})"
    elif not parameter.is_floating_point():
        odd = f"{'complex' if parameter.is_complex() else 'not real'} ({parameter.dtype})"
    elif 0 in shape:
        odd = f"empty, of shape {shape}"
    else:
        return
    raise ValueError(
        f"parameter {name} is {odd}: expected a dense real matrix; "
        "leave it to another optimizer, or out of the bound with tau=None for its group"
    )


def check_saved(state_dict: Mapping[str, Any], found: Iterable[Place]) -> None:
    """Refuse a saved moment that has another shape than its parameter."""
    saved = [i for group in state_dict.get("param_groups", ()) for i in group.get("params", ())]
    # torch refuses groups of other sizes itself.
    for i, (name, parameter, _) in zip(saved, found, strict=False):
        for moment in MOMENTS:
            tensor = state_dict.get("state", {}).get(i, {}).get(moment)
            if isinstance(tensor, Tensor) and tensor.shape != parameter.shape:
                raise ValueError(shapes_differ(name, tensor.shape, f"shape {tuple(parameter.shape)}"))


def shapes_differ(name: object, saved: Sequence[int], here: str) -> str:
    """Message about a saved tensor that has another shape than here."""
    return (
        f"saved state of parameter {name} has shape {tuple(saved)}: expected {here}; "
        "load it into an optimizer over the same model"
    )
