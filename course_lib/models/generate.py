"""Let a model write: sampling from its own predictions."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    *,
    context: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Continue `prompt` by `length` symbols, each drawn from the model's softmax.

    Args:
        model: maps ids (batch, tokens) to logits (batch, tokens, vocab).
        prompt: ids (batch, tokens), at least one token.
        length: number of symbols to add.
        context: longest input that the model takes.
        temperature: divides the logits; below one sharpens, above one flattens.
        seed: of the draws, so that the same model always writes the same.

    Returns:
        ids (batch, tokens + length).
    """
    generator = torch.Generator().manual_seed(seed)
    ids = prompt
    for _ in range(length):
        logits = model(ids[:, -context:])[:, -1]
        # Drawn on the CPU so that a text does not depend on the device it was written on.
        # A run that diverged has no distribution left; it then draws from a uniform one.
        p = (logits.float().cpu() / temperature).softmax(-1).nan_to_num(1.0)
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator).to(ids.device)], dim=1)
    return ids
