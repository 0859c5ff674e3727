"""Threads and devices."""

import torch

from course_lib.devices import available_cores, resolve_device, use_available_cores


def test_a_container_says_how_many_cores_are_ours(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for limit, cores in (("1.0", 1), ("0.5", 1), ("3", 3), ("999", 64), ("", 64), ("many", 64)):
        monkeypatch.setenv("CPU_LIMIT", limit)
        assert available_cores() == cores
    monkeypatch.delenv("CPU_LIMIT")
    assert available_cores() == 64


def test_torch_gets_no_more_threads_than_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("CPU_LIMIT", "1")
    try:
        assert use_available_cores() == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_processes_share_the_cores_evenly(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    try:
        torch.set_num_threads(1)  # as torchrun does
        assert [use_available_cores(processes) for processes in (1, 2, 4, 7)] == [1, 3, 1, 1]
    finally:
        torch.set_num_threads(before)


def test_auto_is_the_best_there_is(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
