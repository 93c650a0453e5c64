"""How bytes become text: strict UTF-8 first, then a byte order mark, then a measured guess.

The guess is between GB18030 and Big5 only: each decoding is scored by the share of very common
Chinese characters, which is 20-40 % in Chinese prose and a few per cent in wrongly decoded bytes.
Korean and Japanese bytes look much like GB18030, so what reads as Hangul or kana is refused.
"""

from __future__ import annotations

import codecs

from bert_cls.data.problems import Problem
from bert_cls.errors import DataError

UTF8_BOM = codecs.BOM_UTF8
ASCII = bytes(range(128))
SAMPLE_BYTES = 1 << 18
MIN_COMMON = 3
MIN_COMMON_SHARE = 0.12
MIN_LEAD = 2
COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之"
    "年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理"
    "心她本前开但因只从想实日很吗吧呢啊太给被让把比最与或及无高点车"
    "這個們來為國說時會對過發後裡種經麼學現當沒動還進樣從實嗎無點車於與關問題開"
    "，。、！？：；“”（）「」《》…"
)
# codec, first and last character of the foreign script, share of it that refuses Chinese
FOREIGN = (("cp949", "\uac00", "\ud7a3", 0.9), ("euc_jp", "\u3041", "\u30fe", 0.1))
# Longest first: the UTF-16 mark is the beginning of the UTF-32 mark.
WIDE_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def wide_codec(head: bytes) -> str | None:
    """`utf-16` or `utf-32` when `head` begins with such a byte order mark."""
    return next((codec for bom, codec in WIDE_BOMS.items() if head.startswith(bom)), None)


def splits_at_newlines(codec: str) -> bool:
    r"""Whether lines of this encoding can be cut at the byte \n before they are decoded.

    DataError when there is no such text encoding.
    """
    try:
        return "\n".encode(codec) == b"\n"
    except (LookupError, ValueError):
        raise DataError(
            f"encoding must be a text encoding that Python knows. Got {codec!r} instead.",
            hint="utf-8, gb18030, big5hkscs, utf-16, shift_jis and cp1252 are examples",
        ) from None


def choose_codec(sample: bytes, *, file: str, offset: int) -> tuple[str, Problem | None]:
    """The codec of a sample that holds bytes over 127, and the note when it is not UTF-8.

    `offset` is where the sample begins in the file, in bytes. A file most of whose lines are UTF-8
    is UTF-8 with broken lines. DataError asks for the encoding when neither GB18030 nor Big5 is
    clear.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError as error:
        if _mostly_utf8(sample):
            return "utf-8", None
        name = guess_chinese(sample)
        if name is None:
            raise DataError(
                f"{file}: byte {offset + error.start} is not UTF-8, and the text is not clearly "
                "GB18030 or Big5.",
                hint="say what it is, for example --encoding gb18030, or save it as UTF-8",
            ) from None
        return CHINESE[name], Problem("D02", file, "", None, f"read as {name}.", "note")
    return "utf-8", None


def guess_chinese(sample: bytes) -> str | None:
    """`gb18030` or `big5` when the sample is clearly Chinese text in it, else None."""
    sample = sample.lstrip(ASCII)[:SAMPLE_BYTES]
    wide = {name: _wide_characters(sample, codec) for name, codec in CHINESE.items()}
    hits = {name: sum(c in COMMON for c in text) for name, text in wide.items()}
    best, other = sorted(CHINESE, key=hits.__getitem__, reverse=True)
    enough = max(MIN_COMMON, MIN_COMMON_SHARE * len(wide[best]), MIN_LEAD * hits[other])
    return best if hits[best] >= enough and not _is_foreign(sample) else None


def _mostly_utf8(sample: bytes) -> bool:
    good = bad = 0
    for line in sample.split(b"\n")[:-1]:
        if not line.isascii():
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                bad += 1
    return good > bad


def _wide_characters(data: bytes, codec: str) -> str:
    try:
        # Incremental, because a sample may end inside a character.
        text = codecs.getincrementaldecoder(codec)().decode(data)
        return "".join(c for c in text if c > "\x7f")
    except UnicodeDecodeError:
        return ""


def _is_foreign(sample: bytes) -> bool:
    for codec, first, last, share in FOREIGN:
        text = _wide_characters(sample, codec)
        if text and sum(first <= c <= last for c in text) >= share * len(text):
            return True
    return False


# HKSCS holds plain Big5 and the characters that Windows and Hong Kong add to it.
CHINESE: dict[str, str] = {"gb18030": "gb18030", "big5": "big5hkscs"}
