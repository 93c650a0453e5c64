"""Ordinary mistakes from Python are refused in words that say what to write instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bert_cls import Classifier, Example
from bert_cls.comparison import compare
from bert_cls.data import LabelSpace
from bert_cls.decision import Rule
from bert_cls.errors import BertClsError, ConfigError, DataError
from bert_cls.ranges import LEAST
from counting import counting_classifier
from doors import main

ROW = Example(0, "尾灯不亮", None, ("甲",))


class Table:
    """What a table of pandas is to a loop: the names of its columns."""

    columns = ("text_a", "label")

    def __iter__(self):
        return iter(self.columns)


@pytest.fixture
def model() -> Classifier:
    return counting_classifier()


def said(kind: type[BertClsError], asked) -> str:
    with pytest.raises(kind) as caught:
        asked()
    return str(caught.value)


@pytest.mark.parametrize("given", [{"text_a": "尾灯"}, Table(), None, 5, b"x", Path("x.json")])
def test_what_is_no_list_of_texts_is_refused(model, given):
    wanted = f"{type(given).__name__} was given where a list of texts is expected"
    for asked in (model.predict, model.explain):
        text = said(DataError, lambda asked=asked: asked(given))
        assert wanted in text
        assert 'list(table["text_a"])' in text


@pytest.mark.parametrize("given", [{"尾灯", "天窗"}, frozenset({ROW})])
def test_a_set_has_no_order_to_be_answered_in(model, given):
    for asked in (
        model.predict,
        model.explain,
        model.evaluate,
        lambda s: [*model.predict_stream(s)],
    ):
        text = said(DataError, lambda asked=asked: asked(given))
        assert "a set has no order" in text
    assert model.predict({"尾灯": 1, "天窗": 2}.keys()) == model.predict(["尾灯", "天窗"])


@pytest.mark.parametrize("value", [-1, 1.5, True, "8", None])
@pytest.mark.parametrize("name", ["passes", "top", "window", "skip", "resamples", "seed"])
def test_numbers_have_the_ranges_of_the_command_line(model, name, value):
    asked = {
        "passes": lambda: model.explain(["尾灯不亮"], **{name: value}),
        "resamples": lambda: model.evaluate([ROW], **{name: value}),
        "seed": lambda: model.evaluate([ROW], **{name: value}),
    }.get(name, lambda: [*model.predict_stream([ROW], **{name: value})])
    if (name, value) == ("top", None):
        assert asked()
        return
    least = f"{name} must be a whole number, at least {LEAST[name]}. Got {value!r} instead."
    assert least in said(ConfigError, asked)


def test_the_least_of_the_command_line_is_that_of_python():
    for command, name in (("explain", "passes"), ("predict", "top"), ("evaluate", "resamples")):
        refused = main(command, "model", "rows.json", f"--{name}", LEAST[name] - 1)
        assert refused.code == 2
        assert f"or equal to {LEAST[name]} " in refused.err


def test_the_least_itself_and_numbers_of_numpy_are_taken(model):
    for whole in (int, np.int64):
        assert model.explain(["尾灯不亮"], passes=whole(8))
        assert [*model.predict_stream([ROW], top=whole(1), window=whole(1), skip=whole(0))]


def test_one_text_or_one_row_is_no_list(model):
    for given in ("尾灯", ROW):
        assert "put it into one: [text]" in said(DataError, lambda g=given: model.predict(g))
    assert "text 0: dict is neither" in said(DataError, lambda: model.predict([{"text_a": "x"}]))
    assert model.predict(np.array(["尾灯"])) == model.predict(["尾灯"])
    assert model.predict(iter(["尾灯"])) == model.predict(["尾灯"])


@pytest.mark.parametrize("given", ["x.json", Path("x.json"), None, {"a": 1}, ROW, Table()])
def test_rows_are_examples_and_a_file_is_to_be_read(model, given):
    for asked, what in ((model.evaluate, "Examples"), (lambda g: [*model.predict_stream(g)], "")):
        text = said(DataError, lambda asked=asked: asked(given))
        assert f"{type(given).__name__} was given where a list of {what}" in text
        assert "bert_cls.data.read(FILE).examples" in text


@pytest.mark.parametrize("row", [{"text_a": "尾灯", "label": []}, "尾灯", None])
def test_a_row_that_is_no_example_is_named(model, row):
    for asked in (model.evaluate, lambda rows: [*model.predict_stream(rows)]):
        text = said(DataError, lambda asked=asked: asked([ROW, row]))
        assert f"row 1: {type(row).__name__} was given where an Example is expected" in text


def test_a_stream_answers_the_rows_before_what_is_none(model):
    answers = model.predict_stream([ROW, "尾灯"])
    assert next(answers)["index"] == 0
    with pytest.raises(DataError, match="row 1: str"):
        next(answers)


def test_labels_are_written_as_in_files(model):
    as_tuple = model.evaluate([ROW] * 3, resamples=0)
    as_list = model.evaluate([replace(ROW, label=["甲"])] * 3, resamples=0)
    assert as_list == as_tuple
    classes = counting_classifier("multiclass")
    number = Rule(task="regression", activation="identity")
    bundle = replace(classes.bundle, rule=number, space=LabelSpace(()))
    values = Classifier(bundle, classes.engine, classes.text)
    for asked, label, words in (
        (model, "甲", 'write a list of names, such as ["尾灯"]'),
        (model, [1], "label must be a list of strings"),
        (model, {"甲"}, "label must be a name, a list of names or a number"),
        (classes, ["甲"], "write one name"),
        (values, "3", "write a number"),
        (values, True, "Got true instead"),
        (values, float("nan"), "label is not a number (NaN)"),
    ):
        row = Example(7, "尾灯", None, label)
        text = said(DataError, lambda asked=asked, row=row: asked.evaluate([row], resamples=0))
        assert text.startswith("row 7: label")
        assert words in text


def test_a_text_that_is_none_is_said_in_its_row(model):
    wanted = "a text must be a string. Got NoneType instead."
    rows = [ROW, Example(4, None)]
    assert f"text 4: {wanted}" in said(DataError, lambda: model.predict(rows))
    assert [*model.predict_stream(rows)][1] == {"index": 4, "error": wanted}


def test_half_a_surrogate_pair_is_no_empty_text(model):
    for text in ("\ud800", " \udc00 "):
        assert "half a surrogate pair" in said(DataError, lambda t=text: model.predict([t]))
        [answer] = model.predict_stream([Example(0, text)])
        assert "half a surrogate pair" in answer["error"]
    assert "the text is empty" in said(DataError, lambda: model.predict([" \u200b"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 0.5}, "did you mean 'thresholds'?"),
        ({"thresholds": 0.5}, "a list of numbers, one a label in their order. Got 0.5"),
        ({"thresholds": {"甲": 0.5}}, "a list of numbers, one a label in their order. Got {"),
        ({"thresholds": ["high"] * 3}, "thresholds must be a number. Got 'high'"),
        ({"thresholds": None}, "Got None instead"),
        ({"min_labels": "1"}, "min_labels must be a whole number"),
        ({"max_labels": 1.5}, "max_labels must be a whole number"),
        ({"min_confidence": "0.5"}, "min_confidence must be a number"),
    ],
)
def test_a_rule_is_changed_by_what_it_has(model, changes, words):
    assert words in said(ConfigError, lambda: model.with_rule(**changes))


def test_a_rule_takes_numbers_of_numpy(model):
    cuts = np.array([0.25, 0.5, 0.75], np.float32)
    plain = model.with_rule(thresholds=[0.25, 0.5, 0.75], max_labels=2, min_confidence=0.5)
    other = model.with_rule(thresholds=cuts, max_labels=np.int64(2), min_confidence=np.float32(0.5))
    assert other.bundle.rule == plain.bundle.rule
    assert other.bundle.rule.to_dict() == plain.bundle.rule.to_dict()


def test_one_name_is_one_label_to_explain(model):
    bundle = replace(model.bundle, space=LabelSpace(("尾灯", "天窗", "轮胎")))
    model = Classifier(bundle, model.engine, model.text)
    [why] = model.explain(["尾灯不亮"], "天窗")
    assert [each.label for each in why.labels] == ["天窗"]


@pytest.mark.parametrize("folder", [None, 5])
def test_a_folder_is_a_path(folder):
    text = said(ConfigError, lambda: Classifier.load(folder))
    assert f"Got {folder} instead" in text
    assert 'Classifier.load("model")' in text


@pytest.mark.parametrize("resamples", [0, -1, 1.5])
def test_a_comparison_without_resamples_is_refused(resamples):
    wanted = f"resamples must be a whole number, at least 1. Got {resamples} instead."
    paths = Path("a"), Path("b")
    assert wanted in said(ConfigError, lambda: compare(paths, Path("c"), resamples=resamples))
