"""AdamW²: AdamW whose step changes no matrix by more than a share τ of its σ₁.

Source: the abstract of "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910,
ICLR 2025): if σ₁(α·ΔW)/σ₁(W) exceeds τ, the learning rate is cut until the ratio equals τ.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from course_lib import checks
from course_lib.distributed.sharding import local
from course_lib.optim import groups
from course_lib.optim.bounded import bounded_parameters
from course_lib.optim.limit import KNOWN, Plan
from course_lib.optim.report import BoundReport
from course_lib.optim.stack import Member


class AdamW2(Optimizer):
    """AdamW with the σ₁ bound (AdamW²).

    The update ΔW = m̂/(√v̂ + ε) is AdamW's. A bounded matrix W gets the learning rate

        α = min(lr, τ σ₁(W) / σ₁(ΔW)),

    so that by Weyl's inequality σ₁(W − αΔW) ≤ (1 + τ) σ₁(W). Decay stays decoupled and uses the same α:
    W ← (1 − αλ)W − αΔW. Power iteration estimates both σ₁ from the last step's vectors. σ₁(W) counts as at
    least `SIGMA_FLOOR`. A non-finite gradient has the effect it has in AdamW.

    Source: the abstract of arXiv 2505.21910 states the rule. The estimate of σ₁ and the floor are ours.

    Limitations: the bound is as exact as the estimate of σ₁(ΔW). In training the estimate was less than 0.5 %
    too low in every step (bench/sigma.py); with a new random gradient in every step it is several percent too
    low. Weights changed between steps are measured again, except after a change through `.data`, which torch
    does not count.

    Memory beyond AdamW's: 16 vectors per matrix, which `state_dict` keeps, and workspace for W and ΔW of the
    matrices that are stepped together. The workspace holds a million numbers, on an accelerator 67 million,
    or the largest matrix twice (bench/optimizer_memory.py).

    Args:
        params: a model, of which only the matrices inside the blocks are bounded (`bounded_parameters`);
            or parameters, named parameters or param groups as for any `torch.optim.Optimizer`. A group's own
            `tau` bounds its tensors with two or more dimensions; `tau=None` leaves a group to plain AdamW.
            `split=(dim, parts)` says that each parameter of a group holds several matrices side by side
            (fused q, k and v); each of them then has its own bound.
        lr: requested learning rate, at least 0.
        tau: τ, the largest allowed σ₁(αΔW)/σ₁(W); None switches the bound off.
        betas: decay rates of the two moments, each in [0, 1).
        eps: added to √v̂.
        weight_decay: λ, at least 0.
        maximize: ascend instead of descend.

    Raises:
        ValueError: a value is out of range, a parameter is listed twice, or a bounded parameter has no σ₁
            (empty, sparse). A step raises it for a sparse or complex gradient, and if the groups hold other
            parameters than in the last step; it then changes nothing.
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
            "split": (0, 1),
        }
        self._forget()
        self._members: list[Tensor] = []
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()
        self._count()

    def _forget(self) -> None:
        """Reset all that `state_dict` does not keep."""
        self._plan = Plan(together=False)
        # The last step's learning rates, for `last_step`: a scheduler changes its group's after the step.
        self._asked: dict[str, float] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        self._count()

    def _count(self) -> None:
        self._members = [parameter for _, parameter, _ in groups.places(self.param_groups)]

    def _check_group(self, group: dict[str, Any]) -> None:
        checks.number("lr", group["lr"], "a number of at least 0", zero=True)
        checks.number("eps", group["eps"], "a number of at least 0", zero=True)
        checks.number("weight_decay", group["weight_decay"], "a number of at least 0", zero=True)
        check_betas(group["betas"])
        groups.check_tau(group["tau"], none=True)
        found = list(groups.places(self.param_groups))
        groups.check_once(found, group)
        for name, parameter, its_group in found:
            if its_group is group and _is_bounded(parameter, group) and not parameter.is_complex():
                groups.check_matrix(name, parameter, group["split"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state, also one of a plain AdamW. Groups saved without `tau` keep theirs."""
        groups.check_saved(state_dict, groups.places(self.param_groups))
        for group in state_dict["param_groups"]:
            groups.check_tau(group.get("tau"), none=True)
            if group.get("amsgrad"):
                raise ValueError(
                    "the saved state is one with amsgrad=True: expected one without, AdamW2 has no third "
                    "moment; start its moments anew"
                )
        own = [{name: group[name] for name in ("tau", "split")} for group in self.param_groups]
        super().load_state_dict(state_dict)
        self._restore(state_dict)
        for group, ours in zip(self.param_groups, own, strict=True):
            for name, value in ours.items():
                group.setdefault(name, value)
            group["split"] = tuple(group["split"])  # torch's checkpoint functions turn it into a list

    def _restore(self, state_dict: dict[str, Any]) -> None:
        """Put back the saved vectors' precision: torch has rounded them to the parameter's."""
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, (_, parameter, _) in zip(saved, groups.places(self.param_groups), strict=True):
            for name in KNOWN:
                value = state_dict["state"].get(i, {}).get(name)
                if value is not None and value.dtype != self.state[parameter][name].dtype:
                    self.state[parameter][name] = value.detach().to(parameter.device)

    @property
    def last_step(self) -> dict[str, BoundReport]:
        """What the bound did in the last step, by parameter name (by position, if it has no name)."""
        return {
            member.name: BoundReport(rho, factor, cut, lr=factor * self._asked[member.name])
            for chunk in self._plan.chunks
            for member, (rho, factor, cut) in chunk.reports()
        }

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
        for group in self.param_groups:
            groups.check_tau(group["tau"], none=True)
        everything = list(groups.places(self.param_groups))
        groups.check_unchanged(everything, self._members, type(self).__name__)
        found = [(group, name, p) for name, p, group in everything if p.grad is not None]
        for _, name, parameter in found:  # check all before any is changed
            _check_gradient(name, parameter)
        for _, _, parameter in found:
            self._prepare(parameter)
        bounded: list[Member] = []
        free: list[tuple[dict[str, Any], Tensor, Tensor]] = []
        for group, name, p in found:
            if _is_bounded(p, group):
                bounded.append(Member(group, group["split"], name, p))
            else:
                free.append((group, p, local(p)))
        self._adamw(free, decay=True)
        chunks = self._plan.of(bounded, self.state)
        self._asked = {member.name: member.group["lr"] for member in bounded}
        for chunk in chunks:
            members = (member for stack in chunk.stacks for member in stack.members)
            # Started from zeros and without decay, AdamW's own kernel leaves −αΔW.
            onto = zip(members, chunk.blank(), strict=True)
            self._adamw([(m.group, m.parameter, blank) for m, blank in onto], decay=False)
            chunk.add()
        return loss

    def _prepare(self, parameter: Tensor) -> None:
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        # An accelerator's fused kernel counts on the device. Other kernels need no sync to count on the CPU.
        if parameter.is_cuda or not state["step"].is_cpu:
            state["step"] = state["step"].to(parameter.device if parameter.is_cuda else "cpu")

    def _adamw(self, steps: Iterable[tuple[dict[str, Any], Tensor, Tensor]], *, decay: bool) -> None:
        """Apply torch's own AdamW step of each parameter to the tensor given beside it."""
        alike: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for group, parameter, onto in steps:
            # The fused kernel walks through memory: tensors of different strides would be mixed up.
            of = (parameter.grad, self.state[parameter]["exp_avg"], self.state[parameter]["exp_avg_sq"])
            ordered = all(local(t).stride() == onto.stride() for t in of if t is not None)
            fused = onto.device.type in ("cpu", "cuda") and ordered
            weight_decay = group["weight_decay"] if decay else 0.0
            options = (fused, group["lr"], weight_decay, group["eps"], *group["betas"], group["maximize"])
            alike.setdefault(options, []).append((parameter, onto))
        for (fused, lr, weight_decay, eps, beta1, beta2, maximize), pairs in alike.items():
            states = [self.state[parameter] for parameter, _ in pairs]
            adamw(
                [onto for _, onto in pairs],
                [local(p.grad) for p, _ in pairs if p.grad is not None],
                [local(s["exp_avg"]) for s in states],
                [local(s["exp_avg_sq"]) for s in states],
                [],
                [s["step"] for s in states],
                fused=fused,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=lr,
                weight_decay=weight_decay,
                eps=eps,
                maximize=maximize,
            )


def _groups_of(model: nn.Module, tau: float | None) -> list[dict[str, Any]]:
    """Param groups of a model: one per way to split the bounded matrices, and one for all else."""
    bounded = bounded_parameters(model)
    groups: dict[Any, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        split = bounded[name].split if name in bounded else None
        if split not in groups:
            groups[split] = {"params": [], "tau": None if split is None else tau, "split": split or (0, 1)}
        groups[split]["params"].append((name, parameter))
    return list(groups.values())


def _is_bounded(parameter: Tensor, group: dict[str, Any]) -> bool:
    return group["tau"] is not None and parameter.ndim >= 2


def _check_gradient(name: str, parameter: Tensor) -> None:
    grad = parameter.grad
    if grad is not None and (grad.is_sparse or grad.is_complex()):
        kind = "sparse" if grad.is_sparse else "complex"
        raise ValueError(
            f"gradient of {name} is {kind}: expected a dense real one; "
            "leave this parameter to another optimizer"
        )


def check_betas(betas: tuple[float, float]) -> None:
    """Refuse decay rates that are not two numbers in [0, 1)."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas is {betas}: expected two numbers, such as (0.9, 0.95)")
    for beta in betas:
        if checks.number("betas", beta, "two numbers in [0, 1)", zero=True) >= 1:
            raise ValueError(f"betas is {tuple(betas)}: expected two numbers in [0, 1), such as (0.9, 0.95)")
