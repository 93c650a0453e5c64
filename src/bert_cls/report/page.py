"""ReportData becomes one HTML file that opens without a network.

Data goes in as JSON that no browser runs; scripts and styles are named by their sha256 in the
page's content security policy, so that nothing else can run, load or be sent.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

import orjson

from bert_cls.data.problems import KINDS, NONE_OF_THE_LABELS
from bert_cls.metrics import DEFINITIONS
from bert_cls.report.data import ReportData, plain

PROGRAM = (
    "page.js",
    "notes.js",
    "summary.js",
    "charts.js",
    "figures.js",
    "worst.js",
    "sections.js",
)
LABELS = 1000
"""Most labels in the page's table; the JSON has all."""
OTHER_NAMES = 500
"""Most names beside those of the table that wrong rows call labels by; others are counted."""
NEAR_NAMES = 20
"""Most labels of a training row."""
_LEAD = ("difference", "low", "high", "verdict")
_MARK = re.compile(r"\{\{(\w+)\}\}")
_ESCAPES = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_UNSAFE = re.compile("[<>&\u2028\u2029]")


def page(report: ReportData) -> str:
    """The report as HTML, without a reference to anything outside of it."""
    library = _asset("chart.min.js").partition("\n//# sourceMappingURL=")[0]
    program = '"use strict";\n' + "".join(_asset(name) for name in PROGRAM)
    style = _asset("page.css")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_digest(library)} {_digest(program)}",
            f"style-src {_digest(style)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = {
        "policy": policy,
        "style": style,
        "library": library,
        "program": program,
        "data": embedded(_shown(report)),
        "words": embedded(words()),
    }
    return _MARK.sub(lambda mark: parts[mark[1]], _asset("page.html"))


def embedded(value: Any) -> str:
    """JSON that can stand inside a script element: no character in it can end the element."""
    text = orjson.dumps(value).decode("utf-8")
    return _UNSAFE.sub(lambda found: _ESCAPES[found[0]], text)


@cache
def words() -> dict[str, tuple[str, str]]:
    """Every word of the page in English and Chinese, by key."""
    table: dict[str, list[str | None]] = orjson.loads(_asset("words.json"))
    english = {f"definition.{name}": sentence for name, sentence in DEFINITIONS.items()}
    english |= {f"audit.{code}": title for code, title in KINDS.items()}
    english["audit.none_of_the_labels"] = NONE_OF_THE_LABELS
    return {key: (en or english[key], zh or "") for key, (en, zh) in table.items()}


def _shown(report: ReportData) -> dict[str, Any]:
    """The report's JSON in the form the page reads: rounded, labels with their thresholds."""
    content: dict[str, Any] = plain(report.to_dict())
    for row in content["per_label"]:
        row["threshold"] = None
    for row, threshold in zip(content["per_label"], _thresholds(report), strict=False):
        row["threshold"] = threshold
    most = sorted(content["per_label"], key=lambda row: -row["support"])[:LABELS]
    kept = {row["name"] for row in most}
    content["labels_left_out"] = len(content["per_label"]) - len(most)
    content["per_label"] = [row for row in content["per_label"] if row["name"] in kept]
    for group in content["groups"]:
        group["size"] = len(group["labels"])
        group["labels"] = [name for name in group["labels"] if name in kept]
    for unused in ("confusion", "coverage", "definitions", "reliability", "report"):
        del content[unused]
    if content["linear_bar"] is not None:
        leads = report.linear_bar.lead if report.linear_bar else ()
        lead = {each.metric: plain([getattr(each, k) for k in _LEAD]) for each in leads}
        content["linear_bar"] = {"metrics": content["linear_bar"]["metrics"], "lead": lead}
    content["rule"].pop("thresholds")
    _name_once(content)
    return content


def _name_once(content: dict[str, Any]) -> None:
    """Labels of groups and rows as places in `per_label` and, after it, `other_names`.

    A row may have hundreds of labels with names of 200 characters. Places after the last name are
    those of labels that are counted only. Indexes become text, for browsers round whole numbers
    above 2^53.
    """
    places = {row["name"]: place for place, row in enumerate(content["per_label"])}
    known = len(places)
    lists = [(group, "labels") for group in content["groups"]]
    for row in content["worst"]:
        for verdict in row["wrong"]:  # first, so that each of them has a name
            places.setdefault(verdict["label"], len(places))
        for near in row["nearest"]:
            if isinstance(near["label"], list):
                near["label_count"] = len(near["label"])
                near["label"] = near["label"][:NEAR_NAMES]
        lists += [(row, "true"), (row, "given"), *((near, "label") for near in row["nearest"])]
        for entry in (row, *row["nearest"]):
            entry["index"] = str(entry["index"])
    for entry, key in lists:
        if isinstance(entry[key], list):
            entry[key] = [places.setdefault(name, len(places)) for name in entry[key]]
    content["other_names"] = list(places)[known : known + OTHER_NAMES]


def _thresholds(report: ReportData) -> list[Any]:
    """A threshold for each label, "never" for none that is ever reached; none for classes."""
    thresholds = list(report.rule["thresholds"])
    return [None, *thresholds] if report.evaluation.task == "binary" else thresholds


def _digest(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@cache
def _asset(name: str) -> str:
    return resources.files("bert_cls.report").joinpath("assets", name).read_text("utf-8")
