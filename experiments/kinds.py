"""What tells a crash where attention has no entropy: W_qᵀW_k's spectrum, in runs that learn or do not.

Four seconds a run on one core. A row is a run: its loss, and per layer the effective rank of W_qᵀW_k as
a share of what it was at first, which `course_lib.runs.verdict` compares with `LOW_SPECTRUM`.
"""

import pandas as pd
from command import outcome, parser, trained

from course_lib import preset
from course_lib.runs.verdict import LOW_SPECTRUM
from course_lib.studies.arms import arm_config

KINDS = ("sigmoid", "relu2", "identity", "focused", "softmax")
RATES = (1e-2, 5e-2)
ARMS = ("adamw", "adamw-warmup")


def main() -> None:
    options = parser(__doc__, seeds=[0]).parse_args()
    rows = []
    for kind in KINDS:
        for lr in RATES:
            for arm in ARMS:
                for seed in options.seeds:
                    base = preset("copy", attention=kind, lr=lr, seed=seed, probe_every=50)
                    run = trained(arm_config(base, arm))
                    layers = enumerate(run.verdict().layers, 1)
                    ranks = {f"layer {i}": round(layer.spectrum, 2) for i, layer in layers}
                    rows.append({"kind": kind, "lr": lr, "arm": arm, "seed": seed, **outcome(run), **ranks})
    print(f"copy; low: below {LOW_SPECTRUM:.2f}")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
