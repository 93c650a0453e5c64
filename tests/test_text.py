"""Strings to token ids: laws of cutting, literal special tokens, agreement with transformers."""

from __future__ import annotations

import json
import time
import unicodedata
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_cls.encoders import open_tokenizer
from bert_cls.errors import BundleError, ConfigError, DataError
from bert_cls.text import TextEncoder, TextSettings, Tokens, batches_by_length, tokenizer_json
from tiny import CHINESE, ENGLISH, FAMILIES, TEXTS, byte_level, tiny_tokenizer

KINDS = ("bert", "macbert", "roberta", "modernbert", "albert", "xlm-roberta")
LONG = ("head", "head_tail")

phrases = st.sampled_from(
    [*TEXTS, "　", "ＡＢＣ１２", "e\u0301", "[SEP]", "</s>", "\t\n", "🚗", "x" * 120]
)
texts = st.one_of(st.text(max_size=30), st.lists(phrases, max_size=4).map(" ".join))


@pytest.fixture(scope="session")
def tokenizer_json_of(tmp_path_factory):
    """The bytes of a family's tokenizer, as a model folder keeps them."""

    @cache
    def content(family: str) -> bytes:
        folder = tmp_path_factory.mktemp("tokenizer")
        tiny_tokenizer(family).save(str(folder / "tokenizer.json"))
        return tokenizer_json(open_tokenizer(folder))

    return content


@pytest.fixture(scope="session")
def make(tokenizer_json_of):
    def encoder(family: str, max_length: int = 64, long: str = "head", normalise: str = "none"):
        content = tokenizer_json_of(family)
        return TextEncoder.from_json(content, TextSettings(max_length, long, normalise))

    return encoder


def rows_of(tokens: Tokens) -> list[tuple[list[int], list[int]]]:
    return [
        (tokens.ids[a:b].tolist(), tokens.types[a:b].tolist())
        for a, b in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)
    ]


def whole_ids(encoder: TextEncoder, text: str) -> list[int]:
    return encoder.tokenizer.encode(text, add_special_tokens=False).ids


def cut(ids: list[int], room: int, long: str) -> list[int]:
    if len(ids) <= room:
        return ids
    head = room // 4 if long == "head_tail" else room
    return ids[:head] + (ids[-(room - head) :] if room > head else [])


def expected_single(encoder: TextEncoder, text: str) -> list[int]:
    t = encoder.template
    room = encoder.settings.max_length - len(t.before) - len(t.after)
    return [*t.before, *cut(whole_ids(encoder, text), room, encoder.settings.long), *t.after]


def expected_pair(encoder: TextEncoder, first: str, second: str) -> tuple[list[int], list[int]]:
    t = encoder.template
    a, b = whole_ids(encoder, first), whole_ids(encoder, second)
    room = encoder.settings.max_length - len(t.pair_before + t.pair_between + t.pair_after)
    keep = [len(a), len(b)]
    while sum(keep) > room:
        keep[0 if keep[0] > keep[1] else 1] -= 1
    a, b = cut(a, keep[0], encoder.settings.long), cut(b, keep[1], encoder.settings.long)
    left = [*t.pair_before, *a, *t.pair_between]
    right = [*b, *t.pair_after]
    return left + right, [0] * len(left) + [t.second_type] * len(right)


# --- the shape of rows


@pytest.mark.parametrize(
    ("family", "before", "after", "between", "second_type"),
    [
        ("bert", ["[CLS]"], ["[SEP]"], ["[SEP]"], 1),
        ("albert", ["[CLS]"], ["[SEP]"], ["[SEP]"], 1),
        ("modernbert", ["[CLS]"], ["[SEP]"], ["[SEP]"], 1),
        ("roberta", ["<s>"], ["</s>"], ["</s>", "</s>"], 0),
        ("xlm-roberta", ["<s>"], ["</s>"], ["</s>", "</s>"], 0),
    ],
)
def test_the_template_is_read_off_the_tokenizer(make, family, before, after, between, second_type):
    encoder = make(family)
    name = encoder.tokenizer.id_to_token
    assert [name(i) for i in encoder.template.before] == before
    assert [name(i) for i in encoder.template.after] == after
    assert [name(i) for i in encoder.template.pair_before] == before
    assert [name(i) for i in encoder.template.pair_between] == between
    assert [name(i) for i in encoder.template.pair_after] == after
    assert encoder.template.second_type == second_type


@given(
    family=st.sampled_from(KINDS),
    long=st.sampled_from(LONG),
    max_length=st.integers(7, 40),
    batch=st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
)
@settings(max_examples=150)
@example("bert", "head_tail", 7, [("", "")])
@example("bert", "head", 8, [(CHINESE[0], CHINESE[1]), ("短", ENGLISH[0])])
def test_rows_are_cut_exactly_and_keep_their_special_tokens(make, family, long, max_length, batch):
    encoder = make(family, max_length, long)
    singles = encoder.encode([a for a, _ in batch])
    pairs = encoder.encode([a for a, _ in batch], [b for _, b in batch])
    assert singles.lengths.max() <= max_length
    assert pairs.lengths.max() <= max_length
    for (a, b), (ids, types), pair in zip(batch, rows_of(singles), rows_of(pairs), strict=True):
        assert ids == expected_single(encoder, a)
        assert types == [0] * len(ids)
        assert pair == expected_pair(encoder, a, b)
    t = encoder.template
    ends = len(t.before + t.after)
    assert singles.full_lengths.tolist() == [len(whole_ids(encoder, a)) + ends for a, _ in batch]
    assert singles.cut.tolist() == [n > max_length for n in singles.full_lengths]


def test_a_short_question_keeps_its_long_answers_rest(make):
    encoder = make("bert", 20)
    question, answer = "好吗", "很" * 50
    (ids, types), (swapped, _) = rows_of(encoder.encode([question, answer], [answer, question]))
    very, good = (encoder.tokenizer.token_to_id(c) for c in "很好")
    assert (len(ids), ids.count(very), ids.count(good)) == (20, 15, 1)
    assert (len(swapped), swapped.count(very), swapped.count(good)) == (20, 15, 1)
    assert types == [0] * 4 + [1] * 16
    both = rows_of(encoder.encode(["很" * 50], ["好" * 50]))[0][0]
    assert (both.count(very), both.count(good)) == (9, 8)


@given(
    family=st.sampled_from(KINDS),
    batch=st.lists(texts, min_size=1, max_size=6),
    chunk=st.integers(1, 4),
    order=st.randoms(use_true_random=False),
    paired=st.booleans(),
)
@settings(max_examples=60)
def test_a_row_does_not_depend_on_its_company(make, family, batch, chunk, order, paired):
    encoder = make(family, 12, "head_tail")
    second = batch[::-1] if paired else None
    together = rows_of(encoder.encode(batch, second))
    chunked = encoder.encode_in_chunks(batch, second, chunk=chunk)
    assert rows_of(chunked) == together
    assert chunked.full_lengths.tolist() == encoder.encode(batch, second).full_lengths.tolist()
    places = list(range(len(batch)))
    order.shuffle(places)
    shuffled = encoder.encode(
        [batch[i] for i in places], None if second is None else [second[i] for i in places]
    )
    assert rows_of(shuffled) == [together[i] for i in places]
    partners = [[b] if paired else None for b in batch[::-1]]
    alone = [encoder.encode([a], b) for a, b in zip(batch, partners, strict=True)]
    assert [rows_of(tokens)[0] for tokens in alone] == together


def test_arrays_have_the_promised_types(make):
    encoder = make("bert")
    for tokens in (encoder.encode(TEXTS, TEXTS[::-1]), encoder.encode([]), encoder.encode([], [])):
        assert tokens.ids.dtype == tokens.full_lengths.dtype == np.int32
        assert tokens.types.dtype == np.int8
        assert tokens.starts.dtype == tokens.lengths.dtype == np.int64
        assert len(tokens.starts) == len(tokens) + 1 == len(tokens.full_lengths) + 1
    assert len(encoder.encode_in_chunks([])) == 0


@pytest.mark.parametrize("family", KINDS)
def test_an_empty_text_is_its_special_tokens(make, family):
    encoder = make(family)
    t = encoder.template
    single = rows_of(encoder.encode(["", " \n"]))[0][0]
    pair = rows_of(encoder.encode([""], [""]))[0][0]
    assert single == [*t.before, *t.after]
    assert pair == [*t.pair_before, *t.pair_between, *t.pair_after]


# --- long texts, of which only the ends are read: (8 + 128) * 32 characters of each here

long_texts = st.lists(
    st.tuples(
        st.sampled_from(
            [*TEXTS, "尾灯", "a", " ", "\u200b", "e\u0301", "好 ", "sunroof", "！", "-"]
        ),
        st.sampled_from([1, 3, 70, 400, 2000]),
        st.sampled_from(["", " "]),
    ),
    min_size=3,
    max_size=9,
).map(lambda parts: "".join((text + between) * times for text, times, between in parts)[:20_000])


@pytest.mark.parametrize("long", LONG)
@given(family=st.sampled_from(KINDS), text=long_texts, other=long_texts)
@settings(max_examples=15)
@example("bert", "好" + " " * 9000 + "亮", "a" * 9000 + " good " * 20)
@example("xlm-roberta", "好" + " " * 9000 + "亮", "尾灯" * 4000)
def test_reading_only_the_ends_changes_nothing(make, long, family, text, other):
    encoder = make(family, 8, long)
    tokens = encoder.encode([text, other])
    assert [ids for ids, _ in rows_of(tokens)] == [
        expected_single(encoder, text),
        expected_single(encoder, other),
    ]
    pair = rows_of(encoder.encode([text], [other]))[0][0]
    assert pair == expected_pair(encoder, text, other)[0]
    ends = len(encoder.template.before + encoder.template.after)
    for row, whole in enumerate((text, other)):
        full = len(whole_ids(encoder, whole)) + ends
        assert tokens.full_lengths[row] <= full + 200, (
            "two words cut in two are a hundred tokens each"
        )
        assert tokens.cut[row] == (full > 8)


def test_the_tail_is_the_tail_of_the_whole_text(make):
    text = "今天天气不错，" * 100_000 + "第二说轮胎"
    encoder = make("bert", 20, "head_tail")
    kept = encoder.tokenizer.decode(rows_of(encoder.encode([text]))[0][0]).replace(" ", "")
    assert kept.startswith("今天天气")
    assert kept.endswith("第二说轮胎")


class CountingTokenizer:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.characters = 0

    def encode_batch_fast(self, batch, **options):
        self.characters += sum(map(len, batch))
        return self.tokenizer.encode_batch_fast(batch, **options)


HUGE = {
    "words": "good morning 你好 " * 700_000,
    "blanks": "a" + " " * 10_000_000 + "b",
    "one word": "a" * 10_000_000,
    "nothing": "\u200b" * 10_000_000,
}


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_ten_megabytes_cost_little_whatever_they_are(make, family, long):
    encoder = make(family, 256, long)
    counting = CountingTokenizer(encoder.tokenizer)
    encoder.tokenizer = counting
    for kind, text in HUGE.items():
        counting.characters = 0
        times = []
        for _ in range(2):
            began = time.process_time()
            tokens = encoder.encode([text])
            times.append(time.process_time() - began)
        assert min(times) < 0.5, kind
        assert counting.characters < 2 * 500_000, kind
        assert tokens.lengths[0] <= 256
        assert tokens.cut[0], "what was not read counts as cut"


def test_a_row_over_the_limit_can_be_an_error(make):
    encoder = make("bert", 12, "error")
    fits, too_long = "很" * 10, "很" * 11
    assert encoder.encode([fits]).lengths.tolist() == [12]
    with pytest.raises(DataError, match=r"row 1 .* 13 tokens.* reads 12") as caught:
        encoder.encode([fits, too_long])
    assert "head_tail" in str(caught.value.hint)
    with pytest.raises(DataError, match="row 5 "):
        encoder.encode_in_chunks([fits] * 5 + [too_long], chunk=2)
    with pytest.raises(DataError, match="row 0 "):
        encoder.encode(["很" * 6], ["很" * 6])


# --- special tokens typed by people


def with_brackets(tokenizer: Tokenizer) -> Tokenizer:
    """The same Unigram tokenizer, able to spell its own special tokens."""
    content = json.loads(tokenizer.to_str())
    spelling = sorted({c for token in content["added_tokens"] for c in token["content"]})
    known = {piece for piece, _ in content["model"]["vocab"]}
    content["model"]["vocab"] += [[c, -9.0] for c in spelling if c not in known]
    return Tokenizer.from_str(json.dumps(content))


@pytest.mark.parametrize(
    ("family", "spelled"),
    [*((family, False) for family in KINDS), ("albert", True), ("xlm-roberta", True)],
)
def test_typed_special_tokens_stay_characters(family, spelled, tmp_path):
    tokenizer = tiny_tokenizer(family)
    if spelled:
        tokenizer = with_brackets(tokenizer)
        spelling = tokenizer.encode("<>", add_special_tokens=False)
        assert tokenizer.token_to_id("<unk>") not in spelling.ids
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    content = tokenizer_json(open_tokenizer(tmp_path))
    encoder = TextEncoder.from_json(content, TextSettings(512))
    added = json.loads(content)["added_tokens"]
    special = {t["content"]: t["id"] for t in added if t["special"]}
    unknown = {special.get("[UNK]"), special.get("<unk>")}
    assert len(special) == 5
    template = encoder.template
    for token in special:
        typed = [
            token,
            f"好{token}好",
            f"a {token} b",
            token * 3,
            f"{token}\n{token[:-1]}",
            f" {token}",
        ]
        for ids, _ in rows_of(encoder.encode(typed)):
            inside = ids[len(template.before) : -len(template.after)]
            assert len(inside) > 0
            assert not set(inside) & (set(special.values()) - unknown), token
        pairs = encoder.encode(typed, typed)
        around = [*template.pair_before, *template.pair_between, *template.pair_after]
        for ids, _ in rows_of(pairs):
            assert sum(i in set(special.values()) - unknown for i in ids) == len(around)


@pytest.mark.parametrize("family", KINDS)
def test_keeping_them_literal_changes_no_other_text(family, tokenizer_json_of):
    ours = Tokenizer.from_buffer(tokenizer_json_of(family))
    plain = tiny_tokenizer(family)
    for text in [*TEXTS, "a < b > c", "<s", "/s>", "[CL S]", "x[y]", "㍿ﬁ"]:
        assert ours.encode(text).ids == plain.encode(text).ids


# --- other people's tokenizers


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_texts_come_out_as_in_transformers(encoder, family):
    from transformers import AutoTokenizer

    folder = encoder(family)
    theirs = AutoTokenizer.from_pretrained(str(folder))
    ours = TextEncoder(open_tokenizer(folder), TextSettings(24))
    wide = TextEncoder(open_tokenizer(folder), TextSettings(400))
    others = TEXTS[::-1]
    single = theirs(TEXTS, truncation=True, max_length=24)
    assert [ids for ids, _ in rows_of(ours.encode(TEXTS))] == single["input_ids"]
    pair = theirs(TEXTS, others, return_token_type_ids=True)
    expected = list(zip(pair["input_ids"], pair["token_type_ids"], strict=True))
    assert rows_of(wide.encode(TEXTS, others)) == expected


def test_truncation_and_padding_of_a_tokenizer_file_are_ignored(make):
    tokenizer = tiny_tokenizer("bert")
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=64)
    content = json.loads(tokenizer_json(tokenizer))
    assert content["truncation"] is None
    assert content["padding"] is None
    expected = rows_of(make("bert").encode(TEXTS))
    assert rows_of(TextEncoder(tokenizer, TextSettings(64)).encode(TEXTS)) == expected


def test_what_is_not_a_tokenizer_is_refused():
    for content in (b"", b"{}", b"\xff\xfe", b"[1]", b'{"model": {"type": "Evil"}}'):
        with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
            TextEncoder.from_json(content, TextSettings())


def test_a_tokenizer_that_cannot_read_letters_is_refused():
    tokenizer = byte_level("roberta")
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = []
    content["model"]["vocab"] = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "b": 4}
    content["added_tokens"] = content["added_tokens"][:4]
    with pytest.raises(BundleError, match="letter a"):
        TextEncoder(Tokenizer.from_str(json.dumps(content)), TextSettings())


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_maximum_length_without_room_is_refused(make, family):
    smallest = {"bert": 5, "roberta": 6}[family]
    assert make(family, smallest).encode(["好"], ["好"]).lengths[0] <= smallest
    with pytest.raises(ConfigError, match=r"text\.max_length"):
        make(family, smallest - 1)


# --- Unicode


def test_half_a_surrogate_pair_is_named_with_its_row(make):
    encoder = make("bert")
    bad = json.loads('"ok \\ud83d"')
    with pytest.raises(DataError, match=r"row 1 .*\\ud83d"):
        encoder.encode(["fine", bad])
    with pytest.raises(DataError, match="row 4 "):
        encoder.encode_in_chunks(["fine"] * 4 + [bad], chunk=2)
    with pytest.raises(DataError, match="row 0 "):
        encoder.encode(["fine"], [bad])
    with pytest.raises(TypeError):
        encoder.encode([None])  # not a text at all: a fault of the caller's


@given(batch=st.lists(texts, min_size=1, max_size=3))
@settings(max_examples=40)
def test_nfkc_is_unicodes_own(make, batch):
    folded = make("bert", normalise="nfkc").encode(batch)
    plain = make("bert").encode([unicodedata.normalize("NFKC", text) for text in batch])
    assert rows_of(folded) == rows_of(plain)


def test_nfkc_makes_full_width_digits_ordinary(make):
    full, half = "价格２元", "价格2元"
    assert rows_of(make("bert").encode([full])) != rows_of(make("bert").encode([half]))
    folding = make("bert", normalise="nfkc")
    assert rows_of(folding.encode([full])) == rows_of(folding.encode([half]))


# --- batches


@given(
    batch=st.lists(texts, min_size=1, max_size=6),
    paired=st.booleans(),
    pad_id=st.integers(0, 9),
    chosen=st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_padding_fills_up_to_the_longest_row(make, batch, paired, pad_id, chosen):
    tokens = make("bert", 16).encode(batch, batch[::-1] if paired else None)
    rows = [chosen.randrange(len(batch)) for _ in range(chosen.randrange(1, 5))]
    padded = tokens.padded(rows, pad_id)
    assert padded.ids.dtype == padded.types.dtype == np.int64
    assert padded.mask.dtype == np.bool_
    assert padded.ids.shape == padded.types.shape == padded.mask.shape
    assert padded.ids.shape == (len(rows), max(tokens.lengths[rows]))
    everything = rows_of(tokens)
    for place, row in enumerate(rows):
        ids, types = everything[row]
        width = padded.ids.shape[1]
        assert padded.ids[place].tolist() == ids + [pad_id] * (width - len(ids))
        assert padded.types[place].tolist() == types + [0] * (width - len(ids))
        assert padded.mask[place].tolist() == [True] * len(ids) + [False] * (width - len(ids))


def test_padding_no_rows_gives_an_empty_batch(make):
    assert make("bert").encode(TEXTS).padded([], 0).ids.shape == (0, 1)


@given(
    lengths=st.lists(st.integers(0, 60), max_size=80),
    max_tokens=st.integers(1, 300),
    max_rows=st.integers(1, 20),
    step=st.integers(1, 8),
)
def test_batches_cover_every_row_once_within_the_budget(lengths, max_tokens, max_rows, step):
    array = np.array(lengths, dtype=np.int64)
    batches = list(batches_by_length(array, max_tokens, max_rows=max_rows, step=step))
    assert all(len(batch) <= step or len(batch) % step == 0 for batch in batches[:-1])
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * array[batch].max() <= max_tokens
    widths = [length for batch in batches for length in array[batch]]
    assert widths == sorted(widths, reverse=True)
