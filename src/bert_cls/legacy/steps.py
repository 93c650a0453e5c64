"""The three steps of the old script: train, evaluate on dev, predict test."""

from __future__ import annotations

import math
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch

from bert_cls.classifier import Classifier
from bert_cls.config import Origins, RunConfig
from bert_cls.data import read_labels, stream
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.errors import BertClsError, ConfigError, EncoderError, in_shell
from bert_cls.legacy import flags
from bert_cls.legacy.figures import at_checkpoint, crossfitted, figures, show
from bert_cls.legacy.held import check_test_rows, file_of, held_rows
from bert_cls.legacy.log import LOG, LogObserver
from bert_cls.legacy.words import in_old_words
from bert_cls.outputs import write_predictions
from bert_cls.request import add_file, resumed
from bert_cls.training import Request, Trained
from bert_cls.training import train as run_training
from bert_cls.training.checkpoint import checkpoints
from bert_cls.training.claim import check_folder, is_in_use
from bert_cls.training.prepare import read_audited

EVAL_RESULTS = "eval_results.txt"
TEST_RESULTS = "test_results.txt"
TEST_PREDICTIONS = "test_predictions.jsonl"


def run(arguments: Namespace) -> int:
    """Do the asked steps; 1 when some rows could not be predicted, else 0."""
    for line in flags.remarks(arguments):
        LOG.warning(line)
    trained = train(arguments) if arguments.do_train else None
    classifier = Classifier.load(arguments.output_dir)
    if trained is None:
        _check_model(arguments, classifier)
    if classifier.labels and (arguments.do_eval or arguments.do_predict):
        LOG.info("macro is the mean over all %d labels; 0/0 counts as 0", len(classifier.labels))
    if arguments.do_eval and arguments.eval_all_checkpoints:
        evaluate_checkpoints(arguments, classifier)
    if arguments.do_eval:
        evaluate(arguments, classifier, trained)
    return predict(arguments, classifier) if arguments.do_predict else 0


def train(arguments: Namespace) -> Trained:
    """Train as the flags say; the model is in the output folder."""
    output, data = Path(arguments.output_dir), Path(arguments.data_dir)
    _check_output(output, overwrite=arguments.overwrite_output_dir)
    if arguments.do_predict:
        check_test_rows(data)
    labels = _labels(arguments)
    asked, _ = flags.resolve(arguments, encoder=arguments.model_name_or_path, lowercase=False)
    reword = partial(in_old_words, arguments=arguments)
    observer = LogObserver(batch_size=asked.training.batch_size or 1, reword=reword)
    prepared = read_audited(data, asked, observer, labels=labels)
    config, origins = _settings(arguments, rows=len(prepared.dataset.train or []))
    request = Request(data, output, config, origins, labels=labels)
    if torch.cuda.device_count() > 1:
        LOG.warning("%d GPUs are visible; one is used.", torch.cuda.device_count())
    trained = run_training(
        request, observer, overwrite=arguments.overwrite_output_dir, prepared=prepared
    )
    last = trained.history[-1]
    LOG.info(" global_step = %d, average loss = %.4f", last.step, last.loss)
    for key, why in sorted(trained.bundle.details["origins"].items()):
        section, _, field = key.partition(".")
        value = trained.bundle.details["config"][section][field]
        LOG.info("%s = %s (%s)", key, f"{value:g}" if isinstance(value, float) else value, why)
    LOG.info("Saving model checkpoint to %s", output)
    return trained


def evaluate_checkpoints(arguments: Namespace, classifier: Classifier) -> None:
    """Show figures on dev of every checkpoint, oldest first."""
    rows, _ = held_rows(Path(arguments.data_dir), "dev", classifier.bundle)
    for folder in checkpoints(classifier.bundle.folder):
        evaluation = crossfitted(at_checkpoint(classifier, folder), rows)
        show(evaluation, folder.name, folder / EVAL_RESULTS)


def evaluate(arguments: Namespace, classifier: Classifier, trained: Trained | None) -> None:
    """Show figures on dev, never from thresholds that were tuned on the row they decide."""
    tuned_on = True
    if trained is not None:
        evaluation = trained.evaluations["dev"]
    else:
        rows, tuned_on = held_rows(Path(arguments.data_dir), "dev", classifier.bundle)
        judge = crossfitted if tuned_on else figures
        evaluation = judge(classifier, rows)
    if tuned_on and classifier.bundle.rule.thresholds:
        LOG.info(
            "the model's thresholds are tuned on dev, so for these figures each row is decided by "
            "thresholds tuned without it (cross-fitting)"
        )
    elif classifier.bundle.rule.thresholds:
        LOG.warning(
            "the file of dev is not, byte for byte, the one that the model's thresholds are tuned "
            "on: these figures are by those thresholds, and too good where the rows are the same"
        )
    show(evaluation, "", classifier.bundle.folder / EVAL_RESULTS)
    add_file(classifier.bundle.folder, EVAL_RESULTS)


def predict(arguments: Namespace, classifier: Classifier) -> int:
    """Predict the test rows, and show figures where they have labels; 1 when some row is bad."""
    output, data = classifier.bundle.folder, Path(arguments.data_dir)
    path = file_of(data, "test")
    rows = stream(path) if path else held_rows(data, "test", classifier.bundle)[0]
    target = output / TEST_PREDICTIONS
    (output / TEST_RESULTS).unlink(missing_ok=True)  # figures of other rows
    counts = write_predictions(classifier.predict_stream(rows), str(target))
    add_file(output, TEST_PREDICTIONS)
    LOG.info("%d predictions written to %s", counts.rows, target)
    if counts.errors:
        LOG.warning(
            "%d of them are errors: the rows could not be read; no figures are shown",
            counts.errors,
        )
        return 1
    labelled, _ = held_rows(data, "test", classifier.bundle)
    if any(example.label is not None for example in labelled):
        show(figures(classifier, labelled), "test", output / TEST_RESULTS)
        add_file(output, TEST_RESULTS)
    return 0


def _settings(arguments: Namespace, *, rows: int) -> tuple[RunConfig, Origins]:
    """The run's settings; a fraction of an epoch is so many steps of the training `rows`."""
    cache = Path(arguments.cache_dir) if arguments.cache_dir else None
    folder = resolve(arguments.model_name_or_path, cache=cache, notify=LOG.info)
    flags.check_family(arguments, describe(folder))
    lowercase = arguments.do_lower_case and _can_lower(folder)
    encoder = arguments.model_name_or_path if cache is None else str(folder)
    config, origins = flags.resolve(arguments, encoder=encoder, lowercase=lowercase)
    epochs = flags.fraction_of_epochs(arguments)
    if epochs is None:
        return config, origins
    steps = max(1, round(epochs * math.ceil(rows / (config.training.batch_size or 1))))
    return flags.resolve(arguments, encoder=encoder, lowercase=lowercase, max_steps=steps)


def _can_lower(folder: Path) -> bool:
    try:
        open_tokenizer(folder, lowercase=True)
    except EncoderError as error:
        LOG.warning("--do_lower_case has no meaning here: %s", error.message)
        return False
    return True


def _labels(arguments: Namespace) -> Path | None:
    """The labels file, which regression has no use for."""
    if arguments.labels is None or arguments.output_mode == "regression":
        return None
    return Path(arguments.labels)


def _check_output(output: Path, *, overwrite: bool) -> None:
    check_folder(output)
    if overwrite or not is_in_use(output):
        return
    if _is_unfinished(output):
        raise ConfigError(
            f"--output_dir {output} holds a run that was stopped.",
            hint=f"go on with: bert-cls train --resume {in_shell(output)} (then --do_eval and "
            "--do_predict without --do_train); --overwrite_output_dir throws it away.",
        )
    raise ConfigError(
        f"--output_dir {output} is not empty.",
        hint="give another folder, or --overwrite_output_dir to replace the run in it.",
    )


def _is_unfinished(output: Path) -> bool:
    try:
        resumed(output)
    except BertClsError:
        return False
    return True


def _check_model(arguments: Namespace, classifier: Classifier) -> None:
    flags.check_model(arguments, classifier.bundle.task)
    path = _labels(arguments)
    if path is not None and classifier.labels and read_labels(path) != classifier.labels:
        LOG.warning("--labels is not used: the model has its own %d", len(classifier.labels))
