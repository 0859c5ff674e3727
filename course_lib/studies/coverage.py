"""Which matrices a bound covers, part by part."""

from collections.abc import Iterable

from course_lib.models import BLOCK_GROUPS
from course_lib.runs.config import RunConfig

PARTS = {"qk": "W_q, W_k", "vo": "W_v, W_o", "mlp": "MLPs", "outside": "embeddings, head"}
"""Part of a model that a bound may cover → its name in charts. The first three are the default."""
PART_GROUPS = {"qk": ("qk",), "vo": ("vo",), "mlp": ("mlp",), "outside": ("embedding", "head")}


def bounded_parts(config: RunConfig) -> dict[str, bool]:
    """Part → whether the config bounds its matrices."""

    def bounded(group: str) -> bool:
        tau = config.tau if group in BLOCK_GROUPS else None
        return config.optimizer == "adamw2" and config.groups.get(group, {}).get("tau", tau) is not None

    return {part: all(map(bounded, groups)) for part, groups in PART_GROUPS.items()}


def coverage_name(parts: Iterable[str]) -> str:
    """Name the parts that are bounded: "W_q, W_k + MLPs"."""
    return " + ".join(PARTS[part] for part in parts) or "nothing"
