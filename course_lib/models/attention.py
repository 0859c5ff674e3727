"""The attention module of all the course's models.

The orientation is the paper's (arXiv 2505.21910): `w_q.weight` and `w_k.weight` have one row per query or key
component, so a head's W_q and W_k are (head_dim, d_model) slices of rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks

ATTENTION_KINDS = ("softmax", "sigmoid", "relu2", "identity", "uniform", "focused")
"""How scores become weights. "focused" is focused linear attention (arXiv 2308.00442)."""

DISTRIBUTIONS = ("softmax", "uniform", "focused")
"""The kinds whose weights are a distribution over keys: at least 0, with sum 1."""

TINY = 1e-6
"""Least divisor of sums, so that nothing is divided by zero."""


def visible_keys(queries: int, keys: int, causal: bool, device: torch.device) -> Tensor:
    """Which keys a query may see: bool (queries, keys)."""
    everything = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return everything.tril() if causal else everything


def attention_logits(q: Tensor, k: Tensor, kind: str = "softmax") -> Tensor:
    """Scores: (…, queries, head_dim), (…, keys, head_dim) → (…, queries, keys).

    A score is q·k/√head_dim. The kind "focused" has φ(q)·φ(k), which is never negative (see `focus`).
    """
    if kind == "focused":
        return focus(q) @ focus(k).transpose(-2, -1)
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def focus(x: Tensor) -> Tensor:
    """φ of focused linear attention (Han et al., arXiv 2308.00442) with p = 3, (…, head_dim) → the same.

    φ(x) = ‖r‖ r³/‖r³‖ with r = ReLU(x) and the elementwise cube. φ keeps the length of r and turns it towards
    its largest components: similar directions come closer and different ones move apart. A vector without a
    positive component becomes zero.
    """
    r = x.relu()
    # Dividing by `top` keeps the cubes in range. It cancels in the result, so it needs no gradient.
    top = r.detach().amax(-1, keepdim=True).clamp(min=TINY)
    u = r / top
    square = u * u
    cube = square * u
    lengths = [z.sum(-1, keepdim=True).clamp(min=TINY) for z in (square, cube * cube)]  # squared
    return cube * (top * (lengths[0] / lengths[1]).sqrt())


def attention_weights(logits: Tensor, visible: Tensor, kind: str) -> Tensor:
    """Turn scores into the attention map A, zero where a key is not visible.

    Args:
        logits: (…, queries, keys), natural-log units.
        visible: bool (queries, keys), or broadcastable with `logits`.
        kind: one of `ATTENTION_KINDS`. Three of them have no fixed sum and use the number n of visible keys,
            so that their output does not grow with the context: sigmoid(z − log n), ReLU(z)²/n, z/n. Focused
            scores are divided by their sum.

    Returns:
        A, with the shape of `logits`. Rows sum to one for `DISTRIBUTIONS` only. A "focused" row is zero if
        the query has no score above zero.
    """
    n = visible.sum(-1, keepdim=True).to(logits.dtype)
    if kind == "softmax":
        return logits.masked_fill(~visible, -torch.inf).softmax(-1)
    if kind == "uniform":
        return (visible / n).expand_as(logits)
    if kind == "focused":
        seen = logits * visible
        return seen / seen.sum(-1, keepdim=True).clamp(min=TINY)
    if kind == "sigmoid":
        raw = torch.sigmoid(logits - n.log())
    elif kind == "relu2":
        raw = logits.relu().square() / n
    else:
        raw = logits / n
    return raw * visible


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Focused attention without a mask and without forming its map, in time linear in the tokens.

    φ(q)(φ(k)ᵀv), each row divided by φ(q)·Σφ(k). All arguments and the result: (…, tokens, head_dim).
    """
    q, k = focus(q), focus(k)
    total = q @ k.sum(-2).unsqueeze(-1)
    return q @ (k.transpose(-2, -1) @ v) / total.clamp(min=TINY)


class RelativePositionBias(nn.Module):
    """One learned number per head and offset between two tokens of a window (Swin, arXiv 2103.14030).

    `window` is its side, in tokens. The result, (heads, window², window²), is added to the scores.
    """

    index: Tensor

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.table = nn.Embedding((2 * window - 1) ** 2, heads)
        row, column = torch.arange(window**2) // window, torch.arange(window**2) % window
        down, right = row[:, None] - row, column[:, None] - column
        index = (down + window - 1) * (2 * window - 1) + right + window - 1
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        return self.table(self.index).permute(2, 0, 1)


class Attention(nn.Module):
    """Multi-head self-attention without biases: (batch, tokens, d_model) → the same.

    Args:
        d_model: width of the input and of the output.
        heads: number of heads, a divisor of `d_model`.
        kind: how scores become weights, one of `ATTENTION_KINDS`.
        causal: whether a query sees only itself and earlier tokens.
        qk_norm: LayerNorm on each head's queries and keys (Dehghani et al., arXiv 2302.05442).
        window: side of the square window that the tokens fill, whose relative position bias is added to the
            scores; None for no bias. Inputs (batch, windows, tokens, d_model) attend inside each window.

    Raises:
        ValueError: `heads` does not divide `d_model`, or `kind` is unknown.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kind: str = "softmax",
        causal: bool = True,
        qk_norm: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if d_model % heads:
            near = checks.nearest_divisor(d_model, heads)
            raise ValueError(f"heads is {heads}: expected a divisor of d_model ({d_model}); try {near}")
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
        self.position_bias = RelativePositionBias(heads, window) if window else None

    def split_heads(self, x: Tensor) -> Tensor:
        """(…, tokens, d_model) → (…, heads, tokens, head_dim)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(-3, -2)

    def queries_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each head's queries and keys, (…, heads, tokens, head_dim), QK-norm included."""
        q = self.q_norm(self.split_heads(self.w_q(x)))
        k = self.k_norm(self.split_heads(self.w_k(x)))
        return q, k

    def attention(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores and attention map, both (…, heads, queries, keys), as a probe needs them."""
        logits = attention_logits(q, k, self.kind)
        if self.position_bias is not None:
            logits = logits + self.position_bias()
        return logits, attention_weights(logits, self._visible(q, mask), self.kind)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend; `mask`, bool (windows, queries, keys), is true for keys that a query may see."""
        v = self.split_heads(self.w_v(x))
        q, k = self.queries_and_keys(x)
        return self.w_o(self.mix(q, k, v, mask).transpose(-3, -2).flatten(-2))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention map times the values, by the fastest code; all are (…, heads, tokens, head_dim)."""
        if self.kind == "softmax":
            if self.position_bias is None and mask is None:
                return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            added = self._added(q, mask)
            if q.device.type == "cpu":
                # With a learned bias the CPU's kernel forms the map too, and also searches for queries that
                # see no key, which windows do not have.
                return (attention_logits(q, k) + added).softmax(-1) @ v
            return self._by_kernel(q, k, v, added)
        if self.kind == "focused" and mask is None and not self.causal and self.position_bias is None:
            return linear_attention(q, k, v)
        return self.attention(q, k, mask)[1] @ v

    @staticmethod
    def _by_kernel(q: Tensor, k: Tensor, v: Tensor, added: Tensor) -> Tensor:
        # Kernels do not know windows, so these join the batch.
        flat_q, flat_k, flat_v = (x.flatten(0, -4) for x in (q, k, v))
        added = added.expand(*q.shape[:-2], *added.shape[-2:]).flatten(0, -4)
        return F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=added).view_as(q)

    def _added(self, q: Tensor, mask: Tensor | None) -> Tensor:
        """The bias, and −∞ for hidden keys, to add to scores: (1 or windows, heads, tokens, tokens)."""
        zero = q.new_zeros(self.heads, q.shape[-2], q.shape[-2])
        bias = (zero if self.position_bias is None else self.position_bias()).unsqueeze(0)
        if mask is None and not self.causal:
            return bias
        return torch.where(self._visible(q, mask), bias, -torch.inf)

    def _visible(self, q: Tensor, mask: Tensor | None) -> Tensor:
        visible = visible_keys(q.shape[-2], q.shape[-2], self.causal, q.device)
        return visible if mask is None else visible & mask.unsqueeze(1)
