"""The same answers before and after saving: moved, reloaded elsewhere, without the encoder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_cls import Classifier
from small import FAST, MAKERS, paired, write_folder
from tiny import FAMILIES, TEXTS, tiny_encoder

POOLED = ("albert", "bert", "ernie", "macbert", "roberta", "xlm-roberta")
# every family with every task would be 36 trainings: each family once, each task several times
CASES = [
    (family, list(MAKERS)[at % len(MAKERS)], at % 3 == 1) for at, family in enumerate(FAMILIES)
]

ANSWERS = """
import json, sys
from pathlib import Path
from bert_cls import Classifier
from bert_cls.data import Example
out = {}
for folder in sys.argv[1:]:
    model = Classifier.load(folder)
    rows = json.loads((Path(folder).parent / "rows.json").read_text("utf-8"))
    tokens = model.tokens([Example(i, *row) for i, row in enumerate(rows)])
    out[folder] = model.logits(tokens).tobytes().hex()
print(json.dumps(out))
"""


def answers(model: Classifier, rows: list[list[str]]) -> bytes:
    from bert_cls.data import Example

    return model.logits(model.tokens([Example(i, *row) for i, row in enumerate(rows)])).tobytes()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, tuple[Path, bytes]]:
    """A model folder of each family, moved away from where it was trained, and its answers there.

    The encoder and the data are gone.
    """
    root = tmp_path_factory.mktemp("parity")
    made = {}
    for family, task, pairs in CASES:
        place = root / family
        make = (lambda n, task=task: paired(MAKERS[task](n))) if pairs else MAKERS[task]
        encoder = tiny_encoder(family, place / "encoder")
        data = write_folder(place / "data", make, sizes=(32, 12, 12))
        chosen = {**FAST, "encoder.pooling": "cls_pooler"} if family in POOLED else FAST
        model = Classifier.train(data, place / "trained", encoder=str(encoder), settings=chosen)
        rows = [[a, b] if pairs else [a] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
        before = answers(model, rows)
        moved = root / "moved" / f"{family} 模型"
        moved.mkdir(parents=True)
        (place / "trained").rename(moved / "model")
        (moved / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
        shutil.rmtree(place)
        made[family] = (moved / "model", before)
    return made


def test_another_process_elsewhere_gives_the_same_bits(models, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", ANSWERS, *(str(folder) for folder, _ in models.values())],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONHASHSEED": "77"},
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for folder, before in models.values():
        assert bytes.fromhex(found[str(folder)]) == before, folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_relative_path_and_a_link_to_the_folder_are_the_same_model(
    models, family, tmp_path, monkeypatch
):
    folder, before = models[family]
    rows = json.loads((folder.parent / "rows.json").read_text("utf-8"))
    monkeypatch.chdir(folder.parent)
    assert answers(Classifier.load("model"), rows) == before
    (tmp_path / "current").symlink_to(folder)
    assert answers(Classifier.load(tmp_path / "current"), rows) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_opens_the_folder(models, family):
    from transformers import AutoModel, AutoTokenizer

    folder, before = models[family]
    ours = Classifier.load(folder)
    theirs, loading = AutoModel.from_pretrained(
        str(folder), attn_implementation="eager", output_loading_info=True
    )
    assert not loading["missing_keys"]
    rows = json.loads((folder.parent / "rows.json").read_text("utf-8"))
    columns = list(zip(*rows, strict=True))
    tokens = ours.text.encode(*columns)
    batch = tokens.padded(range(len(tokens)), ours.bundle.pad_id)
    ids, types, mask = (torch.from_numpy(part) for part in (batch.ids, batch.types, batch.mask))
    network = ours.engine.network
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs |= {"token_type_ids": types} if network.takes_types else {}
    with torch.inference_mode():
        expected = network.encoder.eval()(**inputs).last_hidden_state
        found = theirs.eval()(**inputs).last_hidden_state
    assert torch.equal(found, expected)
    plain = AutoTokenizer.from_pretrained(str(folder))
    encoded = plain(*map(list, columns), truncation=True, max_length=24)["input_ids"]
    if len(columns) == 1:
        assert encoded == [row[m].tolist() for row, m in zip(batch.ids, batch.mask, strict=True)]
    assert len(before) == 4 * len(rows) * ours.bundle.outputs


@pytest.mark.parametrize("family", ["albert", "bert", "ernie", "macbert"])
def test_transformers_opens_all_of_it_where_the_head_is_the_stock_one(models, family):
    from transformers import AutoModelForSequenceClassification

    folder, before = models[family]
    ours = Classifier.load(folder)
    theirs, loading = AutoModelForSequenceClassification.from_pretrained(
        str(folder), attn_implementation="eager", output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert list(theirs.config.id2label.values()) == list(ours.labels or ("score",))
    for parameter in theirs.parameters():
        parameter.data = parameter.data.clone()  # mapped files lie unevenly, which costs last bits
    rows = json.loads((folder.parent / "rows.json").read_text("utf-8"))
    tokens = ours.text.encode(*zip(*rows, strict=True))
    expected = np.frombuffer(before, np.float32).reshape(len(rows), -1)
    for row in range(len(rows)):
        batch = tokens.padded([row], ours.bundle.pad_id)
        ids, types, mask = (torch.from_numpy(part) for part in (batch.ids, batch.types, batch.mask))
        with torch.inference_mode():
            found = theirs.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask).logits
            alone = ours.engine.network.eval()(ids, types, mask)
        assert torch.equal(found, alone)
        np.testing.assert_allclose(found[0].numpy(), expected[row], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_words_of_every_family(models, family):
    folder, _ = models[family]
    model = Classifier.load(folder, engine="torch")
    texts = ["这车的尾灯很亮", "Service was slow"]
    rows = [(text, text) for text in texts] if model.bundle.pair else texts
    for why in model.explain(rows, method="gradient"):
        weights = np.array([span.weight for span in why.labels[0].spans])
        assert np.isfinite(weights).all()
        assert np.abs(weights).max() > 0
