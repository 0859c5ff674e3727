"""What the bound did in a step."""

from dataclasses import dataclass

from torch import Tensor

from course_lib.deprecated import renamed


@renamed(rho="rho_requested", bound="cut")
@dataclass(frozen=True)
class StepReport:
    """What the bound did to a parameter in the last step: 0-dim tensors on its device, (parts,) if split."""

    rho_requested: Tensor
    """ρ of the step as asked for, before the cut: σ₁(D)/σ₁(W). `AdamW2`'s D is αΔW with the learning rate of
    the group; `SpectralBound`'s is the whole step that the inner optimizer made. On the CPU, where an upper
    bound of ρ is enough to see that it does not exceed τ, this is the upper bound."""
    factor: Tensor
    """Share of the step that was kept, in (0, 1]."""
    cut: Tensor
    """bool: whether ρ exceeded τ, so that the step was cut."""

    @property
    def rho_applied(self) -> Tensor:
        """ρ of the step that was made, after the cut."""
        return self.factor * self.rho_requested


@dataclass(frozen=True)
class BoundReport(StepReport):
    """A `StepReport` of `AdamW2`, which cuts a step by a smaller learning rate."""

    lr: Tensor
    """α, the learning rate used: `factor` times the one that was asked for."""
