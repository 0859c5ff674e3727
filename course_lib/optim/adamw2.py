"""AdamW²: AdamW whose step never moves a matrix by more than a share τ of its own size.

Source: the abstract of "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910,
ICLR 2025): whenever σ₁(α·ΔW)/σ₁(W) exceeds τ, the learning rate is cut so that it equals τ.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib import checks
from course_lib.optim.bounded import bounded_parameters
from course_lib.optim.sigma import (
    COLD_ITERATIONS,
    WARM_ITERATIONS,
    as_matrix,
    power_iteration,
    start_block,
)

SIGMA_FLOOR = 1e-3
"""σ₁(W) counts as at least this much, else a matrix that starts at zero could never leave it."""


@dataclass(frozen=True)
class BoundReport:
    """What the bound did to one matrix in the last step; each field a 0-dim tensor on its device."""

    rho: Tensor
    """ρ = α σ₁(ΔW)/σ₁(W) with the learning rate as asked for, before any cut."""
    lr: Tensor
    """α, the learning rate used."""
    bound: Tensor
    """bool: whether ρ exceeded τ, so that α was cut."""


class AdamW2(Optimizer):
    """AdamW with the σ₁ bound (AdamW²).

    The update ΔW = m̂/(√v̂ + ε) is AdamW's. For a bounded matrix W the learning rate of this step is

        α = min(lr, τ σ₁(W) / σ₁(ΔW)),

    so that by Weyl's inequality σ₁(W − αΔW) ≤ (1 + τ) σ₁(W). Decay stays decoupled, W ← (1 − αλ)W − αΔW,
    with the α that was used. Both σ₁ are estimated by power iteration from the last step's vectors;
    σ₁(W) counts as at least `SIGMA_FLOOR`.

    Args:
        params: a model, whose matrices inside the blocks are bounded and nothing else
            (`bounded_parameters`); or parameters, named parameters or param groups as for any
            `torch.optim.Optimizer`. A group's own `tau` bounds its matrices (two or more dimensions;
            vectors never); `tau=None` leaves a group to plain AdamW.
        lr: learning rate asked for, per step.
        tau: τ, the largest share of σ₁(W) that one step may move; None switches the bound off.
        betas: decay of the two moments, each in [0, 1).
        eps: added to √v̂.
        weight_decay: λ.
        maximize: ascend instead of descend.

    Raises:
        ValueError: a value out of range, or a sparse or complex gradient.
    """

    def __init__(
        self,
        params: nn.Module | Iterable[Any],
        lr: float = 1e-3,
        *,
        tau: float | None = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        maximize: bool = False,
    ) -> None:
        if isinstance(params, nn.Module):
            params = _groups_of(params, tau)
        defaults = {
            "lr": lr,
            "tau": tau,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        self._reports: dict[str, BoundReport] = {}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def last_step(self) -> dict[str, BoundReport]:
        """Parameter name (its position, where it has no name) → what the bound did in the last step."""
        return dict(self._reports)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step; with a closure, evaluate it first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._reports = {}
        position = 0
        for group in self.param_groups:
            names = group.get("param_names")
            for i, parameter in enumerate(group["params"]):
                name = names[i] if names else str(position)
                position += 1
                if parameter.grad is not None:
                    self._step_one(name, parameter, group)
        return loss

    def _step_one(self, name: str, parameter: Tensor, group: dict[str, Any]) -> None:
        update = self._update(name, parameter, group)
        lr = group["lr"]
        if group["tau"] is not None and parameter.ndim >= 2:
            report = self._bound(parameter, update, lr, group["tau"])
            self._reports[name] = report
            lr = report.lr.to(parameter.dtype)
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.sub_(update * lr)

    def _update(self, name: str, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """AdamW's ΔW = m̂/(√v̂ + ε), after its moments have taken in the gradient."""
        grad = parameter.grad
        assert grad is not None
        if grad.is_sparse or grad.is_complex():
            kind = "sparse" if grad.is_sparse else "complex"
            raise ValueError(
                f"gradient of {name} is {kind}: expected a dense real one; "
                "leave this parameter to another optimizer"
            )
        if group["maximize"]:
            grad = -grad
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())  # on the CPU, as in torch.optim: reading it is no sync
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        t = int(state["step"].item())
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        mean = state["exp_avg"] / (1 - beta1**t)
        spread = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_().add_(group["eps"])
        return mean.div_(spread)

    def _bound(self, parameter: Tensor, update: Tensor, lr: float, tau: float) -> BoundReport:
        state = self.state[parameter]
        weight, step = as_matrix(parameter), as_matrix(update)
        cold = "block_weight" not in state
        if cold:
            state["block_weight"] = start_block(weight)
            state["block_update"] = start_block(step)
        iterations = COLD_ITERATIONS if cold else WARM_ITERATIONS
        sigma_w, state["block_weight"] = power_iteration(weight, state["block_weight"], iterations)
        sigma_u, state["block_update"] = power_iteration(step, state["block_update"], iterations)
        ratio = sigma_u / sigma_w.clamp(min=SIGMA_FLOOR)
        rho = lr * ratio
        # A NaN is no reason to cut: as in AdamW, it then reaches the weights and shows in the loss.
        bound = rho > tau
        return BoundReport(rho, torch.where(bound, tau / ratio, lr), bound)


def _groups_of(model: nn.Module, tau: float | None) -> list[dict[str, Any]]:
    bounded = bounded_parameters(model)
    rest = [(n, p) for n, p in model.named_parameters() if n not in bounded]
    groups: list[dict[str, Any]] = [
        {"params": list(bounded.items()), "tau": tau},
        {"params": rest, "tau": None},
    ]
    return [group for group in groups if group["params"]]


def _check_group(group: dict[str, Any]) -> None:
    checks.number("lr", group["lr"], "a number of at least 0", zero=True)
    checks.number("eps", group["eps"], "a number of at least 0", zero=True)
    checks.number("weight_decay", group["weight_decay"], "a number of at least 0", zero=True)
    check_betas(group["betas"])
    if group["tau"] is not None:
        checks.number("tau", group["tau"], "a positive number, or None for no bound; try 0.05")


def check_betas(betas: tuple[float, float]) -> None:
    """Both decay rates have to be numbers in [0, 1)."""
    if len(betas) != 2:
        raise ValueError(f"betas is {tuple(betas)}: expected two numbers, such as (0.9, 0.95)")
    for beta in betas:
        if checks.number("betas", beta, "two numbers in [0, 1)", zero=True) >= 1:
            raise ValueError(f"betas is {tuple(betas)}: expected two numbers in [0, 1), such as (0.9, 0.95)")
