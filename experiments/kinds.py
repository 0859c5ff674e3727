"""What tells a crash where attention has no entropy: W_qᵀW_k's spectrum, in runs that learn or do not.

Four seconds a run on one core. A row is a run: its loss, and per layer the effective rank of W_qᵀW_k as
a share of what it was at first, which `course_lib.runs.verdict` compares with `LOW_SPECTRUM`.
"""

import pandas as pd

from course_lib import Run, preset
from course_lib.runs.verdict import LOW_SPECTRUM
from course_lib.studies.compare_arms import arm_config

KINDS = ("sigmoid", "relu2", "identity", "focused", "softmax")
RATES = (1e-2, 5e-2)
ARMS = ("adamw", "adamw-warmup")


def main():
    rows = []
    for kind in KINDS:
        for lr in RATES:
            for arm in ARMS:
                run = Run(arm_config(preset("copy", attention=kind, lr=lr, probe_every=50), arm))
                for _ in run:
                    pass
                verdict = run.verdict()
                spectrum = [round(layer.spectrum, 2) for layer in verdict.layers]
                rows.append((kind, lr, arm, round(verdict.loss, 2), verdict.name, *spectrum))
    table = pd.DataFrame(rows, columns=["kind", "lr", "arm", "loss", "verdict", "layer 1", "layer 2"])
    print(f"copy, seed 0; low: below {LOW_SPECTRUM:.2f}")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
