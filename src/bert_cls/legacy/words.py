"""Messages of the other rooms, which speak of settings and of new flags, for users of this script.

What it has a flag for is called by that; for all else the `bert-cls` command is said that has it.
"""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from bert_cls.errors import in_shell
from bert_cls.legacy.flags import SETTINGS

_COMMAND = re.compile(r"\bbert-cls [a-z]")  # its flags are its own, up to the end of the line
_EXCERPT = re.compile(r"  (?!remedy: )")  # a line that shows a row of the data
_COPY = "--fix FOLDER"
_THEN = "then run this script again, with FOLDER as --data_dir"


def in_old_words(text: str, arguments: Namespace) -> str:
    """A message with settings and flags called by the flags of this script, or as a command."""
    commands = _commands(arguments)

    def said(match: re.Match[str]) -> str:
        return WORDS[match[0]].format_map(commands)

    lines = []
    copied = False
    for line in text.split("\n"):
        command = _COMMAND.search(line)
        end = 0 if _EXCERPT.match(line) else command.start() if command else len(line)
        head = _NEW.sub(said, line[:end])
        copied = copied or _COPY in head
        lines.append(head + line[end:])
    return "\n".join([*lines, _THEN] if copied else lines)


def _commands(arguments: Namespace) -> dict[str, str]:
    """The beginnings of commands on the same data, and on the model folder."""
    data, output = (in_shell(Path(p)) for p in (arguments.data_dir, arguments.output_dir))
    task = " --task multilabel" if arguments.multilabel else ""
    task = " --task regression" if arguments.output_mode == "regression" else task
    check = f"bert-cls check {data}{task}"
    train = f"bert-cls train {data}{task} -o MODEL"
    return {"check": check, "copy": f"{check} {_COPY}", "train": train, "output": output}


# What a message says -> what it is here; of several that begin alike the longest counts.
WORDS: dict[str, str] = {
    "leave text.lowercase unset": "leave --do_lower_case out",
    "lower training.keep_checkpoints": "give a larger --save_steps",
    "set training.precision=float32": "run {train} --set training.precision=float32",
    "set text.long to head, head_tail or windows": "run {train} --set text.long=windows",
    "give the task multilabel": "give --multilabel",
    "give the task regression": "give --output_mode regression",
    "give the task multiclass": "take --multilabel and --output_mode regression away",
    "free memory and --resume": "free memory and go on with bert-cls train --resume {output}",
    "give --merge-labels a file such as": "run {copy} --merge-labels FILE, where FILE is such as",
    "with --encoding": "with {copy} --encoding NAME",
    "else --encoding": "else run {copy} --encoding NAME",
    "--encoder NAME counts": "{check} --encoder NAME counts",
    "-o": "--output_dir",
    "--batch-size": "--per_gpu_train_batch_size",
    "--coerce-numbers": "{copy} --coerce-numbers",
    "--conflict": "{train} --conflict",
    "--encoder": "--model_name_or_path",
    "--encoding": "{copy} --encoding",
    "--engine": "bert-cls predict {output} FILE --engine",
    "--epochs": "--num_train_epochs",
    "--fix": "{check} --fix",
    "--fix-unicode": "{copy} --fix-unicode",
    "--leak": "{train} --leak",
    "--learning-rate": "--learning_rate",
    "--long": "{check} --long",
    "--lowercase": "{check} --lowercase",
    "--loss": "--multi_label_loss",
    "--max-length": "--max_seq_length",
    "--merge-labels": "{copy} --merge-labels",
    "--normalise": "{check} --normalise",
    "--on-bad-row": "{train} --on-bad-row",
    "--overwrite": "--overwrite_output_dir",
    "--preset": "{train} --preset",
    "--resume": "bert-cls train --resume {output}",
    "--set": "{train} --set",
    "--task": "{check} --task",
    **{setting: f"--{flag}" for flag, setting in SETTINGS.items()},
}
_LONGEST_FIRST = "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True))
_NEW = re.compile(rf"(?<![\w./-])(?:{_LONGEST_FIRST})(?![\w-])")
