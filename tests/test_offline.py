"""Training, evaluating and predicting speak to nobody."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from small import multilabel_rows, write_folder

WHOLE = """
import socket, sys
from bert_cls.cli import main

def ran(*arguments):
    sys.argv = ["bert-cls", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

ran("train", "data", "-o", "model", "--encoder", "encoder", "--epochs", "1",
    "--set", "report.resamples=0", "--set", "text.max_length=32")
ran("evaluate", "model", "data/test.json")
ran("predict", "model", "data/test.json", "-o", "out.jsonl")
"""
REFUSING = """
import socket
def refuse(self, address, *rest):
    raise AssertionError(f"connects to {address}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *asked, **more: refuse(None, asked)
"""


@pytest.fixture
def workplace(tmp_path, encoder) -> Path:
    write_folder(tmp_path / "data", multilabel_rows)
    shutil.copytree(encoder("bert"), tmp_path / "encoder")
    return tmp_path


def run(command: list[str], workplace: Path) -> subprocess.CompletedProcess[str]:
    """Without the variables that tests set to keep the hub away."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(command, capture_output=True, text=True, cwd=workplace, env=kept)


def can(*command: str) -> bool:
    return bool(shutil.which(command[0])) and (
        subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )


def test_the_whole_way_works_without_a_network_and_asks_for_none(workplace):
    """In a name space that has no network, watched by strace, as far as the machine permits."""
    trace = workplace / "trace"
    apart = ("unshare", "-r", "-n")
    watched = (
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg",
        "-o",
        str(trace),
    )
    command: list[str] = []
    source = WHOLE
    if can(*apart):
        command += apart
    if can("strace", "-f", "--seccomp-bpf", "-o", os.devnull):
        command += watched
    if not command:
        source = REFUSING + WHOLE
    done = run([*command, sys.executable, "-c", source], workplace)
    assert done.returncode == 0, done.stderr
    assert (workplace / "out.jsonl").read_bytes().count(b"\n") == 16
    if trace.exists():
        outbound = [
            line
            for line in trace.read_text().splitlines()
            if re.search(r"AF_INET6?|sa_family=AF_(?!UNIX|UNSPEC|NETLINK)", line)
        ]
        assert not outbound
