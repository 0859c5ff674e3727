"""Under torchrun: trains the configs of a JSON file {name: config} and writes {name: losses}."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from course_lib import Run, RunConfig
from course_lib.distributed.process_group import ProcessGroup, destroy_process_group, init_process_group


def told(process_group: ProcessGroup) -> bool:
    """Whether both processes learn what is wrong in the second."""

    def build() -> int:
        if process_group.rank == 1:
            raise ValueError("no card here")
        return 1

    try:
        process_group.on_every_rank(build)
    except ValueError as error:
        return not process_group.any_rank(str(error) != "no card here")
    return not process_group.any_rank(True)


def main(configs: Path, results: Path) -> None:
    process_group = init_process_group()
    found = {}
    for name, config in json.loads(configs.read_text()).items():
        run = Run(RunConfig(**config), process_group)
        sizes: set[int] = set()
        run.model.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.add(len(inputs[0])))
        losses = [record.loss for record in run]
        weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
        both = [torch.empty_like(weights) for _ in range(process_group.world_size)]
        dist.all_gather(both, weights)
        found[name] = {
            "losses": losses,
            "same_weights": torch.equal(*both),
            "val_loss": run.validate(),
            "sizes": sorted(sizes),
        }
    found["told"] = told(process_group)
    if process_group.is_main:
        results.write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
