"""Does `copy` crash without warmup whatever the MLPs' biases start from? As nn.Linear draws them, or at zero.

python experiments/biases.py [--seeds 0 1 2 3 4]
"""

import torch
from command import parser

from course_lib import Run, preset


def ending(seed: int, zero: bool) -> str:
    run = Run(preset("copy", seed=seed))
    if zero:
        with torch.no_grad():
            for name, parameter in run.model.named_parameters():
                if "mlp" in name and name.endswith("bias"):
                    parameter.zero_()
    list(run)
    verdict = run.verdict()
    return f"{verdict.loss:.3f} {verdict.name}"


def main() -> None:
    options = parser(__doc__, seeds=range(5)).parse_args()
    print("copy, AdamW without warmup")
    for seed in options.seeds:
        print(f"seed {seed}: as nn.Linear {ending(seed, False)}; zero {ending(seed, True)}", flush=True)


if __name__ == "__main__":
    main()
