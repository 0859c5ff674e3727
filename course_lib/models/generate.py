"""Sampling from a model's predictions."""

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
        temperature: divides the logits: below one sharpens the softmax, above one flattens it.
        seed: of the draws; the same model and seed give the same ids.

    Returns:
        ids (batch, tokens + length).
    """
    generator = torch.Generator().manual_seed(seed)
    ids = prompt
    for _ in range(length):
        logits = model(ids[:, -context:])[:, -1]
        # Drawing on the CPU makes the text independent of the device. A diverged model's NaN become a uniform
        # distribution.
        p = (logits.float().cpu() / temperature).softmax(-1).nan_to_num(1.0)
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator).to(ids.device)], dim=1)
    return ids
