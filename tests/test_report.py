"""The report's content: figures against scikit-learn and brute force, laws, and what is written."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from bert_cls import metrics
from bert_cls.commands.console import open_console
from bert_cls.data import LabelSpace
from bert_cls.data.findings import Audit, Finding
from bert_cls.data.problems import KINDS, NONE_OF_THE_LABELS
from bert_cls.decision import Rule
from bert_cls.decision.crossfit import AIMS, TAUS
from bert_cls.decision.tuners import TUNERS
from bert_cls.errors import BundleError
from bert_cls.metrics import DEFINITIONS, Evaluation, PairedDifference
from bert_cls.report import About, LinearBar, page, report_data, seen_rows, stored_bar
from bert_cls.report.content import PAIRS, _found, _mistakes
from bert_cls.report.data import NearRow, plain
from bert_cls.report.page import PROGRAM, _shown, embedded, words
from bert_cls.report.scores import calibration_curves, label_curves
from bert_cls.terminal import figures_table, label_table
from judged import MAX_LENGTH, TASKS, judged_case, report_case

GOLDEN = Path(__file__).parent / "golden"
ASSETS = resources.files("bert_cls.report").joinpath("assets")
LIBRARY_SHA256 = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"


def same(value, expected):
    return value == pytest.approx(expected, rel=1e-12, abs=1e-12)


@st.composite
def scored(draw):
    """Truth with a positive, and scores with many ties or none."""
    rows = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    truth = rng.random(rows) < draw(st.sampled_from([0.02, 0.3, 0.9]))
    truth[rng.integers(rows)] = True
    scores = rng.random(rows)
    levels = draw(st.sampled_from([None, 2, 10]))
    return truth, scores if levels is None else np.round(scores * levels) / levels


@given(scored())
def test_curves_are_those_of_scikit_learn(case):
    truth, scores = case
    curve = metrics.precision_recall(truth, scores)
    precision, recall, thresholds = sk.precision_recall_curve(truth, scores)
    assert same(curve.precision[::-1], precision[:-1])
    assert same(curve.recall[::-1], recall[:-1])
    assert same(curve.thresholds[::-1], thresholds)


def test_a_label_that_no_row_has_has_no_curve():
    assert metrics.precision_recall(np.zeros(3, bool), np.array([0.1, 0.2, 0.3])) is None


@given(scored(), st.integers(4, 60))
def test_thinned_curves_keep_their_ends_peaks_and_dips_and_invent_nothing(case, points):
    whole = metrics.precision_recall(*case)
    thin = metrics.thinned(whole, points)
    assert len(thin.recall) <= points
    triples = set(zip(whole.recall, whole.precision, whole.thresholds, strict=True))
    kept = list(zip(thin.recall, thin.precision, thin.thresholds, strict=True))
    assert set(kept) <= triples
    assert kept[0][0] == whole.recall[0]
    assert kept[-1][0] == whole.recall[-1] == 1
    assert np.all(np.diff(thin.thresholds) < 0)
    assert thin.precision.min() == whole.precision.min()
    assert thin.precision.max() == whole.precision.max()


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 5))
def test_replacements_are_what_counting_row_by_row_gives(seed, rows, labels):
    """Among all labels, and among some: of a row that lacks another one, none is given alone."""
    rng = np.random.default_rng(seed)
    truth, given_ = rng.random((2, rows, labels)) < 0.4
    expected = np.zeros((labels + 1, labels + 1), int)
    for has, got in zip(truth, given_, strict=True):
        missed = list(np.flatnonzero(has & ~got)) or [labels]
        extra = list(np.flatnonzero(got & ~has)) or [labels]
        for i in missed:
            for j in extra:
                expected[i, j] += 1
    expected[labels, labels] = 0
    assert (metrics.replacements(truth, given_, np.arange(labels)) == expected).all()
    some = np.flatnonzero(rng.random(labels) < 0.5)
    kept = [*some, labels]
    assert (metrics.replacements(truth, given_, some) == expected[np.ix_(kept, kept)]).all()


def test_the_largest_pairs_are_off_the_diagonal_and_in_order():
    table = np.array([[9, 2, 0], [5, 9, 2], [0, 1, 9]])
    assert metrics.largest_pairs(table, 3) == [(1, 0), (0, 1), (1, 2)]
    assert metrics.largest_pairs(np.diag([3, 3]), 3) == []


@pytest.mark.parametrize("task", TASKS)
def test_the_mean_error_of_rows_is_the_figure_people_know(task):
    outcome = judged_case(task, rows=80)[0].outcome
    mean = metrics.row_errors(outcome).mean()
    known = {
        "multilabel": lambda: (
            1 - sk.f1_score(outcome.truth, outcome.decided, average="samples", zero_division=1.0)
        ),
        "multiclass": lambda: 1 - sk.accuracy_score(outcome.truth, outcome.decided),
        "binary": lambda: sk.zero_one_loss(outcome.truth, outcome.decided),
        "regression": lambda: sk.mean_absolute_error(outcome.truth, outcome.scores),
    }
    assert same(mean, known[task]())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(0, 9))
def test_stretches_of_length_hold_every_row_once(lengths, seed):
    errors = np.random.default_rng(seed).random(len(lengths))
    stretches = metrics.by_length(np.array(lengths), errors, shares=True)
    assert len(stretches) <= 8
    assert sum(s.rows for s in stretches) == len(lengths)
    assert all(a.highest < b.lowest for a, b in itertools.pairwise(stretches))
    assert same(sum(s.rows * s.error for s in stretches), errors.sum())
    assert all(
        s.interval[0] <= s.error + 1e-12 and s.error <= s.interval[1] + 1e-12 for s in stretches
    )


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (0, 10), (3, 10), (10, 10), (70, 90)])
def test_bounds_of_a_share_are_wilsons(right, rows):
    values = np.arange(rows) < right
    expected = stats.binomtest(right, rows).proportion_ci(0.95, method="wilson")
    found = metrics.mean_interval(values.astype(float), shares=True)
    assert same(found, (expected.low, expected.high))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_bounds_of_shares_lie_in_0_to_1_and_have_a_width(values):
    low, high = metrics.mean_interval(np.array(values), shares=True)
    assert 0 <= low < high <= 1


def test_of_one_number_there_are_no_bounds():
    assert metrics.mean_interval(np.array([2.0]), shares=False) is None
    assert same(
        metrics.mean_interval(np.array([1.0, 3.0]), shares=False), (0.04003601545991, 3.95996398454)
    )


@pytest.mark.parametrize("task", TASKS)
def test_worst_rows_are_wrong_and_the_surest_come_first(task):
    judged, _ = judged_case(task, rows=60)
    errors = metrics.row_errors(judged.outcome)
    sure = metrics.wrong_confidence(judged.outcome)
    rows = metrics.worst_rows(judged.outcome, 12)
    assert (errors[rows] > 0).all()
    assert (np.diff(sure[rows]) <= 0).all()
    others = np.setdiff1d(np.flatnonzero(errors > 0), rows)
    assert not len(others) or sure[others].max() <= sure[rows].min()


def test_reliability_is_scikit_learns():
    report = report_case("binary", rows=400)
    outcome = judged_case("binary", rows=400)[0].outcome
    came_true, said = calibration_curve(outcome.truth, outcome.scores[:, 1], n_bins=15)
    assert same(report.calibration[-1].came_true, came_true)
    assert same(report.calibration[-1].said, said)
    assert [curve.when for curve in report.calibration] == ["before", "after"]
    assert report.calibration[-1].error == report.evaluation.metrics["ece"]


@pytest.mark.parametrize("task", TASKS)
def test_a_report_agrees_with_itself_and_is_json(task):
    judged, bundle = judged_case(task, rows=120)
    report = report_case(task, rows=120)
    content = orjson.loads(orjson.dumps(report.to_dict()))
    assert Evaluation.from_dict(content) == report.evaluation
    assert content["definitions"] == {name: DEFINITIONS[name] for name in content["metrics"]}
    wrong = int(np.count_nonzero(metrics.row_errors(judged.outcome)))
    assert report.wrong_rows == wrong
    assert len(report.worst) == min(50, wrong)
    assert sum(s.rows for s in report.lengths) == 120
    assert report.truncation.whole.rows + report.truncation.cut.rows == 120
    assert report.truncation.max_length == MAX_LENGTH
    for rows, part in (
        (~judged.cut, report.truncation.whole),
        (judged.cut, report.truncation.cut),
    ):
        alone = metrics.part(judged.outcome, rows)
        again = metrics.evaluate(
            task, bundle.space, alone.truth, alone.scores, alone.predicted, resamples=0
        )
        assert part.metric == pytest.approx(again.metrics[report.truncation.metric], abs=1e-12)
    if task == "regression":
        assert sum(report.numbers.residuals) == len(report.numbers.truth) == 120
        assert report.mistakes is None
        return
    support = {row.name: row.support for row in report.evaluation.per_label}
    for curve in report.curves:
        assert len(curve.recall) <= 500
        assert curve.label is None or support[curve.label] > 0
    assert {curve.label for curve in report.curves if curve.label} <= set(support)


def test_the_dot_of_a_label_lies_on_its_curve():
    report = report_case("multilabel", rows=200)
    for curve in report.curves[1:]:
        fired = [i for i, t in enumerate(curve.thresholds) if t >= curve.threshold]
        assert curve.at_recall == pytest.approx(curve.recall[fired[-1]], abs=1e-4)
        assert curve.at_precision == pytest.approx(curve.precision[fired[-1]], abs=1e-4)


def test_decisions_that_give_no_label_have_a_recall_and_no_precision():
    truth = np.arange(20)[:, None] % 2 == np.arange(2)
    none = np.zeros_like(truth)
    scores = 0.4 * truth
    evaluation = metrics.evaluate(
        "multilabel", LabelSpace(("a", "b")), truth, scores, none, resamples=0
    )
    rule = Rule(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.5))
    curves = label_curves(metrics.Outcome("multilabel", truth, scores, none), evaluation, rule)
    assert [curve.label for curve in curves] == [None, "a", "b"]
    assert [(curve.at_recall, curve.at_precision) for curve in curves] == [(0, None)] * 3


def test_the_dot_of_a_binary_model_with_weights_lies_on_its_curve():
    rng = np.random.default_rng(0)
    truth = (rng.random(400) < 0.2).astype(np.int64)
    positive = rng.beta(1 + 2 * truth, 4)
    scores = np.stack([1 - positive, positive], axis=1)
    rule = Rule(task="binary", activation="softmax", weights=(0.25, 1.0))
    decided = rule.decide(scores)
    space = LabelSpace(("no", "yes"))
    evaluation = metrics.evaluate("binary", space, truth, scores, decided, resamples=0)
    [curve] = label_curves(metrics.Outcome("binary", truth, scores, decided), evaluation, rule)
    assert curve.threshold == pytest.approx(0.2)
    fired = positive >= curve.threshold
    assert curve.at_recall == pytest.approx(fired[truth == 1].mean())


def test_confusions_of_classes_are_scikit_learns():
    report = report_case("multiclass", rows=90)
    outcome = judged_case("multiclass", rows=90)[0].outcome
    expected = sk.confusion_matrix(outcome.truth, outcome.decided)
    assert (np.array(report.mistakes.matrix) == expected).all()
    assert report.mistakes.pairs[0].rows == (expected - np.diag(np.diag(expected))).max()


def test_many_labels_are_cut_down_and_counted():
    names = tuple(f"标签{i}" for i in range(700))
    report = report_case("multilabel", rows=60, names=names)
    assert len(report.mistakes.labels) + report.mistakes.left_out == 700
    assert len(report.mistakes.pairs) <= 2 * PAIRS
    assert len(page(report).encode()) < 3_000_000
    assert sum(len(group.labels) for group in report.groups) == 700


def test_a_label_is_given_alone_only_where_no_label_at_all_is_missed():
    names = tuple(map(str, range(600)))
    truth, decided = np.zeros((2, 1104, 600), bool)
    many = np.arange(512)  # the labels with most mistakes: each is missed in two rows
    truth[many, many] = truth[512 + many, many] = True
    rare = np.arange(80)
    truth[1024 + rare, 512 + rare] = decided[1024 + rare, 3] = True
    mistakes = _mistakes(metrics.Outcome("multilabel", truth, decided * 1.0, decided), names)
    assert {pair.given for pair in mistakes.pairs} == {None}


def test_a_page_of_long_names_stays_small_where_rows_have_hundreds_of_labels():
    names = tuple(f"{i:04d}" + "长" * 196 for i in range(1000))
    report = report_case("multilabel", rows=60, names=names)
    assert len(report.worst[0].true) > 200
    near = NearRow(1, "文", None, names[:300], 0.9)
    rows = [replace(row, nearest=(near, near)) for row in report.worst]
    assert len(page(replace(report, worst=tuple(rows))).encode()) < 3_000_000


def test_a_page_stays_small_where_rows_have_thousands_of_labels():
    names = tuple(f"{i:04d}" + "长" * 196 for i in range(5000))
    report = report_case("multilabel", rows=60, names=names)
    assert len(report.worst[0].true) > 1000
    near = NearRow(1, "<油" * 100, None, names[3500:], 0.9)
    rows = [replace(row, text_a="<油" * 600, nearest=(near, near)) for row in report.worst]
    assert len(page(replace(report, worst=tuple(rows))).encode()) < 3_000_000


@pytest.mark.parametrize("task", TASKS)
def test_without_texts_no_text_of_the_data_is_anywhere(task):
    report = report_case(task, texts=False, explain=pytest.fail)
    for written in (page(report), orjson.dumps(report.to_dict()).decode()):
        assert "行的文本" not in written
    assert "行的文本" in page(report_case(task))


def test_explanations_are_of_labels_given_in_error_and_where_there_are_none_of_missed_ones():
    asked = []

    def explain(rows):
        asked.extend((example.index, label) for example, label in rows)
        return [([(e.text_a[:2], 1.0), (e.text_a[2:], -0.5)], []) for e, _ in rows]

    report = report_case("multilabel", explain=explain)
    for row in report.worst:
        given_ = [verdict.label for verdict in row.wrong if verdict.given]
        label = given_[0] if given_ else row.wrong[0].label
        assert (row.index, label) in asked
        weights = (1.0, 0.0) if given_ else (0.0, 0.5)  # what spoke against a label that is missed
        assert row.spoke == ((row.text_a[:2], weights[0]), (row.text_a[2:], weights[1]))
        assert row.spoke_b is None
        assert row.explained == label
    assert len({any(verdict.given for verdict in row.wrong) for row in report.worst}) == 2


@pytest.mark.parametrize("weights", ["alike", "all different", "every other"])
def test_a_page_of_long_explained_pairs_stays_small(weights):
    def explain(rows):
        assert len(rows) == 50
        return [(weighed(example.text_a), weighed(example.text_b)) for example, _ in rows]

    def weighed(text):
        given = {
            "alike": lambda i: 0.0123456789,
            "all different": lambda i: 0.1 + i * 1e-6,
            "every other": lambda i: (-1) ** i * (0.1 + i * 1e-6),
        }[weights]
        return [(character, given(i)) for i, character in enumerate(text)]

    names = tuple(f"标签{i}" for i in range(700))
    judged, bundle = judged_case("multilabel", rows=60, names=names)
    # an angle bracket is six bytes in the page
    long = [replace(e, text_a="<油" * 5000, text_b="耗>" * 5000) for e in judged.examples]
    evaluation = report_case("multilabel", rows=60, names=names).evaluation
    about = About("model", "rows.json", "file", "2026-01-02", "0.1.0")
    report = report_data(
        replace(judged, examples=long),
        evaluation,
        bundle,
        about=about,
        explain=explain,
        nearest=lambda rows: [[(long[0], 0.912345678), (long[1], 0.9)] for _ in rows],
    )
    assert len(report.worst[0].nearest[0].text_a) == 202
    assert len(page(report).encode()) < 3_000_000
    for row in report.worst:
        for text, pieces in ((row.text_a, row.spoke), (row.text_b, row.spoke_b)):
            assert "".join(piece for piece, _ in pieces) == text
            assert len(text) == 1200
            assert sum(weight > 0 for _, weight in pieces) == 100
    # those that are marked are the strongest of what is shown
    least = min(weight for _, weight in report.worst[0].spoke if weight > 0)
    shown = sorted((w for _, w in weighed("<油" * 600)), reverse=True)
    assert least == pytest.approx(shown[99], rel=0.01)


def test_groups_are_those_of_the_figures():
    report = report_case("multilabel")
    assert [g.name for g in report.groups] == ["head", "medium", "tail"]
    assert [g.f1 for g in report.groups] == [
        report.evaluation.metrics[f"macro_f1_{g.name}"] for g in report.groups
    ]
    assert report.groups[0].fewest >= report.groups[2].most
    assert report_case("binary").groups == ()


def test_the_rule_in_the_json_decides_as_the_model_does():
    report, third = report_case("multilabel"), 1 / 3
    thresholds = [third] * (len(report.rule["thresholds"]) - 1) + ["never"]
    rule = {**report.rule, "thresholds": thresholds, "min_confidence": 2 / 3}
    written = orjson.loads(orjson.dumps(replace(report, rule=rule).to_dict()))["rule"]
    assert written == {**rule, **{k: list(v) for k, v in rule.items() if isinstance(v, tuple)}}
    assert Rule.from_dict(written).thresholds[0] == third


def test_scores_that_are_no_probabilities_have_no_calibration():
    judged, bundle = judged_case("multilabel")
    assert calibration_curves(judged, replace(bundle.rule, calibrated=False)) == ()


def test_the_stored_audit_is_read_errors_first():
    finding = Finding("D42", "note", 1, "", "")
    stored = Audit.summary(SimpleNamespace(findings=[finding, Finding("D25", "error", 2, "", "")]))
    found = _found([*stored, {"code": "D99", "severity": "error", "count": 1}, "odd"])
    assert [(f.severity, f.code, f.count) for f in found] == [
        ("error", "D25", 2),
        ("note", "D42", 1),
    ]


def test_rows_of_no_label_and_rows_that_nobody_labelled_are_two_findings():
    findings = [
        Finding("D31", "note", 3, ""),
        Finding("D31", "note", 2, "", title=NONE_OF_THE_LABELS),
    ]
    found = _found(Audit.summary(SimpleNamespace(findings=findings)))
    assert [(f.title, f.count) for f in found] == [(KINDS["D31"], 3), (NONE_OF_THE_LABELS, 2)]
    [odd] = _found([{"code": "D31", "severity": "note", "count": 1, "title": "<script>"}])
    assert odd.title == KINDS["D31"]


def golden(name: str, content: str) -> str:
    """What was reviewed before; written anew where BERT_CLS_GOLDEN is set."""
    path = GOLDEN / name
    if os.environ.get("BERT_CLS_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")
    return path.read_text("utf-8")


def test_the_json_of_a_small_report_is_as_reviewed():
    report = report_case("multilabel", rows=24)
    content = json.dumps(plain(report.to_dict()), ensure_ascii=False, indent=1)
    assert content + "\n" == golden("report.json", content + "\n")


def test_names_are_written_on_the_terminal_as_they_are(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    report = report_case("multilabel", names=("[bold]:car:", "b", "c"))
    rule = Rule.from_dict(report.rule)
    console = open_console(stderr=False)
    console.print(figures_table("rows of te[bold]st[v2]:car:.json", report.evaluation))
    console.print(label_table(report.evaluation, rule, rest="in a[x]:car:.json", rows=1))
    console.print(label_table(report.evaluation, rule, rest="there"))
    out = capsys.readouterr().out
    assert "over those that rows have" in " ".join(out.split())
    assert "rows of te[bold]st[v2]:car:.json" in out
    assert "2 rarer labels are in a[x]:car:.json" in out
    assert "[bold]:car: " in out


# ---- the page as text


def test_the_library_is_the_one_that_was_published():
    content = ASSETS.joinpath("chart.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == LIBRARY_SHA256
    assert "MIT" in ASSETS.joinpath("chart.LICENSE").read_text("utf-8")
    makefile = (Path(__file__).parents[1] / "Makefile").read_text("utf-8")
    assert LIBRARY_SHA256 in makefile


def test_the_page_holds_only_what_it_shows():
    report = report_case("binary")
    assert report.evaluation.reliability
    program = "".join(ASSETS.joinpath(name).read_text("utf-8") for name in PROGRAM)
    unread = [name for name in _shown(report) if f"report.{name}" not in program]
    assert unread == []


def test_data_cannot_end_the_script_it_stands_in():
    hostile = {"</script>": "<!--\u2028\u2029&<script>"}
    text = embedded(hostile)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == hostile


@pytest.mark.parametrize("task", TASKS)
def test_the_page_refers_to_nothing_outside_and_is_small(task):
    text = page(report_case(task))
    assert len(text.encode()) < 1_000_000
    without_library = text.replace(ASSETS.joinpath("chart.min.js").read_text("utf-8")[:200_000], "")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", without_library)
    assert "default-src 'none'" in text
    assert "sourceMappingURL" not in text
    assert "{{" not in text.split("<script>")[0]


def test_every_word_is_there_in_both_languages_and_used():
    program = "".join(ASSETS.joinpath(name).read_text("utf-8") for name in PROGRAM)
    literal = set(re.findall(r'"([a-z_]+(?:\.\w+)*)"', program))
    prefixes = tuple(re.findall(r'"([a-z_.]+\.)"(?: \+|\))', program))
    for key, (english, chinese) in words().items():
        assert english, key
        assert chinese, key
        holes = [set(re.findall(r"\{\w+\}", text)) for text in (english, chinese)]
        assert holes[0] == holes[1], key
        assert key in literal or key.startswith(prefixes), f"{key} is not used"
    assert {k.partition(".")[2] for k in words() if k.startswith("definition.")} == set(DEFINITIONS)
    assert {k.partition(".")[2] for k in words() if k.startswith("metric.")} == set(DEFINITIONS)
    assert {k.partition(".")[2] for k in words() if k.startswith("audit.")} >= set(KINDS)
    assert {key for key in literal if "." in key} <= set(words())


def test_every_task_tuner_and_objective_has_a_name():
    known = words()
    assert all(f"kind.{task}" in known for task in AIMS)
    assert all(f"tuner.{name}" in known for name in (*TUNERS, *TAUS, "none"))
    aims = {name for names in AIMS.values() for name in names}
    assert all(f"objective.{name}" in known or f"metric.{name}" in known for name in aims)


def test_texts_reach_the_document_as_text_only():
    program = "".join(ASSETS.joinpath(name).read_text("utf-8") for name in PROGRAM)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert way not in program, way


def test_the_report_imports_without_torch():
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'sklearn'): sys.modules[name] = None\n"
        "import bert_cls.report"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- the stored bar


def write_evaluation(folder: Path, bars: dict) -> None:
    (folder / "evaluation.json").write_text(json.dumps({"evaluations": {}, "linear_bar": bars}))


def test_a_stored_bar_is_shown_for_the_same_rows_only(tmp_path):
    file = tmp_path / "test.json"
    file.write_text("[]")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    report = report_case("multilabel")
    _, bundle = judged_case("multilabel")
    files = {"train.json": "another", "test.json": digest}
    details = {**bundle.details, "data": {"files": files}}
    bundle = replace(bundle, folder=tmp_path, details=details)
    assert stored_bar(bundle, file, report.evaluation) is None
    bar = replace(report.evaluation, metrics={"micro_f1": 0.5, "exact_match": 0.5, "map": None})
    write_evaluation(
        tmp_path,
        {"dev": report_case("multilabel", rows=9).evaluation.to_dict(), "test": bar.to_dict()},
    )
    assert stored_bar(bundle, file, report.evaluation) == LinearBar(bar)
    now = report.evaluation.metrics["micro_f1"]
    lead = PairedDifference("micro_f1", now, 0.5, now - 0.5, 0.1, 0.2, 1.0, 0.01, 50)
    other = replace(lead, metric="exact_match", a=-1.0)  # the model decides otherwise by now
    bare = replace(lead, metric="map", a=report.evaluation.metrics["map"])  # the bar has no figure
    write_evaluation(tmp_path, {"test": LinearBar(bar, (lead, other, bare)).to_dict()})
    assert stored_bar(bundle, file, report.evaluation) == LinearBar(bar, (lead,))
    file.write_text("[ ]")
    assert stored_bar(bundle, file, report.evaluation) is None
    file.write_text("[]")
    write_evaluation(tmp_path, {"test": {**bar.to_dict(), "lead": [{"metric": "map"}]}})
    with pytest.raises(BundleError, match="malformed"):
        stored_bar(bundle, file, report.evaluation)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(BundleError, match="malformed"):
        stored_bar(bundle, file, report.evaluation)


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        ({"train.json": "A", "dev.json": "F", "test.json": "B"}, "tuned"),
        ({"train.json": "A", "valid.jsonl.gz": "F"}, "tuned"),
        ({"train.json": "F", "dev.json": "A"}, "trained"),
        ({"train.json": "A", "dev.json": "B", "test.json": "F", "labels.json": "C"}, None),
        ({"train.json": "A", "dev.json": "B"}, None),
        ({"rows.json": "F", "labels.json": "C"}, "trained"),
        ({"test.json": "F"}, "trained"),  # one file for all splits, whatever it is called
        ({"train.json": "F", "test.json": "F"}, "trained"),
        ({}, None),
    ],
)
def test_a_file_that_training_learnt_from_or_tuned_on_is_known(files, seen, tmp_path):
    file = tmp_path / "any.json"
    file.write_text("[]")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = {name: digest if value == "F" else value for name, value in files.items()}
    _, bundle = judged_case("multilabel")
    bundle = replace(bundle, folder=tmp_path, details={"data": {"files": known}})
    assert seen_rows(bundle, file) == seen
    write_evaluation(tmp_path, {"dev": report_case("multilabel").evaluation.to_dict()})
    bar = stored_bar(bundle, file, report_case("multilabel").evaluation)
    assert (bar is None) == (seen is not None or not files or "F" not in files.values())
