"""A run's probes of its model. All numbers of a step reach the host in one transfer."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from course_lib.models import GPT, Attention, Swin, ViT
from course_lib.probes import Observation, StepProbe, attention_sites, observe, reference_rank
from course_lib.runs.optimizers import decay_of_last_step, reports
from course_lib.runs.records import NO_PROBES, Values


class Prober:
    """Observes a model on fixed sequences or images, and measures single steps of its optimizer."""

    def __init__(self, model: GPT | ViT | Swin, inputs: Tensor) -> None:
        self.model, self.inputs = model, inputs
        self.sites = attention_sites(model)
        self.matrices = {n: p for n, p in model.named_parameters() if p.ndim >= 2}
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        self.reference_ranks = tuple(
            reference_rank(tokens, layer.causal, thin=layer.head_dim if layer.kind == "focused" else None)
            for layer, tokens in zip(layers, model.tokens, strict=True)
        )

    def observe(self) -> Observation:
        """Look at the model as it is now."""
        return observe(self.model, self.sites, self.inputs)

    def before_step(self) -> StepProbe:
        """Copy the matrices, to compare them after the step."""
        return StepProbe(self.matrices)

    def quantities(
        self,
        observation: Observation | None,
        before: StepProbe | None = None,
        optimizer: Optimizer | None = None,
    ) -> Mapping[str, Values]:
        """The numbers of a record; none without an observation.

        Attention quantities are (layers, heads); layers with fewer heads end in NaN. After a step there are
        also quantities (matrices,). Without a bound `rho_requested` and `lr_used` are NaN.
        """
        if observation is None:
            return NO_PROBES
        most = max(site.heads for site in self.sites)
        seen = {
            quantity: torch.stack([F.pad(v, (0, most - len(v)), value=torch.nan) for v in layers])
            for quantity, layers in observation.quantities.items()
        }
        if before is not None and optimizer is not None:
            seen |= before.measure(decay_of_last_step(optimizer))
            if known := reports(optimizer):
                none = torch.tensor(torch.nan, device=self.inputs.device)
                each = [known.get(name) for name in self.matrices]
                seen["rho_requested"] = torch.stack([none if r is None else r.rho_requested for r in each])
                seen["lr_used"] = torch.stack([none if r is None else r.lr for r in each])
        return _to_host(seen)


def _to_host(tensors: Mapping[str, Tensor]) -> dict[str, Values]:
    """Copy tensors to arrays. A record that kept views would keep the tensors, twice the memory."""
    together = torch.cat([tensor.flatten() for tensor in tensors.values()]).cpu().numpy()
    parts = np.split(together, np.cumsum([tensor.numel() for tensor in tensors.values()])[:-1])
    shapes = (tuple(tensor.shape) for tensor in tensors.values())
    return {n: part.reshape(s).copy() for n, part, s in zip(tensors, parts, shapes, strict=True)}
