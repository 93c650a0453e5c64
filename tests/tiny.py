"""Random encoders of every family, two layers of width 32, with tokenizers of texts of our own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram, WordPiece

CHINESE = [
    "这车的尾灯很亮，晚上开着放心。",
    "天窗漏水，下雨天座椅都湿了。",
    "轮胎换了四条，花了三百块，胎压一直不稳。",
    "车顶玻璃是全景的，孩子喜欢看星星。",
    "刹车时后面的灯不亮，朋友问我怎么样修。",
    "今天天气不错，我们去公园散步。",
    "堵车堵了一个小时，停车场又涨价了。",
    "上周坏了去修，售后说要等半个月，让人不满意。",
    "发动机声音大，高速爆胎吓人，还好有备用。",
    "空调制冷快，内饰做工一般，没有异味。",
    "这本书写得很好，第二章特别有意思。",
    "面条太咸，服务员态度也差，不会再来。",
    "手机电池用一天没问题，拍照清楚。",
    "请问明天几点开门？周末人多吗？",
    "他说“可以”，然后就走了；谁也没拦。",
    "价格：１２８元（含税），数量：2件。",
]
ENGLISH = [
    "The tail light is bright and easy to see at night.",
    "Rain came through the sunroof and the seats were wet.",
    "I changed four tyres, it cost 300 and the pressure still drops.",
    "Nobody answered the phone, so we waited an hour.",
    "The book was good; its second chapter is the best part.",
    "Service was slow, the noodles were cold, we will not return.",
    "Battery lasts a whole day, photos are sharp.",
    "What time do you open tomorrow? Is the weekend busy?",
    "Version 2.0 of the display runs at 60 Hz, price $1,299.99!",
    'She said "maybe" and left without a word.',
]
TEXTS = CHINESE + ENGLISH

_WORDS = ["尾灯", "天窗", "轮胎", "天气", "公园", "服务员", "停车场", "满意", "电池", "没有"]
_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _characters() -> list[str]:
    return sorted({c for text in TEXTS for c in text.lower() if not c.isspace()})


def _english_words() -> list[str]:
    words = " ".join(ENGLISH).lower().replace(",", " ").replace(".", " ").split()
    return sorted({word for word in words if word.isalpha() and len(word) > 1})


def word_piece(*, whole_words: bool = False) -> Tokenizer:
    """BERT's tokenizer; `whole_words` adds Chinese words, and no longer parts them by character."""
    pieces = [*_BERT_SPECIAL, *_characters(), *_english_words()]
    pieces += ["##" + c for c in _characters()] + ["##ing", "##ed", "##er", "##s2"]
    pieces += _WORDS if whole_words else []
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=not whole_words)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(_BERT_SPECIAL)
    tokenizer.post_processor = _bert_template(tokenizer)
    return tokenizer


def _bert_template(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def byte_level(family: str) -> Tokenizer:
    """RoBERTa's tokenizer (special tokens first) or ModernBERT's (special tokens last)."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first = _ROBERTA_SPECIAL[:4] if family == "roberta" else []
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=first,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if family == "roberta":
        tokenizer.add_special_tokens(_ROBERTA_SPECIAL)
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), add_prefix_space=False
        )
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
        tokenizer.post_processor = _bert_template(tokenizer)
    return tokenizer


def unigram_pieces() -> list[tuple[str, float]]:
    """Characters, words and word starts with scores that fall with their rank."""
    counts = Counter(c for text in TEXTS for c in text.lower() if not c.isspace())
    pieces = ["▁", *_WORDS, *("▁" + word for word in _english_words()), *_english_words()]
    pieces += [c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return [(p, -2.0 - 0.01 * rank) for rank, p in enumerate(dict.fromkeys(pieces))]


def unigram(family: str) -> Tokenizer:
    """XLM-RoBERTa's tokenizer or ALBERT's; both list their special tokens among the pieces."""
    if family == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        pieces = [(token, 0.0) for token in special] + unigram_pieces()
        tokenizer = Tokenizer(Unigram(pieces, unk_id=1, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.add_special_tokens(special)
        tokenizer.post_processor = _bert_template(tokenizer)
        return tokenizer
    pieces = [(token, 0.0) for token in _ROBERTA_SPECIAL[:4]]
    pieces += [*unigram_pieces(), ("<mask>", 0.0)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.add_special_tokens(_ROBERTA_SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
_ROBERTA = _SIZES | {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
_DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", _SIZES | {"embedding_size": 16}),
    "bert": ("Bert", _SIZES),
    "distilbert": ("DistilBert", _DISTIL),
    "electra": ("Electra", _SIZES | {"embedding_size": 16}),
    "ernie": ("Ernie", _SIZES),
    "macbert": ("Bert", _SIZES),
    "modernbert": ("ModernBert", _SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "roberta": ("Roberta", _ROBERTA),
    "xlm-roberta": ("XLMRoberta", _ROBERTA),
}
FAMILIES = tuple(_FAMILIES)


def tiny_tokenizer(family: str) -> Tokenizer:
    """The tokenizer of a family, of its usual kind."""
    if family in ("albert", "xlm-roberta"):
        return unigram(family)
    if family in ("modernbert", "roberta"):
        return byte_level(family)
    return word_piece(whole_words=family == "macbert")


def tiny_encoder(family: str, folder: Path) -> Path:
    """Write an encoder of one of FAMILIES to `folder` as Hugging Face would; the same each time."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = tiny_tokenizer(family)
    bert_like = tokenizer.token_to_id("[CLS]") is not None
    pad = next(t for t in ("[PAD]", "<pad>") if tokenizer.token_to_id(t) is not None)
    names = {
        "pad_token": pad,
        "cls_token": "[CLS]" if bert_like else "<s>",
        "sep_token": "[SEP]" if bert_like else "</s>",
        "unk_token": "[UNK]" if tokenizer.token_to_id("[UNK]") is not None else "<unk>",
        "mask_token": "[MASK]" if bert_like else "<mask>",
    }
    ids = {
        f"{key}_token_id": tokenizer.token_to_id(names[f"{token}_token"])
        for key, token in (("pad", "pad"), ("bos", "cls"), ("eos", "sep"))
    }
    if family == "modernbert":
        ids |= {"cls_token_id": ids["bos_token_id"], "sep_token_id": ids["eos_token_id"]}
    name, options = _FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tokenizer.get_vocab_size(), **ids, **options
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}Model")(config)
    model.save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
