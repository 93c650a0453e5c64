"""Folders that are whole or absent: written beside, described by a manifest, synced, renamed."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from bert_cls.errors import BundleError, ConfigError
from bert_cls.files import inside, is_inner_name, read_object
from bert_cls.locks import held

MANIFEST = "MANIFEST.json"
_SCRATCH = ".tmp-bert-cls-"
_SET_ASIDE = "-was-"
_SYSTEM = frozenset(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))
_MOST_LINKS = 40  # as the kernel has it
_COPY_AGAIN = "copy the folder again from where it was made."


def write_folder(
    target: Path, write: Callable[[Path], None], *, listed: Iterable[str] | None = None
) -> None:
    """Let `write` fill a scratch folder, then make it appear as `target` in one rename.

    The manifest lists all files, or those `listed`.

    A `target` that exists changes places with the new folder in one call of the kernel, so it is
    there at every instant. Where there is no such call it is set aside, and put back when the
    rename fails, or by `clean_orphans` when the machine stops between two renames. When writing
    fails nothing of `target` has changed. A link keeps its place: what it leads to is replaced.
    BundleError when `target` is a file. Its parent must be there: where it was moved away, making
    it anew would part what belongs together.
    """
    with appearing(target) as scratch:
        write(scratch)
        write_manifest(scratch, listed)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target`, as `write_folder` says, when the block ends well.

    Its mode and owner are those of a `target` that is there; else it is no more open to others than
    the folder it is in.
    """
    target = target.resolve()
    if target.is_file():
        raise BundleError(f"{target} is a file; a folder is to be written there.")
    with scratch_folder(target) as scratch:
        yield scratch
        _settle(scratch, target)
        sync_all(scratch)
        if target.exists():
            _replace(target, scratch)
        else:
            scratch.rename(target)
        sync(target.parent)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, removed at the end of the block unless it was renamed."""
    mode = 0o700 if target.exists() else 0o777  # what is closed to others is so all the while
    with _scratch(target, lambda path: path.mkdir(mode)) as scratch:
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _scratch(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A name beside `target`, made and locked: what `clean_orphans` finds locked is in use."""
    with ExitStack() as stack:
        scratch = None
        while scratch is None:
            made = _scratch_beside(target)
            make(made)
            # somebody's clean_orphans may have come between making and locking it
            with suppress(BlockingIOError, FileNotFoundError):
                stack.enter_context(held(made))
                made.stat()
                scratch = made
        yield scratch


def _settle(scratch: Path, target: Path) -> None:
    if target.exists():
        be_like(scratch, target)
    else:
        mode, most = (stat.S_IMODE(path.stat().st_mode) for path in (scratch, target.parent))
        scratch.chmod(mode & (most | ~0o777))


def be_like(path: Path, other: Path) -> None:
    """Mode, times and, where that is allowed, the owner of another folder."""
    if sys.platform != "win32":
        with suppress(OSError):
            os.chown(path, other.stat().st_uid, other.stat().st_gid)
    shutil.copystat(other, path)


def remove_folder(target: Path) -> None:
    """Take a folder away under another name first: under its own it is whole or absent."""
    scratch = _scratch_beside(target)
    target.rename(scratch)
    shutil.rmtree(scratch)


def _replace(target: Path, scratch: Path) -> None:
    if _exchange(target, scratch):
        _discard(scratch)
        return
    old = target.parent / f"{_scratch_beside(target).name}{_SET_ASIDE}{target.name}"
    target.rename(old)
    try:
        scratch.rename(target)
    except OSError:
        old.rename(target)
        raise
    _discard(old)


def _discard(folder: Path) -> None:
    """Remove a folder, and those in it that are closed to writing."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change names at once (Linux's renameat2); False where that is not possible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    at_cwd, exchange = -100, 2
    done: int = renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange)
    return done == 0  # file systems without it answer EINVAL


def _scratch_beside(path: Path) -> Path:
    return path.parent / f"{_SCRATCH}{secrets.token_hex(8)}"


def write_file(path: Path, content: bytes) -> None:
    """Write a file beside, sync it, and rename it into place; a device or pipe is written to."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block ends without an error.

    A device or pipe is `path` itself. A link is replaced and not followed, for in a stranger's
    folder it may lead anywhere; only those of the system, such as /dev/stdout, are. What a user
    named is `followed` before.
    """
    if is_written_to(path):
        with _named(path):
            yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(path, Path.touch) as scratch:
        try:
            with _named(path):
                yield scratch
                sync(scratch)
            scratch.rename(path)
            sync(path.parent)
        finally:
            scratch.unlink(missing_ok=True)


def followed(path: Path) -> Path:
    """Where a path that a user named leads: what is written is what links lead to.

    Links of the system, such as /dev/stdout, stay what they are. ConfigError for links in a circle.
    """
    target = path
    for _ in range(_MOST_LINKS):
        if target.parent in _SYSTEM or not target.is_symlink():
            return target
        target = target.parent / target.readlink()
    raise ConfigError(
        f"{path} is a link that leads in a circle.", hint="give another name for the output."
    )


def is_written_to(path: Path) -> bool:
    """Whether a file is no file that could be replaced: a device, a pipe, a link of the system."""
    is_system = path.parent in _SYSTEM
    return path.exists() and (is_system or not (path.is_symlink() or path.is_file()))


def nearest_folder(path: Path) -> Path:
    """The path, or else the first of the folders above it that is there."""
    while not os.path.lexists(path):  # False also where a folder may not be looked into
        path = path.absolute().parent
    return path


def missing_folder(path: Path) -> Path | None:
    """The uppermost folder that has to be made for a path; None when its folder is there."""
    missing = [folder for folder in path.absolute().parents if not os.path.lexists(folder)]
    return missing[-1] if missing else None


def check_place(path: Path) -> None:
    """ConfigError when nothing can be made at a path: a file is in the way, or we may not."""
    there = nearest_folder(path.absolute().parent)
    if not there.is_dir():
        raise ConfigError(
            f"{path} cannot be made: {there} is a file.", hint="give another place to write to."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{path} cannot be made: {there} may not be written to.",
            hint="give another place, or the right to write there.",
        )


def check_replaceable(folder: Path) -> None:
    """ConfigError when a folder cannot change places with one that is written beside it."""
    beside = folder.resolve().parent
    if folder.is_mount():
        said = "it is a mount point, which cannot be renamed"
    elif closed := [p for p in (folder, beside) if not os.access(p, os.W_OK | os.X_OK)]:
        said = f"{closed[0]} may not be written to"
    else:
        return
    raise ConfigError(
        f"{folder} cannot be replaced by a new folder: {said}.",
        hint="copy it into a folder that may be written to, and use the copy.",
    )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file an error of writing is about: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> None:
    """List name, size and sha256 of the folder's files (all of them, or those named)."""
    paths = (
        [folder / name for name in names]
        if names is not None
        else [p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST]
    )
    entries = [
        {"name": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "sha256": sha256(p)}
        for p in sorted(paths)
    ]
    # no white space: a changed byte then always changes what is read
    write_file(folder / MANIFEST, orjson.dumps({"files": entries}))


def verify(folder: Path, *, spared: Container[str] = ()) -> None:
    """BundleError names the first file that is missing, of another size, changed, or a link.

    Files with a suffix of `spared` may be missing.
    """
    for entry in read_manifest(folder):
        path = folder / entry["name"]
        if not inside(folder, entry["name"]):
            raise BundleError(
                f"{folder}: {entry['name']} is a link, or in a folder that is one.",
                hint="copy the folder with its links followed (cp -rL).",
            )
        if path.suffix in spared and not path.exists():
            continue
        if not path.is_file():
            raise BundleError(f"{folder}: {entry['name']} is missing.", hint=_COPY_AGAIN)
        if path.stat().st_size != entry["size"]:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes. {entry['size']} were written.",
                hint=_COPY_AGAIN,
            )
        if sha256(path) != entry["sha256"]:
            raise BundleError(
                f"{path} has changed since it was written (its sha256 differs).",
                hint=_COPY_AGAIN,
            )


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The manifest's entries. BundleError when it is absent or not one.

    Names are relative and stay inside of the folder.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise BundleError(
            f"{folder} has no {MANIFEST}: it is not a finished model or checkpoint folder."
        )
    entries = read_object(path, BundleError).get("files")
    if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
        raise BundleError(f"{path} does not list files with size and sha256.")
    return entries


def listed(folder: Path) -> dict[str, str]:
    """The sha256 of each file that the manifest lists, by name; see `read_manifest`."""
    return {entry["name"]: entry["sha256"] for entry in read_manifest(folder)}


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and is_inner_name(entry.get("name"))
        and type(entry.get("size")) is int
        and isinstance(entry.get("sha256"), str)
    )


def is_scratch(path: Path) -> bool:
    """Whether a path bears the name that a write of ours gives to what is not whole yet."""
    return path.name.startswith(_SCRATCH)


def clean_orphans(parent: Path, *, shared: bool = False) -> list[str]:
    """Remove what an interrupted write of ours left in `parent`; gives the names.

    A folder that was set aside and not replaced gets its own name back instead. What a process at
    work has locked stays; in a `shared` place so does what cannot be locked or is not ours alone.
    """
    removed = []
    for path in sorted(parent.glob(f"{_SCRATCH}*")) if parent.is_dir() else []:
        # gone meanwhile, or locked: it is of a write that goes on
        passed_over = (FileNotFoundError, BlockingIOError, *([OSError] if shared else []))
        with suppress(*passed_over):
            if path.is_symlink():
                path.unlink()
                removed.append(path.name)
                continue
            with held(path) as is_locked:
                if (is_locked or not shared) and _clean(path):
                    removed.append(path.name)
    return removed


def _clean(path: Path) -> bool:
    """Remove an orphan, or give it its own name back; whether it was removed."""
    _, set_aside, name = path.name.partition(_SET_ASIDE)
    if set_aside and not (path.parent / name).exists():
        path.rename(path.parent / name)
        return False
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_all(folder: Path) -> None:
    """Wait until a folder and all that is in it are on the disk; links are not followed."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_dir() or path.is_file()):  # a pipe would wait
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
