"""One pass over a million short rows: read and checked, tokenised, with memory that stays flat.

Titles of about 20 characters are made from a seed and written as JSON Lines into a temporary
folder. `in turn` tokenises each window after it is read, `overlapped` in a thread while the next
one is read. The peer is the usual way, `json.loads` and transformers' tokenizer, checking nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bert_cls.data import Example, stream
from bert_cls.encoders import DEFAULT, open_tokenizer, resolve
from bert_cls.errors import BertClsError, DataError
from bert_cls.text import TextEncoder, TextSettings
from record import RESULTS, console, machine, show, write_results

TARGET_ROWS_PER_SECOND = 20_000
FLAT_MB = 50.0
"""How much more memory the last tenth may have than the first and still be called flat."""
MAX_LENGTH = 256
Windows = Iterator[list[str]]
Encode = Callable[[list[str]], int]

_words = str.split
_WHO = _words("新款 国产 进口 城市 家用 校园 社区 海边 北方 南方 老牌 年轻 智能 二手 夏季 冬季")
_WHAT = _words(
    "手机 电动车 空调 奶茶 图书馆 地铁 医院 外卖 电影 足球 房价 股票 旅游 高考 面包 耳机 "
    "洗衣机 动车 公园 咖啡 餐厅 游戏 芯片 天气 蔬菜 牛奶 酒店 书店 相机 键盘"
)
_HOW = _words(
    "价格上涨 销量下滑 深受欢迎 引发讨论 正式开放 推迟发布 质量可靠 服务周到 续航不足 排队很久 "
    "口味清淡 值得一看 今日开业 宣布召回 再次升级 客流翻倍"
)
_LABELS = _words("财经 体育 科技 社会 娱乐 教育 房产 时政")


def titles(rows: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Rows in the project's format; the same for the same seed."""
    chance = random.Random(seed)
    pick = chance.choice
    for index in range(rows):
        text = f"{pick(_WHO)}{pick(_WHAT)}{pick(_HOW)}，{chance.randrange(1990, 2030)}年"
        text += f"{pick(_WHO)}{pick(_WHAT)}{pick(_HOW)}"
        yield {"index": index, "text_a": text, "text_b": None, "label": pick(_LABELS)}


def write_rows(path: Path, rows: int, *, seed: int) -> None:
    """JSON Lines of made-up titles."""
    with path.open("w", encoding="utf-8") as file:
        for row in titles(rows, seed=seed):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def checked(path: Path, size: int) -> Windows:
    """Windows of texts, every row checked as training checks it."""
    examples = (item for item in stream(path) if isinstance(item, Example))
    while window := [example.text_a for example in islice(examples, size)]:
        yield window


def unchecked(path: Path, size: int) -> Windows:
    """Windows of texts by `json.loads`."""
    with path.open(encoding="utf-8") as file:
        while window := [json.loads(line)["text_a"] for line in islice(file, size)]:
            yield window


def in_turn(windows: Windows, encode: Encode) -> Iterator[tuple[int, int]]:
    """(rows, tokens) of each window."""
    for window in windows:
        yield len(window), encode(window)


def overlapped(windows: Windows, encode: Encode) -> Iterator[tuple[int, int]]:
    """The same, one window tokenised in a thread while the next is read."""
    with ThreadPoolExecutor(1) as thread:
        waiting: Future[int] | None = None
        size = 0
        for window in windows:
            following = thread.submit(encode, window)
            if waiting is not None:
                yield size, waiting.result()
            waiting, size = following, len(window)
        if waiting is not None:
            yield size, waiting.result()


def only_read(windows: Windows, encode: Encode) -> Iterator[tuple[int, int]]:
    """Nothing tokenised."""
    for window in windows:
        yield len(window), 0


def our_tokens(folder: Path) -> Encode:
    """The product's tokenising, as a count of tokens."""
    text = TextEncoder(open_tokenizer(folder), TextSettings(max_length=MAX_LENGTH))
    return lambda window: len(text.encode(window).ids)


def their_tokens(folder: Path) -> Encode:
    """transformers' fast tokenizer with truncation."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))

    def encode(window: list[str]) -> int:
        found = tokenizer(window, truncation=True, max_length=MAX_LENGTH)
        return sum(map(len, found["input_ids"]))

    return encode


WAYS: dict[str, tuple[Any, Any, Any]] = {
    "read and checked only": (checked, only_read, our_tokens),
    "ours, in turn": (checked, in_turn, our_tokens),
    "ours, overlapped": (checked, overlapped, our_tokens),
    "peer: json.loads, transformers": (unchecked, in_turn, their_tokens),
}


def memory_mb() -> float:
    """Resident memory now; where the system does not tell, its peak so far."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def measure(way: str, path: Path, folder: Path, rows: int, window: int) -> dict[str, Any]:
    """One pass in this process: rows/s since the start and memory at every tenth."""
    read, combine, tokens_of = WAYS[way]
    encode: Encode = tokens_of(folder)
    encode(["预热"] * 64)
    marks: list[dict[str, float]] = []
    done = tokens = 0
    began, busy = time.perf_counter(), time.process_time()
    for count, found in combine(read(path, window), encode):
        done, tokens = done + count, tokens + found
        if done * 10 >= rows * (len(marks) + 1):
            rate = done / (time.perf_counter() - began)
            marks.append({"rows": done, "rows_per_second": rate, "memory_mb": memory_mb()})
    if done != rows:
        raise DataError(f"{rows} rows were written. {done} came back.")
    growth = marks[-1]["memory_mb"] - marks[0]["memory_mb"]
    return {
        "rows_per_second": marks[-1]["rows_per_second"],
        "cpu_microseconds_a_row": 1e6 * (time.process_time() - busy) / rows,
        "tokens_a_row": tokens / rows,
        "memory_growth_mb": growth,
        "marks": marks,
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--window", type=int, default=4096, help="rows tokenised at once")
    parser.add_argument("--rounds", type=int, default=2, help="the best counts (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "data_pass.json")
    args = parser.parse_args()
    if args.rows < 10 or args.window < 1:
        parser.error("--rows must be 10 or more, --window 1 or more.")
    return args


def race(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every way in every round, the order turned each time, each in a process of its own."""
    best: dict[str, dict[str, Any]] = {}
    folder = resolve(DEFAULT, notify=console.print)
    with tempfile.TemporaryDirectory(prefix="bert-cls-bench-") as scratch:
        path = Path(scratch) / "rows.jsonl"
        write_rows(path, args.rows, seed=args.seed)
        console.print(f"{args.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB")
        for number in range(args.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    job = process.submit(measure, way, path, folder, args.rows, args.window)
                    found = job.result()
                console.print(f"round {number + 1}  {way}: {found['rows_per_second']:,.0f} rows/s")
                best[way] = max(best.get(way, found), found, key=_rate)
    return {way: best[way] for way in WAYS}


def _rate(figures: dict[str, Any]) -> float:
    return float(figures["rows_per_second"])


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    try:
        found = race(args)
    except BertClsError as error:
        sys.exit(str(error))
    peer = found["peer: json.loads, transformers"]["rows_per_second"]
    for figures in found.values():
        figures["ratio_to_peer"] = figures["rows_per_second"] / peer
    columns = ("ratio_to_peer", "cpu_microseconds_a_row", "memory_growth_mb", "tokens_a_row")
    show(
        f"{args.rows:,} rows; targets: {TARGET_ROWS_PER_SECOND:,} rows/s tokenised, memory flat "
        f"(growth under {FLAT_MB:.0f} MB)",
        ("", "rows/s", "to the peer", "CPU µs a row", "MB grown", "tokens a row"),
        [
            [way, f"{f['rows_per_second']:,.0f}", *(f[c] for c in columns)]
            for way, f in found.items()
        ],
    )
    ours = max(("ours, in turn", "ours, overlapped"), key=lambda way: _rate(found[way]))
    show(
        ours,
        ("rows", "rows/s so far", "MB resident"),
        [
            [f"{mark['rows']:,}", f"{mark['rows_per_second']:,.0f}", f"{mark['memory_mb']:.0f}"]
            for mark in found[ours]["marks"]
        ],
    )
    fast = found[ours]["rows_per_second"] >= TARGET_ROWS_PER_SECOND
    flat = found[ours]["memory_growth_mb"] < FLAT_MB
    console.print(
        f"\nspeed target {'met' if fast else 'missed'}; memory {'flat' if flat else 'not flat'}"
    )
    settings = {k: v for k, v in vars(args).items() if k != "output"}
    write_results(
        args.output,
        {"settings": settings, "machine": machine(), "faster": ours, "ways": found},
    )
    console.print(f"written: {args.output.name}")


if __name__ == "__main__":
    main()
