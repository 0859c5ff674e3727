"""Starts real processes: `torchrun` runs a command, or one of the scripts beside this file, twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def hears_ctrl_c():
    """Called in a new process before its program starts: SIGINT ends it, also where its parent ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments):
    """torchrun with these arguments; what it and its processes print comes as text."""
    command = [*TWO, *map(str, arguments)]
    # PYTHONPATH: a script's own folder stands where the working folder would.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hears_ctrl_c,
    )


def torchrun(*arguments):
    """Run to the end: (exit status, standard output, standard error)."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends what it has started
        raise
    return process.returncode, out, err
