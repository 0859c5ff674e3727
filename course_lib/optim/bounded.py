"""Which parameters the σ₁ bound covers."""

from torch import nn


def bounded_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter of every matrix inside the model's blocks.

    A block is an element of a `ModuleList` or `Sequential`, so its parameters carry a number in their
    name ("blocks.0.attention.w_q.weight", "transformer.h.3.mlp.c_fc.weight"). Inside blocks, tensors
    with two or more dimensions count. Embeddings and the output head stand outside and stay free:
    a row of an embedding moves only when its symbol occurs, so σ₁ of the table says little about a step.
    """
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim >= 2 and any(part.isdigit() for part in name.split("."))
    }
