"""Signals raise where nothing would be lost, and wait where something would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from bert_cls.errors import Interrupted, exit_code
from bert_cls.signals import stoppable


def explain():
    return "stopped.", "go on."


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_stay():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once_with_its_exit_code(number):
    done = []

    def work():
        with stoppable(explain):
            send(number)
            done.append("went on")

    with pytest.raises(Interrupted, match="stopped") as caught:
        work()
    assert done == []
    assert exit_code(caught.value) == 128 + number
    assert caught.value.hint == "go on."


def test_what_is_noted_waits_for_the_end_of_its_block():
    done = []

    def work():
        with stoppable(explain) as signals:
            with signals.noted():
                send(signal.SIGINT)
                send(signal.SIGTERM)
                done.append(signals.received)
            done.append("went on")

    with pytest.raises(Interrupted):
        work()
    assert done == [signal.SIGINT]


def test_within_a_noted_block_a_stretch_can_be_left_at_once():
    done = []

    def work():
        with stoppable(explain) as signals, signals.noted():
            with signals.at_once():
                done.append("nothing came")
            send()
            done.append("noted")
            with signals.at_once():
                done.append("not reached")

    with pytest.raises(Interrupted):
        work()
    assert done == ["nothing came", "noted"]


def test_a_second_signal_does_not_break_the_tidying_up():
    done = []

    def work():
        with stoppable(explain):
            try:
                send()
            finally:
                send()
                done.append("tidied")

    with pytest.raises(Interrupted):
        work()
    assert done == ["tidied"]


def test_other_threads_take_no_signals():
    seen = []

    def work():
        with stoppable(explain) as signals:
            seen.append(signals.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


UNWRITABLE_STACK = """
import ctypes, mmap, os, signal, sys
from bert_cls.commands.console import terminable
from bert_cls.signals import _Stack
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
stack = _Stack(libc.mmap(None, 1 << 16, 0, kind, -1, 0), 0, 1 << 16)
assert libc.sigaltstack(ctypes.byref(stack), None) == 0
try:
    with terminable():
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack as on Linux")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_commands_stop_where_the_alternate_stack_cannot_be_written(name):
    command = [sys.executable, "-c", UNWRITABLE_STACK, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


COMPILED = """
import ctypes
import openvino
import openvino.opset13 as ops
from bert_cls.engines.openvino_engine import compile_model
from bert_cls.signals import _Stack
given = ops.parameter([1, 4], dtype=openvino.Type.f32)
kept = compile_model(openvino.Model([ops.relu(given)], [given]), {})
stack = _Stack()
assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
print(stack.flags)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack as on Linux")
def test_an_engine_leaves_no_alternate_stack_behind():
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr  # 2: disabled
