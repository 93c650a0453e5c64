"""The contract of engines, over the table of them, and the choice of one."""

from __future__ import annotations

import copy
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from pathlib import Path
from threading import Barrier
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_cls import Classifier
from bert_cls import bundle as bundles
from bert_cls.data import Example
from bert_cls.decision import Rule, confidence_margins, label_margins, margins
from bert_cls.engines import ENGINES, FILES, choose, open_engine, passed_over, run
from bert_cls.engines.engine import ROWS_STEP, even_batches, files_of
from bert_cls.engines.machine import multiplies_bfloat16, multiplies_int8, processor_flags
from bert_cls.engines.second_look import MARGINS, in_turn
from bert_cls.errors import BundleError, ConfigError, EngineError
from bert_cls.export import export
from bert_cls.text import PaddedBatch, Tokens, batches_by_length
from bert_cls.tokens import subset
from counting import counting_classifier
from exported import model_folder
from faults import forked

LOW = {name for name, kind in ENGINES.items() if kind.precision == "int8"}
LOWEST = "openvino-int8"
WIDE = {name for name, kind in ENGINES.items() if kind.precision == "bfloat16"}


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    """A tiny BERT of three labels with every file exported."""
    place = model_folder(encoder("bert"), tmp_path_factory.mktemp("engines") / "model")
    for target in ("openvino-int8", "onnx-int8"):
        export(place, target, lambda message: None)
    return place


@pytest.fixture(scope="module")
def bundle(folder):
    return bundles.load(folder)


def rows(count: int, *, seed: int = 0, longest: int = 40) -> Tokens:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, longest, count)
    ids = generator.integers(5, 60, int(lengths.sum())).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(ids, np.zeros(len(ids), np.int8), starts, lengths.astype(np.int32))


def answers(engine, tokens, bundle, *, max_tokens=None, **options):
    if max_tokens is not None:
        with mock.patch.object(engine, "max_tokens", max_tokens):
            return answers(engine, tokens, bundle, **options)
    return run(engine, tokens, pad_id=bundle.pad_id, outputs=bundle.outputs, **options)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return rows(60)


@pytest.mark.parametrize("long", ["head", "windows"])
def test_texts_that_come_again_are_computed_once_and_told_of(long):
    model = counting_classifier(long=long, max_length=16)
    texts = ["尾灯不亮", "天窗漏水" * 9, "尾灯不亮", "油耗", "天窗漏水" * 9, "天窗漏水" * 8]
    tokens = model.text.encode(texts)
    heard: list[int] = []
    out = run(model.engine, tokens, pad_id=0, outputs=3, told=heard.append)
    alone = [run(model.engine, model.text.encode([text]), pad_id=0, outputs=3) for text in texts]
    assert (out == np.concatenate(alone)).all()
    assert sum(heard) == len(tokens.pieces)
    once = counting_classifier(long=long, max_length=16)
    run(once.engine, tokens, pad_id=0, outputs=3)
    different = {p.tobytes() for p in np.split(tokens.ids, tokens.starts[1:-1])}
    assert sum(rows for rows, _ in once.engine.batches) == len(different) < len(tokens.pieces)


def test_the_same_text_of_another_type_is_another_row():
    ids, types = np.array([5, 6, 5, 6], np.int32), np.array([0, 0, 0, 1], np.int8)
    pair = Tokens(ids, types, np.array([0, 2, 4]), np.array([2, 2], np.int32))
    assert pair.first_alike().tolist() == [0, 1]
    assert replace(pair, types=np.zeros(4, np.int8)).first_alike().tolist() == [0, 0]


def test_openvino_takes_the_option_that_leaves_attention_unfused(bundle, monkeypatch):
    from bert_cls.engines import openvino_engine

    given: list[dict[str, object]] = []

    class Watched(openvino_engine.openvino.Core):
        def compile_model(self, model, device, options):
            given.append(options)
            return super().compile_model(model, device, options)

    monkeypatch.setattr(openvino_engine.openvino, "Core", Watched)
    open_engine(bundle, "openvino")
    assert [options.get("SNIPPETS_MODE") for options in given] == ["DISABLE"]


def test_openvino_that_does_not_know_an_option_computes_all_the_same(bundle, tokens, monkeypatch):
    from bert_cls.engines import openvino_engine

    known = answers(open_engine(bundle, "openvino"), tokens, bundle)
    monkeypatch.setattr(openvino_engine, "_UNFUSED", {"NO_SUCH_OPTION": "DISABLE"})
    found = answers(open_engine(bundle, "openvino"), tokens, bundle)
    assert np.abs(found - known).max() < 1e-5


@pytest.fixture(scope="module")
def wanted(bundle, tokens):
    return answers(open_engine(bundle, "torch"), tokens, bundle)


@pytest.mark.parametrize("name", ENGINES)
def test_padding_batches_order_and_neighbours_change_no_answer(name, bundle, tokens, wanted):
    engine = open_engine(bundle, name)
    near = {"int8": 5e-3, "bfloat16": 5e-2}.get(ENGINES[name].precision, 1e-5)
    first = answers(engine, tokens, bundle, rule=bundle.rule)
    assert first.dtype == np.float32
    assert first.shape == (60, 3)
    order = np.random.default_rng(1).permutation(60)
    shuffled = answers(engine, subset(tokens, order), bundle, rule=bundle.rule, max_tokens=97)
    np.testing.assert_allclose(shuffled, first[order], atol=near)
    alone = [answers(engine, subset(tokens, order[[i]]), bundle, rule=bundle.rule) for i in (0, 1)]
    np.testing.assert_allclose(np.concatenate(alone), first[order[:2]], atol=near)
    batch = tokens.padded(np.arange(3), bundle.pad_id)
    wide = [
        np.pad(part, ((0, 0), (0, 25)), constant_values=v)
        for part, v in ((batch.ids, bundle.pad_id), (batch.types, 0), (batch.mask, False))
    ]
    np.testing.assert_allclose(engine.logits(PaddedBatch(*wide)), engine.logits(batch), atol=near)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_answers_as_torch_does(name, bundle, tokens, wanted):
    given = answers(open_engine(bundle, name), tokens, bundle, rule=bundle.rule)
    if name in LOW | WIDE:
        scores, other = bundle.rule.scores(wanted), bundle.rule.scores(given)
        assert np.abs(scores - other).max() < 0.05
        decided = margins(bundle.rule, wanted) > 1e-3
        same = (bundle.rule.decide(scores) == bundle.rule.decide(other)).all(axis=1)
        assert name in WIDE or same[decided].all()
    else:
        np.testing.assert_allclose(given, wanted, atol=1e-5)


@pytest.mark.parametrize("name", sorted(LOW))
def test_int8_is_int8_and_close_calls_are_made_in_float32(name, bundle, tokens, wanted):
    engine = open_engine(bundle, name)
    alone = answers(engine, tokens, bundle)
    assert np.abs(alone - wanted).max() > 1e-6
    rule = replace(bundle.rule, thresholds=tuple(bundle.rule.scores(alone)[7]))
    assert engine.unsure(alone, rule)[7]
    both = answers(engine, tokens, bundle, rule=rule)
    np.testing.assert_allclose(both[7], wanted[7], atol=1e-5)
    sure = ~engine.unsure(alone, rule)
    np.testing.assert_array_equal(both[sure], alone[sure])


@pytest.fixture
def three_stages(bundle, wanted, monkeypatch):
    """Each stage leaves rows to the next, whatever this processor has and the errors are."""
    monkeypatch.setattr("bert_cls.engines.second_look.multiplies_bfloat16", lambda: True)
    engines = bundle.details["engines"]
    third, second = np.quantile(margins(bundle.rule, wanted), [0.2, 0.6]).tolist()
    facts = {
        **engines,
        "openvino": {**engines["openvino"], "bfloat16": dict.fromkeys(MARGINS, third)},
        "openvino-int8": {**engines["openvino-int8"], **dict.fromkeys(MARGINS, second)},
    }
    return replace(bundle, details={**bundle.details, "engines": facts})


def test_bfloat16_looks_between_int8_and_float32(three_stages, bundle, tokens, wanted):
    engine = open_engine(three_stages, "openvino-int8")
    assert engine.name == "openvino int8, close calls in bfloat16 and float32"
    rule = bundle.rule
    alone = answers(engine, tokens, bundle)
    wide = answers(open_engine(bundle, "openvino-bfloat16"), tokens, bundle)
    second = engine.unsure(alone, rule)
    third = second & engine.surer().unsure(wide, rule)
    assert 0 < third.sum() < second.sum() < len(second)
    given = answers(engine, tokens, bundle, rule=rule)
    np.testing.assert_array_equal(given[~second], alone[~second])
    # in other batches bfloat16 rounds otherwise
    np.testing.assert_allclose(given[second & ~third], wide[second & ~third], atol=2e-2)
    np.testing.assert_allclose(given[third], wanted[third], atol=1e-5)
    decided = margins(rule, wanted) > 1e-3
    same = rule.decide(rule.scores(given)) == rule.decide(rule.scores(wanted))
    assert same[decided].all()


def test_what_looks_again_is_opened_when_a_row_needs_it(three_stages, tokens, bundle, monkeypatch):
    from bert_cls.engines import openvino_engine

    opened = []

    class Watched(openvino_engine.OpenVinoEngine):
        def __init__(self, model, *, precision, **options):
            opened.append(precision)
            super().__init__(model, precision=precision, **options)

    monkeypatch.setattr(openvino_engine, "OpenVinoEngine", Watched)
    engine = open_engine(three_stages, "openvino-int8")
    row = subset(tokens, np.array([7]))
    score = float(bundle.rule.scores(answers(engine, row, bundle))[0, 0])
    third, second = (three_stages.details["engines"][name] for name in ("openvino", LOWEST))
    between = (third["bfloat16"]["margin"] + second["margin"]) / 2
    near, far = score + (between if score < 0.5 else -between), 0.0 if score > 0.5 else 1.0
    assert abs(score - far) > second["margin"]
    for threshold, precisions in ((far, 1), (near, 2), (score, 3), (score, 3)):
        answers(engine, row, bundle, rule=replace(bundle.rule, thresholds=(threshold, inf, inf)))
        assert opened == ["int8", "bfloat16", "float32"][:precisions]


def test_without_a_margin_or_the_instructions_there_are_two_stages(
    three_stages, bundle, monkeypatch
):
    engines = dict(bundle.details["engines"])
    engines["openvino"] = {k: v for k, v in engines["openvino"].items() if k != "bfloat16"}
    older = replace(bundle, details={**bundle.details, "engines": engines})
    two = "openvino int8, close calls in float32"
    assert open_engine(older, "openvino-int8").name == two
    monkeypatch.setattr("bert_cls.engines.second_look.multiplies_bfloat16", lambda: False)
    assert open_engine(three_stages, "openvino-int8").name == two


@pytest.mark.parametrize("margin", [float("nan"), -0.1, "0.1", None, True, float("inf")])
def test_a_margin_that_is_none_is_refused(margin, three_stages):
    good = dict.fromkeys(MARGINS, 0.1)
    spoilt = [{**good, name: margin} for name in MARGINS]
    for facts in (
        *({"openvino-int8": one} for one in spoilt),
        *({"openvino": {"bfloat16": one}} for one in [*spoilt, margin]),
    ):
        engines = {**three_stages.details["engines"], **facts}
        spoiled = replace(three_stages, details={"engines": engines})
        with pytest.raises(BundleError, match=r"no distance between scores(.|\n)*bert-cls export"):
            open_engine(spoiled, "openvino-int8")


def test_int8_without_a_margin_is_refused(three_stages):
    engines = {**three_stages.details["engines"], "openvino-int8": {}}
    spoiled = replace(three_stages, details={"engines": engines})
    with pytest.raises(BundleError, match=r"is missing(.|\n)*bert-cls export"):
        open_engine(spoiled, "openvino-int8")


@given(
    lengths=st.lists(st.integers(1, 300), max_size=80),
    max_tokens=st.integers(1, 1024),
    at_once=st.integers(1, 4),
)
def test_few_batches_are_shared_evenly(lengths, max_tokens, at_once):
    array = np.array(lengths, np.int64)
    plain = list(batches_by_length(array, max_tokens, step=ROWS_STEP))
    even = even_batches(array, max_tokens, at_once)
    assert sorted(row for part in even for row in part) == list(range(len(lengths)))
    rounds = -(-len(plain) // at_once)
    assert -(-len(even) // at_once) == rounds  # never one round more
    cost = lambda parts: max((len(p) * int(array[p].max()) for p in parts), default=0)  # noqa: E731
    assert cost(even) <= cost(plain)


def test_two_texts_take_two_cores():
    assert [len(part) for part in even_batches(np.full(2, 36), 1024, 2)] == [1, 1]
    assert [len(part) for part in even_batches(np.full(74, 36), 1024, 2)] == [24, 24, 24, 2]


@pytest.mark.parametrize("name", ["openvino-int8", "openvino-bfloat16", "openvino"])
@pytest.mark.skipif(
    not (multiplies_int8() and multiplies_bfloat16()), reason="the processor emulates both"
)
def test_a_few_batches_give_the_same_bits_whatever_their_width_and_neighbours(name, bundle):
    engine = open_engine(bundle, name)
    tokens = rows(40, longest=70)
    lengths = tokens.lengths
    together = answers(engine, tokens, bundle)
    for max_tokens in (200, 500):
        again = answers(engine, tokens, bundle, max_tokens=max_tokens)
        np.testing.assert_array_equal(again, together)
    for row in range(40):
        for width in (lengths[row], lengths[row] + 1, 73, 100):
            batch = tokens.padded(np.array([row]), bundle.pad_id, width=int(width))
            np.testing.assert_array_equal(engine.logits(batch)[0], together[row])


@pytest.fixture
def streams(monkeypatch):
    """The number of streams of each network that OpenVINO prepares, on a machine of two cores."""
    from bert_cls.engines import openvino_engine

    seen = []
    prepared = openvino_engine.OpenVinoEngine._prepared

    def watched(self, *, streams):
        seen.append(streams)
        return prepared(self, streams=streams)

    monkeypatch.setattr(openvino_engine, "usable_cores", lambda: 2)
    monkeypatch.setattr(openvino_engine.OpenVinoEngine, "_prepared", watched)
    return seen


def test_texts_that_come_alone_one_after_the_other_get_all_cores(bundle, tokens, wanted, streams):
    engine = open_engine(bundle, "openvino")
    given = [answers(engine, subset(tokens, np.array([row])), bundle) for row in range(7)]
    assert streams == [2]
    given += [answers(engine, subset(tokens, np.array([row])), bundle) for row in range(7, 12)]
    assert streams == [2, 1]
    np.testing.assert_allclose(np.concatenate(given), wanted[:12], atol=1e-5)
    np.testing.assert_allclose(answers(engine, tokens, bundle), wanted, atol=1e-5)
    assert streams == [2, 1]


def test_many_texts_with_one_left_over_are_no_stream_of_single_ones(bundle, tokens, streams):
    engine = open_engine(bundle, "openvino")
    for _ in range(2):
        for row in range(7):
            answers(engine, subset(tokens, np.array([row])), bundle)
        answers(engine, tokens, bundle)
    assert streams == [2]


def in_threads(asked, count: int) -> list:
    """What `asked(number)` gives in so many threads that begin at once."""
    together = Barrier(count)

    def begin(number: int):
        together.wait()
        return asked(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


@pytest.mark.parametrize("name", ENGINES)
def test_threads_that_ask_at_once_get_their_own_answers(name, folder):
    texts = [f"天窗漏水{i}" * (1 + i % 5) for i in range(40)]
    expected = Classifier.load(folder, engine=name).predict(texts)
    model = Classifier.load(folder, engine=name)  # what it was before the first answer counts
    near = {"int8": 5e-3, "bfloat16": 5e-2}.get(ENGINES[name].precision, 1e-5)

    def asked(k):
        mine = texts[k::4]
        return model.predict(mine) + [one for text in mine for one in model.predict([text])]

    for k, found in enumerate(in_threads(asked, 4)):
        for one, wanted in zip(found, expected[k::4] * 2, strict=True):
            assert one.scores == pytest.approx(wanted.scores, abs=near)


@pytest.mark.parametrize("name", ENGINES)
def test_a_text_is_predicted_amid_a_stream(name, folder):
    model = Classifier.load(folder, engine=name)
    texts = [f"天窗漏水{i}" for i in range(12)]
    near = {"int8": 5e-3, "bfloat16": 5e-2}.get(ENGINES[name].precision, 1e-5)
    stream = model.predict_stream([Example(i, t) for i, t in enumerate(texts)], window=2)
    for text, answer in zip(texts, stream, strict=True):
        [one] = model.predict([text])
        assert answer["scores"] == pytest.approx(one.scores, abs=near)


def test_a_stage_that_threads_need_at_once_is_opened_once(three_stages, monkeypatch):
    engine, opened = open_engine(three_stages, LOWEST), []

    def watched(*stages):
        opened.append(in_turn(*stages))
        return opened[-1]

    monkeypatch.setattr("bert_cls.engines.second_look.in_turn", watched)
    given = in_threads(lambda _: engine.surer(), 4)
    assert len(opened) == 1
    assert all(stage is opened[0] for stage in given)


def test_a_run_that_is_stopped_leaves_the_engine_usable(bundle, tokens, wanted):
    engine = open_engine(bundle, "openvino")

    def stop(_pieces):
        raise RuntimeError("stopped")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="stopped") as kept:  # so is what was under way
            answers(engine, tokens, bundle, max_tokens=97, told=stop)
        np.testing.assert_allclose(answers(engine, tokens, bundle), wanted, atol=1e-5)
        del kept


def test_no_rows_give_no_logits(bundle):
    for name in ENGINES:
        nothing = subset(rows(3), np.zeros(0, np.int64))
        assert answers(open_engine(bundle, name), nothing, bundle, rule=bundle.rule).shape == (0, 3)


def test_auto_prefers_what_is_exported_and_can_run(bundle, monkeypatch):
    expected = "openvino-int8" if multiplies_int8() else "openvino"
    assert choose(bundle) == expected
    monkeypatch.setattr("bert_cls.engines.engine.multiplies_int8", lambda: False)
    assert choose(bundle) == "openvino"
    monkeypatch.setattr("bert_cls.engines.engine.multiplies_int8", lambda: True)
    monkeypatch.setattr(
        "bert_cls.engines.engine.find_spec", lambda name: None if name == "openvino" else name
    )
    assert choose(bundle) == "onnx-int8"


def test_auto_without_exports_is_torch_and_says_what_to_do_without_it(bundle, monkeypatch):
    bare = replace(bundle, details={})
    assert choose(bare) == "torch"
    monkeypatch.setattr("bert_cls.engines.engine.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"torch is not installed(.|\n)*export"):
        choose(bare)


def without(monkeypatch, *packages: str) -> None:
    monkeypatch.setattr(
        "bert_cls.engines.engine.find_spec", lambda name: None if name in packages else name
    )


def test_engines_that_are_passed_over_are_named_with_the_remedy(bundle, monkeypatch, tmp_path):
    monkeypatch.setattr("bert_cls.engines.engine.multiplies_int8", lambda: True)
    assert passed_over(bundle) == []
    without(monkeypatch, "openvino")
    assert choose(bundle) == "onnx-int8"
    assert passed_over(bundle) == [
        "openvino-int8: openvino is not installed (pip install 'bert-cls')"
    ]
    without(monkeypatch, "openvino", "onnxruntime")
    assert choose(bundle) == "torch"
    assert passed_over(bundle) == [
        "openvino-int8, openvino: openvino is not installed (pip install 'bert-cls')",
        "onnx-int8, onnx: onnxruntime is not installed (pip install 'bert-cls[onnx]')",
    ]
    without(monkeypatch)
    monkeypatch.setattr("bert_cls.engines.engine.multiplies_int8", lambda: False)
    assert choose(bundle) == "openvino"
    [first, second] = passed_over(bundle)
    assert "openvino-int8: this processor does not multiply int8 itself" in first
    assert "--engine onnx-int8" in second
    moved = replace(bundle, folder=tmp_path)
    assert choose(moved) == "torch"
    assert f"openvino.xml is missing (bert-cls export {tmp_path} --to openvino)" in str(
        passed_over(moved)
    )
    (tmp_path / "model.onnx").write_bytes(b"of another model")
    [only] = passed_over(replace(moved, details={}))
    assert only.startswith("onnx: model.onnx is no export of this model (bert-cls exp")


def test_a_folder_whose_engines_cannot_run_says_which_packages_they_need(bundle, monkeypatch):
    facts = bundle.details["engines"]
    only = replace(bundle, details={"engines": {"onnx": facts["onnx"]}})
    without(monkeypatch, "torch", "onnxruntime")
    with pytest.raises(EngineError, match=r"onnx: onnxruntime is not installed") as refused:
        choose(only)
    assert "bert-cls[onnx]" in str(refused.value)
    assert "torch is not installed (pip install 'bert-cls[train]')" in str(refused.value)
    assert "openvino: openvino.xml is no export of this model" in str(refused.value)


def test_a_file_that_was_not_exported_and_a_wrong_name(encoder, tmp_path):
    bare = bundles.load(model_folder(encoder("bert"), tmp_path / "bare"))
    with pytest.raises(EngineError, match=r"bert-cls export .* --to openvino-int8"):
        open_engine(bare, "openvino-int8")
    with pytest.raises(ConfigError, match=r"^engine must be one of"):
        open_engine(bare, "openvin")


def test_a_missing_package_is_named(bundle, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "bert_cls.engines.onnx_engine", raising=False)
    with pytest.raises(EngineError, match=r"onnxruntime(.|\n)*pip install 'bert-cls\[onnx\]'"):
        open_engine(bundle, "onnx")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_file_is_an_error_not_a_crash(name, bundle, tmp_path):
    for exported in (name, name.removesuffix("-int8")):
        for file in files_of(exported):
            (tmp_path / file).write_bytes(b"no network at all")
    with pytest.raises(BundleError, match=r"is not whole|is not a whole ONNX model"):
        open_engine(replace(bundle, folder=tmp_path), name)


def test_flags_of_a_processor(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert "avx512_vnni" in processor_flags(info)
    assert processor_flags(tmp_path / "absent") == frozenset()


def test_margins_are_distances_to_another_decision():
    logits = np.log(np.array([[0.6, 0.3, 0.1], [0.5, 0.48, 0.02]], np.float32))
    classes = Rule(task="multiclass", activation="softmax")
    np.testing.assert_allclose(margins(classes, logits), [0.15, 0.01], atol=1e-6)
    many = Rule(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.2))
    logits = np.log(np.array([[0.6 / 0.4, 0.1 / 0.9]], np.float32))
    np.testing.assert_allclose(margins(many, logits), [0.1], atol=1e-6)
    limited = replace(many, max_labels=1)
    np.testing.assert_allclose(margins(limited, logits), [0.1], atol=1e-6)
    value = Rule(task="regression", activation="identity")
    assert np.isinf(margins(value, logits[:, :1])).all()


@given(data=st.data())
def test_scores_that_move_less_than_the_margin_keep_their_labels(data):
    labels = data.draw(st.integers(1, 6))
    tenths = st.lists(st.integers(0, 20), min_size=labels, max_size=labels)
    scores = np.array(data.draw(st.lists(tenths, min_size=1, max_size=4))) / 22 + 0.013
    least = data.draw(st.integers(0, labels))
    rule = Rule(
        task="multilabel",
        activation="sigmoid",
        thresholds=tuple(np.array(data.draw(tenths)) / 20),
        min_labels=least,
        max_labels=data.draw(st.none() | st.integers(max(1, least), labels)),
    )
    logits = np.log(scores / (1 - scores))
    exact = rule.scores(logits)
    room = np.minimum(margins(rule, logits), 1.0)[:, None]
    assert (room >= 0).all()
    for moves in data.draw(st.lists(tenths, min_size=1, max_size=20)):
        moved = exact + 0.999 * room * (np.array(moves) / 10 - 1)
        np.testing.assert_array_equal(rule.decide(moved), rule.decide(exact))


def test_limits_ask_about_the_order_only_where_it_decides():
    rule = Rule(task="multilabel", activation="sigmoid", thresholds=(0.5,) * 4, max_labels=2)
    scores = np.array([[0.9, 0.1, 0.101, 0.1], [0.9, 0.8, 0.79, 0.1]])
    logits = np.log(scores / (1 - scores))
    np.testing.assert_allclose(margins(rule, logits), [0.399, 0.005], atol=1e-6)


def test_other_thresholds_have_a_margin_of_their_own(three_stages, bundle, wanted):
    engines = dict(three_stages.details["engines"])
    engines[LOWEST] = {**engines[LOWEST], "margin": 0.0, "margin_elsewhere": 1.0}
    engine = open_engine(replace(three_stages, details={"engines": engines}), LOWEST)
    assert not engine.unsure(wanted, bundle.rule).any()
    assert not engine.unsure(wanted, replace(bundle.rule, min_confidence=None)).any()
    assert engine.unsure(wanted, replace(bundle.rule, thresholds=(0.31, 0.32, 0.33))).all()


SCALES = {
    "temperature": {"temperature": 0.1},
    "bias": {"bias": -2.0},
    "slopes": {"slopes": (1.0, 1.0, 9.0), "offsets": (0.0,) * 3},
    "offsets": {"slopes": (1.0,) * 3, "offsets": (0.0, -2.0, 0.0)},
}


@pytest.mark.parametrize("changes", SCALES.values(), ids=SCALES.keys())
def test_under_another_scale_every_row_is_looked_at_again(changes, three_stages, tokens, wanted):
    engines = three_stages.details["engines"]
    facts = {**engines, LOWEST: {**engines[LOWEST], **dict.fromkeys(MARGINS, 0.0)}}
    model = replace(three_stages, details={"engines": facts})
    rule = model.rule.changed(changes)
    engine = open_engine(model, LOWEST)
    assert not engine.unsure(wanted, model.rule).any()
    assert engine.unsure(wanted, rule).all()
    if "offsets" in changes:  # alone too
        sloped = replace(model, rule=model.rule.changed(SCALES["slopes"]))
        moved = sloped.rule.changed({"offsets": (0.0, -2.0, 0.0)})
        assert open_engine(sloped, LOWEST).unsure(wanted, moved).all()
        assert not open_engine(sloped, LOWEST).unsure(wanted, sloped.rule).any()
    # no stage's margins are those of such scores
    np.testing.assert_allclose(answers(engine, tokens, model, rule=rule), wanted, atol=1e-5)


def test_other_weights_of_classes_are_another_scale(three_stages, wanted):
    engines = three_stages.details["engines"]
    facts = {**engines, LOWEST: {**engines[LOWEST], **dict.fromkeys(MARGINS, 0.0)}}
    rule = Rule(task="multiclass", activation="softmax")
    engine = open_engine(replace(three_stages, rule=rule, details={"engines": facts}), LOWEST)
    assert not engine.unsure(wanted, rule).any()
    assert engine.unsure(wanted, replace(rule, weights=(1.0, 2.0, 1.0))).all()


def test_other_limits_have_the_margin_of_other_thresholds(three_stages, bundle, wanted):
    """They compare scores that are nowhere near the model's own thresholds."""
    engines = three_stages.details["engines"]
    for changes in ({"min_labels": 1}, {"max_labels": 1}):
        rule = bundle.rule.changed(changes)
        distances = label_margins(rule, wanted)
        widest = float(np.median(distances))
        facts = {"margin": 0.0, "margin_elsewhere": widest, "margin_confidence": 0.0}
        model = replace(three_stages, details={"engines": {**engines, LOWEST: facts}})
        engine = open_engine(model, LOWEST)
        np.testing.assert_array_equal(engine.unsure(wanted, rule), distances <= widest)
        assert not engine.unsure(wanted, bundle.rule).any()


def test_rows_near_the_least_confidence_are_looked_at_again(three_stages, bundle, wanted):
    rule = replace(bundle.rule, min_confidence=0.5)
    for margin in (0.05, 0.0):
        facts = {"margin": 0.0, "margin_elsewhere": 0.0, "margin_confidence": margin}
        engines = {**three_stages.details["engines"], LOWEST: facts}
        engine = open_engine(replace(three_stages, details={"engines": engines}), LOWEST)
        assert not engine.unsure(wanted, bundle.rule).any()
        near = confidence_margins(rule, wanted) <= margin
        np.testing.assert_array_equal(engine.unsure(wanted, rule), near)
        assert near.any() == bool(margin)


@pytest.mark.parametrize("name", ["openvino-int8", "openvino-bfloat16", "openvino"])
def test_a_long_job_meets_few_shapes(name, bundle, monkeypatch):
    """Whatever the calls are, for memory is kept for every shape."""
    from bert_cls.engines import openvino_engine

    met: set[tuple[int, ...]] = set()

    def feeds(batch, names):
        met.add(batch.ids.shape)
        return openvino_feeds(batch, names)

    openvino_feeds = openvino_engine.feeds
    monkeypatch.setattr(openvino_engine, "feeds", feeds)
    engine = open_engine(bundle, name)
    engine = getattr(engine, "fast", engine)
    for count in range(1, 97):
        tokens = rows(count, longest=20)
        assert len(answers(engine, tokens, bundle)) == count
    assert all(shape[0] <= 8 or shape[0] % 8 == 0 for shape in met)


@pytest.mark.parametrize("name", ["openvino-int8", "openvino", "onnx", "torch"])
def test_an_engine_opened_before_a_fork_is_refused_and_no_child_waits_for_ever(bundle, name):
    engine = open_engine(bundle, name)
    answers(engine, rows(3), bundle)

    def asked_again() -> None:
        signal.alarm(60)
        with pytest.raises(EngineError, match="opened before a fork") as caught:
            answers(engine, rows(3), bundle)
        assert "Classifier.load(FOLDER) in each process after the fork" in str(caught.value)

    assert forked(asked_again) == 0
    assert len(answers(engine, rows(3), bundle)) == 3


@pytest.mark.parametrize(("name", "library"), [("openvino", "OpenVINO"), ("onnx", "ONNX Runtime")])
def test_a_child_opens_no_engine_that_its_parent_used_and_lets_go_of_it(bundle, name, library):
    engines = [open_engine(bundle, name)]

    def opened() -> None:
        signal.alarm(60)
        with pytest.raises(EngineError, match=f"opened by {library} before a fork"):
            open_engine(bundle, name)
        engines.clear()

    assert forked(opened) == 0


def test_threads_of_torch_before_a_fork_are_said(bundle):
    open_engine(bundle, "torch")

    def opened(threads: int) -> None:
        signal.alarm(60)
        torch.set_num_threads(threads)
        open_engine(bundle, "torch")

    def refused() -> None:
        with pytest.raises(EngineError, match="opened by torch before a fork"):
            opened(2)

    assert forked(refused) == 0
    if torch.get_num_threads() == 1:
        assert forked(lambda: opened(1)) == 0


@pytest.mark.parametrize("name", ["openvino-int8", "onnx", "torch"])
def test_a_copy_is_the_same_model_opened_again(folder, name):
    model = Classifier.load(folder, engine=name).with_rule(thresholds=(0.1, 0.2, 0.3))
    texts = ["尾灯不亮", "今天堵车"]
    for made in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert made.engine is not model.engine
        assert made.engine.name == model.engine.name
        assert made.bundle.rule == model.bundle.rule
        assert made.bundle.details == model.bundle.details
        assert made.predict(texts) == model.predict(texts)


def test_a_copy_of_a_folder_that_became_another_model_is_refused(encoder, tmp_path, monkeypatch):
    place = model_folder(encoder("bert"), tmp_path / "model")
    other = model_folder(encoder("distilbert"), tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    model = Classifier.load("model", engine="torch")
    kept = pickle.dumps(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(kept).predict(["尾灯不亮"]) == model.predict(["尾灯不亮"])
    place.rename(tmp_path / "before")
    with pytest.raises(BundleError, match="there is no model folder"):
        pickle.loads(kept)
    other.rename(place)
    with pytest.raises(BundleError, match="became another model since"):
        pickle.loads(kept)


def test_what_was_loaded_unchecked_is_copied_unchecked_and_an_engine_of_no_folder_not(
    encoder, tmp_path
):
    place = model_folder(encoder("bert"), tmp_path / "model")
    (place / "MANIFEST.json").unlink()
    model = Classifier.load(place, engine="torch", check=False)
    assert copy.deepcopy(model).predict(["尾灯不亮"]) == model.predict(["尾灯不亮"])
    with pytest.raises(EngineError, match="'counting' is from no folder"):
        copy.copy(counting_classifier())
