from __future__ import annotations

import random

import numpy as np
import pytest

from bert_cls import baseline
from bert_cls.data.example import Example, LabelSpace, targets
from bert_cls.decision import tune
from bert_cls.decision.objectives import measure
from bert_cls.errors import DataError

PHRASES = {
    "屏幕": ["屏幕很亮", "显示清楚", "画面有点暗", "screen is sharp"],
    "电池": ["续航不错", "充电太慢", "电量掉得快", "battery lasts long"],
    "声音": ["外放很响", "耳机有杂音", "音质一般", "speaker is loud"],
}
FILLER = ["用了一周", "朋友推荐的", "昨天刚到", "总的来说", "for the price"]
SPACE = LabelSpace(tuple(PHRASES))


def reviews(seed, rows, *, most=2):
    rng = random.Random(seed)
    out = []
    for row in range(rows):
        labels = tuple(rng.sample(list(PHRASES), rng.randint(0, most)))
        parts = [rng.choice(PHRASES[label]) for label in labels] + rng.sample(FILLER, 2)
        rng.shuffle(parts)
        out.append(Example(row, "，".join(parts), None, labels))
    return out


def single(seed, rows, names):
    rng = random.Random(seed)
    labels = [names[row % len(names)] for row in range(rows)]
    texts = [f"{rng.choice(FILLER)}，{rng.choice(PHRASES[label])}" for label in labels]
    return [Example(i, t, None, n) for i, (t, n) in enumerate(zip(texts, labels, strict=True))]


def test_multilabel_learns_and_its_logits_can_be_tuned():
    train, dev, test = (reviews(seed, rows) for seed, rows in ((0, 300), (1, 120), (2, 120)))
    bar = baseline.fit(train, "multilabel", SPACE)
    scores = bar.scores(test)
    assert scores.shape == (120, 3)
    assert ((scores > 0) & (scores < 1)).all()
    truth = targets(dev, "multilabel", SPACE)
    rule = tune(bar.logits(dev), truth, task="multilabel", calibrated=False).rule
    predicted = rule.decide(rule.scores(bar.logits(test)))
    assert measure("micro_f1", predicted, targets(test, "multilabel", SPACE)) > 0.97


@pytest.mark.parametrize(("task", "names"), [("multiclass", 3), ("binary", 2)])
def test_classes_are_learnt(task, names):
    space = LabelSpace(tuple(PHRASES)[:names])
    bar = baseline.fit(single(0, 240, space.names), task, space)
    test = single(1, 90, space.names)
    scores = bar.scores(test)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert scores.shape == (90, names)
    assert (scores.argmax(axis=1) == targets(test, task, space)).mean() > 0.97
    tuned = tune(bar.logits(test), targets(test, task, space), task=task, calibrated=False)
    assert (tuned.rule.decide(tuned.rule.scores(bar.logits(test))) == scores.argmax(axis=1)).all()


def test_numbers_are_learnt_from_single_texts():
    rng = random.Random(0)
    rows = []
    for row in range(250):
        stars = rng.randint(0, 3)
        rows.append(
            Example(row, "好" * stars + "坏" * (3 - stars) + rng.choice(FILLER), None, float(stars))
        )
    bar = baseline.fit(rows[:200], "regression", LabelSpace(()))
    values = bar.scores(rows[200:])
    assert values.shape == (50,)
    assert (values == bar.logits(rows[200:])).all()
    assert np.abs(values - targets(rows[200:], "regression", LabelSpace(()))).mean() < 0.3


def pairs(seed, rows):
    """Whether two texts are about the same thing: neither text alone tells."""
    rng = random.Random(seed)
    out = []
    for row in range(rows):
        first = rng.choice(FILLER)
        other = rng.choice([text for text in FILLER if text != first])
        same = row % 2 == 0
        out.append(Example(row, first, first if same else other, "same" if same else "other"))
    return out


def test_pairs_see_how_the_texts_overlap():
    space = LabelSpace(("other", "same"))
    bar = baseline.fit(pairs(0, 200), "binary", space)
    test = pairs(1, 80)
    assert (bar.scores(test).argmax(axis=1) == targets(test, "binary", space)).mean() > 0.97
    lonely = [Example(0, "用了一周", None, None), Example(1, "用了一周", "", None)]
    assert (bar.scores(lonely)[0] == bar.scores(lonely)[1]).all()


def test_pair_regression_follows_similarity():
    rows = [
        Example(i, "今天天气真的很好", "今天天气真的很好"[: 1 + i % 8], float(i % 8))
        for i in range(64)
    ]
    bar = baseline.fit(rows, "regression", LabelSpace(()))
    values = bar.scores(rows[:8])
    assert (np.diff(values) > 0).all()


def test_labels_no_row_or_every_row_has_are_constant():
    space = LabelSpace((*PHRASES, "nobody", "everybody"))
    train = [Example(e.index, e.text_a, None, (*e.label, "everybody")) for e in reviews(0, 40)]
    scores = baseline.fit(train, "multilabel", space).scores(reviews(1, 10))
    assert (scores[:, 3] < 0.01).all()
    assert (scores[:, 4] > 0.99).all()


def test_a_class_without_rows_never_wins_and_one_class_alone_always_does():
    space = LabelSpace(("nobody", *PHRASES))
    bar = baseline.fit(single(0, 60, tuple(PHRASES)), "multiclass", space)
    assert (bar.scores(single(1, 30, tuple(PHRASES))).argmax(axis=1) > 0).all()
    only = baseline.fit(single(0, 5, ("电池",)), "binary", LabelSpace(("屏幕", "电池")))
    assert (only.scores(single(1, 5, ("屏幕",))).argmax(axis=1) == 1).all()


def test_unseen_characters_and_empty_texts_are_scored():
    bar = baseline.fit(reviews(0, 60), "multilabel", SPACE)
    scores = bar.scores([Example(0, ""), Example(1, "☃ЖЖЖ"), Example(2, "   ")])
    assert np.isfinite(scores).all()
    assert bar.scores([]).shape == (0, 3)


def test_the_same_seed_gives_the_same_bar_and_a_batch_does_not_matter():
    train, test = reviews(0, 120), reviews(1, 30)
    one, other = (baseline.fit(train, "multilabel", SPACE, seed=3).logits(test) for _ in range(2))
    assert (one == other).all()
    alone = baseline.fit(train, "multilabel", SPACE, seed=3).logits(test[7:8])
    np.testing.assert_allclose(alone[0], one[7], rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([Example(4, "好", None, ("屏幕",)), Example(9, "坏", None, None)], "row 9"),
        ([Example(0, " ", None, ("屏幕",)), Example(1, "", None, ())], "every row is empty"),
    ],
)
def test_rows_that_teach_nothing_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        baseline.fit(rows, "multilabel", SPACE)
