"""Reports of what the bound did in a step."""

from dataclasses import dataclass

from torch import Tensor

from course_lib.deprecated import renamed


@renamed(rho="rho_requested", bound="cut")
@dataclass(frozen=True)
class StepReport:
    """What the bound did to one parameter in the last step: 0-dim tensors on its device, or (parts,)."""

    rho_requested: Tensor
    """ρ = σ₁(D)/σ₁(W) before the cut. `AdamW2`'s D is αΔW with the group's learning rate; `SpectralBound`'s D
    is the inner optimizer's whole step. On the CPU it may be an upper bound of ρ, if that is at most τ."""
    factor: Tensor
    """The kept share of the step, in (0, 1]."""
    cut: Tensor
    """bool: whether ρ exceeded τ and the step was cut."""

    @property
    def rho_applied(self) -> Tensor:
        """ρ after the cut."""
        return self.factor * self.rho_requested


@dataclass(frozen=True)
class BoundReport(StepReport):
    """A `StepReport` of `AdamW2`, which cuts a step through its learning rate."""

    lr: Tensor
    """α, the applied learning rate: `factor` times the requested one."""
