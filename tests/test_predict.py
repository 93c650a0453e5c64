"""Prediction of files: order, errors in place, looking ahead, and going on after any end."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bert_cls import terminal
from bert_cls.classifier import Classifier
from bert_cls.data import Example, Problem, stream
from bert_cls.errors import ConfigError, DataError, EngineError
from bert_cls.lookahead import MOST_CHARACTERS, ahead, windows_of
from bert_cls.outputs import write_predictions
from bert_cls.resumable import begin, part_of, state_of, write
from counting import CountingEngine, counting_classifier, job
from tiny import TEXTS

JOB = Path(__file__).with_name("counting.py")


def examples(count: int, *, seed: int = 0) -> list[Example]:
    chooser = random.Random(seed)
    texts = ["".join(chooser.sample(TEXTS, chooser.choice([1, 1, 2, 4]))) for _ in range(count)]
    return [Example(i, text[: chooser.randint(2, 60)]) for i, text in enumerate(texts)]


def written(path: Path, count: int) -> Path:
    """A file of rows of which every seventh is bad."""
    rows = [{"index": e.index, "text_a": e.text_a, "text_b": None} for e in examples(count)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines = [line[:20] if i % 7 == 3 else line for i, line in enumerate(lines)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def engine_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("bert-cls")]


# --- order and content


@given(st.integers(0, 40), st.integers(1, 17), st.integers(0, 45))
def test_windows_and_skipping_change_no_answer(count, window, skip):
    classifier, rows = counting_classifier(), examples(count)
    plain = [{"index": i, **p.to_dict()} for i, p in enumerate(classifier.predict(rows))]
    assert list(classifier.predict_stream(rows, window=window)) == plain
    assert list(classifier.predict_stream(rows, window=window, skip=skip)) == plain[skip:]


def test_skipping_leaves_the_batches_as_they_were():
    rows = examples(50)
    whole, rest = counting_classifier(), counting_classifier()
    list(whole.predict_stream(rows, window=16))
    list(rest.predict_stream(rows, window=16, skip=20))
    assert whole.engine.batches[-len(rest.engine.batches) :] == rest.engine.batches
    assert len(rest.engine.batches) < len(whole.engine.batches)


def test_bad_rows_of_every_kind_are_errors_in_their_place(tmp_path):
    classifier = counting_classifier(long="error", max_length=40)
    rows = [
        Example(0, TEXTS[0]),
        Problem("D05", "rows.jsonl", "line 2", None, "malformed", index=1),
        Example(2, TEXTS[1], "a second text"),
        Example(3, "   "),
        Problem("D02", "rows.jsonl", "", None, "read as gb18030.", "note"),
        Example(4, TEXTS[0] * 9),
        Example(5, "half \ud83d a pair"),
        Example(6, TEXTS[2]),
    ]
    for window in (1, 3, 100):
        answers = list(classifier.predict_stream(rows, window=window))
        assert [a["index"] for a in answers] == list(range(7))
        assert ["error" in a for a in answers] == [False, True, True, True, True, True, False]
        for place, part in ((1, "malformed"), (2, "single texts"), (3, "empty"), (5, "surrogate")):
            assert part in answers[place]["error"], answers[place]
        assert answers[4]["error"].startswith("the text has ")
        assert "reads 40" in answers[4]["error"]
        assert answers[0]["labels"] == list(classifier.predict([TEXTS[0]])[0].labels)


def test_the_next_rows_are_read_while_the_engine_computes():
    """The engine waits in its first batch until a row of the second window has been read."""
    read = threading.Event()

    class Waiting(CountingEngine):
        def logits(self, batch):
            assert read.wait(60), "the second window was not read ahead"
            return super().logits(batch)

    def rows() -> Iterator[Example]:
        yield from examples(4)
        read.set()
        yield from examples(4)

    model = counting_classifier()
    model = Classifier(model.bundle, Waiting(), model.text)
    assert len(list(model.predict_stream(rows(), window=4))) == 8


def test_reading_stays_a_few_windows_ahead_whatever_the_input_s_length():
    taken = 0

    def endless() -> Iterator[Example]:
        nonlocal taken
        for row in examples(10**4):
            taken += 1
            yield row

    answers = counting_classifier().predict_stream(endless(), window=8)
    for done, _ in enumerate(islice(answers, 400), 1):
        assert taken <= done + 3 * 8
    answers.close()


def test_windows_are_bounded_by_characters_too():
    big = "x" * (MOST_CHARACTERS // 2)
    rows = [Example(i, big if 10 <= i < 16 else "small") for i in range(40)]
    parts = list(windows_of(rows, most=12))
    assert [row for part in parts for row in part] == rows
    assert all(sum(len(row.text_a) for row in part) <= 3 * len(big) for part in parts)
    assert [len(part) for part in parts][:2] == [12, 2]


# --- ends before the end


def test_an_error_of_the_input_comes_after_the_answers_before_it():
    def rows() -> Iterator[Example]:
        yield from examples(11)
        raise DataError("the file ends here.")

    answers = counting_classifier().predict_stream(rows(), window=4)
    assert [a["index"] for a in islice(answers, 11)] == list(range(11))
    with pytest.raises(DataError, match="ends here"):
        next(answers)
    assert not engine_threads()


@pytest.mark.parametrize("failure", [EngineError("no more"), MemoryError("none left")])
def test_an_error_of_the_engine_reaches_the_caller(failure):
    class Failing(CountingEngine):
        def logits(self, batch):
            if len(self.batches) == 2:
                raise failure
            return super().logits(batch)

    model = counting_classifier()
    model = Classifier(model.bundle, Failing(), model.text)
    answers = []
    with pytest.raises(type(failure), match=str(failure)):
        answers.extend(model.predict_stream(examples(64), window=8))
    assert not engine_threads()


def test_closing_stops_between_two_batches_and_leaves_no_thread():
    reached, go_on = threading.Event(), threading.Event()

    class Slow(CountingEngine):
        def logits(self, batch):
            if self.batches:
                reached.set()
                go_on.wait(60)
            return super().logits(batch)

    model = counting_classifier()
    slow = Slow()
    model = Classifier(model.bundle, slow, model.text)
    rows = [Example(i, TEXTS[i % 20] * 40) for i in range(4096)]
    answers = model.predict_stream(rows, window=1)
    next(answers)
    assert reached.wait(60)
    closing = threading.Thread(target=answers.close)
    closing.start()
    go_on.set()
    closing.join(60)
    assert not closing.is_alive()
    assert len(slow.batches) <= 3
    assert not engine_threads()


def test_results_come_in_order_and_only_two_inputs_are_under_way():
    made = []

    def inputs() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    for number, (given_, square) in enumerate(
        ahead(inputs(), lambda n: n * n, stop=threading.Event())
    ):
        assert (given_, square) == (number, number**2)
        assert len(made) <= number + 2


# --- going on


@pytest.fixture
def rows(tmp_path) -> Path:
    return written(tmp_path / "rows.jsonl", 400)


def rows_of(output: Path, what: dict, *, resume: bool | None) -> int:
    """How many rows of a job are there."""
    with begin(output, what, resume=resume) as begun:
        return begun.rows


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
@pytest.mark.parametrize("stops", [[0], [1], [17], [64], [65, 300], [399]])
def test_a_job_stopped_anywhere_ends_with_the_same_bytes(rows, suffix, stops, tmp_path):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    job(rows, whole, window=64, seconds=60, resume=None)
    what = {"input": 1}
    for number, stop in enumerate([*stops, None]):
        with begin(output, what, resume=True) as begun:
            done = begun.rows
            answers = counting_classifier().predict_stream(stream(rows), window=64, skip=done)

            def some(stop=stop, answers=answers, done=done):
                yield from islice(answers, None if stop is None else max(0, stop - done))
                if stop is not None:
                    answers.close()
                    raise KeyboardInterrupt

            if stop is None:
                assert write(some(), begun).rows == 400
            else:
                with pytest.raises(KeyboardInterrupt):
                    write(some(), begun)
                assert not output.exists()
        if stop is not None:
            assert rows_of(output, what, resume=True) == stop
            with part_of(output).open("ab") as part:  # a line torn by a power cut
                part.write(b'{"index": 3' * number)
    assert output.read_bytes() == whole.read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {rows.name, whole.name, output.name}


@pytest.mark.parametrize("count", [0, 1, 400])
def test_a_json_file_is_a_list_of_what_are_lines_elsewhere(count, tmp_path):
    answers = list(counting_classifier().predict_stream(examples(count)))
    whole, lines, again = (tmp_path / name for name in ("a.json", "a.jsonl", "b.json"))
    for path in (whole, lines):
        assert write_predictions(answers, str(path)).rows == count
    assert json.loads(whole.read_bytes()) == answers
    assert [json.loads(line) for line in lines.read_bytes().splitlines()] == answers
    with begin(again, {}, resume=None) as begun:
        write(answers, begun)
    assert again.read_bytes() == whole.read_bytes()


def killed(rows: Path, output: Path, *, number: int, at: int) -> None:
    """Run the job and send it a signal once its part has so many bytes."""
    command = [sys.executable, str(JOB), str(rows), str(output), "32", "0.02"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    send_at(process, number, part_of(output), at)


def send_at(process: subprocess.Popen, number: int, part: Path, at: int) -> None:
    """Wait for a process to end; before that it gets a signal once a file has so many bytes."""
    while process.poll() is None:
        try:
            if part.stat().st_size >= at:
                process.send_signal(number)
                process.wait()
        except FileNotFoundError:
            os.sched_yield()


KILLS = int(os.environ.get("BERT_CLS_KILLS", "3"))  # more by `make test-kill`


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"] if KILLS > 3 else [".csv"])
def test_a_process_killed_at_any_instant_loses_and_doubles_nothing(suffix, tmp_path):
    rows = written(tmp_path / "rows.jsonl", 1500)
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    job(rows, whole, window=32, seconds=60, resume=None)
    chooser, size = random.Random(suffix), whole.stat().st_size
    signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    for kill in range(KILLS):
        at = size * kill // KILLS + chooser.randrange(size // KILLS)
        killed(rows, output, number=signals[kill % 3], at=at)
        if output.exists():  # it was quicker than the signal
            break
    else:
        assert part_of(output).exists()
    if not output.exists():
        subprocess.run([sys.executable, str(JOB), str(rows), str(output), "32", "0.02"], check=True)
    assert output.read_bytes() == whole.read_bytes()
    assert not part_of(output).exists()
    assert not state_of(output).exists()


def test_an_unfinished_job_is_neither_lost_nor_mixed_up(tmp_path):
    output, ours = tmp_path / "out.jsonl", {"model": "a", "settings": {"top": 1}}
    assert rows_of(output, ours, resume=True) == 0

    def broken():
        yield {"index": 0, "labels": []}
        yield {"index": 1, "error": "empty"}
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"), begin(output, ours, resume=None) as begun:
        write(broken(), begun)
    with pytest.raises(ConfigError, match="2 rows of an unfinished job") as refused:
        rows_of(output, ours, resume=None)
    assert "--resume" in str(refused.value)
    for other, part in (
        ({**ours, "model": "b"}, r"model a, and now it is model b:"),
        ({"model": "a"}, "with top 1, and now it is top none:"),
        ({**ours, "settings": {"top": 1, "threshold": 0.0}}, "is threshold 0.0:"),
        ({**ours, "input": {"sha256": "b" * 64}}, "is input sha256 b{12}[.]{3}:"),
    ):
        with pytest.raises(ConfigError, match=part):
            rows_of(output, other, resume=True)
    with begin(output, ours, resume=True) as found:
        assert (found.rows, found.written.counts.errors) == (2, 1)
    state = state_of(output).read_bytes()
    for damage in (b"", b"{}", state[:-9], state.replace(b'"format":3', b'"format":2')):
        state_of(output).write_bytes(damage)
        with pytest.raises(DataError, match="cannot be read"):
            rows_of(output, ours, resume=True)
    state_of(output).write_bytes(state)
    part_of(output).write_bytes(b"{")
    with pytest.raises(DataError, match="1 bytes"):
        rows_of(output, ours, resume=True)
    state_of(output).unlink()
    for resume in (True, None):
        with pytest.raises(DataError, match=r"has no out\.jsonl\.part\.json"):
            rows_of(output, ours, resume=resume)
    assert rows_of(output, ours, resume=False) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_description_whose_part_has_its_name_already_is_forgotten(tmp_path):
    output, what = tmp_path / "out.jsonl", {"model": "a"}
    answers = [{"index": 0, "labels": []}]
    with begin(output, what, resume=None) as begun:
        part = begun.part.fileno()
        write(iter(answers), begun)
        assert os.fstat(part).st_size == output.stat().st_size
    whole = output.read_bytes()
    # killed between the two names
    state_of(output).write_bytes(b'{"format":2,"job":{},"counts":{"rows":1},"bytes":9}')
    for resume in (True, None):
        assert rows_of(output, what, resume=resume) == 0
        assert list(tmp_path.iterdir()) == [output]
    assert output.read_bytes() == whole


@pytest.mark.parametrize("resume", [True, False, None])
def test_a_second_job_is_kept_out_until_the_first_has_its_name(resume, rows, tmp_path):
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    job(rows, whole, window=64, seconds=60, resume=None)
    # the other process writes its rows and ends
    second = (
        "import sys\nfrom pathlib import Path\nfrom counting import job\n"
        "from bert_cls.errors import BertClsError, exit_code\n"
        f"try: job(Path({str(rows)!r}), Path({str(output)!r}), window=64, seconds=0, "
        f"resume={resume})\n"
        "except BertClsError as error: print(error); sys.exit(exit_code(error))\n"
    )

    def answers():
        for number, row in enumerate(counting_classifier().predict_stream(stream(rows))):
            if number in (0, 200):
                done = subprocess.run(
                    [sys.executable, "-c", second],
                    capture_output=True,
                    text=True,
                    cwd=Path(__file__).parent,
                )
                assert done.returncode == 2, done.stderr
                assert f"another predict is writing {part_of(output)}." in done.stdout
            yield row

    with begin(output, {}, resume=None) as begun:
        write(answers(), begun)
    assert output.read_bytes() == whole.read_bytes()


def test_a_part_that_is_taken_away_is_noticed_and_gets_no_name(tmp_path):
    """As by a second job where nothing locks."""
    output, other = tmp_path / "out.jsonl", b"a row of another job"

    def answers():
        yield {"index": 0, "labels": []}
        part_of(output).unlink()
        part_of(output).write_bytes(other)
        yield {"index": 1, "labels": []}

    removed = pytest.raises(DataError, match="was removed or replaced while it was written")
    with removed, begin(output, {}, resume=None) as begun:
        write(answers(), begun)
    assert not output.exists()
    assert part_of(output).read_bytes() == other


def test_a_full_disk_is_said_and_what_is_on_it_is_gone_on_with(rows, tmp_path):
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    job(rows, whole, window=32, seconds=60, resume=None)
    command = [sys.executable, str(JOB), str(rows), str(output), "32", "0"]
    most = whole.stat().st_size // 2
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    assert f"DataError: {part_of(output)} cannot be written: File too large." in done.stderr
    kept = json.loads(state_of(output).read_bytes())["counts"]["rows"]
    assert f"{kept} rows are kept in {part_of(output)}." in done.stderr.splitlines()[-2]
    assert "the same command with --resume goes on" in done.stderr.splitlines()[-1]
    again = subprocess.run(  # and nothing can be written yet
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)),
    )
    assert f"{kept} rows are kept in {part_of(output)}." in again.stderr.splitlines()[-2]
    subprocess.run(command, check=True)
    assert output.read_bytes() == whole.read_bytes()


def test_where_no_row_is_kept_none_is_promised(rows, tmp_path):
    output = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, str(JOB), str(rows), str(output), "32", "60"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )
    assert "cannot be written" in done.stderr
    assert "rows are kept" not in done.stderr


def test_what_cannot_be_written_is_said(rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        job(rows, tmp_path / "file" / "out.jsonl", window=8, seconds=1, resume=None)


# --- how far it is


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet"])
def test_the_number_of_rows_is_foreseen(name, tmp_path):
    texts = [example.text_a.replace('"', "") for example in examples(3000)]
    lines = [json.dumps({"text_a": text}, ensure_ascii=False) for text in texts]
    path = tmp_path / name
    if name.endswith(".parquet"):
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.table({"text_a": texts}), path)
    elif name.endswith(".csv"):
        path.write_text("\n".join(["text_a", *(f'"{text}"' for text in texts)]), "utf-8")
    elif name.endswith(".json"):
        path.write_text(f"[{','.join(lines)}]", "utf-8")
    else:
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = stream(path)
    foreseen = [rows.expected for item in rows if isinstance(item, Example)]
    assert len(foreseen) == 3000
    assert max(abs(np.array(foreseen[300:]) - 3000)) <= 450


def test_standard_input_foresees_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text_a": "a"}\n')))
    rows = stream("-")
    assert isinstance(next(r for r in rows if isinstance(r, Example)), Example)
    assert rows.expected is None


def test_a_log_gets_rows_rate_and_time_left_of_bad_rows_too(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "_LOG_SECONDS", 0.0)
    monkeypatch.setattr(terminal, "_MEASURED_SECONDS", 1e-9)
    console = Console(file=io.StringIO(), width=100)
    rows = stream(written(tmp_path / "rows.jsonl", 400))
    with terminal.PredictionProgress(console, rows, done=7) as progress:
        list(counting_classifier().predict_stream(rows, window=50, computed=progress.computed))
    lines = console.file.getvalue().splitlines()
    assert len(lines) >= 8
    assert re.fullmatch(r" *0:\d\d  407 rows  [\d,]+ rows/s  100%, about 0 s left", lines[-1])


def test_rows_of_which_none_is_good_are_told(tmp_path):
    path, told = tmp_path / "rows.jsonl", []
    path.write_text("{\n" * 20, "utf-8")
    list(counting_classifier().predict_stream(stream(path), window=8, computed=told.append))
    assert told == [8, 8, 4]


@pytest.mark.parametrize(("skip", "first"), [(0, 0), (50, 50), (70, 50), (399, 350), (400, 400)])
def test_rows_that_are_computed_again_are_told_once(skip, first, tmp_path):
    """The window that a job stopped in is computed whole; its rows were there before."""
    rows, told = written(tmp_path / "rows.jsonl", 400), []
    model = counting_classifier()
    options = {"window": 50, "skip": skip, "computed": told.append}
    assert len(list(model.predict_stream(stream(rows), **options))) == 400 - skip
    assert sum(told) == pytest.approx(400 - skip)
    assert sum(part for part in told if part > 0) <= 400 - first + 1e-6


def test_a_job_that_goes_on_counts_every_row_once_and_has_the_rate_of_this_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(terminal, "_LOG_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=100)
    with terminal.PredictionProgress(console, Foreseen(), done=500) as progress:
        # 300 of the 500 are computed again, 100 with the first batch
        for now[0], rows in ((160.0, 100 - 300), (170.0, 200), (180.0, 400)):
            progress.computed(rows)
    assert console.file.getvalue().splitlines() == [
        "  1:00  500 rows  50%",
        "  1:10  500 rows  20 rows/s  50%, about 25 s left",
        "  1:20  900 rows  30 rows/s  90%, about 3 s left",
    ]


class Foreseen:
    """Rows of which 1,000 are expected."""

    expected = 1000


def test_the_first_batch_is_in_no_rate_and_none_is_said_before_seconds_are_measured(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(terminal, "_LOG_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=100)
    with terminal.PredictionProgress(console, Foreseen()) as progress:
        for now[0], rows in ((160.0, 40), (161.0, 60), (165.0, 400), (170.0, 0)):
            progress.computed(rows)
    assert console.file.getvalue().splitlines() == [
        "  1:00  40 rows  4%",
        "  1:01  100 rows  10%",
        "  1:05  500 rows  92 rows/s  50%, about 5 s left",
        "  1:10  500 rows  46 rows/s  50%, about 10 s left",
    ]
