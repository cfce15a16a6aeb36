"""The one tokenizer interface: preparation, training and generation all go through it.

A tokenizer is a folder: `meta.json` (kind, identity, vocab_size, eod) and one content file that depends on the kind:
`tokenizer.json` (byte-level BPE, or any of Hugging Face's), `spm.model` (sentencepiece) or `chars.json` (characters).
The identity is a hash of kind and content, so that tokens can be matched to the tokenizer that made them. Nothing is
ever unpickled.
"""

from data_prep.tokenizer.base import EOD, META, Encoded, Encoder, Tokenizer
from data_prep.tokenizer.character import CharacterTokenizer
from data_prep.tokenizer.folder import load_tokenizer
from data_prep.tokenizer.huggingface import BytePairTokenizer, HuggingFaceTokenizer
from data_prep.tokenizer.piece import SentencePieceTokenizer

__all__ = [
    "EOD",
    "META",
    "BytePairTokenizer",
    "CharacterTokenizer",
    "Encoded",
    "Encoder",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "load_tokenizer",
]
