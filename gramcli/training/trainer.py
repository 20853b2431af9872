"""Runs Lightning's trainer, quietly and without files of its own. Needs the extra ``train``."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from gramcli.errors import ResourceError
from gramcli.training.examples import Examples
from gramcli.training.lightning_module import EpochLoader, LightningClassifier

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


def fit(
    classifier: LightningClassifier, training: Examples, validation: Examples, device: torch.device, precision: str
) -> None:
    """Trains until all epochs are done. The state of the caller's random generators does not change.

    Raises:
        ResourceError: Memory runs out.
        KeyboardInterrupt: The user pressed Ctrl-C, which Lightning turns into an exit.
    """
    left = classifier.recipe.epochs - classifier.state.epoch
    if left <= 0:
        return
    size = classifier.recipe.batch
    cuda = device.type == "cuda"
    with _quiet(), _same_handlers(), torch.random.fork_rng(devices=[device.index or 0] if cuda else []):
        trainer = pl.Trainer(
            accelerator="gpu" if cuda else "cpu",
            devices=[device.index or 0] if cuda else 1,
            precision=_PRECISION[precision],  # type: ignore[arg-type]
            max_epochs=left,
            plugins=[LightningEnvironment()],  # one process here, whatever cluster it runs on
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(classifier, EpochLoader(training, size, classifier), EpochLoader(validation, size))
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise ResourceError(f"{device}: out of memory with batches of {size}; use a smaller --batch") from None
            raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's banners, tips and warnings."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)


@contextlib.contextmanager
def _same_handlers() -> Iterator[None]:
    """Restores the handler of Ctrl-C, which Lightning replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
