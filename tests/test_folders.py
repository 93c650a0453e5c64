"""Folders are whole or absent, and a changed byte is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bert_cls import folders
from bert_cls.data.repair import repair
from bert_cls.errors import BundleError
from bert_cls.folders import (
    MANIFEST,
    clean_orphans,
    read_manifest,
    replacing,
    sha256,
    verify,
    write_file,
    write_folder,
    write_manifest,
)
from bert_cls.resumable import begin, write

FILES = {
    "model.bin": random.Random(1).randbytes(3000),
    "config.json": b'{"a": 1}',
    "empty": b"",
    "nested/deep/part.txt": "尾灯".encode() * 40,
}


def writer(files: dict[str, bytes]):
    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    return write


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


@pytest.fixture
def whole(tmp_path) -> Path:
    write_folder(tmp_path / "whole", writer(FILES))
    return tmp_path / "whole"


def test_what_was_written_is_there_and_whole(whole):
    assert content_of(whole) == FILES
    verify(whole)
    entries = {entry["name"]: entry for entry in read_manifest(whole)}
    assert entries.keys() == FILES.keys()
    for name, content in FILES.items():
        assert entries[name]["size"] == len(content)
        assert entries[name]["sha256"] == sha256(whole / name)
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


@pytest.mark.parametrize("content", [None, b"short", bytes(3000)])
def test_of_a_file_that_is_missing_cut_or_changed_the_remedy_is_said(content, whole):
    (whole / "model.bin").unlink()
    if content is not None:
        (whole / "model.bin").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.bin") as caught:
        verify(whole)
    assert caught.value.hint == "copy the folder again from where it was made."


def test_a_folder_is_replaced_as_a_whole(whole):
    write_folder(whole, writer({"other": b"new"}))
    assert content_of(whole) == {"other": b"new"}
    verify(whole)
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


def test_a_parent_that_is_gone_is_not_made_anew(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_folder(tmp_path / "moved" / "checkpoint-7", writer(FILES))
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_left_alone(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    with pytest.raises(BundleError, match="is a file"):
        write_folder(tmp_path / "target", writer(FILES))
    assert (tmp_path / "target").read_bytes() == b"precious"


# --- interrupted


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failing_write_changes_nothing(tmp_path, error, exists):
    target = tmp_path / "target"
    if exists:
        write_folder(target, writer(FILES))

    def write(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        write_folder(target, write)
    assert [path.name for path in tmp_path.iterdir()] == (["target"] if exists else [])
    if exists:
        verify(target)
        assert content_of(target) == FILES


def test_a_failing_rename_puts_the_old_folder_back(whole, monkeypatch):
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == whole and "-was-" not in self.name:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    with pytest.raises(OSError, match="no"):
        write_folder(whole, writer({"other": b"new"}))
    verify(whole)
    assert content_of(whole) == FILES
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"

    def fail() -> None:
        with replacing(path) as scratch:
            scratch.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


# A child is killed (SIGKILL, so nothing is tidied) at the first, second, third... thing it asks of
# the file system, until it comes to its end; after each kill the folder must be whole.
KILLED = """
import os, signal, sys
from pathlib import Path
from bert_cls import folders
from bert_cls.data.repair import repair
from bert_cls.folders import clean_orphans, remove_folder, verify, write_file, write_folder

root = Path(sys.argv[1])
what = sys.argv[2]
if what == "set aside":  # as on a system that cannot exchange two names
    folders._exchange = lambda *_: False
OLD, NEW = ({"a": v * 5000, "sub/b": v, "c": v * 10} for v in (b"old", b"new"))
ASKED = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree")

def writer(files):
    def write(folder):
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    return write

def content(folder):
    return {n: (folder / n).read_bytes() for n in OLD} if folder.exists() else None

def work():
    if what == "file":
        write_file(root / "file", b"new")
    elif what == "remove":
        remove_folder(root / "target")
    else:
        write_folder(root / "target", writer(NEW))

kills = ends = seen_old = seen_new = 0
while not ends:
    for path in clean_orphans(root):
        pass
    if what in ("replace", "set aside", "remove"):
        write_folder(root / "target", writer(OLD))
    elif what == "file":
        write_file(root / "file", b"old")
    elif (root / "target").exists():
        import shutil
        shutil.rmtree(root / "target")
    child = os.fork()
    if child == 0:
        count = 0
        def hook(event, arguments):
            global count
            if event in ASKED:
                count += 1
                if count > kills:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ends = int(status == 0)
    assert ends or os.WTERMSIG(status) == signal.SIGKILL, status
    kills += 1
    if what == "replace":  # there even before anything is put into order
        verify(root / "target")
    clean_orphans(root)
    assert not [p for p in root.iterdir() if p.name.startswith(".tmp")], list(root.iterdir())
    if what == "file":
        found = (root / "file").read_bytes()
        assert found in (b"old", b"new"), found
        seen_new += found == b"new"
        seen_old += found == b"old"
        continue
    found = content(root / "target")
    either = {"replace": [OLD, NEW], "set aside": [OLD, NEW], "remove": [OLD, None]}
    assert found in either.get(what, [None, NEW]), found
    if found is not None:
        verify(root / "target")
    seen_new += found == NEW
    seen_old += found != NEW
print(kills, seen_old, seen_new)
"""


@pytest.mark.parametrize("what", ["new", "replace", "set aside", "remove", "file"])
def test_killed_at_any_instant_it_is_whole(tmp_path, what):
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), what],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    kills, old, new = map(int, ran.stdout.split())
    assert kills >= {"new": 15, "replace": 20, "set aside": 25, "remove": 4, "file": 3}[what]
    assert old >= 2
    assert new >= {"replace": 2, "set aside": 2, "remove": 0}.get(what, 1)


def test_only_our_orphans_are_removed(tmp_path):
    ours = tmp_path / ".tmp-bert-cls-0123"
    ours.mkdir()
    write_folder(ours / "inner", writer(FILES))
    (tmp_path / ".tmp-bert-cls-file").write_bytes(b"half")
    (tmp_path / ".tmp-bert-cls-link").symlink_to(tmp_path / "model")
    others = {".tmp-other", "tmp-bert-cls-x", ".tmp-bert", "model", ".hidden"}
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept").write_bytes(b"kept")
    inside = tmp_path / "model" / ".tmp-bert-cls-deeper"
    inside.mkdir()
    removed = clean_orphans(tmp_path)
    assert removed == [".tmp-bert-cls-0123", ".tmp-bert-cls-file", ".tmp-bert-cls-link"]
    assert {path.name for path in tmp_path.iterdir()} == others
    assert all((tmp_path / name / "kept").exists() for name in others)
    assert inside.exists(), "only this folder's own"
    assert clean_orphans(tmp_path) == []
    assert clean_orphans(tmp_path / "missing") == []


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_what_is_being_written_is_no_orphan(tmp_path):
    def look(scratch: Path) -> None:
        writer(FILES)(scratch)
        assert clean_orphans(tmp_path) == clean_orphans(tmp_path, shared=True) == []

    write_folder(tmp_path / "model", look)
    with replacing(tmp_path / "file") as scratch:
        scratch.write_bytes(b"whole")
        assert clean_orphans(tmp_path) == clean_orphans(tmp_path, shared=True) == []
    assert content_of(tmp_path / "model") == FILES
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_where_nothing_can_be_locked_only_what_is_ours_alone_is_cleaned(tmp_path, monkeypatch):
    monkeypatch.setattr("bert_cls.locks.lock", lambda handle: False)
    (tmp_path / ".tmp-bert-cls-0123").mkdir()
    assert clean_orphans(tmp_path, shared=True) == []
    assert clean_orphans(tmp_path) == [".tmp-bert-cls-0123"]


def test_a_folder_set_aside_gets_its_name_back_unless_it_was_replaced(tmp_path):
    for name in ("checkpoint-7", "model"):
        write_folder(tmp_path / f".tmp-bert-cls-01-was-{name}", writer(FILES))
    write_folder(tmp_path / "model", writer({"new": b"new"}))
    assert clean_orphans(tmp_path) == [".tmp-bert-cls-01-was-model"]
    assert content_of(tmp_path / "checkpoint-7") == FILES
    assert content_of(tmp_path / "model") == {"new": b"new"}
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-7", "model"}


@pytest.mark.skipif(sys.platform != "linux", reason="names change places at once on Linux only")
def test_a_folder_that_is_replaced_is_there_at_every_instant(whole):
    done = threading.Event()
    absent, looks = [], 0

    def look() -> None:
        nonlocal looks
        while not done.is_set():
            looks += 1
            if not (whole / "config.json").exists():
                absent.append(looks)

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(40):
        write_folder(whole, writer({"config.json": b"%d" % number}))
    done.set()
    looker.join()
    assert looks > 40
    assert absent == []


# --- noticed


def test_any_changed_byte_is_noticed_and_its_file_named(whole):
    chooser = random.Random(7)
    names = [name for name, content in FILES.items() if content]
    for _ in range(200):
        path = whole / chooser.choice(names)
        content = bytearray(path.read_bytes())
        content[chooser.randrange(len(content))] ^= chooser.randrange(1, 256)
        original = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(BundleError, match="sha256") as caught:
            verify(whole)
        assert str(path) in str(caught.value)
        path.write_bytes(original)
    verify(whole)


def test_any_changed_byte_of_the_manifest_is_noticed(whole):
    path = whole / MANIFEST
    original = path.read_bytes()
    chooser = random.Random(8)
    for at in range(len(original)):
        changed = bytearray(original)
        changed[at] = chooser.choice([b for b in b"\t\n\r 0\xff" if b != original[at]])
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            verify(whole)


@pytest.mark.parametrize("name", FILES)
def test_missing_cut_and_grown_files_are_noticed_and_named(whole, name):
    path = whole / name
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(BundleError, match=f"{len(content) + 1} bytes. {len(content)} were"):
        verify(whole)
    if content:
        path.write_bytes(content[:-1])
        with pytest.raises(BundleError, match="bytes"):
            verify(whole)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        verify(whole)
    path.mkdir()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        verify(whole)


def test_a_folder_without_manifest_is_not_finished(whole):
    (whole / MANIFEST).unlink()
    with pytest.raises(BundleError, match="not a finished"):
        verify(whole)


def test_a_manifest_of_chosen_files_looks_at_no_others(whole):
    write_manifest(whole, ["config.json"])
    (whole / "model.bin").write_bytes(b"a report of its own")
    verify(whole)
    assert [entry["name"] for entry in read_manifest(whole)] == ["config.json"]


# true of config.json and of a file beside the folder, so only the name or the type is at fault
GOOD = {
    "name": "config.json",
    "size": 8,
    "sha256": hashlib.sha256(FILES["config.json"]).hexdigest(),
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"7",
        b'"files"',
        b"{}",
        *(
            json.dumps({"files": files}).encode()
            for files in (
                None,
                [],
                {},
                "config.json",
                [None],
                [7],
                ["config.json"],
                [[]],
                [{}],
                [GOOD, {"name": "config.json"}],
                [GOOD | {"name": "../secret"}],
                [GOOD | {"name": "nested/../../secret"}],
                [GOOD | {"name": "BESIDE/secret"}],
                [GOOD | {"name": ".."}],
                [GOOD | {"name": ""}],
                [GOOD | {"name": "a\0b"}],
                [GOOD | {"name": None}],
                [GOOD | {"name": ["config.json"]}],
                [GOOD | {"size": "8"}],
                [GOOD | {"size": 8.0}],
                [GOOD | {"size": None}],
                [GOOD | {"size": -8}],
                [GOOD | {"size": 10**30}],
                [GOOD | {"sha256": None}],
                [GOOD | {"sha256": 7}],
                [GOOD | {"sha256": "0" * 64}],
            )
        ),
    ],
)
def test_a_hostile_manifest_is_refused(whole, content):
    (whole.parent / "secret").write_bytes(FILES["config.json"])
    (whole / MANIFEST).write_bytes(content.replace(b"BESIDE", str(whole.parent).encode()))
    with pytest.raises(BundleError) as caught:
        verify(whole)
    assert str(whole) in str(caught.value)


def test_the_same_manifest_without_its_fault_is_accepted(whole):
    (whole / MANIFEST).write_text(json.dumps({"files": [GOOD]}))
    verify(whole)
    assert read_manifest(whole) == [GOOD]


def test_a_manifest_that_is_a_folder_is_refused(whole):
    (whole / MANIFEST).unlink()
    (whole / MANIFEST).mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        verify(whole)


def test_a_pipe_is_written_to_and_a_link_is_replaced(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"hello")
    reader.join()
    assert got == [b"hello"]
    assert pipe.is_fifo()
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"mine")
    link.symlink_to(target)
    write_file(link, b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"mine", b"new", False)
    link.unlink()
    link.symlink_to(pipe)  # in a stranger's folder it may lead to a device
    write_file(link, b"new")
    assert not link.is_symlink()


def test_a_pipe_in_a_folder_stays_and_is_not_waited_for(tmp_path):
    def write(scratch):
        os.mkfifo(scratch / "pipe")
        (scratch / "gone").symlink_to("nowhere")
        (scratch / "a").write_text("x")

    write_folder(tmp_path / "target", write, listed=["a"])
    assert (tmp_path / "target" / "pipe").is_fifo()
    verify(tmp_path / "target")


# --- on the disk


def a_model(place: Path) -> None:
    write_folder(place, writer(FILES))


def a_repaired_copy(place: Path) -> None:
    data = place.parent / "data"
    data.mkdir()
    row = {"index": 1, "text_a": "尾灯不亮", "label": "甲"}
    (data / "train.json").write_text(json.dumps([row, {**row, "index": 2, "text_a": 3}]))
    repair(data, place)


def predictions(place: Path) -> None:
    with begin(place, {}, resume=None) as begun:
        write([{"index": 1, "labels": []}], begun)


@pytest.mark.parametrize(
    ("make", "name"), [(a_model, "model"), (a_repaired_copy, "copy"), (predictions, "out.jsonl")]
)
def test_what_has_its_name_is_on_the_disk(tmp_path, monkeypatch, make, name):
    done, fsync, rename = [], os.fsync, Path.rename

    def note_sync(handle: int) -> None:
        done.append(os.fstat(handle).st_ino)
        fsync(handle)

    def note_rename(self: Path, target: Path) -> Path:
        done.append(Path(target).name)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    place = tmp_path / name
    make(place)
    named = len(done) - 1 - done[::-1].index(name)
    for path in (place, *place.rglob("*")):
        assert path.stat().st_ino in done[:named], path
    assert tmp_path.stat().st_ino in done[named:]


def test_a_folder_is_as_closed_as_the_one_it_replaces_or_is_in(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    write_folder(tmp_path / "run" / "checkpoint-2", writer(FILES))
    assert (tmp_path / "run" / "checkpoint-2").stat().st_mode & 0o777 == 0o700
    for mode in (0o750, 0o770):
        (tmp_path / "run" / "checkpoint-2").chmod(mode)
        write_folder(tmp_path / "run" / "checkpoint-2", writer(FILES))
        assert (tmp_path / "run" / "checkpoint-2").stat().st_mode & 0o777 == mode
    tmp_path.chmod(0o1777)  # nobody else may write to what is in /tmp
    write_folder(tmp_path / "new", writer(FILES))
    assert not (tmp_path / "new").stat().st_mode & 0o1022


def test_a_folder_with_closed_ones_in_it_is_replaced(whole):
    (whole / "nested").chmod(0o500)
    write_folder(whole, writer({"other": b"new"}))
    assert content_of(whole) == {"other": b"new"}
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]
