"""What all the course's models share: sizes, blocks of attention and an MLP, the norm and head after them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks
from course_lib.models.attention import ATTENTION_KINDS, Attention

NORM_PLACES = ("pre", "post")

STD = 0.02
"""Standard deviation of initial weights."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes that every model has."""

    d_model: int = 64
    """Width of the residual stream; in Swin, of the first stage."""
    heads: int = 4
    """Number of heads of each layer; in Swin, of the first stage's."""
    norm: str = "pre"
    """LayerNorm before each branch ("pre") or after each sum ("post")."""
    attention: str = "softmax"
    """How scores become weights, one of `ATTENTION_KINDS`; "uniform" ignores W_q and W_k."""
    qk_norm: bool = False
    """LayerNorm on queries and keys, which bounds the scores."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type is int:
                checks.count(field.name, getattr(self, field.name))
        checks.choice("norm", self.norm, NORM_PLACES)
        checks.choice("attention", self.attention, ATTENTION_KINDS)
        checks.flag("qk_norm", self.qk_norm)


class MLP(nn.Module):
    """Two linear layers with a GELU between them: (…, d_model) → (…, d_model)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(d_model, 4 * d_model)
        self.w_out = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_out(F.gelu(self.w_in(x)))


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream.

    Args:
        d_model: width of the stream.
        attention: the block's own attention.
        norm: LayerNorm before each branch ("pre") or after each sum ("post").
    """

    def __init__(self, d_model: int, attention: Attention, norm: str = "pre") -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = attention
        self.norm_mlp = nn.LayerNorm(d_model)
        self.mlp = MLP(d_model)

    def attend(self, x: Tensor) -> Tensor:
        """The attention branch. Blocks with windows override it to move tokens into windows and back."""
        return self.attention(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attend(self.norm_attention(x))
            return x + self.mlp(self.norm_mlp(x))
        x = self.norm_attention(x + self.attend(x))
        return self.norm_mlp(x + self.mlp(x))


class Transformer(nn.Module):
    """A model whose tokens pass through blocks, a final norm and a head."""

    def add_blocks(
        self, blocks: Iterable[Block], head: nn.Linear, norm: str, generator: torch.Generator | None
    ) -> None:
        """Add blocks, norm and head after the embeddings, then initialise all weights."""
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(head.in_features) if norm == "pre" else nn.Identity()
        self.head = head
        init_weights(self, len(self.blocks), generator)

    def read(self, x: Tensor) -> Tensor:
        """Pass embedded tokens through the blocks and the final norm."""
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x)


def equal_blocks(config: ModelConfig, layers: int, *, causal: bool) -> Iterable[Block]:
    """Yield `layers` blocks of the same width."""
    d, options = config.d_model, {"causal": causal, "qk_norm": config.qk_norm}
    for _ in range(layers):
        yield Block(d, Attention(d, config.heads, kind=config.attention, **options), config.norm)


def init_weights(model: nn.Module, layers: int, generator: torch.Generator | None = None) -> None:
    """Initialise every matrix and bias of a model; LayerNorms stay the identity.

    Weights have standard deviation 0.02. Matrices that write to the residual stream are scaled by
    1/√(2·layers) as in GPT-2, so that the stream does not grow with depth. Biases are drawn as in
    `nn.Linear`; with biases of zero, `copy` crashes too (experiments/biases.py).
    """
    residual = STD / math.sqrt(2 * layers)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d)):
            std = residual if name.endswith(("w_o", "w_out")) else STD
            nn.init.normal_(module.weight, std=std, generator=generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            edge = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.bias, -edge, edge, generator=generator)
