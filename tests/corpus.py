"""Hostile files, rows and settings through the real command line: no input may end in a traceback.

`python tests/corpus.py --cases 2000` (`make corpus`) draws so many cases and prints what became of
them; test_corpus.py runs a short form of the same with the tests.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bert_cls.config import describe_fields
from doors import Done, main
from small import class_rows, multilabel_rows, paired, score_rows, write_folder
from tiny import tiny_encoder

CODES = {0, 1, 2, 3, 4, 5}  # errors.EXIT_CODES, and 1 for "there are errors in it"
# a run is one step long, whatever was set before
SHORT = ("training.max_steps=1", "report.resamples=3", "report.linear_bar=false")
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xlsx")


# ---- files ---------------------------------------------------------------------------------------


def as_json(rows: list[dict]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def as_jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_cells(rows: list[dict], separator: str = ",") -> bytes:
    names = list(rows[0])
    table = [names, *([_cell(row[name]) for name in names] for row in rows)]
    return "".join(separator.join(cells) + "\n" for cells in table).encode()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else text


def as_parquet(rows: list[dict]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def as_xlsx(rows: list[dict]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append([_cell(value) for value in row.values()])
    saved, out = io.BytesIO(), io.BytesIO()
    book.save(saved)
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(out, "w") as after:
        for entry in before.infolist():  # without the time, so that a case is the same each time
            content = re.sub(
                rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2026-01-01T00:00:00Z", before.read(entry)
            )
            after.writestr(zipfile.ZipInfo(entry.filename), content)
    return out.getvalue()


FORMATS: dict[str, Callable[[list[dict]], bytes]] = {
    ".json": as_json,
    ".jsonl": as_jsonl,
    ".csv": as_cells,
    ".tsv": lambda rows: as_cells(rows, "\t"),
    ".parquet": as_parquet,
    ".xlsx": as_xlsx,
}
KINDS: dict[str, Callable[[int], list[dict]]] = {
    "sets": multilabel_rows,
    "classes": lambda n: class_rows(n, ["差", "好"]),
    "numbers": score_rows,
    "pairs": lambda n: paired(class_rows(n, ["甲", "乙", "丙"])),
}
VALID: dict[tuple[str, str, int], bytes] = {}


def valid(kind: str, suffix: str, start: int) -> bytes:
    """A sound file; those of one kind that start elsewhere share no text."""
    if (kind, suffix, start) not in VALID:
        VALID[kind, suffix, start] = FORMATS[suffix](KINDS[kind](start + 12)[start:])
    return VALID[kind, suffix, start]


ANY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=9),
        st.text("\ud800\0 aA１\n,\"'[]{}|;", max_size=5),
        st.sampled_from([10**400, -(2**63), "x" * 300, "路" * 3000, 1e308, "", " ", "\u200b"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = ("index", "id", "text_a", "text", "text_b", "label", "labels", "txet_a", "data", "entities")
ROW = st.one_of(
    ANY,
    st.dictionaries(st.sampled_from(KEYS), ANY, max_size=5),
    st.fixed_dictionaries({"text_a": st.text(max_size=9), "label": ANY}),
)
PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [
            *(b'"', b"\n", b"\r", b"\0", b"[", b"]", b"{", b"},", b",", b"NaN", b"1e999", b"null"),
            *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b"),
            *(b"[" * 3000, b"9" * 5000),
        ]
    ),
)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 3, 40, 10_000]), PIECES),
    min_size=1,
    max_size=3,
)


def damaged(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """The bytes with some cut out and others put there."""
    for place, cut, put_in in edits:
        at = int(place * len(content))
        content = content[:at] + put_in + content[at + cut :]
    return content


@st.composite
def files(draw, start: int = 0, kind: str | None = None) -> tuple[str, bytes, str]:
    """(suffix, content, how it came about)."""
    suffix = draw(st.sampled_from(SUFFIXES))
    kind = kind or draw(st.sampled_from(sorted(KINDS)))
    way = draw(st.sampled_from(["sound", "bytes", "bytes", "rows", "suffix", "packed"]))
    if way == "rows":
        rows = draw(st.lists(ROW, max_size=6)) + KINDS[kind](start + 6)[start:]
        as_lines = suffix == ".jsonl" or draw(st.booleans())
        text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows)
        return ".jsonl" if as_lines else ".json", text.encode("utf-8", "surrogatepass"), way
    content = valid(kind, suffix, start)
    if way != "sound":
        content = damaged(content, draw(EDITS)) if way == "bytes" else content
    if way == "suffix":
        suffix = draw(st.sampled_from([*SUFFIXES, ".txt", "", ".JSON", ".gz"]))
    if way == "packed":
        packed = gzip.compress(content, mtime=0)
        suffix, content = f"{suffix}.gz", draw(st.sampled_from([packed, packed[:-9], content]))
    return suffix, content, way


# ---- words on the command line --------------------------------------------------------------

WORD = st.text(st.characters(exclude_characters="\0"), max_size=8)
VALUES = st.one_of(
    st.sampled_from(
        [
            *("", "null", "true", "0", "-1", "1", "2.5", "1e400", "NaN", "-Infinity", "[]", "{}"),
            *('"x"', '{"gamma": NaN}', '{"a": []}', "\udcff", "0.999999999"),
            *("9" * 30, "9" * 5000, "[" * 3000),
        ]
    ),
    WORD,
)
FIELDS = [name for name, _, _ in describe_fields()]
NAMES = st.sampled_from(["bce", "focal", "asl", "cls", "nfkc", "head_tail", "fixed", "float32"])
SETTING = st.one_of(
    st.builds("{}={}".format, st.sampled_from(FIELDS), st.one_of(VALUES, NAMES)),
    st.builds("{}={}".format, WORD, VALUES),
    WORD,
)
TASKS = st.sampled_from(["binary", "multiclass", "multilabel", "regression", "ranking", ""])
ENCODINGS = st.sampled_from(["utf-8", "gb18030", "utf-16", "latin-1", "klingon", "base64", ""])
LEAKS = st.sampled_from(["error", "drop", "allow", "x"])


def flags(draw, table: dict[str, st.SearchStrategy]) -> list[str]:
    """Some of the flags, each with a value."""
    chosen = draw(st.lists(st.sampled_from(sorted(table)), max_size=3, unique=True))
    return [part for name in chosen for part in (name, str(draw(table[name])))]


@dataclass(frozen=True)
class Case:
    """A command, the files it finds, and the words it is given; `{}` stands for its folder."""

    command: str
    words: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    stdin: bytes = b""
    way: str = ""


@st.composite
def data_folders(draw) -> tuple[str, dict[str, bytes], str]:
    """What DATA is called, the files, and how train came about."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    suffix, content, way = draw(files(kind=kind))
    found = {f"data/train{suffix}": content}
    if draw(st.integers(0, 3)) == 0:
        return f"{{}}/data/train{suffix}", found, way
    for start, split in ((20, "dev"), (40, "test")):
        if draw(st.booleans()):
            suffix, content, _ = draw(files(start, kind))
        else:
            suffix, content = ".jsonl", valid(kind, ".jsonl", start)
        found[f"data/{split}{suffix}"] = content
    if draw(st.integers(0, 4)) == 0:
        found["data/labels.json"] = draw(listings())
    return "{}/data", found, way


def listings() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.sampled_from(
            [b'["\xe5\xb7\xae", "\xe5\xa5\xbd"]', b"[]", b"{}", b'{"a": "b"}', b"", b"["]
        ),
        ANY.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
        st.binary(max_size=9),
    )


@st.composite
def checks(draw) -> Case:
    data, found, way = draw(data_folders())
    found |= {"names.json": draw(listings()), "merges.json": draw(listings())}
    table = {
        "--task": TASKS,
        "--leak": LEAKS,
        "--conflict": st.sampled_from(["keep", "drop", "error", "x"]),
        "--encoding": ENCODINGS,
        "--on-bad-row": st.sampled_from(["fail", "quarantine", "x"]),
        "--max-length": st.sampled_from(["8", "7", "x", "9999", "64"]),
        "--labels": st.just("{}/names.json"),
        "--merge-labels": st.just("{}/merges.json"),
        "--json": st.sampled_from(["{}/out.json", "{}/data", "{}/no/such/out.json"]),
        "--fix": st.sampled_from(["{}/copy", "{}/data", "{}/names.json/copy"]),
        "--encoder": st.sampled_from(["ENCODER", "./nowhere", "{}"]),
    }
    return Case("check", (data, *flags(draw, table)), found, way=way)


@st.composite
def trainings(draw) -> Case:
    data, found, way = draw(data_folders())
    found |= {"merges.json": draw(listings()), "run.toml": draw(listings())}
    table = {
        "--task": TASKS,
        "--leak": LEAKS,
        "--conflict": st.sampled_from(["keep", "drop", "error", "x"]),
        "--encoding": ENCODINGS,
        "--on-bad-row": st.sampled_from(["fail", "quarantine", "quarantine", "x"]),
        "--merge-labels": st.just("{}/merges.json"),
        "--config": st.just("{}/run.toml"),
        "--loss": st.one_of(NAMES, WORD.filter(lambda word: not word.startswith("-"))),
        "--preset": st.sampled_from(["fast", "accurate", "x"]),
        "--seed": st.sampled_from(["0", "-1", "9" * 30]),
    }
    words = [data, "-o", draw(st.sampled_from(["{}/m", "{}/m", "{}/data", "{}/run.toml"]))]
    words += flags(draw, table)
    for text in draw(st.lists(SETTING, max_size=2)):
        words += ["--set", text]
    return Case("train", (*words, "--encoder", "ENCODER"), found, way=way)


@st.composite
def predictions(draw) -> Case:
    kind = draw(st.sampled_from(sorted(KINDS)))
    suffix, content, way = draw(files(kind=kind))
    table = {
        "--encoding": ENCODINGS,
        "--threshold": st.sampled_from(["0", "1", "nan", "-1", "x"]),
        "--top": st.sampled_from(["1", "0", "99999"]),
        "--min-labels": st.sampled_from(["0", "9", "99999999999999999999"]),
        "--max-labels": st.sampled_from(["1", "0"]),
        "--engine": st.sampled_from(["torch", "warp", ""]),
        "-o": st.sampled_from(
            ["{}/o.jsonl", "{}/o.csv", "{}/o.parquet", "{}/o", "-", "{}/no/o.csv"]
        ),
    }
    given_by = draw(st.sampled_from(["file", "file", "stdin", "text"]))
    words = flags(draw, table)
    if given_by == "text":
        text = draw(st.one_of(WORD, st.sampled_from(["", "\u200b", "路" * 9000, "[SEP]"])))
        return Case("predict", (f"MODEL {kind}", f"--text={text}", *words), way=given_by)
    if given_by == "stdin":
        return Case("predict", (f"MODEL {kind}", "-", *words), stdin=content, way=given_by)
    return Case(
        "predict",
        (f"MODEL {kind}", f"{{}}/rows{suffix}", *words),
        {f"rows{suffix}": content},
        way=way,
    )


@st.composite
def evaluations(draw) -> Case:
    kind = draw(st.sampled_from(sorted(KINDS)))
    suffix, content, way = draw(files(kind=kind))
    table = {"--encoding": ENCODINGS, "-o": st.sampled_from(["{}/f.json", "{}", "{}/no/f.json"])}
    words = (f"MODEL {kind}", f"{{}}/rows{suffix}", "--resamples", "3", *flags(draw, table))
    return Case("evaluate", words, {f"rows{suffix}": content}, way=way)


CASES = st.one_of(
    checks(), checks(), checks(), trainings(), trainings(), predictions(), evaluations()
)


# ---- the run --------------------------------------------------------------------------------


class Rig:
    """A tiny encoder and a model of each kind of labels; runs cases in folders of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.encoder = tiny_encoder("bert", root / "encoder")
        self.models = {f"MODEL {kind}": str(self._trained(kind)) for kind in sorted(KINDS)}
        self.told: Counter[tuple[str, str, int]] = Counter()

    def run(self, case: Case) -> Done:
        """AssertionError for anything but a known exit code with a sentence."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        try:
            for name, content in case.files.items():
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            done = main(case.command, *self._words(case, folder), stdin=case.stdin)
        finally:
            shutil.rmtree(folder)
        assert done.code in CODES, done
        assert "Traceback" not in done.said, done
        assert done.code == 0 or done.said.strip(), "stopped without a word"
        self.told[case.command, case.way, done.code] += 1
        return done

    def _words(self, case: Case, folder: Path) -> list[str]:
        names = {"ENCODER": str(self.encoder), **self.models}
        words = [names.get(word, word.replace("{}", str(folder), 1)) for word in case.words]
        if case.command == "train":
            words += [part for text in SHORT for part in ("--set", text)]
        return words

    def _trained(self, kind: str) -> Path:
        data = write_folder(self.root / kind, KINDS[kind], sizes=(24, 12, 12))
        short = [part for text in SHORT for part in ("--set", text)]
        model = self.root / f"model-{kind}"
        done = main("train", data, "-o", model, "--encoder", self.encoder, "--leak", "drop", *short)
        assert done.code == 0, done
        return model


def explored(run_case: Callable[[Case], object], cases: int, *, repeatable: bool) -> None:
    """Draw and run so many cases; the first failure is shrunk and raised."""

    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=repeatable,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def run(case: Case) -> None:
        run_case(case)

    run()


class Failures:
    """Runs cases and keeps one of each kind of failure, told apart by where it came from."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.kinds: dict[str, str] = {}

    def run(self, case: Case) -> None:
        try:
            self.rig.run(case)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "bert_cls" in f.filename]
            place = "".join(f"{Path(f.filename).name}:{f.lineno} " for f in ours[-3:])
            found = f"{case.command} {place}{type(error).__name__}: {str(error)[:300]}"
            self.kinds.setdefault(place or str(error)[:60], f"{found}\n  {str(case)[:1500]}")


def quiet_environment(root: Path) -> None:
    """No network, no cache of ours, one thread."""
    os.environ |= {"BERT_CLS_CACHE": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def show(told: Counter[tuple[str, str, int]]) -> None:
    codes = sorted({code for _, _, code in told})
    print(f"{'command':10}{'input':10}" + "".join(f"{f'exit {code}':>9}" for code in codes))
    for command, way in sorted({(command, way) for command, way, _ in told}):
        counts = "".join(f"{told[command, way, code] or '':>9}" for code in codes)
        print(f"{command:10}{way:10}{counts}")


def script() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    cases = parser.parse_args().cases
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bert-cls-corpus-") as scratch:
        quiet_environment(Path(scratch))
        failures = Failures(Rig(Path(scratch)))
        explored(failures.run, cases, repeatable=False)
    told = failures.rig.told
    show(told)
    for kind in failures.kinds.values():
        print(f"FAILED {kind}")
    print(
        f"{told.total():,} cases ended as they should, {len(failures.kinds)} kinds of failures; "
        f"{time.perf_counter() - began:.0f} s"
    )
    sys.exit(bool(failures.kinds))


if __name__ == "__main__":
    script()
