"""A GPT that is read in one sitting: embeddings, blocks, head."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks
from course_lib.models.attention import ATTENTION_KINDS, Attention

NORM_PLACES = ("pre", "post")


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT."""

    vocab: int
    """Number of symbols."""
    context: int = 64
    """Longest input, in symbols (positions are learned)."""
    d_model: int = 128
    heads: int = 4
    layers: int = 2
    norm: str = "pre"
    """LayerNorm before each branch ("pre": the residual stream stays untouched) or after the sum ("post")."""
    attention: str = "softmax"
    """How scores become weights; "uniform" shows what a model does without W_q and W_k."""
    qk_norm: bool = False
    """LayerNorm on queries and keys, which bounds the scores whatever W_q and W_k do."""

    def __post_init__(self) -> None:
        for name in ("vocab", "context", "d_model", "heads", "layers"):
            checks.count(name, getattr(self, name))
        checks.choice("norm", self.norm, NORM_PLACES)
        checks.choice("attention", self.attention, ATTENTION_KINDS)
        checks.flag("qk_norm", self.qk_norm)


class MLP(nn.Module):
    """Two matrices and their biases with a GELU between them: (…, d_model) → (…, d_model)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(d_model, 4 * d_model)
        self.w_out = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_out(F.gelu(self.w_in(x)))


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.attention = Attention(
            config.d_model, config.heads, kind=config.attention, qk_norm=config.qk_norm
        )
        self.norm_mlp = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm_attention(x))
            return x + self.mlp(self.norm_mlp(x))
        x = self.norm_attention(x + self.attention(x))
        return self.norm_mlp(x + self.mlp(x))


class GPT(nn.Module):
    """Decoder-only Transformer: ids (batch, tokens) → logits (batch, tokens, vocab).

    Weights are drawn from N(0, 0.02); those that write to the residual stream are scaled by
    1/√(2·layers) as in GPT-2, so that the stream's size does not grow with depth. The MLPs' biases are
    drawn as `nn.Linear` does. (With biases at zero `copy` crashes just as well: bench/biases.py.)
    """

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.d_model)
        self.position_embedding = nn.Embedding(config.context, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab, bias=False)
        self.init_weights(generator)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw every matrix and bias anew; LayerNorms start as the identity."""
        residual = 0.02 / math.sqrt(2 * self.config.layers)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                std = residual if name.endswith(("w_o", "w_out")) else 0.02
                nn.init.normal_(module.weight, std=std, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                edge = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.bias, -edge, edge, generator=generator)

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
