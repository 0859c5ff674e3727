"""A small GPT: embeddings, blocks, head."""

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from course_lib.models.block import ModelConfig, Transformer, equal_blocks


@dataclass(frozen=True)
class GPTConfig(ModelConfig):
    """Sizes of a GPT."""

    vocab: int
    """Number of symbols."""
    context: int = 64
    """Longest input, in symbols: as many positions are learned."""
    _: KW_ONLY
    d_model: int = 128
    layers: int = 2


class GPT(Transformer):
    """Decoder-only Transformer: ids (batch, tokens) → logits (batch, tokens, vocab).

    Raises:
        ValueError: the input is longer than the context.
    """

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.d_model)
        self.position_embedding = nn.Embedding(config.context, config.d_model)
        blocks = equal_blocks(config, config.layers, causal=True)
        head = nn.Linear(config.d_model, config.vocab, bias=False)
        self.add_blocks(blocks, head, config.norm, generator)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Number of tokens in each block's attention."""
        return (self.config.context,) * self.config.layers

    def forward(self, ids: Tensor) -> Tensor:
        tokens = ids.shape[-1]
        if tokens > self.config.context:
            raise ValueError(
                f"input is {tokens} symbols long: expected at most {self.config.context} (the context); "
                f"pass the last {self.config.context} only"
            )
        x = self.token_embedding(ids) + self.position_embedding.weight[:tokens]
        return self.head(self.read(x))
