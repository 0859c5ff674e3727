"""The one attention module: every model of the course is built from it.

Orientation as in the paper (arXiv 2505.21910): `w_q.weight` and `w_k.weight` have one row per
query or key component, so a head's W_q and W_k are (head_dim, d_model) slices of rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks

ATTENTION_KINDS = ("softmax", "sigmoid", "relu2", "identity", "uniform")
"""How scores become weights. Only softmax and uniform give each query a distribution over keys."""


def visible_keys(queries: int, keys: int, causal: bool, device: torch.device) -> Tensor:
    """Which keys a query may see: bool (queries, keys)."""
    everything = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return everything.tril() if causal else everything


def attention_logits(q: Tensor, k: Tensor) -> Tensor:
    """Scores q·k/√head_dim: (…, queries, head_dim), (…, keys, head_dim) → (…, queries, keys)."""
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def attention_weights(logits: Tensor, visible: Tensor, kind: str) -> Tensor:
    """Turn scores into the attention map A, zero where a key is not visible.

    Args:
        logits: (…, queries, keys), natural-log units.
        visible: bool (queries, keys).
        kind: one of `ATTENTION_KINDS`. The three kinds without a softmax are divided by the number
            n of visible keys so that their output does not grow with the context: sigmoid(z − log n),
            ReLU(z)²/n, z/n.

    Returns:
        A, of the shape of `logits`. Rows sum to one for softmax and uniform only.
    """
    n = visible.sum(-1, keepdim=True).to(logits.dtype)
    if kind == "softmax":
        return logits.masked_fill(~visible, -torch.inf).softmax(-1)
    if kind == "uniform":
        return (visible / n).expand_as(logits)
    if kind == "sigmoid":
        raw = torch.sigmoid(logits - n.log())
    elif kind == "relu2":
        raw = logits.relu().square() / n
    else:
        raw = logits / n
    return raw * visible


class Attention(nn.Module):
    """Multi-head self-attention without biases.

    Args:
        d_model: width of the input and of the output.
        heads: number of heads; has to divide `d_model`.
        kind: how scores become weights, one of `ATTENTION_KINDS`.
        causal: whether a query sees only itself and what came before.
        qk_norm: LayerNorm on each head's queries and keys (Dehghani et al., arXiv 2302.05442).

    Shapes: (batch, tokens, d_model) → the same.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kind: str = "softmax",
        causal: bool = True,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        if d_model % heads:
            raise ValueError(
                f"heads is {heads}: expected a divisor of d_model ({d_model}); try {math.gcd(heads, d_model)}"
            )
        self.heads = heads
        self.head_dim = d_model // heads
        self.kind = checks.choice("attention", kind, ATTENTION_KINDS)
        self.causal = causal
        self.w_q = nn.Linear(d_model, d_model, bias=False)
        self.w_k = nn.Linear(d_model, d_model, bias=False)
        self.w_v = nn.Linear(d_model, d_model, bias=False)
        self.w_o = nn.Linear(d_model, d_model, bias=False)
        self.q_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, tokens, d_model) → (batch, heads, tokens, head_dim)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def queries_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each head's queries and keys, (batch, heads, tokens, head_dim), QK-norm included."""
        q = self.q_norm(self.split_heads(self.w_q(x)))
        k = self.k_norm(self.split_heads(self.w_k(x)))
        return q, k

    def attention(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and attention map, both (batch, heads, queries, keys), written out in full."""
        logits = attention_logits(q, k)
        visible = visible_keys(q.shape[-2], k.shape[-2], self.causal, q.device)
        return logits, attention_weights(logits, visible, self.kind)

    def forward(self, x: Tensor) -> Tensor:
        v = self.split_heads(self.w_v(x))
        q, k = self.queries_and_keys(x)
        if self.kind == "softmax":
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            mixed = self.attention(q, k)[1] @ v
        return self.w_o(mixed.transpose(1, 2).flatten(2))
