"""What `import course_lib` costs beside `import torch`, each in a fresh process; the two take turns.

The library is asked for what a training script uses: AdamW², Run and the probes. The seconds are those of the
whole process, so that the start of Python counts on both sides; the line "nothing" shows it alone. The goal
is a ratio of at most 2.

    python bench/import_time.py
"""

import argparse
import subprocess
import sys

from timing import alternate, report

IMPORTS = {
    "nothing": "pass",
    "torch": "import torch",
    "course_lib": "import course_lib; course_lib.AdamW2, course_lib.Run, course_lib.probes",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="processes of each kind (default: 7)")
    options = parser.parse_args()
    processes = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)
        for name, code in IMPORTS.items()
    }
    print(report(alternate(processes, options.rounds, warmup=1), base="torch"))


if __name__ == "__main__":
    main()
