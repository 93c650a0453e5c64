"""Encoders from a hub: a server of our own that speaks as much of its API as is needed."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from bert_cls.encoders import (
    DEFAULT,
    resolve,
)
from bert_cls.errors import EncoderError
from hostile import Canary


class FakeHub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as fetching a snapshot needs; anything else is answered as unknown."""

    protocol_version = "HTTP/1.1"
    commit = "a" * 40
    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def log_message(self, *_args):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append(path)
        for name, files in self.repositories.items():
            if path == f"/api/models/{name}/revision/main":
                return self.send_json({"id": name, "sha": self.commit, "siblings": []})
            if path == f"/api/models/{name}/tree/{self.commit}":
                return self.send_json(
                    [
                        {"type": "file", "path": file, "size": len(content), "oid": digest(content)}
                        for file, content in files.items()
                    ]
                )
            file = path.removeprefix(f"/{name}/resolve/{self.commit}/")
            if file in files:
                return self.send(200, files[file])
        return self.send_json({"error": "Invalid username or password."}, status=401)

    do_HEAD = do_GET

    def send_json(self, content: object, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode())

    def send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{digest(content)}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(encoder, tmp_path):
    files = {path.name: path.read_bytes() for path in encoder("bert").iterdir()}
    pooling = json.dumps({"pooling_mode_mean_tokens": True}).encode()
    pickled = pickle.dumps(Canary(tmp_path / "ran"))
    FakeHub.repositories = {
        "team/small": files | {"1_Pooling/config.json": pooling, "pytorch_model.bin": pickled},
        "team/pickled": {"config.json": files["config.json"], "pytorch_model.bin": pickled},
    }
    FakeHub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


RESOLVE = """
import json, sys
from bert_cls.encoders import describe, resolve
from bert_cls.errors import EncoderError
for name in sys.argv[1:]:
    notes = []
    try:
        folder = resolve(name, notify=notes.append)
        out = {"folder": str(folder), "pooling": describe(folder).sentence_pooling}
    except EncoderError as error:
        out = {"error": error.message, "hint": error.hint}
    print(json.dumps(out | {"notes": notes}))
"""


def resolve_elsewhere(*names: str, home: Path, **variables: str) -> list[dict]:
    """In a process of its own: the hub's library reads its variables when it is imported."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("HF_") and "proxy" not in k.lower() and "OFFLINE" not in k
    }
    ran = subprocess.run(
        [sys.executable, "-c", RESOLVE, *names],
        env=kept | {"HF_HOME": str(home)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_hub_a_mirror_and_offline_work_as_their_variables_say(hub, tmp_path):
    home = tmp_path / "home"
    names = ("team/small", "team/none", "team/pickled", "team/..")
    small, none, pickled, odd = resolve_elsewhere(*names, home=home, HF_ENDPOINT=hub)
    assert small["pooling"] == "mean"
    assert small["notes"] == [f"fetching team/small from {hub}"]
    assert Path(small["folder"]).is_relative_to(home)
    assert "team/none" in none["error"]
    assert "401" in none["error"]
    assert "HF_ENDPOINT" in none["hint"]
    assert DEFAULT in none["hint"]
    assert "no model.safetensors" in pickled["error"]
    assert "team/.." in odd["error"]
    assert not [path for path in FakeHub.asked if path.endswith(".bin")], "pickles are not fetched"

    before = len(FakeHub.asked)
    small_again, unknown = resolve_elsewhere(
        *names[:2], home=home, HF_ENDPOINT=hub, HF_HUB_OFFLINE="1"
    )
    assert small_again["folder"] == small["folder"]
    assert "team/none" in unknown["error"]
    assert len(FakeHub.asked) == before, "offline asks nobody"
    assert not (tmp_path / "ran").exists()


def test_an_unreachable_hub_is_said_with_what_to_do(tmp_path):
    nowhere = "http://127.0.0.1:9"
    (gone,) = resolve_elsewhere("team/small", home=tmp_path, HF_ENDPOINT=nowhere)
    assert "team/small" in gone["error"]
    assert "ConnectError" in gone["error"]
    assert "HF_ENDPOINT" in gone["hint"]


@pytest.mark.parametrize("error", [RuntimeError("no protocol\nmore"), OSError(), ValueError("odd")])
def test_whatever_the_hubs_library_raises_is_one_line(error, monkeypatch, tmp_path):
    import huggingface_hub

    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(EncoderError) as caught:
        resolve("team/small", cache=tmp_path)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    assert caught.value.message.endswith(f"did not give it: {first_line}")


def test_a_hub_id_without_the_hubs_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderError, match="not installed") as caught:
        resolve("team/small")
    assert "bert-cls[train]" in str(caught.value.hint)
