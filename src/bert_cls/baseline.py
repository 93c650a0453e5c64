"""The linear bar: what a model without any pre-training reaches on the same rows in seconds.

TF-IDF of character 1- to 4-grams and one linear SVM a label ("Linear Classifier: an often-forgotten
baseline in text classification", ACL 2023); ridge regression for numbers. Needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from bert_cls.data.example import Example, LabelSpace, Task, targets
from bert_cls.decision.rule import Bools, Floats, sigmoid, softmax
from bert_cls.errors import DataError

NGRAMS = (1, 4)
MANY_TEXTS = 200
"""From so many distinct texts on, an n-gram must occur in two of them."""
COST, PAIR_COST = 0.5, 0.2
"""The SVM's price of an error; pairs have longer feature vectors."""
TOLERANCE = 0.1
"""liblinear's own default for its dual solvers. On four data sets a tenth of it moved the tuned
test F1 by 0.7 points at most, either way, for up to twice the time."""
PAIR_RIDGE = 10.0
CERTAIN = 5.0
"""The decision value of a label that all training rows have, or (negative) none."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A fitted linear model."""

    task: Task
    paired: bool
    vectorizer: Any
    weights: Floats
    """[features, columns]; one column for binary and regression, else one a label"""
    offsets: Floats
    """[columns]"""

    def logits(self, examples: Sequence[Example]) -> Floats:
        """Decision values, as `decision.tune` takes them: float64 [rows, labels].

        Binary: minus and plus one half of the value. Regression: the number itself, [rows].
        """
        if examples:
            features = _features(self.vectorizer, examples, paired=self.paired)
            values = np.asarray(features @ self.weights + self.offsets)
        else:
            values = np.zeros((0, len(self.offsets)))
        if self.task == "regression":
            return values[:, 0]
        return values * np.array([-0.5, 0.5]) if self.task == "binary" else values

    def scores(self, examples: Sequence[Example]) -> Floats:
        """Decision values squashed into [0, 1]; not probabilities. Regression: [rows], as they are.

        Sigmoid for multilabel, softmax for classes.
        """
        logits = self.logits(examples)
        if self.task == "regression":
            return logits
        return sigmoid(logits) if self.task == "multilabel" else softmax(logits)


def fit(examples: Sequence[Example], task: Task, space: LabelSpace, *, seed: int = 0) -> Bar:
    """Train the bar on labelled rows. DataError where a row has no label or no row has text."""
    unlabelled = next((e for e in examples if e.label is None), None)
    if unlabelled is not None or not examples:
        which = f"row {unlabelled.index} has none" if unlabelled else "there are no rows"
        raise DataError(f"the linear baseline needs labelled rows; {which}.")
    paired = any(e.text_b is not None for e in examples)
    texts = [e.text_a for e in examples]
    if paired:
        texts += [e.text_b or "" for e in examples]
    distinct = {text for text in texts if text.strip()}
    if not distinct:
        raise DataError("the linear baseline needs text; every row is empty.")
    vectorizer = TfidfVectorizer(
        analyzer="char",
        ngram_range=NGRAMS,
        sublinear_tf=True,
        min_df=2 if len(distinct) >= MANY_TEXTS else 1,
    ).fit(texts)
    features = _features(vectorizer, examples, paired=paired)
    truth = targets(examples, task, space)
    if task == "regression":
        ridge = Ridge(alpha=PAIR_RIDGE if paired else 1.0).fit(features, truth)
        weights, offsets = ridge.coef_[:, None], np.array([ridge.intercept_])
        return Bar(task, paired, vectorizer, weights, offsets)
    if task != "multilabel":
        truth = np.arange(len(space)) == truth[:, None]
    cells: Bools = np.asarray(truth[:, 1:] if task == "binary" else truth, dtype=bool)
    weights, offsets = _machines(features, cells, cost=PAIR_COST if paired else COST, seed=seed)
    return Bar(task, paired, vectorizer, weights, offsets)


def _machines(
    features: csr_matrix, cells: Bools, *, cost: float, seed: int
) -> tuple[Floats, Floats]:
    """One SVM a column of `cells` [rows, columns]: weights [features, columns], offsets [columns].

    One after the other: liblinear's threads share one random state, so their order would show.
    """
    weights = np.zeros((features.shape[1], cells.shape[1]))
    offsets = np.where(cells.all(axis=0), CERTAIN, -CERTAIN)
    for column in np.flatnonzero(cells.any(axis=0) & ~cells.all(axis=0)):
        svm = LinearSVC(C=cost, tol=TOLERANCE, random_state=seed).fit(features, cells[:, column])
        weights[:, column], offsets[column] = svm.coef_[0], svm.intercept_[0]
    return weights, offsets


def _features(vectorizer: Any, examples: Sequence[Example], *, paired: bool) -> csr_matrix:
    """TF-IDF [rows, features]; of pairs both texts, product, distance and overlap side by side."""
    first = vectorizer.transform([e.text_a for e in examples])
    if not paired:
        return first
    second = vectorizer.transform([e.text_b or "" for e in examples])
    product = first.multiply(second).tocsr()
    cosine = np.asarray(product.sum(axis=1)).reshape(-1, 1)
    shared = np.array([_overlap(e.text_a, e.text_b or "") for e in examples]).reshape(-1, 13)
    overlap = csr_matrix(np.hstack([cosine, shared]))
    return hstack([first, second, product, abs(first - second), overlap], format="csr")


def _overlap(first: str, second: str) -> list[float]:
    """Shares of common character 1-, 2- and 3-grams, lengths, their ratio, and equality."""
    out: list[float] = []
    for n in (1, 2, 3):
        a, b = ({text[i : i + n] for i in range(len(text) - n + 1)} for text in (first, second))
        common = len(a & b)
        out += [common / max(1, size) for size in (len(a | b), len(a), len(b))]
    short, long = sorted((len(first), len(second)))
    return [
        *out,
        np.log1p(len(first)),
        np.log1p(len(second)),
        short / max(1, long),
        first == second,
    ]
