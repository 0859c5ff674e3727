"""The σ₁ bound around any optimizer: σ₁(W_new − W_old) ≤ τ σ₁(W_old).

Source: the abstract of "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910, ICLR 2025)
states the rule for AdamW's update. Applying it to whole steps is ours.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib.optim import groups
from course_lib.optim.bounded import BoundedMatrix, bounded_parameters
from course_lib.optim.groups import check_matrix, check_tau
from course_lib.optim.limit import KNOWN, Plan
from course_lib.optim.report import StepReport
from course_lib.optim.stack import Member

_KEY = "spectral_bound"
"""Key of the vectors in `state_dict`. They cannot stand in the inner optimizer's state: some optimizers take
an empty state for the first step, and loading would round the vectors to the parameter's precision."""


class SpectralBound(Optimizer):
    """Wraps any optimizer and cuts its steps: none changes a matrix by more than a share τ of its σ₁.

    The inner optimizer makes its step. Each bounded matrix then keeps the allowed share c of it:

        W ← W_old + c (W_new − W_old),    c = min(1, τ σ₁(W_old) / σ₁(W_new − W_old)).

    So σ₁(W_new − W_old) ≤ τ σ₁(W_old), and by Weyl's inequality σ₁ grows by a factor of at most 1 + τ. The
    bound covers the *whole* step, with momentum and weight decay. `AdamW2` bounds the update alone, through
    the learning rate, and keeps decay decoupled.

    Source: the abstract of arXiv 2505.21910 states the rule for AdamW's update. Applying it to whole steps is
    ours.

    Use this object in place of the inner optimizer: it shares the inner one's `param_groups` and `state` with
    schedulers, `GradScaler`, `zero_grad` and closures. A group's `tau` overrides the bound's; None leaves
    that group alone. Matrices without a gradient are left alone. A non-finite step passes as it would without
    the bound, and leaves the estimates sound. No part of a step waits for the device.

    Power iteration estimates σ₁ from the last step's vectors, in at least fp32. σ₁(W_old) counts as at least
    `SIGMA_FLOOR`, so that a matrix of zeros can leave zero. If FSDP2 spreads a matrix by rows over processes,
    they exchange only its products with vectors.

    Limitations: the bound is as exact as the estimate of σ₁ and the precision of W. The estimate is less than
    1 % too low if steps resemble the last ones, and several percent if they do not. Weights changed between
    steps are measured again, except after a change through `.data`, which torch does not count. The inner
    optimizer remembers the whole step: averages or copies of weights (ASGD, schedule-free methods, LBFGS) are
    those of its own step. Momentum and second moments depend on gradients only, which are not cut.

    Memory: a copy of the bounded matrices (W_old), workspace for W and the step of the matrices that are
    measured together, and 16 vectors per matrix (bench/optimizer_memory.py). `state_dict` has the vectors
    only.

    Args:
        optimizer: the inner optimizer, any `torch.optim.Optimizer`.
        tau: τ, the largest allowed σ₁(W_new − W_old)/σ₁(W_old), positive.
        model: bound this model's `bounded_parameters` and nothing else. None: every tensor with two or more
            dimensions that the optimizer holds, embeddings and head included, fused ones as a whole.
        names: bound these parameters of `model` in place of the default ones.

    Raises:
        ValueError: `tau` is not a positive number; `optimizer` is not an optimizer, is bounded already, holds
            none of the matrices, holds one that has no σ₁ (sparse, complex, empty), or lists one twice.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        tau: float = 0.05,
        *,
        model: nn.Module | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        self.optimizer = _check_optimizer(optimizer)
        self.tau = check_tau(tau)
        self._named = _named_matrices(model, names)
        self._known: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._forget()
        # Sets up the hooks that Optimizer's methods need. Its __init__ would add the groups a second time.
        super().__setstate__({})
        for group in self.param_groups:
            self._check_group(group)
        if not any(True for _ in self._targets()):
            raise ValueError(self._nothing_to_bound(model))
        for group in self.param_groups:
            group.setdefault("tau", self.tau)
        self._members = self._parameters()

    def _forget(self) -> None:
        """Reset all that `state_dict` does not keep."""
        self._plan = Plan(together=True)

    # --- shared with the inner optimizer --------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's own."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimizer's own."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's own."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.optimizer.defaults = defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer; its matrices are bounded by the same rule."""
        self.optimizer.add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check_group(group)
        except ValueError:
            self.param_groups.pop()
            raise
        group.setdefault("tau", self.tau)
        self._members = self._parameters()

    # --- the step -------------------------------------------------------------------------------

    @property
    def last_step(self) -> dict[str, StepReport]:
        """What the bound did in the last step, by parameter name (by position, if it has no name)."""
        return {
            member.name: StepReport(*values)
            for chunk in self._plan.chunks
            for member, values in chunk.reports()
        }

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Let the inner optimizer make its step, then cut it. Returns the closure's loss, if there is one.

        Raises:
            ValueError: a group's parameters were exchanged since the last step.
        """
        self._check_groups()
        # A closure may give any matrix a gradient, so with a closure all of them are saved.
        members: list[Member] = [
            Member(group, matrix.split, name, matrix.parameter)
            for name, matrix, group in self._targets()
            if closure or matrix.parameter.grad is not None
        ]
        chunks = self._plan.of(members, self._known)
        with torch.no_grad():
            for chunk in chunks:
                chunk.save()
        loss = self.optimizer.step() if closure is None else self.optimizer.step(closure)
        with torch.no_grad():
            for chunk in chunks:
                chunk.cut()
        return loss

    # --- saving and loading ---------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's state, with the vectors of the estimates under a key of their own.

        The inner optimizer can load it too: it ignores that key.
        """
        for before_saving in self._optimizer_state_dict_pre_hooks.values():
            before_saving(self)
        kept = {
            position: {"shape": tuple(parameter.shape), **self._known[parameter]}
            for position, parameter in enumerate(self._parameters())
            if parameter in self._known
        }
        state = {**self.optimizer.state_dict(), _KEY: kept}
        for after_saving in self._optimizer_state_dict_post_hooks.values():
            state = after_saving(self, state) or state
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state saved by `state_dict` or by the inner optimizer.

        A state without vectors restarts the estimates. Groups saved without `tau` keep their present one.

        Raises:
            ValueError: the state has other shapes or groups; nothing is then loaded.
        """
        state_dict = dict(state_dict)
        for before_loading in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = before_loading(self, state_dict) or state_dict
        known = self._loaded(state_dict.pop(_KEY, {}))
        groups.check_saved(state_dict, self._places())
        for group in state_dict.get("param_groups", ()):
            check_tau(group.get("tau"), none=True)
        taus = [group["tau"] for group in self.param_groups]
        self.optimizer.load_state_dict(state_dict)
        for group, tau in zip(self.param_groups, taus, strict=True):
            group.setdefault("tau", tau)
        self._known = defaultdict(dict, known)
        self._forget()
        for after_loading in self._optimizer_load_state_dict_post_hooks.values():
            after_loading(self)

    def _loaded(self, kept: dict[int, dict[str, Any]]) -> dict[Tensor, dict[str, Tensor]]:
        parameters = self._parameters()
        names = [name for name, _, _ in self._places()]
        loaded = {}
        for position, saved in kept.items():
            parameter = parameters[position] if position < len(parameters) else None
            if parameter is None or tuple(saved["shape"]) != tuple(parameter.shape):
                here = f"shape {tuple(parameter.shape)}" if parameter is not None else "no such parameter"
                name = names[position] if parameter is not None else position
                raise ValueError(groups.shapes_differ(name, saved["shape"], here))
            # Load them in their own precision, not the parameter's.
            loaded[parameter] = {
                name: saved[name].detach().clone().to(parameter.device) for name in KNOWN if name in saved
            }
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles leave hooks behind, as torch's optimizers do.
        names = ("optimizer", "tau", "_named", "_known", "_members")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizer!r})"

    # --- which matrices -------------------------------------------------------------------------

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _places(self) -> Iterator[groups.Place]:
        return groups.places(self.param_groups)

    def _targets(self) -> Iterator[tuple[str, BoundedMatrix, dict[str, Any]]]:
        """Yield name, matrix and group of everything that is bounded."""
        for name, parameter, group in self._places():
            if group.get("tau", self.tau) is None:
                continue
            if self._named is not None:
                if parameter in self._named:
                    yield *self._named[parameter], group
            elif parameter.ndim >= 2:
                yield name, BoundedMatrix(parameter, reason="the optimizer holds it"), group  # type: ignore[arg-type]

    def _check_group(self, group: dict[str, Any]) -> None:
        check_tau(group.get("tau"), none=True)
        groups.check_once(self._places(), group)
        for name, matrix, _ in self._targets():
            check_matrix(name, matrix.parameter, matrix.split)

    def _check_groups(self) -> None:
        for group in self.param_groups:
            check_tau(group.get("tau"), none=True)
        groups.check_unchanged(self._places(), self._members, type(self).__name__)

    def _nothing_to_bound(self, model: nn.Module | None) -> str:
        inner = type(self.optimizer).__name__
        if model is None:
            return f"{inner} holds no matrix to bound: expected a parameter with two or more dimensions"
        kind = type(model).__name__
        assert self._named is not None
        if not self._named:
            return (
                f"{kind} has no blocks to bound: expected a ModuleList or Sequential of them; try names=[...]"
            )
        first = next(iter(self._named.values()))[0]
        return (
            f"{inner} holds none of the {len(self._named)} matrices of {kind} (the first is {first}): "
            "expected an optimizer of this model's parameters; build it from model.parameters()"
        )


def _named_matrices(
    model: nn.Module | None, names: Iterable[str] | None
) -> dict[Tensor, tuple[str, BoundedMatrix]] | None:
    if model is None:
        if names is not None:
            raise ValueError(
                "names is given without a model: expected the model they are names of; pass model="
            )
        return None
    return {matrix.parameter: (name, matrix) for name, matrix in bounded_parameters(model, names).items()}


def _check_optimizer(optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        one_line = " ".join(repr(optimizer).split())
        what = f"{optimizer.__name__} itself" if isinstance(optimizer, type) else f"{one_line:.60}"
        raise ValueError(
            f"optimizer is {what}: expected a torch.optim.Optimizer; "
            "try SpectralBound(torch.optim.SGD(model.parameters(), lr=1e-2))"
        )
    if "tau" in optimizer.defaults or isinstance(optimizer, SpectralBound):
        kind = type(optimizer).__name__
        raise ValueError(
            f"optimizer is {kind}, which has a tau already: expected one without; wrap torch.optim.AdamW, say"
        )
    return optimizer
