"""The core without extras needs torch, numpy and safetensors only, and says what else is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRA = ("pandas", "matplotlib", "seaborn", "PIL", "tqdm", "pooch", "requests", "platformdirs")
EXTRA += ("ipywidgets", "bqplot", "IPython", "jupyterlab", "transformers")

WITHOUT_EXTRAS = f"""
import sys

for package in {EXTRA}:
    sys.modules[package] = None  # as if it were not installed
"""

ALONE = """
import pathlib, tempfile
import torch
import course_lib
from course_lib import AdamW2, Run, SpectralBound, bounded_parameters, preset, probes
from course_lib.lab import Session
from course_lib.models import GPT, GPTConfig

tiny = {"d_model": 16, "heads": 2, "layers": 1, "context": 8, "steps": 3, "probe_every": 1}
run = Run(preset("live", optimizer="adamw2", **tiny))
assert len(list(run)) == 4
run.verdict()
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "run.safetensors"
    run.save(path)
    assert Run.load(path).updates == 3
probes.observe(run.model, run.sites, torch.zeros(1, 8, dtype=torch.int64))

model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(3)))
optimizer = SpectralBound(torch.optim.SGD(model.parameters(), lr=1.0), tau=0.05, model=model)
model(torch.ones(2, 8)).square().sum().backward()
optimizer.step()
assert optimizer.last_step and bounded_parameters(model)
"""


ITS_NAMES = """
import torch
from course_lib import GPT, GPTConfig

model = GPT(GPTConfig(vocab=5, context=8, d_model=16, heads=2))
x = torch.randint(5, (4, 8))
batches = [(x, x)] * 2
def loss_function(logits, y):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
"""


def run_alone(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS + code], capture_output=True, text=True, env=environment
    )


def test_optimizers_probes_and_runs_need_no_extra():
    ran = run_alone(ALONE)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_first_example_of_the_readme_needs_no_extra():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    assert "AdamW2(model" in example
    ran = run_alone(f"{ITS_NAMES}{example}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("tensor(") == 2, "the entropy of two layers"


MISSING = {
    "run.to_frame()": ("pandas", "to_frame", "plots"),
    "import course_lib.figures": ("matplotlib", "course_lib.figures", "plots"),
    "from course_lib import Lab": ("ipywidgets", "the lab", "lab"),
    "import course_lib.exercises": ("pandas", "", "plots"),
    "from course_lib.studies import alarms": ("pandas", "", "plots"),
    "from course_lib.data.fetch import fetch; fetch()": ("pooch", "", "data"),
}
"""Code that needs an extra → the package that is missing, what needs it, and the extra."""


@pytest.mark.slow
def test_what_is_missing_is_said_in_one_line():
    ran = run_alone(f"""
from course_lib import Run, preset
run = Run(preset('copy', steps=1))
for code in {list(MISSING)}:
    try:
        exec(code)
    except ImportError as error:
        print(error)
""")
    lines = ran.stdout.splitlines()
    assert len(lines) == len(MISSING), ran.stdout + ran.stderr
    for line, (package, what, extra) in zip(lines, MISSING.values(), strict=True):
        assert line.startswith(f"{package} is not installed: {what}")
        assert line.endswith(f" needs it; try pip install 'course-lib[{extra}]'")


@pytest.mark.slow
def test_the_command_line_says_what_is_missing():
    mains = "main(['train', '--out', 'nowhere']), main(['compare', '--out', 'nowhere'])"
    ran = run_alone(f"from course_lib.__main__ import main; print({mains})")
    line = "python -m course_lib: pandas is not installed: python -m course_lib needs it; "
    assert ran.stderr == 2 * f"{line}try pip install 'course-lib[plots]'\n"
    assert ran.stdout == "2 2\n"


def test_importing_the_library_imports_nothing_heavy():
    """The optimizers cost what torch costs: no tables, no pictures, no widgets, no sharding."""
    heavy = (*EXTRA, "torch.distributed.tensor", "torch.distributed.fsdp")
    code = f"""
import sys
import torch
before = set(sys.modules)
from course_lib import AdamW2, Run, SpectralBound, bounded_parameters, preset, probes
print([package for package in {heavy} if package in sys.modules and package not in before])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr
