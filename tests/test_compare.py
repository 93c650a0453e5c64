"""One model against another: the exact test by brute force, Holm, prediction files, the command."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from bert_cls.cli import app
from bert_cls.comparison import compare
from bert_cls.config import resolve_config
from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import write_manifest
from bert_cls.metrics import (
    HEADLINES,
    Outcome,
    compare_outcomes,
    holm,
    paired_differences,
    swap_test,
)
from bert_cls.metrics.families import FAMILIES
from bert_cls.metrics.resampling import on_all_rows
from bert_cls.metrics.rows import part
from bert_cls.metrics.swaps import TESTS, swap_tests
from bert_cls.training import Request, Silent, train
from small import MAKERS, class_rows, write_folder
from tiny import tiny_encoder

FAST = {
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.learning_rate": 1e-3,
    "training.precision": "float32",
    "report.linear_bar": False,
    "report.resamples": 0,
}


def f1(truth, given):
    both = (truth & given).sum()
    total = truth.sum() + given.sum()
    return 2 * both / total if total else 0.0


@settings(max_examples=60, deadline=None)
@given(cells=hnp.arrays(bool, (3, 9)))
def test_the_swap_test_counts_every_way_to_swap(cells):
    truth, a, b = cells
    differ = np.flatnonzero(a != b)
    seen = abs(f1(truth, a) - f1(truth, b))
    as_far = 0
    for swaps in itertools.product((False, True), repeat=len(differ)):
        chosen = differ[list(swaps)]
        one, two = a.copy(), b.copy()
        one[chosen], two[chosen] = b[chosen], a[chosen]
        as_far += abs(f1(truth, one) - f1(truth, two)) >= seen - 1e-12
    assert swap_test(truth, a, b) == pytest.approx(as_far / 2 ** len(differ))


def test_the_swap_test_of_many_rows_keeps_its_promise():
    # of equally good models at most 5 in 100 may differ at 0.05
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        truth = rng.random(400) < 0.2
        a, b = (np.where(rng.random(400) < 0.15, ~truth, truth) for _ in "ab")
        found.append(swap_test(truth, a, b) <= 0.05)
    assert 0.01 < np.mean(found) < 0.085
    truth = rng.random(20_000) < 0.3
    worse = np.where(rng.random(20_000) < 0.2, ~truth, truth)
    assert swap_test(truth, truth, worse) < 1e-20


def test_holm_is_the_published_example_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert max(holm([0.9, 0.8])) == 1.0


def outcome_of(task, seed, noise):
    rng = np.random.default_rng(seed)
    truths = np.random.default_rng(99)
    if task == "regression":
        truth = truths.normal(size=300)
        return Outcome(task, truth, truth + noise * rng.normal(size=300), None)
    if task == "multilabel":
        truth = truths.random((300, 5)) < 0.3
        scores = np.clip(truth * 0.5 + 0.25 + noise * rng.normal(size=truth.shape), 0, 1)
        return Outcome(task, truth, scores, scores >= 0.5)
    classes = 2 if task == "binary" else 4
    truth = truths.integers(0, classes, 300)
    logits = (truth[:, None] == np.arange(classes)) + 3 * noise * rng.normal(size=(300, classes))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Outcome(task, truth, scores, scores.argmax(axis=1))


@pytest.mark.parametrize("task", sorted(HEADLINES))
def test_all_metrics_at_once_are_the_ones_taken_singly(task):
    a, b = outcome_of(task, 1, 0.1), outcome_of(task, 2, 0.4)
    together, skipped = paired_differences(a, b, HEADLINES[task], resamples=60)
    assert not skipped
    assert [d.metric for d in together] == list(HEADLINES[task])
    for each in together:
        assert paired_differences(a, b, [each.metric], resamples=60) == ([each], [])
        assert each.verdict == "better", each
        assert each.share == 1.0


@pytest.mark.parametrize("task", sorted(HEADLINES))
def test_a_comparison_of_a_model_with_itself_finds_nothing(task):
    a = outcome_of(task, 1, 0.3)
    found = compare_outcomes(a, a, [f"l{i}" for i in range(a.labels)], resamples=50)
    assert {d.verdict for d in found.differences} == {"not established"}
    assert {d.share for d in found.differences} == {0.5}
    assert {row.verdict for row in found.labels} <= {"not established"}
    assert found.rows_test.p_value == 1.0
    assert not len(found.fixed)
    assert not len(found.broken)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_rows_that_are_all_of_the_first_class_are_compared(task):
    one, other = outcome_of(task, 1, 0.3), outcome_of(task, 2, 0.3)
    a, b = (Outcome(task, np.zeros_like(o.truth), o.scores, o.decided) for o in (one, other))
    found = compare_outcomes(a, b, [f"l{i}" for i in range(a.labels)], resamples=50)
    names = {d.metric for d in found.differences}
    assert names.isdisjoint({"auroc", "average_precision", "map"})
    assert names & {"accuracy", "exact_match"}


def test_fixed_and_broken_rows_are_those_that_changed_sides():
    a, b = outcome_of("multilabel", 1, 0.2), outcome_of("multilabel", 2, 0.3)
    found = compare_outcomes(a, b, list("abcde"), resamples=20)
    right_a, right_b = ((o.decided == o.truth).all(axis=1) for o in (a, b))
    assert sorted(found.fixed) == np.flatnonzero(right_a & ~right_b).tolist()
    assert sorted(found.broken) == np.flatnonzero(right_b & ~right_a).tolist()
    assert (len(found.fixed), len(found.broken)) == (
        found.rows_test.only_a,
        found.rows_test.only_b,
    )
    near, far = outcome_of("regression", 1, 0.2), outcome_of("regression", 2, 0.3)
    gain = np.abs(far.scores - far.truth) - np.abs(near.scores - near.truth)
    found = compare_outcomes(near, far, [], resamples=20)
    assert found.fixed[0] == gain.argmax()
    assert found.broken[0] == gain.argmin()


@pytest.mark.parametrize("task", sorted(HEADLINES))
def test_a_difference_in_fewer_than_six_rows_is_never_established(task):
    for rows, known in ((5, False), (6, True)):
        if task == "regression":
            truth = np.arange(float(rows))
            good, bad = Outcome(task, truth, truth, None), Outcome(task, truth, truth + 1, None)
        elif task == "multilabel":
            truth = np.ones((rows, 3), bool)
            good = Outcome(task, truth, truth * 1.0, truth)
            bad = Outcome(task, truth, truth * 0.0, ~truth)
        else:
            truth = np.arange(rows) % 2
            good = Outcome(task, truth, np.eye(2)[truth], truth)
            bad = Outcome(task, truth, np.eye(2)[1 - truth], 1 - truth)
        found, _ = paired_differences(good, bad, HEADLINES[task], resamples=100)
        sure = {each.metric for each in found if each.verdict != "not established"}
        assert bool(sure) == known


def test_rows_that_differ_are_counted_by_what_the_metric_sees():
    truth = np.zeros(20, int)
    a, b = truth.copy(), truth.copy()
    a[:8], b[:8], b[8:11] = 1, 2, 1  # eight are wrong in two ways, three with b alone
    scores = np.full((20, 3), 1 / 3)
    one, other = (Outcome("multiclass", truth, scores, each) for each in (a, b))
    metrics = ["accuracy", "mcc", "balanced_accuracy", "log_loss"]
    found, _ = paired_differences(one, other, metrics, resamples=20)
    assert {each.metric: each.differing for each in found} == {
        "accuracy": 3,
        "mcc": 11,
        "balanced_accuracy": 11,
        "log_loss": 0,
    }
    assert {each.verdict for each in found} == {"not established"}


def mixed(a, b, swaps):
    """The outcome of a with the rows of `swaps` answered by b."""
    at = swaps if a.scores.ndim == 1 else swaps[:, None]
    decided = swaps[:, None] if a.task == "multilabel" else swaps
    given = None if a.task == "regression" else np.where(decided, b.decided, a.decided)
    return Outcome(a.task, a.truth, np.where(at, b.scores, a.scores), given)


@pytest.mark.parametrize("task", sorted(HEADLINES))
def test_every_metric_is_tested_by_all_ways_to_swap(task):
    a, b = (
        part(outcome_of(task, seed, noise), np.arange(300) < 8)
        for seed, noise in ((1, 0.3), (2, 0.6))
    )
    one_scale = [
        m for m in HEADLINES[task] if TESTS[m].reads.__name__ not in ("_ranks", "_standard")
    ]
    families = [(f, set(f.metrics) & set(one_scale)) for f in FAMILIES[task]]
    families = [(f, names) for f, names in families if names]
    gaps = {name: [] for name in one_scale}
    for swaps in itertools.product((False, True), repeat=8):
        swaps = np.array(swaps)
        for family, names in families:
            one, other = (on_all_rows(mixed(a, b, each), family) for each in (swaps, ~swaps))
            for name in names:
                gaps[name].append(abs(one[name] - other[name]))
    found = swap_tests(a, b, one_scale, ways=256, seed=0)
    for name, each in gaps.items():
        if np.isfinite(each[0]):
            as_far = ~(np.array(each) < each[0] - 1e-12)
            assert found[name][0] == pytest.approx(as_far.mean()), name


def test_few_positives_establish_nothing_however_many_rows_differ():
    truth = (np.arange(300) < 3).astype(int)
    a, b = truth.copy(), np.zeros(300, int)
    a[10:30], b[40:60] = 1, 1
    one, other = (Outcome("binary", truth, np.eye(2)[each], each) for each in (a, b))
    found, _ = paired_differences(one, other, HEADLINES["binary"], resamples=400)
    assert {each.verdict for each in found} == {"not established"}
    recall = next(each for each in found if each.metric == "recall")
    assert (recall.differing, recall.p_value) == (3, 0.25)
    truth = np.eye(4, dtype=bool)[np.arange(100) % 4]
    scores = truth + 0.01 * np.random.default_rng(0).random(truth.shape)
    shaken = scores + 0.001
    shaken[:3] *= -1
    one, other = (Outcome("multilabel", truth, each, truth) for each in (scores, shaken))
    [lrap], _ = paired_differences(one, other, ["lrap"], resamples=400)
    assert lrap.p_value == pytest.approx(0.25, abs=0.07)
    assert lrap.verdict == "not established"


def test_of_equally_good_models_few_are_called_better_where_positives_are_rare():
    # by the interval alone recall is in one trial of four, F1 and MCC in one of six
    rng, called = np.random.default_rng(0), Counter()
    truth = (np.arange(120) < 3).astype(int)
    for _ in range(40):
        chances = (1 / (1 + np.exp(2.4 - 2 * (rng.normal(size=120) + 1.5 * truth))) for _ in "ab")
        a, b = (
            Outcome("binary", truth, np.column_stack([1 - p, p]), (p >= 0.5).astype(int))
            for p in chances
        )
        found, _ = paired_differences(a, b, HEADLINES["binary"], resamples=100)
        called.update(each.metric for each in found if each.verdict != "not established")
    assert all(times <= 4 for times in called.values()), called


def test_the_scale_of_scores_does_not_matter_to_metrics_of_order():
    one, other = outcome_of("binary", 1, 0.3), outcome_of("binary", 2, 0.4)
    blown_up = Outcome("binary", other.truth, other.scores * 50 - 7, other.decided)
    metrics = ["auroc", "average_precision"]
    assert swap_tests(one, other, metrics, ways=50, seed=0) == swap_tests(
        one, blown_up, metrics, ways=50, seed=0
    )


@pytest.mark.parametrize("seed", range(4))
def test_neither_share_nor_verdict_hangs_on_the_seed(seed):
    truth = np.zeros(99, int)
    wrong = truth.copy()
    wrong[0] = 1
    one, other = (Outcome("binary", truth, np.eye(2)[each], each) for each in (truth, wrong))
    [found], _ = paired_differences(one, other, ["accuracy"], seed=seed)
    # a resample misses the row in 37 of 100 cases: a tie
    assert found.share == pytest.approx(1 - np.exp(-1) / 2, abs=0.04)
    assert (found.p_value, found.verdict) == (1.0, "not established")
    a, b = np.zeros(100, int), np.zeros(100, int)
    a[0], b[1:7] = 1, 1  # six better, one worse
    one, other = (Outcome("binary", a * 0, np.eye(2)[each], each) for each in (a, b))
    whole = compare_outcomes(one, other, ["x", "y"], resamples=200, seed=seed)
    [accuracy] = [each for each in whole.differences if each.metric == "accuracy"]
    assert accuracy.p_value == whole.rows_test.p_value == 0.125
    assert accuracy.verdict == "not established"


def test_an_interval_of_a_difference_stays_in_what_is_possible():
    truth = np.arange(60) % 2
    wrong = 1 - truth
    wrong[:2] = truth[:2]
    one, other = (Outcome("binary", truth, np.eye(2)[each], each) for each in (truth, wrong))
    found, _ = paired_differences(one, other, ["accuracy", "mcc"], resamples=200)
    assert [each.high <= top for each, top in zip(found, (1, 2), strict=True)] == [True, True]
    assert max(each.high for each in found[:1]) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """{task: (data folder, two models)} on tiny encoders."""
    root = tmp_path_factory.mktemp("compare")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    out = {}
    for task in ("multilabel", "regression"):
        data = write_folder(root / task, MAKERS[task], sizes=(48, 16, 24))
        for seed in (0, 1):
            flags = {"encoder.name": encoder, **FAST, "training.seed": seed}
            config, origins = resolve_config(flags=flags)
            train(Request(data, root / f"{task}-{seed}", config, origins), Silent())
        out[task] = (data, [root / f"{task}-{seed}" for seed in (0, 1)])
    return out


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_models_and_their_prediction_files_compare_the_same(task, trained, tmp_path):
    data, models = trained[task]
    runner = CliRunner()
    files = []
    for model in models:
        files.append(tmp_path / (model.name + (".json" if files else ".jsonl")))
        done = runner.invoke(
            app, ["predict", str(model), str(data / "test.json"), "-o", str(files[-1])]
        )
        assert done.exit_code == 0, done.output
    for model, file in zip(models, files, strict=True):  # no better than its own file
        itself = compare([model, file], data / "test.json", resamples=50).comparisons[0]
        assert all((d.difference, d.verdict) == (0, "not established") for d in itself.differences)
        assert itself.rows_test.p_value == 1.0
    by_model = compare(models, data / "test.json", resamples=50).to_dict()
    by_file = compare(files, data / "test.json", resamples=50).to_dict()
    mixed = compare([models[0], files[1]], data / "test.json", resamples=50).to_dict()
    for one, other in ((by_model, by_file), (by_model, mixed)):
        first, second = one["comparisons"][0], other["comparisons"][0]
        assert first["rows_test"] == second["rows_test"]
        for left, right in zip(first["differences"], second["differences"], strict=True):
            # files hold six digits of a score: enough for labels, not for the order of near ties
            if left["metric"] not in ("map", "lrap"):
                assert left["difference"] == pytest.approx(right["difference"], abs=1e-3)


def test_the_command_prints_and_writes_what_it_found(trained, tmp_path):
    data, models = trained["multilabel"]
    names = [str(m) for m in (*models, shutil.copytree(models[0], tmp_path / "copy"))]
    done = CliRunner().invoke(
        app,
        ["compare", *names, str(data / "test.json"), "--json", str(tmp_path / "c.json")],
        env={"COLUMNS": "160"},
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "not established: the interval includes 0, or p is above 0.05" in said
    assert "McNemar" in done.output
    content = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert len(content["comparisons"]) == 2
    itself = content["comparisons"][1]
    assert {d["difference"] for d in itself["differences"]} == {0.0}
    assert itself["fixed"] == itself["broken"] == []


def test_json_for_standard_output_is_all_that_is_there(trained, tmp_path, monkeypatch):
    data, models = trained["multilabel"]
    monkeypatch.chdir(tmp_path)
    test = str(data / "test.json")
    done = CliRunner().invoke(app, ["compare", *map(str, models), test, "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 24
    assert "McNemar" in done.stderr
    done = CliRunner().invoke(app, ["evaluate", str(models[0]), test, "-o", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 24
    assert "micro_f1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_labels_are_corrected_over_all_comparisons(classes, tmp_path):
    folder, _ = classes["multiclass"]
    rows = json.loads((folder / "test.json").read_text("utf-8"))
    names = sorted({row["label"] for row in rows})
    files = []
    for shift in range(3):  # each file is wrong in other rows
        file = tmp_path / f"{shift}.jsonl"
        said = [
            names[(names.index(row["label"]) + (i % 5 < shift)) % len(names)]
            for i, row in enumerate(rows)
        ]
        lines = [
            json.dumps({"index": row["index"], "labels": [name], "scores": {}})
            for row, name in zip(rows, said, strict=True)
        ]
        file.write_text("\n".join(lines), "utf-8")
        files.append(file)
    found = compare(files, folder / "test.json", resamples=5)
    labels = [row for each in found.comparisons for row in each.labels]
    assert len(labels) == 2 * len(found.comparisons[0].labels)
    assert [row.p_holm for row in labels] == holm([row.p_value for row in labels])
    shown = CliRunner().invoke(app, ["compare", *map(str, files), str(folder / "test.json")])
    assert "of all comparisons" in " ".join(shown.output.split())


def test_a_label_that_no_row_has_is_shown_and_not_tested(tmp_path):
    rows = [{"index": i, "text_a": f"text {i}", "label": ["a"]} for i in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    for name, said in (("old", []), ("new", ["a", "b"])):
        lines = [json.dumps({"index": i, "labels": said, "scores": {}}) for i in range(12)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    files = [tmp_path / name for name in ("old.jsonl", "new.jsonl")]
    found = compare(files, tmp_path / "rows.json", resamples=5)
    a, b = found.comparisons[0].labels
    assert (b.name, b.support, b.p_value, b.p_holm, b.verdict) == (
        "b", 0, None, None, "not established"
    )  # fmt: skip
    assert a.p_holm == a.p_value == pytest.approx(2 / 2**12)
    assert a.verdict == "gained"
    outcomes = [np.array([[False, False]] * 12), np.array([[True, True]] * 12)]
    truth = np.array([[True, False]] * 12)
    old, new = (Outcome("multilabel", truth, said * 1.0, said) for said in outcomes)
    alone = compare_outcomes(new, old, ["a", "b"], resamples=5).labels
    assert [row.p_holm for row in alone] == [a.p_value, None]
    command = ["compare", *map(str, files), str(tmp_path / "rows.json")]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert "1 of 1 labels changed beyond doubt" in " ".join(shown.output.split())


def test_a_text_of_several_lines_is_one_line_here(tmp_path):
    rows = [
        {"index": f"a\n{i}", "text_a": "一\r\n二\u2028三\n\n四", "label": "好"} for i in range(3)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    for name, said in (("old", "差"), ("new", "好")):
        lines = [
            json.dumps({"index": row["index"], "labels": [said], "scores": {}}) for row in rows
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    files = [str(tmp_path / name) for name in ("old.jsonl", "new.jsonl", "rows.json")]
    done = CliRunner().invoke(app, ["compare", *files], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "  a 0  一 二 三  四\n      truth 好; old.jsonl 差; new.jsonl 好\n" in done.output


@pytest.mark.parametrize("scale", [1e-5, 1e6])
def test_numbers_of_any_size_can_be_told_apart(scale, tmp_path):
    rows = [{"index": i, "text_a": f"第{i}行", "label": i * scale} for i in range(8)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    for name, off in (("old", 0.5), ("new", 0.25)):
        lines = [
            json.dumps({"index": row["index"], "score": row["label"] + off * scale}) for row in rows
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    files = [str(tmp_path / name) for name in ("old.jsonl", "new.jsonl", "rows.json")]
    done = CliRunner().invoke(app, ["compare", *files], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    [mae] = [line.split() for line in done.output.splitlines() if line.strip().startswith("mae")]
    power = "e-6" if scale < 1 else "e5"
    assert mae[1:4] == [f"5.00{power}", f"2.50{power}", f"-2.50{power}"]
    said = compare([*map(tmp_path.joinpath, ("old.jsonl", "new.jsonl"))], tmp_path / "rows.json")
    assert said.changed(0, [1])[0]["after"] == pytest.approx(1.25 * scale)


def test_files_that_do_not_belong_together_are_refused(trained, tmp_path):
    data, models = trained["multilabel"]
    test = data / "test.json"
    rows = json.loads(test.read_text("utf-8"))
    lines = [json.dumps({"index": r["index"], "labels": [], "scores": {}}) for r in rows]
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(lines[:-1]), "utf-8")
    with pytest.raises(DataError, match=r"1 of 24 labelled rows of test\.json have no prediction"):
        compare([models[0], short], test)
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join([*lines, lines[0]]), "utf-8")
    with pytest.raises(DataError, match=r"line 25: index .* is there twice"):
        compare([models[0], twice], test)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"index": 1, "error": "the text is empty."}\n[', "utf-8")
    with pytest.raises(DataError, match="line 1: not a prediction of multilabel data"):
        compare([models[0], broken], test)
    with pytest.raises(DataError, match="different tasks"):
        compare([models[0], trained["regression"][1][0]], test)
    with pytest.raises(DataError, match="at least two"):
        compare([models[0]], test)
    with pytest.raises(DataError, match="cannot be read"):
        compare([models[0], tmp_path / "absent.jsonl"], test)


def test_a_label_one_model_does_not_know_counts_as_never_given(trained, tmp_path):
    data, models = trained["multilabel"]
    rows = json.loads((data / "test.json").read_text("utf-8"))
    rows[0]["label"] = ["新标签"]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    with pytest.raises(DataError, match="no model knows the label '新标签'"):
        compare(models, changed)
    lines = [
        {"index": r["index"], "labels": r["label"], "scores": dict.fromkeys(r["label"], 1.0)}
        for r in rows
    ]
    perfect = tmp_path / "perfect.jsonl"
    perfect.write_text("\n".join(json.dumps(r) for r in lines), "utf-8")
    found = compare([models[0], perfect], changed, resamples=20)
    assert "does not know 1 of 4 labels (新标签)" in found.notes[0]
    new = next(row for row in found.comparisons[0].labels if row.name == "新标签")
    assert (new.a, new.b) == (1.0, 0.0)
    assert len(found.comparisons[0].broken) == 0
    # the file lists the scores of the true labels only, so nothing can be said of order
    assert "map, lrap" in found.comparisons[0].notes[0]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """{task: (data folder, a model)} of classes, and `fewer`: a model of two of three classes."""
    root = tmp_path_factory.mktemp("classes")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    makers = {**MAKERS, "fewer": lambda n: class_rows(n, ["甲", "乙"])}
    out = {}
    for name in ("multiclass", "binary", "fewer"):
        # of binary data the second name is the positive one, here not the second when sorted
        labels = {"multiclass": None, "binary": ["好", "差"], "fewer": ["甲", "乙"]}[name]
        data = write_folder(root / name, makers[name], sizes=(24, 16, 24), labels=labels)
        flags = {"encoder.name": encoder, **FAST, "training.epochs": 1}
        flags |= {"data.task": "multiclass"} if name == "fewer" else {}
        config, origins = resolve_config(flags=flags)
        train(Request(data, root / f"{name}-model", config, origins), Silent())
        out[name] = (data, root / f"{name}-model")
    return out


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_a_model_is_no_better_than_its_own_highest_scores(task, classes, tmp_path):
    data, model = classes[task]
    top, test = tmp_path / "top.jsonl", data / "test.json"
    done = CliRunner().invoke(app, ["predict", str(model), str(test), "--top", "1", "-o", str(top)])
    assert done.exit_code == 0, done.output
    same_model = shutil.copytree(model, tmp_path / "same-model")
    same_top = shutil.copyfile(top, tmp_path / "same-top.jsonl")
    itself = compare([model, same_model], test, resamples=20).comparisons[0]
    for sources in ([top, model], [model, top], [top, same_top]):
        found = compare(sources, test, resamples=20)
        differences = {d.metric: d for d in found.comparisons[0].differences}
        assert {d.verdict for d in differences.values()} == {"not established"}
        assert not {"log_loss", "auroc", "average_precision"} & set(differences)
        assert "not every row has a score of every label" in found.comparisons[0].notes[0]
        # what a file leaves out may be known to its model all the same
        assert not any("does not know" in note for note in found.notes)
        if model in sources:
            said = {d.metric: d.a for d in itself.differences if d.metric in differences}
            assert said == {name: d.a for name, d in differences.items()}


def test_scores_of_models_with_different_labels_are_not_compared(classes):
    data, model = classes["multiclass"]
    found = compare([classes["fewer"][1], model], data / "test.json", resamples=20)
    assert "does not know 1 of 3 labels (丙)" in found.notes[0]
    assert "log_loss" not in {d.metric for d in found.comparisons[0].differences}
    assert found.comparisons[0].notes[0].startswith("log_loss: not every row")


def test_log_loss_is_of_probabilities_alone(classes, tmp_path):
    data, model = classes["multiclass"]
    test = data / "test.json"
    margin = shutil.copytree(model, tmp_path / "margin")
    found = compare([model, margin], test, resamples=20).comparisons[0]
    assert "log_loss" in {d.metric for d in found.differences}
    stored = json.loads((margin / "bert_cls.json").read_text("utf-8"))
    stored["rule"]["calibrated"] = False
    (margin / "bert_cls.json").write_text(json.dumps(stored), "utf-8")
    write_manifest(margin)
    for sources in ([model, margin], [margin, model]):
        found = compare(sources, test, resamples=20).comparisons[0]
        assert "log_loss" not in {d.metric for d in found.differences}
        assert found.notes == ("log_loss: the scores of margin are not calibrated probabilities.",)
    votes = tmp_path / "votes.jsonl"  # of fixed rules: every score is 0 or 1, or both are
    scores = [{"甲": 1.0, "乙": 1.0, "丙": 0.0}] * 24
    rows = json.loads(test.read_text("utf-8"))
    lines = [
        json.dumps({"index": r["index"], "labels": ["甲"], "scores": s})
        for r, s in zip(rows, scores, strict=True)
    ]
    votes.write_text("\n".join(lines), "utf-8")
    found = compare([model, votes], test, resamples=20).comparisons[0]
    assert found.notes == ("log_loss: the scores of a row do not sum to 1.",)


def test_a_binary_and_a_multiclass_model_are_compared_as_classes(classes, tmp_path):
    data, binary = classes["binary"]
    as_classes = tmp_path / "as-classes"
    shutil.copytree(binary, as_classes)
    stored = json.loads((as_classes / "bert_cls.json").read_text("utf-8"))
    stored["task"] = "multiclass"
    stored["rule"] |= {"task": "multiclass", "thresholds": []}
    (as_classes / "bert_cls.json").write_text(json.dumps(stored), "utf-8")
    write_manifest(as_classes)
    for sources in ([binary, as_classes], [as_classes, binary]):
        found = compare(sources, data / "test.json", resamples=20)
        assert found.task == "multiclass"
        assert {row.name for row in found.comparisons[0].labels} <= {"好", "差"}
        differences = {d.metric: d for d in found.comparisons[0].differences}
        assert {"accuracy", "macro_f1_present", "log_loss"} <= set(differences)
    multiclass = classes["multiclass"][1]
    with pytest.raises(DataError, match="no model knows the label"):
        compare([classes["fewer"][1], multiclass], data / "test.json", resamples=5)
    found = compare([binary, multiclass], data / "test.json", resamples=5)
    assert "does not know" in found.notes[0]


def test_a_label_in_no_prediction_file_is_said(classes, tmp_path):
    data, model = classes["multiclass"]
    rows = json.loads((data / "test.json").read_text("utf-8"))
    file = tmp_path / "same.jsonl"
    file.write_text("\n".join(json.dumps({"index": r["index"], "labels": ["甲"]}) for r in rows))
    other = shutil.copyfile(file, tmp_path / "other.jsonl")
    found = compare([file, other], data / "test.json", resamples=20)
    assert found.notes == ("2 of 3 labels are in no prediction (丙, 乙).",)
    found = compare([file, model], data / "test.json", resamples=20)
    assert found.notes == ()


def said_of(folder, name, rows):
    file = folder / name
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return file


def test_the_task_of_files_can_be_stated(tmp_path):
    rows = [{"index": i, "text_a": f"text {i}", "label": i % 2} for i in range(8)]
    (tmp_path / "numbers.json").write_text(json.dumps(rows), "utf-8")
    files = [
        said_of(tmp_path, name, [{"index": i, "labels": [str(i % by)]} for i in range(8)])
        for name, by in (("a.jsonl", 2), ("b.jsonl", 1))
    ]
    with pytest.raises(DataError, match="not a prediction of regression") as wrong:
        compare(files, tmp_path / "numbers.json")
    assert "--task" in wrong.value.hint
    found = compare(files, tmp_path / "numbers.json", task="multiclass", resamples=20)
    assert found.task == "multiclass"
    (tmp_path / "sets.csv").write_text(
        "text_a,label\n" + "\n".join(f"t{i},x" for i in range(4)), "utf-8"
    )
    sets = [
        said_of(tmp_path, name, [{"index": i, "labels": said} for i in range(4)])
        for name, said in (("c.jsonl", ["x", "y"]), ("d.jsonl", ["x"]))
    ]
    command = ["compare", *map(str, sets), str(tmp_path / "sets.csv"), "--task"]
    done = CliRunner().invoke(app, [*command, "multilabel"])
    assert (done.exit_code, "samples_f1" in done.output) == (0, True), done.output
    with pytest.raises(ConfigError, match="task must be one of"):
        compare(sets, tmp_path / "sets.csv", task="sets")


def test_the_positive_class_does_not_hang_on_which_source_is_first(tmp_path):
    rows = [{"index": i, "text_a": f"text {i}", "label": "yn"[i % 3 > 0]} for i in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")

    def answers(name, order, wrong):
        given = ["yn"[(i % 3 > 0) ^ (i < wrong)] for i in range(12)]
        scores = [{label: float(label == g) for label in order} for g in given]
        lines = [
            {"index": i, "labels": [g], "scores": s if order else None}
            for i, (g, s) in enumerate(zip(given, scores, strict=True))
        ]
        return said_of(tmp_path, name, lines)

    yn, ny, none = (
        answers("a.jsonl", "yn", 2),
        answers("b.jsonl", "ny", 3),
        answers("c.jsonl", "", 4),
    )
    for one, other, task, note in (
        (yn, ny, "multiclass", "the sources differ in their order of labels"),
        (yn, none, "binary", "positive class: n"),
        (ny, none, "binary", "positive class: y"),
    ):
        left, right = (
            compare(each, tmp_path / "rows.json", resamples=20)
            for each in ((one, other), (other, one))
        )
        assert left.task == right.task == task
        assert note in left.notes[0]
        for a, b in zip(
            left.comparisons[0].differences, right.comparisons[0].differences, strict=True
        ):
            assert (a.metric, a.a, a.b) == (b.metric, b.b, b.a)
    also = shutil.copyfile(none, tmp_path / "d.jsonl")
    found = compare([none, also], tmp_path / "rows.json", resamples=20)
    assert (found.task, found.notes[0][:19]) == ("multiclass", "no source says the ")


def test_scores_by_size_do_not_say_which_class_is_positive(tmp_path):
    rows = [{"index": i, "text_a": f"text {i}", "label": "yn"[i % 3 > 0]} for i in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    whole, top = (
        said_of(
            tmp_path,
            name,
            [{"index": i, "labels": ["y"], "scores": s} for i, s in enumerate(scores)],
        )
        for name, scores in (
            ("whole.jsonl", [{"n": i / 20, "y": 1 - i / 20} for i in range(12)]),
            ("top.jsonl", [{"y": 1 - i / 40, "n": i / 40} for i in range(12)]),
        )
    )
    found = compare([top, whole], tmp_path / "rows.json", resamples=20)
    assert (found.task, found.notes) == ("binary", ("positive class: y",))
    three = said_of(
        tmp_path,
        "three.jsonl",
        [{"index": i, "labels": ["z"], "scores": dict.fromkeys("nyz", 0.3)} for i in range(12)],
    )
    found = compare([whole, three], tmp_path / "rows.json", resamples=20)
    assert found.task == "multiclass"
    assert found.notes[0] == "there are 3 labels, so no class is the positive one."


def test_ties_in_one_model_do_not_hide_a_difference_in_order():
    truth = (np.arange(400) < 30).astype(int)
    rng = np.random.default_rng(0)
    good, poor = (rng.normal(size=400) + by * truth for by in (3.0, 0.5))
    tied = np.where(good < np.quantile(good, 0.9), good.min(), good)
    for scores in (good, tied):
        one, other = (
            Outcome("binary", truth, np.stack([-x, x], axis=1), (x > 2).astype(int))
            for x in (scores, poor)
        )
        found, _ = paired_differences(one, other, ["auroc", "average_precision"], resamples=200)
        assert [each.verdict for each in found] == ["better", "better"]


def test_no_p_value_is_zero():
    truth = np.arange(3000) % 2
    one, other = (
        Outcome("binary", truth, np.eye(2)[said], said) for said in (truth, np.zeros(3000, int))
    )
    found, _ = paired_differences(one, other, HEADLINES["binary"], resamples=5)
    assert all(0 < each.p_value <= 0.05 for each in found)


def test_too_few_resamples_are_refused(tmp_path):
    done = CliRunner().invoke(app, ["compare", "a", "b", "c", "--resamples", "99"])
    assert done.exit_code == 2


# --- prediction files of all sorts ----------------------------------------------------------------

GOOD = {
    "multilabel": {"labels": ["尾灯"], "scores": {"尾灯": 0.9, "天窗": 0.1, "轮胎": 0.2}},
    "regression": {"score": 1.5},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("task", "changed", "said"),
    [
        ("multilabel", [1], "it is no JSON object"),
        ("multilabel", {"labels": "动力"}, "its labels are '动力', not a list of names"),
        ("multilabel", {"labels": [1]}, r"its labels are \[1\], not a list of names"),
        ("multilabel", {"scores": {"尾灯": "high"}}, "its score of 尾灯 is 'high', not a number"),
        ("multilabel", {"scores": {"尾灯": None}}, "its score of 尾灯 is missing, not a number"),
        ("multilabel", {"scores": [0.5]}, r"its scores are \[0.5\], not an object"),
        ("multilabel", {"labels": ["天窗"] * 2}, "a label is there twice"),
        ("multilabel", {"index": None}, "its index is missing"),
        ("multilabel", {"index": {}}, "its index is {}"),
        ("regression", {"score": "NaN"}, "its score is 'NaN', not a number"),
        ("regression", {"score": True}, "its score is True, not a number"),
        ("regression", {"score": None}, "its score is missing, not a number"),
    ],
)
def test_a_line_that_is_no_prediction_is_named(trained, tmp_path, task, changed, said):
    data, models = trained[task]
    rows = json.loads((data / "test.json").read_text("utf-8"))
    lines = [{"index": row["index"], **GOOD[task]} for row in rows]
    lines[2] = {**lines[2], **changed} if isinstance(changed, dict) else changed
    file = tmp_path / "said.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    with pytest.raises(DataError, match=f"said.jsonl: line 3: not a prediction .*{said}"):
        compare([models[0], file], data / "test.json", resamples=5)


def _mangled(draw, line):
    """A prediction with one of its parts replaced, taken away, or cut off in the middle."""
    kind = draw(st.sampled_from(["value", "key", "cut", "bytes"]))
    text = json.dumps(line).encode()
    if kind == "value":
        place = draw(st.sampled_from(sorted(line)))
        return json.dumps({**line, place: draw(JSON)}).encode()
    if kind == "key":
        return json.dumps({k: v for k, v in line.items() if draw(st.booleans())}).encode()
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.binary(max_size=4)) + text[at:]


@pytest.mark.parametrize("task", sorted(GOOD))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=st.data())
def test_mangled_prediction_files_are_errors_or_compared_never_more(task, trained, tmp_path, drawn):
    data, _ = trained[task]
    rows = json.loads((data / "test.json").read_text("utf-8"))
    lines = [json.dumps({"index": row["index"], **GOOD[task]}).encode() for row in rows]
    at = drawn.draw(st.integers(0, len(rows) - 1))
    mangled = _mangled(drawn.draw, {"index": rows[at]["index"], **GOOD[task]})
    whole, changed = tmp_path / "whole.jsonl", tmp_path / "changed.jsonl"
    whole.write_bytes(b"\n".join(lines))
    lines[at] = mangled
    changed.write_bytes(b"\n".join(lines))
    try:
        found = compare([whole, changed], data / "test.json", resamples=5)
    except DataError:
        return
    content = json.dumps(found.to_dict())
    assert "NaN" not in content
    assert "Infinity" not in content
