"""Parameters belong to named groups: what can be warmed up, shocked or bounded on its own."""

from torch import nn

GROUPS = ("qk", "vo", "mlp", "embedding", "head", "norm")
"""W_q and W_k; W_v and W_o; the MLPs; embeddings; the output head; LayerNorms (vectors only)."""

BLOCK_GROUPS = ("qk", "vo", "mlp")
"""The matrices inside the blocks: those that the σ₁ bound covers by default."""

_MEMBERS = {
    "qk": {"w_q", "w_k"},
    "vo": {"w_v", "w_o"},
    "mlp": {"mlp"},
    "embedding": {"token_embedding", "position_embedding"},
    "head": {"head"},
    "norm": {"norm_attention", "norm_mlp", "final_norm", "q_norm", "k_norm"},
}


def group_of(name: str) -> str:
    """The group of one of our models' parameters, from its name ("blocks.0.attention.w_q.weight")."""
    parts = set(name.split("."))
    for group, members in _MEMBERS.items():
        if parts & members:
            return group
    raise ValueError(f"parameter {name!r} belongs to no group: expected a part named in {_MEMBERS}")


def parameter_groups(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """Group name → {parameter name: parameter}, in the model's order, groups without members left out."""
    groups: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(group_of(name), {})[name] = parameter
    return {group: groups[group] for group in GROUPS if group in groups}
