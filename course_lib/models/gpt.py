"""A small GPT: embeddings, blocks, head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib import checks
from course_lib.models.attention import ATTENTION_KINDS, Attention
from course_lib.models.block import NORM_PLACES, Block, init_weights


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT."""

    vocab: int
    """Number of symbols."""
    context: int = 64
    """Longest input, in symbols: as many positions are learned."""
    d_model: int = 128
    heads: int = 4
    layers: int = 2
    norm: str = "pre"
    """LayerNorm before each branch ("pre") or after each sum ("post")."""
    attention: str = "softmax"
    """How scores become weights, one of `ATTENTION_KINDS`; "uniform" ignores W_q and W_k."""
    qk_norm: bool = False
    """LayerNorm on queries and keys, which bounds the scores."""

    def __post_init__(self) -> None:
        for name in ("vocab", "context", "d_model", "heads", "layers"):
            checks.count(name, getattr(self, name))
        checks.choice("norm", self.norm, NORM_PLACES)
        checks.choice("attention", self.attention, ATTENTION_KINDS)
        checks.flag("qk_norm", self.qk_norm)


class GPT(nn.Module):
    """Decoder-only Transformer: ids (batch, tokens) → logits (batch, tokens, vocab).

    Raises:
        ValueError: the input is longer than the context.
    """

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.d_model)
        self.position_embedding = nn.Embedding(config.context, config.d_model)
        self.blocks = nn.ModuleList(
            Block(
                config.d_model,
                Attention(config.d_model, config.heads, kind=config.attention, qk_norm=config.qk_norm),
                config.norm,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab, bias=False)
        init_weights(self, config.layers, generator)

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
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))
