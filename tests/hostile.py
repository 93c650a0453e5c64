"""What tests damage folders with."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path


class Canary:
    """What runs when a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def rewrite(path: Path, **changes: object) -> None:
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


def sealed(folder: Path) -> Path:
    """The folder with a manifest that fits what is in it now, as whoever changed it would write."""
    from bert_cls.folders import MANIFEST, read_manifest, write_manifest

    write_manifest(folder, [e["name"] for e in read_manifest(folder) if e["name"] != MANIFEST])
    return folder


PICKLE_NAMES = (
    "pytorch_model.bin",
    "model.pt",
    "weights.pkl",
    "rng_state.pth",
    "optimizer.pt",
    "scheduler.pt",
    "training_args.bin",
    "adapter_model.bin",
    "model.ckpt",
    "tokenizer.pkl",
    "data.pickle",
    ".metadata",
    "__0_0.distcp",
    "pytorch_model.bin.index.json",
)


def strew(folder: Path, ran: Path) -> None:
    """Canary pickles under every name that some loader would open, and modules to be imported."""
    content = pickle.dumps(Canary(ran))
    for name in PICKLE_NAMES:
        (folder / name).write_bytes(content)
    code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    for name in ("evil.py", "modeling_evil.py", "sitecustomize.py", "conftest.py"):
        (folder / name).write_text(code)
    other = {"base_model_name_or_path": "../elsewhere", "peft_type": "LORA", "auto_mapping": None}
    (folder / "adapter_config.json").write_text(json.dumps(other))
    index = {"weight_map": {"a": "../../elsewhere.safetensors", "b": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def zipped(content: bytes) -> bytes:
    """As torch.save lays a pickle into an archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


HOSTILE_CONFIGS: dict[str, dict[str, object] | bytes] = {
    "code of its own": {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}},
    "trust": {"trust_remote_code": True},
    "internal attention": {"_attn_implementation_internal": "evil/kernel"},
    "attention": {"attn_implementation": "evil/kernel"},
    "experts": {"experts_implementation": "evil/kernel"},
    "another family": {"model_type": "evil"},
    "a list as family": {"model_type": ["bert"]},
    "other weights": {"transformers_weights": "pytorch_model.bin"},
    "gguf": {"gguf_file": "evil.gguf"},
    "quantised": {"quantization_config": {"quant_method": "evil"}},
    "words for 100 GB": {"vocab_size": 3_000_000, "hidden_size": 16_384},
    "more words than numbers": {"vocab_size": 10**18},
    "wide": {"hidden_size": 16_384, "intermediate_size": 131_072},
    "deep": {"num_hidden_layers": 10**9},
    "all of it": {"num_hidden_layers": 256, "hidden_size": 8192, "intermediate_size": 65_536},
    "positions": {"max_position_embeddings": 10**12},
    "negative": {"hidden_size": -32},
    "zero": {"num_attention_heads": 0},
    "a word as number": {"hidden_size": "32"},
    "a list as number": {"num_hidden_layers": [2]},
    "true as number": {"num_hidden_layers": True},
    "a fraction": {"num_hidden_layers": 2.5},
    "a function": {"hidden_act": "evil.activation"},
    "a function as object": {"hidden_act": {"name": "gelu"}},
    "a bad share": {"hidden_dropout_prob": 7},
    "a bad norm": {"layer_norm_eps": -1e-5},
    "a bad id": {"pad_token_id": -7},
    "NaN": b'{"model_type": "bert", "layer_norm_eps": NaN}',
    "infinity": b'{"model_type": "bert", "layer_norm_eps": Infinity}',
    "nested lists": b'{"model_type": "bert", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested less": b'{"model_type": "bert", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
    "nested where it counts": {"rope_parameters": {"a": nested(300)}},
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a list": b"[]",
    "no padding to count from": {"model_type": "roberta", "pad_token_id": None},
    "a huge number": b'{"model_type": "bert", "hidden_size": ' + b"9" * 5000 + b"}",
    "the same key twice": b'{"model_type": "bert", "model_type": "evil"}',
    "too large": b'{"x": "' + b"x" * (17 * 2**20) + b'"}',
}
