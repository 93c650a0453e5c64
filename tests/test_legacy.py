"""The old script's commands, flag by flag, and what it got wrong."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_cls.classifier import Classifier
from bert_cls.config import describe_fields
from bert_cls.data import LabelSpace, read
from bert_cls.decision import TUNERS, tune
from bert_cls.encoders import FAMILIES, EncoderFacts
from bert_cls.errors import ConfigError
from bert_cls.folders import MANIFEST, sha256, write_manifest
from bert_cls.legacy import flags, main
from bert_cls.legacy.figures import crossfitted, show
from bert_cls.legacy.log import LogObserver, logging_to_stderr
from bert_cls.legacy.words import in_old_words
from bert_cls.losses import LOSSES
from bert_cls.metrics import evaluate, legacy_block
from bert_cls.request import resumed
from bert_cls.text import Tokens
from bert_cls.training import Silent
from bert_cls.training import figures as training_figures
from bert_cls.training import run as training_run
from small import MAKERS, PARTS, multilabel_rows, write_folder

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} : (INFO|WARNING|ERROR) : (.*)")
FIRST_COMMAND = r"""
python3 run_bert_cls.py --data_dir $DATA_DIR --model_type bert --output_mode classification \
  --labels $DATA_DIR/labels.json --model_name_or_path $BERT_MODEL --output_dir $DATA_DIR/ckpt \
  --max_seq_length 256 --num_train_epochs 3 --per_gpu_train_batch_size 16 --save_steps 750 \
  --seed 0 --do_train --do_eval --overwrite_output_dir --train_data_number 10000 \
  --logging_steps 50
"""
SECOND_COMMAND = FIRST_COMMAND.rstrip() + " --multilabel --multi_label_loss=MultiLabelMarginLoss"
NAMES = {"multilabel": sorted(PARTS), "multiclass": ["甲", "乙", "丙"], "binary": ["差", "好"]}


def words_of(command: str, data: Path, encoder: Path) -> list[str]:
    """A documented command's words, with the user's paths in it."""
    filled = command.replace("$DATA_DIR", str(data)).replace("$BERT_MODEL", str(encoder))
    return shlex.split(filled.replace("\\\n", " "))


def messages_of(log: str) -> list[tuple[str, str]]:
    """(level, message) of each line; every line must have time and level."""
    found = [(line, LINE.fullmatch(line)) for line in log.splitlines()]
    assert [line for line, match in found if match is None] == []
    return [(match[1], match[2]) for _, match in found if match]


def figures_of(folder: Path, name: str = "eval_results.txt") -> dict[str, str]:
    lines = (folder / name).read_text("utf-8").splitlines()
    return dict(line.split(" = ", 1) for line in lines if ": P = " not in line)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small are slower with more, and on a busy machine much slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """A folder for each task; do not write to it."""
    root = tmp_path_factory.mktemp("legacy")
    return {
        task: write_folder(root / task, make, labels=NAMES.get(task))
        for task, make in MAKERS.items()
    }


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the script in this process; gives the exit code and the messages as "LEVEL message"."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))

    def script(*argv: object) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main([str(word) for word in argv])
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, [f"{level} {message}" for level, message in messages_of(printed.err)]

    return script


@pytest.fixture
def train(run, encoder, data, tmp_path):
    """Train on small data into tmp_path/out; more flags may be given."""

    def script(*argv: object, task: str = "multilabel", folder: Path | None = None):
        output = tmp_path / "out"
        mode = "regression" if task == "regression" else "classification"
        words = ["--data_dir", folder or data[task], "--output_dir", output, "--do_train"]
        words += ["--output_mode", mode, *(["--multilabel"] if task == "multilabel" else [])]
        if "--model_name_or_path" not in argv:
            words += ["--model_name_or_path", encoder("bert")]
        if "--num_train_epochs" not in argv and "--max_steps" not in argv:
            words += ["--num_train_epochs", 2]
        code, messages = run(*words, *argv)
        return output, code, messages

    return script


@pytest.fixture(scope="module")
def margin_model(tmp_path_factory, encoder, data) -> Path:
    """What the second documented command leaves; do not write to it."""
    folder = tmp_path_factory.mktemp("second") / "data"
    shutil.copytree(data["multilabel"], folder)
    words = words_of(SECOND_COMMAND, folder, encoder("bert"))
    assert main([*words[2:], "--do_predict", "--learning_rate", "1e-3"]) == 0
    return folder / "ckpt"


# the documented commands


def test_the_first_command_runs_as_it_stands(encoder, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data["multiclass"], folder)
    words = words_of(FIRST_COMMAND, folder, encoder("bert"))
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    messages = [message for _, message in messages_of(done.stderr)]
    at = messages.index("***** Eval results  *****")
    names = ["F1_macro", "F1_micro", "P_macro", "P_micro", "R_macro", "R_micro"]
    for name, line in zip(names, messages[at + 1 :], strict=False):
        assert re.fullmatch(rf"  {name} = [01]\.\d{{4}}", line)
    for name, line in zip(NAMES["multiclass"], messages[at + 7 :], strict=True):
        assert re.fullmatch(rf"  {name}: P = [01]\.\d{{4}}, R = [01]\.\d{{4}}, F1 = .*", line)
    assert "10000 training rows were asked for; all 48 are used" in messages
    assert "  Total optimization steps = 9" in messages
    model = Classifier.load(folder / "ckpt")
    assert model.bundle.text.max_length == 256
    assert model.labels == tuple(NAMES["multiclass"])


def test_the_second_command_runs_as_it_stands(run, encoder, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data["multilabel"], folder)
    code, messages = run(*words_of(SECOND_COMMAND, folder, encoder("bert"))[2:])
    assert code == 0
    assert "INFO ***** Eval results  *****" in messages
    details = Classifier.load(folder / "ckpt").bundle.details
    assert details["config"]["loss"]["name"] == "multilabel_margin"
    assert details["config"]["report"]["linear_bar"] is False


def test_the_block_and_its_file_hold_the_same_lines(train):
    output, code, messages = train("--do_eval")
    assert code == 0
    at = messages.index("INFO ***** Eval results  *****")
    shown = [line.removeprefix("INFO   ") for line in messages[at + 1 : at + 10]]
    assert (output / "eval_results.txt").read_text("utf-8").splitlines() == shown
    assert messages[at - 1] == "INFO   Num examples = 16"
    stored = json.loads((output / "evaluation.json").read_text("utf-8"))["evaluations"]["dev"]
    assert shown[0] == f"F1_macro = {stored['metrics']['macro_f1_all']:.4f}"


def test_the_block_letter_by_letter(tmp_path, capsys):
    truth = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], bool)
    predicted = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    space = LabelSpace(("尾灯", "天窗"))
    found = evaluate("multilabel", space, truth, predicted.astype(float), predicted, resamples=0)
    with logging_to_stderr():
        show(found, "", tmp_path / "eval_results.txt")
    assert messages_of(capsys.readouterr().err) == [
        ("INFO", "***** Running evaluation  *****"),
        ("INFO", "  Num examples = 4"),
        ("INFO", "***** Eval results  *****"),
        ("INFO", "  F1_macro = 0.3333"),
        ("INFO", "  F1_micro = 0.5714"),
        ("INFO", "  P_macro = 0.3333"),
        ("INFO", "  P_micro = 0.6667"),
        ("INFO", "  R_macro = 0.3333"),
        ("INFO", "  R_micro = 0.5000"),
        ("INFO", "  尾灯: P = 0.6667, R = 0.6667, F1 = 0.6667"),
        ("INFO", "  天窗: P = 0.0000, R = 0.0000, F1 = 0.0000"),
    ]
    assert (tmp_path / "eval_results.txt").read_text("utf-8") == (
        "F1_macro = 0.3333\nF1_micro = 0.5714\nP_macro = 0.3333\nP_micro = 0.6667\n"
        "R_macro = 0.3333\nR_micro = 0.5000\n尾灯: P = 0.6667, R = 0.6667, F1 = 0.6667\n"
        "天窗: P = 0.0000, R = 0.0000, F1 = 0.0000\n"
    )


def test_regression_has_squared_and_absolute_error_alone(train, tmp_path):
    missing = tmp_path / "labels.json"
    output, code, messages = train("--do_eval", "--labels", missing, task="regression")
    assert code == 0
    assert list(figures_of(output)) == ["MSE", "MAE"]
    assert len((output / "eval_results.txt").read_text("utf-8").splitlines()) == 2
    assert any(line.startswith("INFO   MSE = ") for line in messages)


def test_two_label_names_make_a_binary_model(train):
    output, code, _ = train("--do_eval", task="binary")
    assert code == 0
    assert Classifier.load(output).bundle.task == "binary"


def test_without_the_checkout_the_module_is_the_script(tmp_path):
    command = [sys.executable, "-m", "bert_cls.legacy"]
    asked = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert asked.returncode == 0
    assert "--per_gpu_train_batch_size" in asked.stdout
    words = ["--data_dir", ".", "--output_dir", "out"]
    idle = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)
    assert idle.returncode == 2
    assert messages_of(idle.stderr)[0] == ("ERROR", "nothing to do.")


def test_flags_are_read_before_torch_is_imported():
    code = "import sys, bert_cls.legacy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# every flag


def parsed(*argv: object):
    words = ["--data_dir", "d", "--output_dir", "o", "--do_train", "--model_name_or_path", "m"]
    return flags.make_parser().parse_args([*words, *map(str, argv)])


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """The configuration and origins that flags come to."""
    write_folder(tmp_path / "d", multilabel_rows)
    monkeypatch.chdir(tmp_path)

    def settled(*argv: object):
        return flags.resolve(parsed(*argv), encoder="m", lowercase=False)

    return settled


@pytest.mark.parametrize(
    ("words", "section", "field", "value", "default"),
    [
        ("--max_seq_length 256", "text", "max_length", 256, 128),
        ("--per_gpu_train_batch_size 16", "training", "batch_size", 16, 8),
        ("--gradient_accumulation_steps 4", "training", "batch_size", 32, 8),
        ("--learning_rate 2e-5", "training", "learning_rate", 2e-5, None),
        ("--weight_decay 0.02", "training", "weight_decay", 0.02, 0.0),
        ("--adam_epsilon 1e-6", "training", "adam_epsilon", 1e-6, 1e-8),
        ("--max_grad_norm 2", "training", "max_grad_norm", 2.0, 1.0),
        ("--num_train_epochs 4.0", "training", "epochs", 4, 3),
        ("--max_steps 7", "training", "max_steps", 7, None),
        ("--max_steps -1", "training", "max_steps", None, None),
        ("--warmup_steps 5", "training", "warmup_steps", 5, None),
        ("--learning_rate 2e-5", "training", "warmup_steps", 0, None),
        ("--logging_steps 9", "training", "log_steps", 9, 50),
        ("--logging_steps 0", "training", "log_steps", flags.NEVER, 50),
        ("--save_steps 750", "training", "save_steps", 750, 50),
        ("--save_steps 750", "training", "keep_checkpoints", 0, 1),
        ("--eval_all_checkpoints", "training", "keep_checkpoints", 0, 1),
        ("--save_steps -1", "training", "save_steps", None, 50),
        ("--seed 0", "training", "seed", 0, 42),
        ("--train_data_number 10", "data", "train_rows", 10, None),
        ("--multilabel", "data", "task", "multilabel", "multiclass"),
        ("--output_mode regression", "data", "task", "regression", "multiclass"),
        ("--multilabel --multi_label_loss asl", "loss", "name", "asl", None),
    ],
)
def test_a_given_flag_counts_and_else_the_old_default(
    settle, words, section, field, value, default
):
    given, origins = settle(*words.split())
    assert getattr(getattr(given, section), field) == value
    plain, _ = settle()
    assert getattr(getattr(plain, section), field) == default
    if value is not None and field not in ("warmup_steps", "keep_checkpoints", "task"):
        assert origins[f"{section}.{field}"].startswith("--") or field == "batch_size"


def test_origins_tell_a_typed_value_from_an_old_default(settle):
    _, origins = settle("--seed", 1)
    assert origins["training.seed"] == "--seed"
    assert origins["text.max_length"] == "old default"
    assert "training.learning_rate" not in origins


@pytest.mark.parametrize(
    "words",
    [
        "--config_name other",
        "--tokenizer_name other",
        "--per_gpu_eval_batch_size 8",
        "--evaluate_during_training",
        "--overwrite_cache",
        "--fp16",
        "--local_rank 0",
    ],
)
def test_a_flag_without_meaning_is_accepted_with_one_line(words):
    flag = words.split()[0]
    about = [line for line in flags.remarks(parsed(*words.split())) if flag in line]
    assert len(about) == 1
    assert "no meaning now" in about[0]


def test_flags_that_say_nothing_new_are_passed_over():
    idle = ["--local_rank", "-1", "--config_name", "m", "--tokenizer_name", "m"]
    said = flags.remarks(parsed(*idle, "--learning_rate", "1e-4"))
    assert not any("no meaning" in line for line in said)


def test_what_the_recipe_leaves_alone_is_not_said_to_be_its_choice():
    assert any("rates, warm-up and pooling" in line for line in flags.remarks(parsed()))
    for steps in ("0", "7"):
        said = flags.remarks(parsed("--warmup_steps", steps))
        assert any("chooses rates and pooling" in line for line in said)
        assert not any("warm-up" in line for line in said)


def test_idle_flags_are_named_whatever_their_value():
    words = ["--data_dir", "d", "--output_dir", "o", "--do_eval"]
    idle = ["--seed", "0", "--warmup_steps", "0", "--do_lower_case", "--max_seq_length", "64"]
    [said] = flags.remarks(flags.make_parser().parse_args([*words, *idle]))
    assert "--max_seq_length, --warmup_steps, --seed, --do_lower_case change nothing" in said
    assert flags.remarks(flags.make_parser().parse_args(words)) == []


def test_flags_that_need_another_say_so(run, data, tmp_path):
    said = flags.remarks(parsed("--multi_label_loss", "asl", "--eval_all_checkpoints"))
    assert sum("without --multilabel" in line or "without --do_eval" in line for line in said) == 2
    where = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / "o"]
    for words, wanted in (
        ([], "nothing to do"),
        (["--do_train"], "needs --model_name_or_path"),
        (["--do_train", "--multilabel", "--output_mode", "regression"], "contradict"),
        (["--do_eval", "--output_mode", "ranking"], "--output_mode must be one of"),
        (["--do_eval", "--num_train_epochs", "0"], "--num_train_epochs must be more than 0"),
        (["--do_eval", "--num_train_epochs", "nan"], "--num_train_epochs must be more than 0"),
        (["--do_eval", "--gradient_accumulation_steps", 0], "must be at least 1"),
    ):
        code, messages = run(*where, *words)
        assert code == 2
        assert wanted in messages[0]


def test_abbreviations_are_taken_as_argparse_takes_them():
    assert parsed("--multi_label", "asl").multi_label_loss == "asl"
    with pytest.raises(SystemExit) as stop:
        parsed("--max_s", "3")  # max_seq_length or max_steps
    assert stop.value.code == 2


def test_unknown_flags_and_missing_folders_stop_with_2(capsys):
    for words in (["--data_dir", "d"], ["--data_dir", "d", "--output_dir", "o", "--nonsense"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_family_is_compared_with_the_folder(family):
    facts = EncoderFacts(family, 32, 2, 1000, 512, None, False)
    flags.check_family(parsed("--model_type", family.upper()), facts)
    flags.check_family(parsed("--model_type", family.replace("-", "_")), facts)
    flags.check_family(parsed(), facts)
    other = "bert" if family != "bert" else "roberta"
    with pytest.raises(ConfigError, match=f"says {family}") as error:
        flags.check_family(parsed("--model_type", other), facts)
    assert f"--model_type {family}" in str(error.value)
    with pytest.raises(ConfigError, match="--model_type must be one of"):
        flags.check_family(parsed("--model_type", "xlnet"), facts)


def test_another_family_and_a_wrong_one(train, encoder):
    roberta = encoder("roberta")
    output, code, messages = train("--model_type", "bert", "--model_name_or_path", roberta)
    assert code == 2
    assert "says roberta" in messages[-2]
    assert not output.exists()
    xlm = encoder("xlm-roberta")
    words = ["--model_type", "xlmroberta", "--model_name_or_path", xlm, "--do_lower_case"]
    output, code, messages = train(*words, "--num_train_epochs", 1)
    assert code == 0
    assert sum("--do_lower_case has no meaning here" in line for line in messages) == 1


def test_lower_case_is_the_tokenizers_unless_asked_for(train, encoder, tmp_path):
    cased = tmp_path / "cased"
    shutil.copytree(encoder("bert"), cased)
    content = json.loads((cased / "tokenizer.json").read_text("utf-8"))
    content["normalizer"]["lowercase"] = False
    (cased / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    for more, lowered in (([], False), (["--do_lower_case"], True)):
        words = ["--model_name_or_path", cased, "--overwrite_output_dir", "--max_steps", 1]
        output, code, _ = train(*words, *more)
        assert code == 0
        written = json.loads((output / "tokenizer.json").read_text("utf-8"))
        assert written["normalizer"]["lowercase"] is lowered


def test_the_cache_folder_is_where_encoders_are_kept(train, encoder, tmp_path):
    shutil.copytree(encoder("bert"), tmp_path / "cache/encoders/all-MiniLM-L6-v2")
    words = ["--model_name_or_path", "all-MiniLM-L6-v2", "--cache_dir", tmp_path / "cache"]
    output, code, _ = train(*words, "--max_steps", 1)
    assert code == 0
    width = json.loads((output / "config.json").read_text("utf-8"))["hidden_size"]
    assert width == 32


def test_no_cuda_hides_the_gpus(run, data, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    where = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / "o", "--do_eval"]
    assert run(*where)[0] == 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert run(*where, "--no_cuda")[0] == 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_one_of_several_gpus_is_used_and_that_is_said(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    _, code, messages = train("--max_steps", 1)
    assert code == 0
    assert "WARNING 2 GPUs are visible; one is used." in messages


def test_of_a_distributed_launch_one_process_works(train, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    output, code, messages = train("--local_rank", 1)
    assert (code, len(messages)) == (0, 1)
    assert not output.exists()


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_what_a_launcher_left_in_the_environment_is_a_number_or_nothing(
    name, run, data, tmp_path, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    words = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / "none"]
    for value, wanted in (("", "nothing to do"), ("first", f"{name} in the environment must be")):
        monkeypatch.setenv(name, value)
        if name == "RANK":
            monkeypatch.setenv("WORLD_SIZE", "2")
        code, messages = run(*words)
        assert code == 2
        assert wanted in messages[0]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["--num_train_epochs", 1.5], 9),
        (["--num_train_epochs", 0.25], 2),
        (["--num_train_epochs", 9, "--max_steps", 4], 4),
        (["--num_train_epochs", 1, "--max_steps", 8], 8),
        (["--num_train_epochs", 2, "--gradient_accumulation_steps", 3], 4),
    ],
)
def test_epochs_steps_and_accumulation_give_the_steps(train, words, steps):
    output, code, messages = train(*words)
    assert code == 0
    assert f"INFO   Total optimization steps = {steps}" in messages
    details = Classifier.load(output).bundle.details
    assert details["history"][-1]["step"] == steps


def test_a_sample_of_the_training_rows_follows_the_seed(train):
    losses = []
    for seed in (1, 1, 2):
        words = ["--train_data_number", 16, "--overwrite_output_dir", "--seed", seed]
        words += ["--max_steps", 1]
        output, code, messages = train(*words)
        assert code == 0
        assert any("a seeded sample of 16 of 48 rows" in line for line in messages)
        assert "INFO   Num examples = 16" in messages
        losses.append(sha256(output / "model.safetensors"))
    assert losses[0] == losses[1] != losses[2]


def test_progress_every_logging_steps(train):
    _, _, messages = train("--logging_steps", 4)
    told = [line for line in messages if line.startswith("INFO step = ")]
    assert [line.split(" of ")[0] for line in told] == [f"INFO step = {n}" for n in (4, 8, 12)]


def test_what_the_recipe_chose_is_said_once(train):
    _, _, messages = train()
    assert sum("--learning_rate was not given" in line for line in messages) == 1
    assert any(re.match(r"INFO training.learning_rate = \S+ \(recipe: ", m) for m in messages)
    _, _, messages = train("--learning_rate", "1e-3", "--overwrite_output_dir")
    assert not any("--learning_rate was not given" in line for line in messages)
    assert "INFO training.learning_rate = 0.001 (--learning_rate)" in messages
    assert any(m.startswith("INFO encoder.pooling = cls_pooler (recipe") for m in messages)


@pytest.mark.parametrize("name", sorted(n for n in LOSSES if "multilabel" in LOSSES[n].tasks))
def test_every_newer_loss_goes_by_its_name(settle, name):
    assert settle("--multilabel", "--multi_label_loss", name)[0].loss.name == name


def test_old_loss_names_and_a_wrong_one(train):
    output, code, _ = train("--multi_label_loss=MultiLabelSoftMarginLoss", "--max_steps", 1)
    assert code == 0
    assert Classifier.load(output).bundle.details["config"]["loss"]["name"] == "bce"
    words = ["--multi_label_loss", "MultiLabelMarginLos", "--overwrite_output_dir"]
    _, code, messages = train(*words)
    assert code == 2
    assert messages[-2].startswith("ERROR --multi_label_loss must be one of")
    assert messages[-1] == "ERROR hint: did you mean 'MultiLabelMarginLoss'?"


# folders


def test_checkpoints_every_save_steps_are_all_kept_and_evaluated(run, train, data):
    output, code, _ = train("--save_steps", 5, "--do_eval", "--eval_all_checkpoints")
    assert code == 0
    steps = sorted(int(p.name.split("-")[1]) for p in output.glob("checkpoint-*"))
    assert steps == [5, 6, 10, 12]  # and one after each epoch
    for step in steps:
        assert "F1_macro" in figures_of(output / f"checkpoint-{step}")
    history = json.loads((output / "bert_cls.json").read_text("utf-8"))["history"]
    best = max(history, key=lambda result: result["score"])["step"]
    assert figures_of(output / f"checkpoint-{best}") == figures_of(output)
    again = ["--data_dir", data["multilabel"], "--output_dir", output, "--do_eval"]
    code, messages = run(*again, "--eval_all_checkpoints")
    assert code == 0
    assert [m for m in messages if "Eval results" in m] == [
        *(f"INFO ***** Eval results checkpoint-{step} *****" for step in steps),
        "INFO ***** Eval results  *****",
    ]


def test_the_best_checkpoint_of_a_regression_has_the_models_figures(train):
    output, code, _ = train("--do_eval", "--eval_all_checkpoints", task="regression")
    assert code == 0
    history = json.loads((output / "bert_cls.json").read_text("utf-8"))["history"]
    best = max(history, key=lambda result: result["score"])["step"]
    assert figures_of(output / f"checkpoint-{best}") == figures_of(output)


def test_without_save_steps_the_newest_and_the_best_are_kept(train):
    output, _, _ = train("--num_train_epochs", 4, "--learning_rate", "1e-2")
    assert 1 <= len(list(output.glob("checkpoint-*"))) <= 2


def test_a_damaged_checkpoint_is_named(run, train, data):
    output, _, _ = train("--max_steps", 1)
    (output / "checkpoint-1/model.safetensors").write_bytes(b"nothing")
    words = ["--data_dir", data["multilabel"], "--output_dir", output, "--do_eval"]
    code, messages = run(*words, "--eval_all_checkpoints")
    assert code == 3
    assert "checkpoint-1/model.safetensors" in messages[-2]


@pytest.mark.parametrize("key", ["config", "data", "tuning"])
def test_a_model_that_does_not_say_what_it_learnt_from_is_not_judged(key, run, train, data):
    output, _, _ = train("--max_steps", 1)
    content = json.loads((output / "bert_cls.json").read_text("utf-8"))
    del content[key]
    (output / "bert_cls.json").write_text(json.dumps(content), "utf-8")
    write_manifest(output)
    code, messages = run("--data_dir", data["multilabel"], "--output_dir", output, "--do_eval")
    assert code == 3
    assert "does not say how and on what it was trained" in messages[-2]


def test_too_many_checkpoints_for_the_disk_are_refused_before_training(train, monkeypatch):
    nearly_full = shutil._ntuple_diskusage(10**9, 10**9, 3 * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly_full)
    assert train("--save_steps", 12)[1] == 0
    _, code, messages = train("--save_steps", 1, "--overwrite_output_dir")
    assert code == 4
    assert "give a larger --save_steps" in messages[-1]


def test_a_full_output_folder_is_refused_and_overwriting_spares_what_is_not_ours(train, encoder):
    output, _, _ = train("--max_steps", 1, "--do_eval", "--do_predict")
    (output / "notes.txt").write_text("mine")
    (output / "sub").mkdir()
    before = sha256(output / "model.safetensors")
    _, code, messages = train("--max_steps", 2)
    assert code == 2
    assert "--overwrite_output_dir" in messages[-1]
    assert sha256(output / "model.safetensors") == before
    _, code, _ = train("--max_steps", 2, "--overwrite_output_dir")
    assert code == 0
    assert (output / "notes.txt").read_text() == "mine"
    assert (output / "sub").is_dir()
    assert {p.name for p in output.glob("checkpoint-*")} == {"checkpoint-2"}
    gone = ("eval_results.txt", "test_results.txt", "test_predictions.jsonl")
    assert not any((output / name).exists() for name in gone)


def test_what_stops_a_run_before_it_begins_spares_the_model_it_would_replace(train, tmp_path, data):
    output, _, _ = train("--max_steps", 1)
    before = sha256(output / "model.safetensors")
    folder = tmp_path / "data"
    shutil.copytree(data["multilabel"], folder)
    rows = json.loads((folder / "dev.json").read_text("utf-8"))
    unlabelled = [{**row, "label": None} for row in rows]
    (folder / "dev.json").write_text(json.dumps(unlabelled), "utf-8")
    _, code, messages = train("--overwrite_output_dir", folder=folder)
    assert code == 2
    assert any("no row of dev has a label" in message for message in messages)
    (folder / "train.json").write_text('[{"index": 0}]', "utf-8")
    _, code, messages = train("--overwrite_output_dir", folder=folder)
    assert code == 2
    assert any("text_a is missing" in message for message in messages)
    assert sha256(output / "model.safetensors") == before
    assert Classifier.load(output).bundle.details["history"]


def test_an_output_that_is_a_file_is_refused(train, tmp_path):
    (tmp_path / "out").write_text("a file")
    _, code, messages = train()
    assert code == 2
    assert messages[-2].endswith("out is a file.")


@pytest.mark.parametrize("place", ["a file/out", "closed/out", "/proc/none/out"])
def test_an_output_that_cannot_be_made_is_said_as_it_is(run, data, encoder, tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "closed").mkdir(mode=0o500)
    if place.startswith("closed") and os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    words = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / place, "--do_train"]
    words += ["--model_name_or_path", encoder("bert"), "--multilabel", "--max_steps", "1"]
    code, messages = run(*words)
    assert code in (2, 4)
    said = "".join(messages[-2:])
    assert re.search("cannot be made: .* (is a file|may not be written)|could not be written", said)
    assert re.search("give another (folder|place)", said)
    assert "--resume" not in said


# evaluating and predicting without training


def test_dev_rows_in_other_bytes_are_not_taken_for_new_ones_in_silence(
    run, data, margin_model, tmp_path
):
    folder, output = tmp_path / "data", tmp_path / "copy"
    shutil.copytree(data["multilabel"], folder)
    shutil.copytree(margin_model, output)
    words = ("--data_dir", folder, "--output_dir", output, "--do_eval", "--multilabel")
    wanted = "the file of dev is not, byte for byte, the one that the model's thresholds are tuned"
    assert not any(wanted in line for line in run(*words)[1])
    content = (folder / "dev.json").read_bytes()
    (folder / "dev.json").write_bytes(b"\xef\xbb\xbf" + content)
    code, messages = run(*words)
    assert code == 0
    [line] = [line for line in messages if wanted in line]
    assert line.startswith("WARNING")
    assert not any("cross-fitting" in line for line in messages)
    (folder / "dev.json").unlink()
    code, messages = run(*words)
    assert code == 2
    assert "give another one, or leave --do_eval out." in "\n".join(messages)


def test_later_evaluation_shows_the_figures_of_training(run, data, margin_model, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(margin_model, output)
    before = (output / "eval_results.txt").read_bytes()
    (output / "eval_results.txt").unlink()
    code, messages = run(
        "--data_dir", data["multilabel"], "--output_dir", output, "--do_eval", "--multilabel"
    )
    assert code == 0
    assert (output / "eval_results.txt").read_bytes() == before
    assert sum("cross-fitting" in line for line in messages) == 1


def test_other_dev_rows_are_judged_by_the_models_own_thresholds(run, margin_model, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(margin_model, output)
    folder = tmp_path / "other"
    folder.mkdir()
    rows = multilabel_rows(30, seed=9)
    (folder / "dev.json").write_text(json.dumps(rows), "utf-8")
    code, messages = run("--data_dir", folder, "--output_dir", output, "--do_eval")
    assert code == 0
    assert not any("cross-fitting" in line for line in messages)
    classifier = Classifier.load(output)
    predicted = classifier.predict([row["text_a"] for row in rows])
    hits = sum(len({*p.labels} & {*r["label"]}) for p, r in zip(predicted, rows, strict=True))
    given = sum(len(p.labels) for p in predicted)
    assert figures_of(output)["P_micro"] == f"{hits / given:.4f}"

    as_names = [{**row, "label": "天窗"} for row in rows]
    (folder / "dev.json").write_text(json.dumps(as_names), "utf-8")
    code, messages = run("--data_dir", folder, "--output_dir", output, "--do_eval", "--multilabel")
    assert code == 2
    assert messages[-1] == 'ERROR hint: write every label as a list, such as ["a"]'

    rows[3]["label"] = ["引擎"]
    (folder / "dev.json").write_text(json.dumps(rows), "utf-8")
    for more in ([], ["--eval_all_checkpoints"]):
        code, messages = run("--data_dir", folder, "--output_dir", output, "--do_eval", *more)
        assert code == 2
        assert any("引擎" in line and "dev.json" in line for line in messages)


def test_predictions_are_ours_one_line_a_row(run, margin_model, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(margin_model, output)
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    rows = [{"index": f"r{i}", "text_a": f"天窗{i}", "label": None} for i in range(5)]
    (folder / "test.json").write_text(json.dumps(rows), "utf-8")
    assert (output / "test_results.txt").is_file()  # of other rows
    code, messages = run("--data_dir", folder, "--output_dir", output, "--do_predict")
    assert code == 0
    lines = (output / "test_predictions.jsonl").read_text("utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [a["index"] for a in answers] == [f"r{i}" for i in range(5)]
    assert all(set(a) == {"index", "labels", "scores"} for a in answers)
    assert not any("Eval results" in line for line in messages)
    assert not (output / "test_results.txt").exists()

    rows[2]["text_a"] = ""
    (folder / "test.json").write_text(json.dumps(rows), "utf-8")
    code, messages = run("--data_dir", folder, "--output_dir", output, "--do_predict")
    assert code == 1
    lines = (output / "test_predictions.jsonl").read_text("utf-8").splitlines()
    assert ["error" in json.loads(line) for line in lines] == [False, False, True, False, False]


def test_only_the_files_of_the_asked_steps_are_needed(run, train, encoder, data, tmp_path):
    folder = tmp_path / "train_only"
    folder.mkdir()
    shutil.copy(data["multilabel"] / "train.json", folder)
    output, code, messages = train("--do_predict", folder=folder)
    assert code == 2
    assert "has no test.json" in messages[-2]
    assert not output.exists()
    output, code, messages = train("--do_eval", folder=folder)
    assert code == 0
    rows = Classifier.load(output).bundle.details["data"]["rows"]
    assert set(rows) == {"train", "dev"}
    assert sum(rows.values()) == 48
    before = figures_of(output)
    code, _ = run("--data_dir", folder, "--output_dir", output, "--do_eval")
    assert code == 0
    assert figures_of(output) == before


def test_one_data_file_is_split_and_split_the_same_way_again(run, train, tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    rows = multilabel_rows(80)
    (folder / "data.json").write_text(json.dumps(rows), "utf-8")
    output, code, messages = train("--do_eval", "--do_predict", folder=folder)
    assert code == 0
    assert sum("held out" in line for line in messages) == 2
    names = ("eval_results.txt", "test_results.txt", "test_predictions.jsonl")
    before = [(output / name).read_bytes() for name in names]
    counts = Classifier.load(output).bundle.details["data"]["rows"]
    assert before[2].count(b"\n") == counts["test"]
    words = ["--data_dir", folder, "--output_dir", output, "--do_eval", "--do_predict"]
    code, _ = run(*words, "--seed", 7)
    assert code == 0
    assert [(output / name).read_bytes() for name in names] == before
    (folder / "data.json").write_text(json.dumps(rows[1:]), "utf-8")
    code, messages = run(*words)
    assert code == 2
    assert "data.json is not the file the model was trained on" in messages[-2]


def test_flags_that_contradict_the_model_are_refused(run, data, margin_model):
    where = ["--data_dir", data["multilabel"], "--output_dir", margin_model, "--do_eval"]
    code, messages = run(*where, "--output_mode", "regression")
    assert code == 2
    assert "is for multilabel data" in messages[-2]


def test_other_label_names_than_the_models_are_said(run, data, margin_model, tmp_path):
    other = tmp_path / "labels.json"
    other.write_text(json.dumps(sorted(PARTS)[::-1]), "utf-8")
    output = tmp_path / "copy"
    shutil.copytree(margin_model, output)
    words = ["--data_dir", data["multilabel"], "--output_dir", output, "--do_eval"]
    code, messages = run(*words, "--labels", other)
    assert code == 0
    assert "WARNING --labels is not used: the model has its own 3" in messages


def test_a_folder_without_a_model_is_an_error_without_traceback(run, data, tmp_path):
    for step in ("--do_eval", "--do_predict"):
        code, messages = run(
            "--data_dir", data["multilabel"], "--output_dir", tmp_path / "none", step
        )
        assert code == 3
        assert messages[-1].startswith("ERROR there is no model folder")


# errors, leaks, signals


def test_texts_in_train_and_dev_are_a_warning(train, data, tmp_path):
    folder = tmp_path / "leaky"
    shutil.copytree(data["multilabel"], folder)
    shutil.copy(folder / "train.json", folder / "dev.json")
    _, code, messages = train("--max_steps", 1, folder=folder)
    assert code == 0
    assert sum(m.startswith("WARNING 48 training texts are also in dev") for m in messages) == 1


@pytest.mark.parametrize(
    "content",
    [
        """{"index": 0, "text_a": "尾灯很亮", "text_b": null, "label": ['尾灯']}""",
        """{'index': 0, 'text_a': '尾灯很亮', 'text_b': None, 'label': ['尾灯']}""",
        """[{'index': 0, 'text_a': '尾灯很亮', 'text_b': None, 'label': ['尾灯']}]""",
        """[{"index": 0, "text_a": "null 尾灯很亮", "text_b": null, "label": ['尾灯']}]""",
        """{\n  "index": 0,\n  "text_a": "尾灯亮",\n  "text_b": null,\n  "label": ['尾灯']\n}\n""",
    ],
)
def test_a_row_with_python_quotes_is_told_what_to_write(train, tmp_path, content):
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "train.json").write_text(content, "utf-8")
    output, code, messages = train(folder=folder)
    assert code == 2
    said = "\n".join(messages)
    assert "train.json" in said
    assert "double quotes" in said
    assert '"label": ["尾灯"]' in said
    assert not (output / "model.safetensors").exists()


def test_messages_speak_in_the_flags_of_this_script(train):
    for words, wanted in (
        (["--max_seq_length", 100_000], "--max_seq_length"),
        (["--max_seq_length", 600], "--max_seq_length must be at most 512"),
        (["--train_data_number", 0], "--train_data_number"),
        (["--seed", -1], "--seed"),
    ):
        _, code, messages = train(*words)
        assert code == 2
        assert wanted in messages[-1]


def test_a_wrong_value_is_said_to_be_from_the_command_line(train):
    _, _, messages = train("--seed", -1)
    assert messages[-1].startswith("ERROR --seed (from the command line): ")


# Rooms that this script never enters, and what nobody can give it, so that nothing is said of it.
NOT_ENTERED = ("cli.py", "terminal.py", "resumable.py", "comparison.py", "nearest.py")
NOT_ENTERED += ("python_names.py", "encoders/trim.py", "training/inherit.py", "training/ranks.py")
NOT_ENTERED += ("training/student.py", "predicted.py", "commands/", "service/", "legacy/")
NOT_GIVEN = {"--init-from", "--rename-labels", "--unlabelled", "loss.class_weights"}
PIP = re.compile(r"--(?:quiet|no-|disable-|only-|platform|dest)")


def templates_of(path: Path) -> list[str]:
    """Every text of a module but its docstrings, what is filled in being `X`."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {
        id(p) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for p in node.values
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            values = (p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
            found.append("".join(values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [] if id(node) in docs | parts else [node.value]
    return found


def strange_flags(message: str) -> list[str]:
    """The flags in a message that this script has not and that stand in no `bert-cls` command."""
    own = {f"--{name}" for name in (*flags.VALUES, *flags.SWITCHES)}
    return [
        flag[0]
        for flag in re.finditer(r"(?<![\w-])(?:--[a-z][a-z_-]*|-o)(?![\w-])", message)
        if flag[0] not in own | NOT_GIVEN
        and not re.search(r"bert-cls [a-z]+ [^,;:]*$", message[: flag.start()])
    ]


def test_every_message_names_flags_of_this_script_or_a_command():
    arguments = parsed("--multilabel")
    package = ROOT / "src" / "bert_cls"
    texts = [
        text
        for path in sorted(package.rglob("*.py"))
        if not str(path.relative_to(package)).startswith(NOT_ENTERED)
        for text in templates_of(path)
        if not PIP.match(text)
    ]
    strange = [text for text in texts if strange_flags(text)]
    assert len(strange) > 30
    assert {text: strange_flags(in_old_words(text, arguments)) for text in strange} == {
        text: [] for text in strange
    }
    rewritten = [in_old_words(text, arguments) for text in texts if " " in text]
    fields = {name for name, _, _ in describe_fields()}
    advised = re.compile(r"(?<!-)\b(?:lower|raise|set|leave) ([a-z]+\.[a-z_]+)")
    assert [m for text in rewritten for m in advised.findall(text) if m in fields - NOT_GIVEN] == []


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"text_a": 7}, "{copy} --coerce-numbers reads it as text"),
        ({"text_a": "\ud800"}, "{copy} --fix-unicode puts U+FFFD there"),
        ({"text_a": ""}, "give the row a text; {copy} leaves it out of a copy"),
        ({"label": ["ＬＥＤ"]}, "run {copy} --merge-labels FILE, where FILE is such as"),
    ],
)
def test_what_this_script_has_no_flag_for_is_said_as_a_command(train, tmp_path, row, wanted):
    rows = multilabel_rows(40)
    rows[3]["label"] = ["LED"]
    rows[0] |= row
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps(rows), "utf-8")
    _, code, messages = train(folder=folder)
    assert code == 2
    copy = f"bert-cls check {folder} --task multilabel --fix FOLDER"
    assert wanted.format(copy=copy) in "\n".join(messages)
    assert messages[-1] == "ERROR then run this script again, with FOLDER as --data_dir"
    assert [line for line in messages if strange_flags(line)] == []


def test_lists_without_multilabel_are_told_of_the_flag(run, encoder, data, tmp_path):
    words = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / "o", "--do_train"]
    code, messages = run(*words, "--model_name_or_path", encoder("bert"))
    assert code == 2
    assert "give --multilabel" in messages[-1]


def test_a_signal_leaves_a_checkpoint_and_its_exit_code(train, monkeypatch):
    told = LogObserver.stepped

    def stopping(self, progress, **more):
        told(self, progress, **more)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(LogObserver, "stepped", stopping)
        output, code, messages = train("--logging_steps", 3)
    assert code == 128 + signal.SIGTERM
    assert "--resume" in messages[-1]
    assert (output / "checkpoint-3").is_dir()

    again, code, messages = train("--logging_steps", 3)
    assert (again, code) == (output, 2)
    assert f"{output} holds a run that was stopped" in messages[-2]
    assert f"go on with: bert-cls train --resume {output} " in messages[-1]
    assert "--overwrite_output_dir throws it away" in messages[-1]
    training_run.train(resumed(output), Silent(), resume=True)
    _, code, messages = train("--logging_steps", 3)
    assert code == 2
    assert f"{output} is not empty" in messages[-2]


def test_a_missing_package_names_the_extra(run, data, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "bert_cls.legacy.steps", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    where = ["--data_dir", data["multilabel"], "--output_dir", tmp_path / "o", "--do_eval"]
    code, messages = run(*where)
    assert code == 5
    assert messages == [
        "ERROR torch is not installed.",
        "ERROR hint: pip install 'bert-cls[train]'",
    ]


def test_a_folder_that_cannot_be_written_is_an_error_without_traceback(train, monkeypatch):
    def refused(*_args, **_more):
        raise PermissionError(13, "Permission denied", "out")

    monkeypatch.setattr(training_run, "check_space", refused)
    _, code, messages = train()
    assert code == 4
    assert any("Permission denied" in message for message in messages)


# what the old program got wrong


def judged(truth, predicted) -> dict[str, float]:
    """The block's figures of bool [rows, labels] arrays."""
    truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
    space = LabelSpace(tuple(f"l{i}" for i in range(truth.shape[1])))
    scores = predicted.astype(float)
    block = legacy_block(evaluate("multilabel", space, truth, scores, predicted, resamples=0))
    lines = [line.strip() for line in block.splitlines()[1:7]]
    return {name: float(value) for name, value in (line.split(" = ") for line in lines)}


def test_f1_comes_from_unrounded_precision_and_recall():
    truth = np.array([[1]] * 6 + [[0]] * 2)
    predicted = np.array([[1]] + [[0]] * 5 + [[1]] * 2)  # P = 1/3, R = 1/6
    p, r = 0.33, 0.17
    assert judged(truth, predicted)["F1_macro"] == 0.2222 != round(2 * p * r / (p + r), 4)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(1, 12), st.randoms(use_true_random=False))
def test_macro_figures_are_possible_together(labels, rows, chooser):
    cells = [[chooser.random() < 0.3 for _ in range(labels)] for _ in range(2 * rows)]
    found = judged(cells[:rows], cells[rows:])
    slack = 2e-4  # four digits
    assert found["F1_macro"] <= (found["P_macro"] + found["R_macro"]) / 2 + slack
    assert found["F1_macro"] <= 2 * found["P_macro"] + slack


def test_undefined_values_count_as_nothing_over_all_labels():
    truth = [[1, 0, 0, 0], [1, 1, 0, 0]]
    predicted = [[1, 0, 0, 0], [1, 0, 0, 1]]  # of 4 labels one is right, one missed, one absent
    found = judged(truth, predicted)
    assert (found["P_macro"], found["R_macro"], found["F1_macro"]) == (0.25, 0.25, 0.25)


def test_rows_with_every_label_and_rows_with_none_are_ordinary(train, tmp_path):
    folder = write_folder(tmp_path / "data", multilabel_rows, labels=sorted(PARTS))
    for split in ("train", "dev", "test"):
        rows = json.loads((folder / f"{split}.json").read_text("utf-8"))
        rows[0]["label"], rows[1]["label"] = sorted(PARTS), []
        (folder / f"{split}.json").write_text(json.dumps(rows), "utf-8")
    words = ["--multi_label_loss=MultiLabelMarginLoss", "--do_eval", "--do_predict"]
    output, code, messages = train(*words, "--eval_all_checkpoints", folder=folder)
    assert code == 0
    assert "INFO ***** Eval results test *****" in messages
    lines = (output / "test_predictions.jsonl").read_text("utf-8").splitlines()
    classifier = Classifier.load(output)
    everything = classifier.with_rule(thresholds=(0.0,) * 3).predict(["天窗"])[0]
    assert len(lines) == 16
    assert everything.labels == classifier.labels


def test_margin_scores_have_a_cut_that_is_tuned_not_assumed(margin_model):
    bundle = Classifier.load(margin_model).bundle
    name = bundle.details["config"]["loss"]["name"]
    assert not LOSSES[name].calibrated
    assert bundle.rule.objective == "micro_macro"
    assert bundle.rule.tuner in TUNERS
    # such a loss cares for differences alone, so its scores may lie on one side of any fixed cut
    generator = np.random.default_rng(0)
    truth = generator.random((60, 3)) < 0.4
    logits = np.where(truth, 4.0, 2.0) + generator.normal(0, 0.2, truth.shape)
    options = {"task": "multilabel", "calibrated": LOSSES[name].calibrated}
    assert (tune(logits, truth, **options).predicted_crossfit == truth).all()
    assumed = tune(logits, truth, **options, tuner="fixed", calibrate="none")
    assert assumed.predicted_crossfit.all()


def test_batches_are_as_wide_as_their_longest_text(train, monkeypatch):
    widths = []
    padded = Tokens.padded

    def watched(self, rows, pad_id, **more):
        batch = padded(self, rows, pad_id, **more)
        widths.append((batch.ids.shape[1], int(self.lengths[rows].max())))
        return batch

    monkeypatch.setattr(Tokens, "padded", watched)
    _, code, _ = train("--max_seq_length", 256)
    assert code == 0
    assert widths
    assert all(width == longest < 100 for width, longest in widths)


def test_figures_of_the_test_rows_follow_from_the_predictions(margin_model, data):
    lines = (margin_model / "test_predictions.jsonl").read_text("utf-8").splitlines()
    rows = json.loads((data["multilabel"] / "test.json").read_text("utf-8"))
    names = sorted(PARTS)
    predicted = [[name in json.loads(line)["labels"] for name in names] for line in lines]
    truth = [[name in row["label"] for name in names] for row in rows]
    expected = judged(truth, predicted)
    written = figures_of(margin_model, "test_results.txt")
    assert {name: float(value) for name, value in written.items()} == expected


def test_dev_figures_never_come_from_thresholds_tuned_on_the_row(
    run, train, margin_model, data, tmp_path, monkeypatch
):
    rows = read(data["multilabel"] / "dev.json", task="multilabel").examples
    honest = crossfitted(Classifier.load(margin_model), rows).metrics["macro_f1_all"]
    assert figures_of(margin_model)["F1_macro"] == f"{honest:.4f}"

    def flattering(*_args, **_more):
        raise AssertionError("the model's own thresholds were tuned on these rows")

    monkeypatch.setattr(Classifier, "evaluate", flattering)
    output, code, messages = train("--do_eval", "--eval_all_checkpoints", "--max_steps", 2)
    assert code == 0
    assert sum("cross-fitting" in line for line in messages) == 1
    words = ["--data_dir", data["multilabel"], "--output_dir", output, "--do_eval"]
    assert run(*words)[0] == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"loss.class_weights": {"尾灯": 8.0}},
        {"training.sampling": "balanced"},
        {"loss.options": {"label_smoothing": 0.2}},
    ],
)
def test_dev_figures_know_whether_the_loss_aimed_at_probabilities(
    settings, run, encoder, data, tmp_path
):
    output = tmp_path / "model"
    chosen = {**settings, "decision.tuner": "fixed", "training.epochs": 1}
    chosen |= {"report.linear_bar": False}
    where = data["multilabel"]
    Classifier.train(where, output, encoder=str(encoder("bert")), settings=chosen)
    stored = json.loads((output / "evaluation.json").read_text("utf-8"))["evaluations"]["dev"]
    assert not Classifier.load(output).bundle.details["tuning"]["calibrated"]
    assert run("--data_dir", where, "--output_dir", output, "--do_eval", "--multilabel")[0] == 0
    assert figures_of(output)["F1_macro"] == f"{stored['metrics']['macro_f1_all']:.4f}"


def test_classes_that_training_decided_by_their_shares_are_judged_so_again(
    run, encoder, tmp_path, monkeypatch
):
    folder = write_folder(
        tmp_path / "data",
        lambda count: [
            row | {"label": "少" if row["index"] % 6 == 0 else "多"}
            for row in multilabel_rows(count)
        ],
    )
    output = tmp_path / "model"
    chosen = {"decision.objective": "macro_f1", "training.epochs": 1, "report.linear_bar": False}
    Classifier.train(folder, output, encoder=str(encoder("bert")), settings=chosen)
    stored = json.loads((output / "evaluation.json").read_text("utf-8"))["evaluations"]["dev"]
    crossfit = Classifier.load(output).bundle.details["tuning"]["crossfit"]
    again = {}

    def watched(*rows, **options):
        tuned = tune(*rows, **options)
        again.update(tuned.crossfit)
        return tuned

    monkeypatch.setattr(training_figures, "tune", watched)
    assert run("--data_dir", folder, "--output_dir", output, "--do_eval")[0] == 0
    assert figures_of(output)["F1_macro"] == f"{stored['metrics']['macro_f1_all']:.4f}"
    assert again == pytest.approx(crossfit)
    assert set(again) == {"argmax", "half_adjusted", "adjusted"}


# real data, where it is


def shared_folder(name: str) -> Path:
    folder = SHARED / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "command", "more"),
    [
        ("kuake_qic", FIRST_COMMAND, []),
        ("car_aspect", SECOND_COMMAND, []),
        ("sms_spam", FIRST_COMMAND, ["--do_predict"]),
        ("stsb_zh", FIRST_COMMAND, ["--output_mode", "regression"]),
    ],
)
def test_the_commands_run_on_real_files(run, encoder, tmp_path, name, command, more):
    folder = shared_folder(name)
    words = words_of(command, folder, encoder("bert"))[2:]
    here = ["--output_dir", tmp_path / "ckpt", "--train_data_number", 64, "--num_train_epochs", 1]
    code, messages = run(*words, *here, *more)
    assert code == 0, messages[-3:]
    assert "INFO   Num examples = 64" in messages
    wanted = ["MSE", "MAE"] if name == "stsb_zh" else ["F1_macro", "F1_micro"]
    assert list(figures_of(tmp_path / "ckpt"))[:2] == wanted
    assert (tmp_path / "ckpt" / MANIFEST).is_file()
    assert (tmp_path / "ckpt" / "test_predictions.jsonl").is_file() == bool("--do_predict" in more)


@pytest.mark.shared
def test_every_flag_of_the_contract_is_known():
    contract = SHARED / "docs" / "legacy-cli.md"
    if not contract.is_file():
        pytest.skip(f"{contract} is not here")
    named = set(re.findall(r"--([a-z][a-z0-9_]+)", contract.read_text("utf-8")))
    assert named
    assert named <= {*flags.VALUES, *flags.SWITCHES}
