"""Figures of a model or of one of its checkpoints, and the block they are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from bert_cls.classifier import Classifier
from bert_cls.config import RunConfig
from bert_cls.data import Example, targets
from bert_cls.engines.torch_engine import open_torch
from bert_cls.errors import DataError
from bert_cls.folders import verify, write_file
from bert_cls.judging import encode_texts
from bert_cls.legacy.log import LOG
from bert_cls.metrics import Evaluation, evaluate, legacy_block
from bert_cls.network import load_tensors
from bert_cls.training import aims
from bert_cls.training.figures import tuned
from bert_cls.training.start import unscale


def show(evaluation: Evaluation, name: str, file: Path) -> None:
    """Log the old program's block, and write its lines to `file`."""
    LOG.info("***** Running evaluation %s *****", name)
    LOG.info("  Num examples = %d", evaluation.rows)
    _, *lines = legacy_block(evaluation).split("\n")
    LOG.info("***** Eval results %s *****", name)
    for line in lines:
        LOG.info(line)
    write_file(file, "".join(f"{line.removeprefix('  ')}\n" for line in lines).encode())


def figures(classifier: Classifier, examples: Sequence[Example]) -> Evaluation:
    """Figures by the model's own rule, without the intervals, which the block does not show."""
    return classifier.evaluate(examples, resamples=0)


def at_checkpoint(classifier: Classifier, folder: Path) -> Classifier:
    """The same model with the weights of one of its checkpoints.

    BundleError when the checkpoint is not whole.
    """
    verify(folder)
    engine = open_torch(classifier.bundle)
    load_tensors(engine.network, load_file(folder / "model.safetensors"))
    if classifier.bundle.task == "regression":  # in training its targets are standardised
        mean, spread = classifier.bundle.details["data"]["scale"]
        unscale(engine.network, (mean, spread))
    return Classifier(classifier.bundle, engine, classifier.text)


def crossfitted(classifier: Classifier, examples: Sequence[Example]) -> Evaluation:
    """Figures on rows that thresholds are tuned on: each is calibrated and decided without it.

    The rule is tuned anew for the classifier's weights, as at the end of training, and thrown away.
    """
    bundle = classifier.bundle
    config = RunConfig.model_validate(bundle.details["config"])
    labelled = [example for example in examples if example.label is not None]
    if not labelled:
        raise DataError("no row of dev has a label, so there is nothing to evaluate.")
    truth = targets(labelled, bundle.task, bundle.space)
    logits = classifier.logits(encode_texts(labelled, bundle.pair, classifier.text))
    counts = bundle.details["data"]["label_counts"]
    found = tuned(
        config,
        bundle.task,
        logits,
        truth,
        calibrated=aims.calibrated(bundle),
        adjusted=aims.adjusted(bundle),
        counts=[counts[name] for name in bundle.space.names],
    )
    return evaluate(
        bundle.task,
        bundle.space,
        truth,
        found.scores_crossfit,
        found.predicted_crossfit,
        calibrated=found.rule.calibrated,
        resamples=0,
    )
