"""Run: the one training loop of the course, free of any user interface."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib import checks
from course_lib.data import IGNORED, TextTask, make_task
from course_lib.deprecated import renamed
from course_lib.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from course_lib.distributed.sharding import copies, shard
from course_lib.models import GPT, FlattenSwin, Swin, ViT, generate
from course_lib.optim.bounded import blocks
from course_lib.probes import Observation
from course_lib.runs import checkpoint
from course_lib.runs.config import (
    RENAMED,
    GroupSettings,
    RunConfig,
    check_groups,
    check_lr,
    check_tau,
    check_warmup,
)
from course_lib.runs.interrupt import DeferredInterrupt
from course_lib.runs.optimizers import make_optimizer, set_rates
from course_lib.runs.prober import Prober
from course_lib.runs.records import Record, Values, to_frame
from course_lib.runs.schedule import schedule_factor, warmup_factor
from course_lib.runs.settings import LIVE_SETTINGS, Change, Settings
from course_lib.runs.snapshot import Snapshot
from course_lib.runs.verdict import Verdict, judge

if TYPE_CHECKING:
    import pandas as pd

PROBE_SEQUENCES = 2
"""Number of sequences or images of the validation data that the probes look at throughout a run."""

_MODELS: dict[str, Callable[..., GPT | ViT | Swin]] = {
    "gpt": GPT,
    "vit": ViT,
    "swin": Swin,
    "flatten-swin": FlattenSwin,
}


class Evaluation(NamedTuple):
    """Loss and accuracy of a model on the validation data."""

    loss: float
    """In nats."""
    accuracy: float | None
    """Share of images whose class is named rightly; None where there are no images."""


@renamed(write="generate", score="evaluate", frame="to_frame", world="process_group")
class Run:
    """A training run that can be stopped, changed, copied and resumed between any two steps.

    Iterating makes the steps and yields one `Record` for each. Record t describes the model after t updates.
    The last one, after `config.steps` updates, has the validation loss. `lr`, `warmup` and `tau` can be set
    between steps; `changes` keeps what was set when.

    Args:
        config: defines the run; `course_lib.preset` makes one.
        process_group: the processes that make the run together. Each makes its own `Run` of the same config,
            and every step, snapshot and fork at the same time. Each trains on its share of `config.batch`.
            All have the same weights and, up to rounding, the same records as a single process. If
            `process_group.fsdp` shards the weights, they also observe, evaluate, generate and save together.

    Raises:
        ValueError: the task, the text or the device is not available, or the batch cannot be divided evenly.
    """

    def __init__(self, config: RunConfig, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        if not isinstance(config, RunConfig):
            raise ValueError(f"config is {config!r}: expected a RunConfig; try course_lib.preset('live')")
        self.config = config
        self.origin = config
        """The config at the start; a fork has its parent's, and `changes` says what was set since."""
        self.process_group = process_group
        process_group.local_batch_size(config.batch)
        self.device = process_group.device(config.device)
        self._has_values = self.device.type != "meta"  # tensors there have shapes alone
        self.task = make_task(
            config.task, config.context, config.seed, config.text, config.folder, config.augment
        )
        probe_inputs, _ = self.to_device(self.task.batch(0, PROBE_SEQUENCES, "probe"))
        # Weights are drawn on the CPU, so that a seed means the same weights on every device.
        generator = torch.Generator().manual_seed(config.seed)
        sizes = config.model_config(self.task.n_outputs, channels=probe_inputs.shape[1])
        self.model = _MODELS[config.model](sizes, generator).to(self.device)
        if process_group.sharded:
            shard(self.model, blocks(self.model))
        self._prober = Prober(self.model, probe_inputs)
        self.sites, self.matrices = self._prober.sites, self._prober.matrices
        self.reference_ranks = self._prober.reference_ranks
        """Unit of the rank of each layer's map (`course_lib.probes.reference_rank`)."""
        self.settings = Settings(config.lr, config.warmup, config.tau, config.groups)
        self.optimizer = make_optimizer(config, self.model)
        self.updates = 0
        self.records: list[Record] = []
        self.changes: list[Change] = []
        self.observation: Observation | None = None
        """The last probe, with the attention maps, which records do not keep."""

    # --- stepping -------------------------------------------------------------------------------

    @cached_property
    def _trained(self) -> nn.Module:
        """The model, with its gradients averaged over the processes."""
        # This happens at the first step, so that building a run waits for no other process.
        # Under uniform attention W_q and W_k have no gradient.
        return self.process_group.replicate(self.model, unused=self.config.attention == "uniform")

    @property
    def finished(self) -> bool:
        """True if all steps are made and the last record is written."""
        return bool(self.records) and self.records[-1].step >= self.config.steps

    def __iter__(self) -> Iterator[Record]:
        while not self.finished:
            yield self.step()

    def step(self) -> Record:
        """Make one update and record it. After the last update, record the final state instead.

        Ctrl-C takes effect after the step, so that an interrupted run can continue.

        Raises:
            ValueError: the run is finished.
        """
        if self.finished:
            raise ValueError(
                f"the run is finished after {self.config.steps} steps: expected steps to be left; "
                "make a new Run, or restore an earlier snapshot"
            )
        last = self.updates == self.config.steps
        with DeferredInterrupt():
            record = self._last_record() if last else self._update_and_record()
            self.records.append(record)
        return record

    def _update_and_record(self) -> Record:
        every = self.config.probe_every
        seen = self._look() if every and self.updates % every == 0 else None
        set_rates(self.optimizer, self.current_lr, self.tau_of)
        loss, accuracy = self._loss_and_accuracy(self._batch(), self._trained)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        before = self._prober.before_step() if seen else None
        self.optimizer.step()
        record = self._record(loss, accuracy, self._prober.quantities(seen, before, self.optimizer))
        self.updates += 1
        return record

    def _last_record(self) -> Record:
        with torch.no_grad():
            loss, accuracy = self._loss_and_accuracy(self._batch(), self.model)
        probes = self._prober.quantities(self._look() if self.config.probe_every else None)
        record = self._record(loss, accuracy, probes)
        if self._has_values:
            record.val_loss, record.val_accuracy = self.evaluate()
        return record

    def _batch(self) -> tuple[Tensor, Tensor]:
        """This process's share of the batch of the next step."""
        return self.process_group.local_batch(self.task.batch(self.updates, self.config.batch))

    def _record(self, loss: Tensor, accuracy: Tensor | None, probes: Mapping[str, Values]) -> Record:
        """A record of the present step, loss and accuracy averaged over all processes."""
        mean = self.process_group.all_reduce_mean
        accuracy = None if accuracy is None else mean(accuracy)
        return Record(self.updates, self.current_lr(), mean(loss.detach()), probes, _accuracy=accuracy)

    def _look(self) -> Observation | None:
        """Observe the model for a record."""
        self.observation = self.observe() if self._has_values else None
        return self.observation

    def _loss_and_accuracy(
        self, batch: tuple[Tensor, Tensor], model: nn.Module
    ) -> tuple[Tensor, Tensor | None]:
        """Loss of a batch and, for images, the share of right answers."""
        inputs, targets = self.to_device(batch)
        logits = model(inputs)
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)
        if targets.ndim > 1:
            return loss, None
        return loss, (logits.detach().argmax(-1) == targets).float().mean()

    def to_device(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch of the task on the run's device, images scaled to `config.image_size`."""
        inputs, targets = batch
        if self.device.type == "cuda":  # pinned memory lets the copy overlap with the host
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        inputs = inputs.to(self.device, non_blocking=True)
        side = self.config.image_size
        if inputs.ndim == 4 and inputs.shape[-1] != side:  # on the device: a large image costs no transfer
            inputs = F.interpolate(inputs, size=(side, side), mode="bilinear", antialias=True)
        return inputs, targets.to(self.device, non_blocking=True)

    # --- settings -------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Base learning rate, before schedule, warmup and groups."""
        return self.settings.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._change("lr", check_lr(value))

    @property
    def warmup(self) -> int:
        """Steps of linear warmup, counted from the start of the run."""
        return self.settings.warmup

    @warmup.setter
    def warmup(self, value: int) -> None:
        self._change("warmup", check_warmup(value, self.config.steps))

    @property
    def tau(self) -> float | None:
        """τ of AdamW², None for no bound. AdamW has none to set."""
        return self.settings.tau if self.config.optimizer == "adamw2" else None

    @tau.setter
    def tau(self, value: float | None) -> None:
        if self.config.optimizer != "adamw2" and value is not None:
            raise ValueError(f"tau is {value!r}: expected None, adamw has no bound; try optimizer='adamw2'")
        self._change("tau", check_tau(value))

    def set_group(self, group: str, settings: GroupSettings) -> None:
        """Give a parameter group its own settings from the next step on; {} removes them."""
        groups = {**self.settings.groups, group: settings.copy()}
        check_groups(groups, self.config.steps, self.config.optimizer)
        self._change("groups", groups)

    def _change(self, setting: str, value: Any) -> None:
        if getattr(self.settings, setting) != value:
            self.settings = replace(self.settings, **{setting: value})
            self.changes.append(Change(self.updates, setting, value))

    def current_lr(self, group: str | None = None) -> float:
        """Learning rate of the next step, schedule and warmup included, before any cut by the bound."""
        own: GroupSettings = self.settings.groups.get(group, {}) if group else {}
        step = min(self.updates, self.config.steps - 1)
        factor = schedule_factor(self.config.schedule, step, self.config.steps)
        factor *= warmup_factor(step, own.get("warmup", self.settings.warmup))
        return self.settings.lr * own.get("lr_multiplier", 1.0) * factor

    def tau_of(self, group: str) -> float | None:
        """τ of a parameter group in the next step, None for no bound."""
        return self.settings.tau_of(group) if self.config.optimizer == "adamw2" else None

    # --- observing ------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """Look at the model as it is now (see `course_lib.probes.observe`)."""
        return self._prober.observe()

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Loss and accuracy on the validation data: the same 64 sequences every time, or all test images."""
        n = self.task.validation_size
        inputs, targets = self.task.batch(0, n, "validation")
        size = self.process_group.local_batch_size(self.config.batch)  # one process has memory for so many
        loss, right = 0.0, 0.0
        for batch in zip(inputs.split(size), targets.split(size), strict=True):
            part, accuracy = self._loss_and_accuracy(batch, self.model)
            loss += part.item() * len(batch[0])
            right += 0.0 if accuracy is None else accuracy.item() * len(batch[0])
        return Evaluation(loss / n, right / n if targets.ndim == 1 else None)

    def validate(self) -> float:
        """Loss on the validation data in nats (see `evaluate`)."""
        return self.evaluate().loss

    @property
    def heads(self) -> tuple[int, ...]:
        """Number of heads of each layer."""
        return tuple(site.heads for site in self.sites)

    @property
    def rank_unit(self) -> str:
        """Word for the unit of ranks: uniform attention's rank if attention is causal."""
        return "uniform" if self.sites[0].causal else "reference"

    def verdict(self) -> Verdict:
        """The outcome of the run so far (see `course_lib.runs.verdict`)."""
        verdict = judge(self.records, self.task.reference, self.reference_ranks, finished=self.finished)
        return replace(verdict, rank_unit=self.rank_unit)

    def to_frame(self) -> "pd.DataFrame":
        """The records as a table (step, layer, head, matrix, quantity, value)."""
        return to_frame(self.records, list(self.matrices), self.heads)

    def generate(self, length: int = 200, prompt: str | None = None, temperature: float = 1.0) -> str:
        """Let the model write `length` characters after `prompt`, by default the start of a line.

        Raises:
            ValueError: the task is no text, or the prompt is empty or has characters the text lacks.
        """
        if not isinstance(self.task, TextTask):
            raise ValueError(f"task is {self.config.task!r}: expected 'text' to write some")
        checks.count("length", length)
        checks.number("temperature", temperature)
        if prompt is None:  # a text without lines has another first character
            alphabet = self.task.corpus.alphabet
            prompt = "\n" if "\n" in alphabet else alphabet[0]
        if not prompt:
            raise ValueError("prompt is '': expected at least one character")
        ids = self.task.corpus.encode(prompt)[None].to(self.device)
        written = generate(self.model, ids, length, context=self.config.context, temperature=temperature)
        return self.task.corpus.decode(written[0])

    # --- keeping --------------------------------------------------------------------------------

    def snapshot(self, copy: Callable[[dict[str, Tensor]], dict[str, Tensor]] = copies) -> Snapshot:
        """Keep the run as it is now, with its tensors copied by `copy`.

        It holds whole tensors: with AdamW's moments, three times the weights. A sharded run (FSDP2) gathers
        them one by one in the host memory of every process, so all processes have to call this.
        """
        return checkpoint.take(self, copy)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this run. Its further steps then repeat bit for bit.

        Raises:
            ValueError: the snapshot is of another model, seed or text; the run is left as it is.
        """
        checkpoint.check_same_model(self, snapshot)
        checkpoint.put_back(self, snapshot)

    def fork(self, **overrides: Any) -> "Run":
        """Copy the run, with the given config fields changed from here on.

        Without changes it repeats this run bit for bit. AdamW and AdamW² take over each other's moments.
        The model can change if the parameters stay the same, for example from softmax to uniform attention.

        Raises:
            ValueError: a model with these fields has other parameters, or `steps` is less than are made.
        """
        other = Run(replace(self.config, **overrides), self.process_group)
        checkpoint.put_back(other, self.snapshot())
        for name in (RENAMED.get(name, name) for name in overrides):
            value = getattr(other.config, name)
            if name in LIVE_SETTINGS:
                other._change(name, value)
            elif value != getattr(self.config, name):
                other.changes.append(Change(other.updates, name, value))
        return other

    def save(self, path: str | Path) -> None:
        """Write the run to a file, whole or not at all, without pickle.

        The first process writes. A sharded run (FSDP2) is gathered for it, so all processes have to call
        this. The file is the same for any number of processes.
        """
        if self.process_group.is_main or self.process_group.sharded:
            snapshot = self.snapshot()
            if self.process_group.is_main:
                snapshot.save(path)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str | None = None, process_group: ProcessGroup = SINGLE_PROCESS
    ) -> "Run":
        """Load a run from a file, to continue where it was saved, on `device` if one is given.

        It may continue in more or fewer processes, sharded or not.

        Raises:
            ValueError: the file is truncated, altered or no saved run, or its text has changed.
        """
        snapshot = Snapshot.load(path)
        config = snapshot.config if device is None else replace(snapshot.config, device=device)
        run = cls(config, process_group)
        run.restore(snapshot)
        return run
