"""`SpectraCallback`: intruder dimensions, norm and effective rank of the update, while any Trainer trains."""

import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from accelerate.utils import broadcast_object_list, extract_model_from_parallel
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from spectra.engine.cache import FactorCache
from spectra.errors import ModelError, SpectrumError
from spectra.linalg.placement import SVD_ON_CPU
from spectra.records.matrix_scan import MatrixScan
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.scan import PartialScan, prepare
from spectra.scanning.settings import ScanSettings
from spectra.training.distributed import WholeModel, divides_weights
from spectra.training.live import LiveWeights
from spectra.training.trajectory import Trajectory, writer_of
from spectra.weights import CheckpointPair

if TYPE_CHECKING:
    import pandas as pd

EVERY = 100
# Without factors, all singular values of every delta_W have to be computed (`scripts/bench_training.py`).
EVERY_OF_A_DENSE_UPDATE = 200
# Scans of one base that a training is taken to have: up to 2048 on its smaller side W0 is then factorised once, for
# good (`engine.methods.choose`); beyond it the certified method needs no factors.
SCANS = 52
LOGGED = ("count", "energy_share", "update_frobenius", "update_relative", "effective_rank")
LOGGED_PER_MATRIX = ("count", "energy_share", "update_frobenius", "effective_rank")

logger = logging.getLogger("spectra")


class SpectraCallback(TrainerCallback, ExportableState):
    """Scans the weights every so many optimiser steps and logs what it finds through the Trainer.

    `SpectraCallback().attach(trainer)` logs through `trainer.log`, so that every tracker of `report_to` receives
    `spectra/count`, `spectra/energy_share`, `spectra/update_frobenius`, `spectra/update_relative` and
    `spectra/effective_rank`. Given as `callbacks=[...]` it cannot reach trackers that the Trainer called before it:
    the numbers then stand in the Trainer's history, in `to_dataframe()` and in `path` only.

    The verdicts are those of `spectra.intruders` on a checkpoint saved at the same step; nothing is saved, and the
    training is not changed: same batches, same random numbers, same weights. W0 is what `base` names, else the frozen
    base under an adapter, else a temporary copy of the weights as they were when the callback was attached. In
    distributed training the main process scans while the others wait. Weights that FSDP2 divides among processes are
    gathered into a copy of the model on the main process's CPU, and scanned there; of FSDP1 and DeepSpeed ZeRO-3 the
    callback says that it cannot.

    Cost: one pass over the factors of W0 per scan. Matrices of up to 2048 on their smaller side are factorised before
    the first step, once per base: the factors stay in the cache folder of spectra.
    """

    def __init__(
        self,
        every: int | None = None,
        *,
        points: int | None = None,
        at: Collection[int] = (),
        base: str | Path | None = None,
        selection: Selection = DEFAULT,
        k: int = 10,
        epsilon: float = 0.5,
        warn_at: int | None = 1,
        stop_at: int | None = None,
        path: str | Path | None = None,
        log_matrices: bool = False,
        cache: FactorCache | None = None,
    ) -> None:
        """Say what to look at, and how often.

        Args:
            every: Optimiser steps between scans, by default 100, and 200 where all weights are trained; the last step
                is always scanned. 0 leaves `at` alone.
            points: Instead of `every`: at most so many scans, evenly over the training.
            at: Further steps to scan.
            base: The published checkpoint (folder, file or hub id) that W0 is read from.
            selection: Which matrices are scanned: `include`, `exclude`, `roles`, `layers`.
            k: Leading singular vectors looked at per matrix.
            epsilon: Cosine below which a vector is an intruder.
            warn_at: Warn once, when there are this many intruders; None never warns.
            stop_at: End the training when there are this many intruders; None never does.
            path: A .parquet or .csv file that holds all rows after every scan; rows per matrix stand beside it.
            log_matrices: Also log every matrix by its name.
            cache: Where factors of W0 are kept; by default in the cache folder of spectra.

        Raises:
            SpectrumError: If a setting has no meaning.
            DataError: If `path` is neither .parquet nor .csv.
        """
        if every is not None and points is not None:
            raise SpectrumError(f"every is {every} and points is {points}. Give one of the two.")
        for name, value in (("every", every), ("points", points)):
            if value is not None and value < 0:
                raise SpectrumError(f"{name} is {value}. Give a number of at least 0.")
        self.warnings: list[str] = []
        self.preparation_seconds = 0.0
        self.trajectory = Trajectory()
        self._every, self._points, self._at = every, points, frozenset(at)
        self._base, self._chosen = base, selection
        self._settings = ScanSettings(k=k, epsilon=epsilon, dense_norms=True, expected=SCANS)
        self._warn_at, self._stop_at = warn_at, stop_at
        self._path = Path(path) if path is not None else None
        if self._path is not None:
            writer_of(self._path)
        self._log_matrices = log_matrices
        self._cache = cache or FactorCache()
        self._live: LiveWeights | None = None
        self._whole: WholeModel | None = None
        self._trainer: Trainer | None = None
        self._pending: dict[str, Any] = {}
        self._loss: float | None = None

    def attach(self, trainer: Trainer) -> "SpectraCallback":
        """Join a Trainer, log through it and so through its trackers; call it before `trainer.train()`."""
        trainer.add_callback(self)
        self._trainer = trainer
        if trainer.model is not None:
            self.on_init_end(trainer.args, trainer.state, trainer.control, model=trainer.model)
        return self

    def to_dataframe(self, rows: Literal["steps", "matrices"] = "steps") -> "pd.DataFrame":
        """What was found: one row per scanned step, or one per step and matrix (columns: `spectra.runs.schema`)."""
        return self.trajectory.to_dataframe(rows)

    # What the Trainer calls.

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Learn what W0 is, before a resumed training loads other weights into the model."""
        if model is None or self._live is not None or self._whole is not None:
            return
        plain = extract_model_from_parallel(model, keep_torch_compile=False)
        if divides_weights() and state.global_step == 0 and not hasattr(self._trainer, "whole_model"):
            self._whole = WholeModel(plain)
        if state.is_world_process_zero:
            self._live = LiveWeights(plain, self._base, self._chosen)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take up the rows of a resumed training, and factorise W0 where that has not been done before."""
        kept = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(kept, dict) and "trajectory" in kept.get("attributes", {}):
            self.trajectory = Trajectory.from_state(kept["attributes"]["trajectory"])
        self.trajectory.cut_after(state.global_step)
        model = self._gathered(model)
        if not state.is_world_process_zero:
            return
        if self._live is None and state.global_step > 0 and self._base is None:
            raise ModelError(
                f"SpectraCallback joined at step {state.global_step}, when the weights before training were gone. "
                "Attach it before `trainer.train()`, or name the published checkpoint with base=."
            )
        began = time.perf_counter()
        pair = self._pair(model, args, state)
        prepare(pair, self._settings_on(model, pair), self._cache)
        self.preparation_seconds = time.perf_counter() - began

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Scan, if it is time."""
        if not self._is_due(state.global_step, state.max_steps, model):
            return
        count = 0
        model = self._gathered(model)
        if state.is_world_process_zero:
            count = self._scan(args, state, control, model)
        if self._stop_at is not None:
            [count] = broadcast_object_list([count])
            if count >= self._stop_at:
                control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Note the loss; without a Trainer to log through, add what is pending to its own entry."""
        if logs is None:
            return
        if "loss" in logs:
            self._loss = float(logs["loss"])
            for row in self.trajectory.rows[-1:]:
                if row["step"] == state.global_step:
                    row["loss"] = self._loss
        if self._pending:
            logs.update(self._pending)
            if state.log_history and state.log_history[-1]["step"] == state.global_step:
                state.log_history[-1].update(self._pending)
            self._pending = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the file again: the loss of the last step was logged after its scan."""
        if state.is_world_process_zero:
            self._write()

    def state(self) -> dict[str, Any]:
        """What a checkpoint of the Trainer keeps."""
        return {"args": {}, "attributes": {"trajectory": self.trajectory.state()}}

    # How it is done.

    def _is_due(self, step: int, steps: int, model: Any) -> bool:
        every = self._every
        if self._points is not None:
            every = max(1, -(-steps // self._points)) if self._points else 0
        elif every is None:
            wrapped = extract_model_from_parallel(model, keep_torch_compile=False)
            every = EVERY if hasattr(wrapped, "peft_config") else EVERY_OF_A_DENSE_UPDATE
        return step in self._at or (every > 0 and (step % every == 0 or step == steps))

    def _gathered(self, model: Any) -> Any:
        """The model with all of its weights, gathered by all processes where they are divided."""
        if not divides_weights():
            return model
        if hasattr(self._trainer, "whole_model"):
            return cast(Any, self._trainer).whole_model()
        return model if self._whole is None else self._whole.taken_up(model)

    def _pair(self, model: Any, args: Any, state: Any) -> CheckpointPair:
        self.on_init_end(args, state, None, model)
        if self._live is None:
            raise ModelError("The Trainer has no model. Give it one before training.")
        return self._live.pair(extract_model_from_parallel(model, keep_torch_compile=False))

    def _settings_on(self, model: Any, pair: CheckpointPair) -> ScanSettings:
        """The question, with the device that answers it."""
        device = device_for(next(model.parameters()).device, (matrix.shape for matrix in pair.matrices))
        return replace(self._settings, device=device)

    def _scan(self, args: Any, state: Any, control: Any, model: Any) -> int:
        """Scan all matrices, keep the rows, log them, warn; returns the count."""
        began = time.perf_counter()
        pair = self._pair(model, args, state)
        partial = PartialScan([pair], self._settings_on(model, pair), self._cache)
        partial.run()
        spectra = list(partial.scans()[0].matrices)
        row = self.trajectory.add(
            state.global_step,
            spectra,
            tokens=state.num_input_tokens_seen or None,
            loss=self._loss,
            k=self._settings.k,
            epsilon=self._settings.epsilon,
            seconds=time.perf_counter() - began,
        )
        self._log(control, {name: row[name] for name in LOGGED if name in row}, spectra)
        self._warn(row, spectra)
        self._write()
        return int(row["count"])

    def _log(self, control: Any, whole: dict[str, Any], spectra: list[MatrixScan]) -> None:
        values = {f"spectra/{name}": value for name, value in whole.items()}
        if self._log_matrices:
            rows = self.trajectory.matrices[-len(spectra) :]
            values |= {f"spectra/{name}/{row['name']}": row[name] for row in rows for name in LOGGED_PER_MATRIX}
        if self._trainer is None:
            self._pending, control.should_log = values, True
            return
        # Logging clears the Trainer's intention to log its own loss at this step.
        intended = control.should_log
        self._trainer.log(values)
        control.should_log = intended

    def _warn(self, row: dict[str, Any], spectra: list[MatrixScan]) -> None:
        earlier = self.trajectory.rows[:-1]
        if self._warn_at is None or row["count"] < self._warn_at:
            return
        if any(before["count"] >= self._warn_at for before in earlier):
            return
        most = max(spectra, key=lambda matrix: (matrix.count, matrix.energy_share))
        before = f"{earlier[-1]['count']} at step {earlier[-1]['step']}" if earlier else "this is the first look"
        sentence = (
            f"Step {row['step']}: {row['count']} intruder dimensions in {row['with_intruders']} of {row['matrices']} "
            f"matrices ({before}), most in {most.name} ({most.count} of {len(most.vectors)} leading vectors). "
            "Measure what is forgotten, or lower the learning rate."
        )
        self.warnings.append(sentence)
        logger.warning(sentence)

    def _write(self) -> None:
        if self._path is not None and self.trajectory.rows:
            self.trajectory.write(self._path)


def device_for(model_on: torch.device, shapes: Iterable[tuple[int, int]]) -> str:
    """Where live weights are scanned: on the GPU that the model is on if a matrix is wide, on the CPU otherwise.

    Narrow ones are factorised on the CPU anyway, and many short steps on a GPU that trains cost more than copies.
    """
    widest = max(map(min, shapes), default=0)
    return str(model_on) if model_on.type == "cuda" and widest > SVD_ON_CPU else "cpu"
