"""Small labelled data written for the tests, one kind for each task."""

from __future__ import annotations

import json
import random
from pathlib import Path

PARTS = {
    "尾灯": ["尾灯", "后灯", "刹车时后面的灯"],
    "天窗": ["天窗", "车顶玻璃", "全景天窗"],
    "轮胎": ["轮胎", "胎压", "爆胎"],
}
FRAMES = ["这车的{}让人满意", "{}上周坏了去修", "朋友问我{}怎么样", "换{}花了三百块", "说说{}吧"]
EMPTY = ["今天天气不错", "堵车堵了一个小时", "停车场又涨价了"]


def multilabel_rows(count: int, *, seed: int = 0) -> list[dict]:
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        names = chooser.sample(sorted(PARTS), chooser.choice([0, 1, 1, 2]))
        parts = [chooser.choice(FRAMES).format(chooser.choice(PARTS[n])) for n in names]
        text = "，".join(parts) if parts else chooser.choice(EMPTY)
        rows.append({"index": index, "text_a": f"{text}{index}", "text_b": None, "label": names})
    return rows


def class_rows(count: int, names: list[str], *, seed: int = 0) -> list[dict]:
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        name = chooser.choice(names)
        text = chooser.choice(FRAMES).format(chooser.choice(PARTS[list(PARTS)[names.index(name)]]))
        rows.append({"index": index, "text_a": f"{text}{index}", "text_b": None, "label": name})
    return rows


def score_rows(count: int, *, seed: int = 0) -> list[dict]:
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        good = chooser.randint(0, 4)
        text = "很好" * good + "一般" * (4 - good)
        rows.append({"index": index, "text_a": f"{text}{index}", "text_b": None, "label": good / 2})
    return rows


def paired(rows: list[dict]) -> list[dict]:
    return [{**row, "text_b": f"问题：{row['text_a'][:4]}"} for row in rows]


def write_folder(
    folder: Path, make, *, sizes=(48, 16, 16), labels: list[str] | None = None
) -> Path:
    """train, dev and test files with rows that do not repeat between them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = make(sum(sizes))
    at = 0
    for name, size in zip(("train", "dev", "test"), sizes, strict=True):
        part = rows[at : at + size]
        content = json.dumps(part, ensure_ascii=False)
        (folder / f"{name}.json").write_text(content, encoding="utf-8")
        at += size
    if labels is not None:
        content = json.dumps(labels, ensure_ascii=False)
        (folder / "labels.json").write_text(content, encoding="utf-8")
    return folder


FAST = {
    "training.epochs": 1,
    "training.batch_size": 16,
    "text.max_length": 24,
    "report.linear_bar": False,
    "report.resamples": 0,
}
"""Settings of a training that only has to end."""
MAKERS = {
    "multilabel": multilabel_rows,
    "multiclass": lambda n: class_rows(n, ["甲", "乙", "丙"]),
    "binary": lambda n: class_rows(n, ["差", "好"]),
    "regression": score_rows,
}
