"""Under torchrun: trains the configs of a JSON file {name: config} and writes {name: losses}."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from course_lib import Run, RunConfig
from course_lib.distributed.world import World, join, leave


def told(world: World) -> bool:
    """Whether both processes learn what is wrong in the second."""

    def build() -> int:
        if world.rank == 1:
            raise ValueError("no card here")
        return 1

    try:
        world.agree(build)
    except ValueError as error:
        return not world.any(str(error) != "no card here")
    return not world.any(True)


def main(configs: Path, results: Path) -> None:
    world = join()
    found = {}
    for name, config in json.loads(configs.read_text()).items():
        run = Run(RunConfig(**config), world)
        sizes: set[int] = set()
        run.model.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.add(len(inputs[0])))
        losses = [record.loss for record in run]
        weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
        both = [torch.empty_like(weights) for _ in range(world.size)]
        dist.all_gather(both, weights)
        found[name] = {
            "losses": losses,
            "same_weights": torch.equal(*both),
            "val_loss": run.validate(),
            "sizes": sorted(sizes),
        }
    found["told"] = told(world)
    if world.first:
        results.write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
