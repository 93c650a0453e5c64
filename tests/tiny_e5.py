"""A tiny file in the format of the package that the built-in encoders come from."""

from __future__ import annotations

import random
import struct

import numpy as np

HIDDEN, FEED_FORWARD, POSITIONS, LAYERS, PADDING_ROWS = 32, 64, 16, 2, 3
E5_PIECES = [
    *("<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "the", "park", "▁park", "s", "a", "b", "A"),
    *("今", "天", "今天", "天气", "气", "▁天", "，", ",", "～", "~", "1", "ÿ", "й", "<", ">", "/"),
    *("！", "!", "é", "中文", "<mask>"),
]
E5_MAP = {0x01: "", 0x200E: "", 0x09: " ", 0x2028: " ", 0xFF21: "A", 0x2460: "1", 0xFF0C: ","}
LAYER_SHAPES = {
    **{f"{part}.w": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")},
    **{f"{part}.b": (HIDDEN,) for part in ("q", "k", "v", "ao", "fo")},
    "fi.w": (FEED_FORWARD, HIDDEN),
    "fi.b": (FEED_FORWARD,),
    "fo.w": (HIDDEN, FEED_FORWARD),
    **{f"{norm}.{kind}": (HIDDEN,) for norm in ("aln", "oln") for kind in "wb"},
}


def e5_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """The file's bytes, and the value of every tensor, computed weight by weight."""
    chooser = random.Random(5)
    shapes = {
        "emb.word": (len(E5_PIECES) + PADDING_ROWS, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    shapes |= {f"l{n}.{k}": shape for n in range(LAYERS) for k, shape in LAYER_SHAPES.items()}
    head = struct.pack("<4sI7i", b"E5S1", 1, HIDDEN, LAYERS, 2, FEED_FORWARD, 37, POSITIONS, 2)
    head += struct.pack("<fi", 1e-12, 32)
    blob = [piece.encode() for piece in E5_PIECES]
    ends = np.cumsum([0] + [len(b) for b in blob])
    head += struct.pack("<5iQ", len(E5_PIECES), 0, 2, 1, 3, int(ends[-1]))
    head += struct.pack(f"<{len(ends)}I", *map(int, ends))
    scores = [
        -1.0 - len(E5_PIECES) * 0.1 + 0.1 * len(p) - 0.01 * i for i, p in enumerate(E5_PIECES)
    ]
    head += struct.pack(f"<{len(scores)}f", *scores) + b"".join(blob)
    entries = b"".join(
        struct.pack(f"<IB{len(to)}I", code, len(to), *map(ord, to)) for code, to in E5_MAP.items()
    )
    head += struct.pack("<iI", len(E5_MAP), len(entries)) + entries

    values, data = {}, []
    for name, shape in shapes.items():
        packed, flat = b"", []
        count = int(np.prod(shape))
        if name.endswith(("b", "aln.w", "oln.w", "ln.w")) or name in ("emb.pos", "emb.type"):
            flat = [chooser.uniform(-1, 1) for _ in range(count)]
            packed, kind = struct.pack(f"<{count}f", *flat), 0
        else:
            kind = 1
            for _ in range(count // 32):
                scale = struct.unpack("<e", struct.pack("<e", chooser.uniform(0.01, 0.2)))[0]
                low, high = ([chooser.randrange(16) for _ in range(16)] for _ in "lh")
                packed += struct.pack("<e", scale)
                packed += bytes(a | b << 4 for a, b in zip(low, high, strict=True))
                flat += [(nibble - 8) * scale for nibble in low + high]
        values[name] = np.array(flat, dtype=np.float32).reshape(shape)
        data.append((name.encode(), kind, count, packed))
    table_size = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name, *_ in data)
    at, table, body = len(head) + table_size, struct.pack("<i", len(data)), b""
    for name, kind, count, packed in data:
        table += struct.pack(f"<H{len(name)}sBIQQ", len(name), name, kind, count, at, len(packed))
        body += packed
        at += len(packed)
    return head + table + body, values
