"""Which matrices the σ₁ bound covers, and why."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

_LISTS = (nn.ModuleList, nn.Sequential)

_FUSED = {"c_attn", "qkv", "qkv_proj", "to_qkv", "Wqkv", "kv", "to_kv"}
"""Modules whose weight holds q, k, v (or k, v) one after the other. `query_key_value` of GPT-NeoX and BLOOM
alternates them head by head: its thirds are not the projections, so it counts as one matrix."""

_TABLE = re.compile("bias|table|embed|token")
"""Matches names of tensors that are looked up or added, not multiplied with."""


@dataclass(frozen=True, eq=False)
class BoundedMatrix:
    """One bounded parameter and the matrices it holds."""

    parameter: nn.Parameter
    """Two or more dimensions."""
    split: tuple[int, int] = (0, 1)
    """(dim, parts): it holds `parts` equal matrices along `dim`, each with a bound of its own."""
    reason: str = ""
    """Why it is bounded, in words."""

    def parts(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Views of a tensor of the parameter's shape, one per part. Writing to one writes to the tensor."""
        dim, parts = self.split
        return tensor.chunk(parts, dim)

    def matrices(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The parts as matrices (out, rest): a convolution's kernel is flattened into (out, in·h·w).

        These are views, unless the memory order cannot be flattened (channels last).
        """
        return tuple(part.flatten(1) for part in self.parts(tensor))


def bounded_parameters(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, BoundedMatrix]:
    """Name → `BoundedMatrix` of every matrix inside the model's blocks, in the model's order.

    A block is an element of a `ModuleList` or `Sequential` that has several modules or matrices: `blocks.0`
    here, `transformer.h.0` in GPT-2, `encoder.layers.0` in Swin, patch merging included. A model without
    blocks, such as a plain `Sequential`, has its layers bounded except for its last matrix, the head.

    Every tensor with two or more dimensions inside a block counts; a convolution counts as (out, in·h·w).
    Vectors in disguise, such as ConvNeXt's layer scale (d, 1, 1), do not count. Embeddings, weights tied to
    one, and tables (Swin's relative position bias) do not count either: a table's row changes only when its
    symbol occurs, so the table's σ₁ says little about a step. Patch embedding and head are not in a block.

    Each part of a fused projection has its own bound, so that W_q and W_k do: `in_proj_weight`, timm's `qkv`,
    GPT-2's `c_attn` (a Conv1D, whose weight (in, 3·out) is transposed).

    Source: the choice is ours, since the abstract of arXiv 2505.21910 names none. experiments/seeds.py
    compares the bound with a warmup of the same matrices.

    Args:
        model: any module.
        names: bound these of its parameters in place of the default ones.

    Raises:
        ValueError: `model` is not a module, or a name is not a parameter with two or more dimensions.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {' '.join(repr(model).split()):.60}: expected a torch.nn.Module")
    reasons = _default_reasons(model) if names is None else _named_reasons(model, names)
    return {
        name: BoundedMatrix(model.get_parameter(name), split, f"{reason}{_PART_NOTE[split[1]]}")
        for name, reason in reasons.items()
        for split in [_split(model, name)]
    }


_PART_NOTE = {1: "", 2: "; fused k, v: each on its own", 3: "; fused q, k, v: each on its own"}


def _named_reasons(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in parameters:
            near = get_close_matches(str(name), parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "try model.named_parameters()"
            kind = type(model).__name__
            raise ValueError(f"name is {name!r}: expected the name of a parameter of {kind}; {hint}")
        if parameters[name].ndim < 2:
            raise ValueError(
                f"parameter {name!r} has shape {tuple(parameters[name].shape)}: expected two or more "
                "dimensions; leave it out, vectors have no σ₁ bound"
            )
    return dict.fromkeys(names, "named by the caller")


def _default_reasons(model: nn.Module) -> dict[str, str]:
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    }
    matrices = [
        name
        for name, p in model.named_parameters()
        if p.ndim >= 2 and max(p.shape) < p.numel() and id(p) not in embeddings
    ]
    found = set(blocks(model))
    if not found:
        last = [n for n, p in model.named_parameters(remove_duplicate=False) if p.ndim >= 2][-1:]
        layers = [n for n in matrices if _is_layer_of_a_list(model, n) and n not in last]
        return dict.fromkeys(layers, "a layer of a model without blocks, and not its last")
    reasons = {}
    for name in matrices:
        block = _block_of(name, found)
        if block is not None and not _is_table(name, block):
            reasons[name] = f"inside block {block}"
    return reasons


def blocks(module: nn.Module, path: str = "") -> Iterator[str]:
    """Yield the names of the outermost blocks: a mixture of experts has a list inside a block."""
    for name, child in module.named_children():
        inside = f"{path}{name}"
        if isinstance(module, _LISTS) and _is_block(child):
            yield inside
        else:
            yield from blocks(child, f"{inside}.")


def _is_block(module: nn.Module) -> bool:
    several = sum(p.ndim >= 2 for p in module.parameters(recurse=False)) > 1
    return not isinstance(module, _LISTS) and (several or any(True for _ in module.children()))


def _block_of(name: str, blocks: set[str]) -> str | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:i]) for i in range(1, len(parts)))
    return next((prefix for prefix in prefixes if prefix in blocks), None)


def _is_table(name: str, block: str) -> bool:
    """Whether a name says "table": the tensor's, its list's, or that of a module inside the block."""
    modules, _, tensor = name.rpartition(".")
    from_list_on = modules.split(".")[max(block.count(".") - 1, 0) :]
    return bool(_TABLE.search(tensor)) or any("embed" in part for part in from_list_on)


def _is_layer_of_a_list(model: nn.Module, name: str) -> bool:
    layer = name.rpartition(".")[0]
    return isinstance(model.get_submodule(layer.rpartition(".")[0]), _LISTS) if layer else False


def _split(model: nn.Module, name: str) -> tuple[int, int]:
    path, _, tensor = name.rpartition(".")
    owner = model.get_submodule(path)
    # Recognised by name: course_lib does not import transformers.
    out = 1 if type(owner).__name__ == "Conv1D" and hasattr(owner, "nf") else 0
    shape = model.get_parameter(name).shape
    fused = tensor == "in_proj_weight" or path.rpartition(".")[2] in _FUSED
    for parts in (2, 3):
        if fused and shape[out] == parts * shape[1 - out]:
            return out, parts
    return 0, 1
