"""Chromium without a window, driven over a pipe in its DevTools protocol."""

from __future__ import annotations

import base64
import json
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
REASON = "no chromium on this machine (Debian: apt-get install chromium)"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_SECONDS = 60


class Browser:
    """One browser with one tab. `events` is everything it has told, as (method, parameters)."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        # the protocol's pipes are file descriptors 3 and 4
        command = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null']
        options = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command + options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._number = 0
        self._unread = b""
        self._session: str | None = None
        (target,) = [t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; a dialog that opens meanwhile is noted and closed."""
        number = self._send(method, parameters)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                return message["result"]
            self._note(message)

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there and drawn."""
        self.events.clear()
        self.ask("Page.navigate", url=path.absolute().as_uri())
        while "Page.loadEventFired" not in [method for method, _ in self.events]:
            self._note(self._receive())
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window and the system's colours."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def speak(self, language: str) -> None:
        """The language the browser asks for."""
        agent = self.run("navigator.userAgent")
        self.ask("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)

    def picture(self, path: Path, *, clip: dict[str, float] | None = None) -> None:
        """A picture of the whole page, or of a part of it."""
        options: dict[str, Any] = {"clip": {**clip, "scale": 1}} if clip else {}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, **options)
        path.write_bytes(base64.b64decode(shot["data"]))

    def told(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of one kind since the page was opened."""
        return [parameters for name, parameters in self.events if name == method]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self._send("Browser.close", {})
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            chunk = self.process.stdout.read(1 << 20) if ready else b""
            assert chunk, "the browser does not answer"
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Keep an event; the answer to closing a dialog is none."""
        if (method := message.get("method")) is None:
            return
        self.events.append((method, message["params"]))
        if method == "Page.javascriptDialogOpening":
            self._send("Page.handleJavaScriptDialog", {"accept": False})
