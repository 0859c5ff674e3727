"""How much memory a long run takes in the lab: what grows besides the ring of kept moments.

    python bench/lab_memory.py [--preset copy] [--steps 20000]

All drawers are opened in turn. Growth counts from step 1,000 on, when the ring is full and every part of the
lab has been used; budgets are ≤ 50 MB of growth, and the ring's own.
"""

import argparse
import gc
import time

import torch

from course_lib.lab import Lab

FROM = 1_000


def resident_mb() -> float:
    """Memory of this process that lies in RAM."""
    gc.collect()
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="copy")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lab = Lab(options.preset, steps=options.steps, batch=options.batch, context=options.context)
    for title in lab.drawers.buttons:
        lab.drawers.buttons[title].value = True
        lab.step()
        lab.result()
    lab.drawers.buttons["Look inside"].value = True
    timeline = lab.branches.current.timeline
    start, begun, first = time.perf_counter(), False, 0.0
    lab.start()
    while lab.busy:
        time.sleep(0.2)
        if not begun and lab.run.updates >= FROM:
            begun, first = True, resident_mb()
            print(f"step {lab.run.updates}: {first:.0f} MB, {timeline.holds()}")
    run = lab.result()
    last = resident_mb()
    print(f"step {run.updates}: {last:.0f} MB, {timeline.holds()}")
    rate = run.updates / (time.perf_counter() - start)
    print(f"growth {last - first:.1f} MB (≤ 50), {rate:.0f} steps a second")


if __name__ == "__main__":
    main()
