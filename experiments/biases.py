"""Does `copy` crash without warmup whatever the MLPs' biases start from? As nn.Linear draws them, or at zero.

python experiments/biases.py [--seeds 0,1,2,3,4]
"""

import argparse

import torch

from course_lib import Run, preset


def ending(seed: int, zero: bool) -> str:
    run = Run(preset("copy", seed=seed))
    if zero:
        with torch.no_grad():
            for name, parameter in run.model.named_parameters():
                if "mlp" in name and name.endswith("bias"):
                    parameter.zero_()
    for _ in run:
        pass
    verdict = run.verdict()
    return f"{verdict.loss:.3f} {verdict.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3,4")
    options = parser.parse_args()
    print("copy, AdamW without warmup")
    for seed in map(int, options.seeds.split(",")):
        print(f"seed {seed}: as nn.Linear {ending(seed, False)}; zero {ending(seed, True)}", flush=True)


if __name__ == "__main__":
    main()
