"""AdamW²: AdamW whose step moves no matrix by more than a share τ of its own size.

Source: the abstract of "Taming Transformer Without Using Learning Rate Warmup" (arXiv 2505.21910,
ICLR 2025): whenever σ₁(α·ΔW)/σ₁(W) exceeds τ, the learning rate is cut so that it equals τ.
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

    The update ΔW = m̂/(√v̂ + ε) is AdamW's. For a bounded matrix W the learning rate of this step is

        α = min(lr, τ σ₁(W) / σ₁(ΔW)),

    so that by Weyl's inequality σ₁(W − αΔW) ≤ (1 + τ) σ₁(W). Decay stays decoupled, W ← (1 − αλ)W − αΔW,
    with the α that was used. Both σ₁ are estimated by power iteration from the last step's vectors;
    σ₁(W) counts as at least `SIGMA_FLOOR`. A non-finite gradient does what it does in AdamW.
    Source of the rule: arXiv 2505.21910, its abstract; how σ₁ is estimated and the floor are ours.

    The bound holds as far as σ₁(ΔW) is known. In training the estimate was short by less than 0.5 % in every
    step (bench/sigma.py); where every gradient is drawn anew, as in no training, by several. Weights that
    somebody else changes between steps are measured anew, unless it is through `.data`, where torch does not
    count changes.

    Memory beyond AdamW's: 16 vectors for each matrix, which `state_dict` keeps, and room for W and ΔW of the
    matrices that are stepped together: a million numbers, on an accelerator 67 million, or the largest matrix
    twice (bench/optimizer_memory.py).

    Args:
        params: a model, whose matrices inside the blocks are bounded and nothing else
            (`bounded_parameters`); or parameters, named parameters or param groups as for any
            `torch.optim.Optimizer`. A group's own `tau` bounds its matrices (two or more dimensions;
            vectors never); `tau=None` leaves a group to plain AdamW. A group's `split=(dim, parts)` says
            that each of its parameters holds several matrices side by side (fused q, k and v), each of which
            is bounded on its own.
        lr: learning rate asked for, per step.
        tau: τ, the largest share of σ₁(W) that one step may move; None switches the bound off.
        betas: decay of the two moments, each in [0, 1).
        eps: added to √v̂.
        weight_decay: λ.
        maximize: ascend instead of descend.

    Raises:
        ValueError: a value out of range; a parameter twice, or one that is to be bounded and has no σ₁
            (empty, sparse). In a step: a sparse or complex gradient, or other parameters than in the last
            one. Nothing is changed then.
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
        """Start anew with what is not kept in `state_dict`."""
        self._plan = Plan(together=False)
        # Learning rates of the last step: a scheduler changes its group's after it.
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
        """Take over a saved state, also that of a plain AdamW, whose groups have no `tau`: then ours stay."""
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
            group["split"] = tuple(group["split"])  # torch's checkpoint functions make it a list

    def _restore(self, state_dict: dict[str, Any]) -> None:
        """Vectors in their own precision: torch has rounded them to that of the parameter."""
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, (_, parameter, _) in zip(saved, groups.places(self.param_groups), strict=True):
            for name in KNOWN:
                value = state_dict["state"].get(i, {}).get(name)
                if value is not None and value.dtype != self.state[parameter][name].dtype:
                    self.state[parameter][name] = value.detach().to(parameter.device)

    @property
    def last_step(self) -> dict[str, BoundReport]:
        """Parameter name (its position, where it has no name) → what the bound did in the last step."""
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
        for _, name, parameter in found:  # all of them before the first is moved
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
            # From zero and without decay, −αΔW is what AdamW's own kernel leaves.
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
        # The fused kernel of an accelerator counts there; elsewhere counting on the CPU is no sync.
        if parameter.is_cuda or not state["step"].is_cpu:
            state["step"] = state["step"].to(parameter.device if parameter.is_cuda else "cpu")

    def _adamw(self, steps: Iterable[tuple[dict[str, Any], Tensor, Tensor]], *, decay: bool) -> None:
        """torch's own AdamW step with each parameter's gradient and moments, made on the tensor beside it."""
        alike: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for group, parameter, onto in steps:
            # The fused kernel goes along memory, and so mixes elements up that lie in another order.
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
    """The bounded matrices, a group for each way to split, and all else."""
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
    """Both decay rates have to be numbers in [0, 1)."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas is {betas}: expected two numbers, such as (0.9, 0.95)")
    for beta in betas:
        if checks.number("betas", beta, "two numbers in [0, 1)", zero=True) >= 1:
            raise ValueError(f"betas is {tuple(betas)}: expected two numbers in [0, 1), such as (0.9, 0.95)")
