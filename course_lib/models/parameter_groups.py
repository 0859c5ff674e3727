"""Named groups of parameters, each of which can be warmed up, shocked or bounded on its own."""

from torch import nn

GROUPS = ("qk", "vo", "mlp", "embedding", "head", "norm")
"""qk: W_q and W_k. vo: W_v, W_o and the depthwise convolution of values. mlp: MLPs and patch merging.
embedding: symbols, patches, positions and relative position biases. head: the output head. norm: norms."""

BLOCK_GROUPS = ("qk", "vo", "mlp")
"""Groups of the matrices inside the blocks, which the σ₁ bound covers by default."""

_MEMBERS = {
    # Norms come first: a norm inside a patch merging or a stem is a norm.
    "norm": {
        "norm_attention", "norm_mlp", "final_norm", "embedding_norm", "q_norm", "k_norm", "norm", "norms",
    },
    "qk": {"w_q", "w_k"},
    "vo": {"w_v", "w_o", "depthwise"},
    "mlp": {"mlp", "merging"},
    "embedding": {
        "token_embedding", "position_embedding", "patch_embedding", "class_token", "position_bias",
    },
    "head": {"head"},
}  # fmt: skip


def group_of(name: str) -> str:
    """Return the group of a parameter of our models, from its name ("blocks.0.attention.w_q.weight")."""
    parts = set(name.split("."))
    for group, members in _MEMBERS.items():
        if parts & members:
            return group
    raise ValueError(f"parameter {name!r} belongs to no group: expected a part named in {_MEMBERS}")


def parameter_groups(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Group name → {parameter name: parameter}, in the model's order, without empty groups."""
    groups: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(group_of(name), {})[name] = parameter
    return {group: groups[group] for group in GROUPS if group in groups}
