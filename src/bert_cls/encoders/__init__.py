"""Base encoders: where they come from, what they are, and how to make them smaller."""

from bert_cls.encoders.facts import FAMILIES, EncoderFacts, describe, read_files
from bert_cls.encoders.sources import BUILT_IN, DEFAULT, cache_folder, fetch, is_here, resolve
from bert_cls.encoders.tokenizer_files import open_tokenizer
from bert_cls.encoders.trim import pieces_of_script, pieces_of_texts, trim

__all__ = [
    "BUILT_IN",
    "DEFAULT",
    "FAMILIES",
    "EncoderFacts",
    "cache_folder",
    "describe",
    "fetch",
    "is_here",
    "open_tokenizer",
    "pieces_of_script",
    "pieces_of_texts",
    "read_files",
    "resolve",
    "trim",
]
