"""The tokenizers of the demo models: byte-level BPE for those that write, WordPiece for the masked one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmeval.demo import lexicon

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS, EOS = "<bos>", "<eos>"
PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SEQ2SEQ_PAD = "<pad>"
BPE_VOCABULARY_SIZE = 768

# as the saved tokenizer's configuration names them
CAUSAL_SPECIAL_TOKENS = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
SEQ2SEQ_SPECIAL_TOKENS = {"eos_token": EOS, "pad_token": SEQ2SEQ_PAD}
MASKED_SPECIAL_TOKENS = {
    "unk_token": UNKNOWN,
    "cls_token": CLS,
    "sep_token": SEP,
    "mask_token": MASK,
    "pad_token": PAD,
}


def causal_tokenizer(blocks: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, lossless on any text, with BOS first.

    A word's space belongs to it and every newline stands alone, so that no token crosses from a context to a
    target that begins with a space.
    """
    from tokenizers import processors

    tokenizer = _byte_level_bpe(blocks, [BOS, EOS])
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(f"{BOS} $A", f"{BOS} $A $B", [bos])
    return tokenizer


def seq2seq_tokenizer(blocks: Sequence[str]) -> Tokenizer:
    """The causal model's byte-level BPE, with EOS last as T5 has it; padding is token 0, the decoder's start."""
    from tokenizers import processors

    tokenizer = _byte_level_bpe(blocks, [SEQ2SEQ_PAD, EOS])
    eos = (EOS, tokenizer.token_to_id(EOS))
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {EOS}", f"$A $B {EOS}", [eos])
    return tokenizer


def _byte_level_bpe(blocks: Sequence[str], special_tokens: list[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_VOCABULARY_SIZE,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(blocks, trainer)
    return tokenizer


def masked_tokenizer(blocks: Sequence[str]) -> Tokenizer:
    """WordPiece: most words whole, towns and Tolmic plurals in two pieces, letters for anything else."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = [PAD, UNKNOWN, CLS, SEP, MASK, *_letters(), *_split_pieces()]
    known = set(pieces)
    two_pieces = {word.home for word in lexicon.PEOPLE} | {word.tolmic_plural for word in lexicon.NOUNS}
    words = sorted({word for block in blocks for word in re.findall(r"\w+", block)} - two_pieces - known)
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{CLS} $A {SEP}", f"{CLS} $A {SEP} $B:1 {SEP}:1", [(CLS, vocabulary[CLS]), (SEP, vocabulary[SEP])]
    )
    return tokenizer


def _letters() -> list[str]:
    """Every printable ASCII character, at a word's start and inside one."""
    characters = [chr(code) for code in range(33, 127)]
    return characters + [f"##{character}" for character in characters if character.isalnum()]


def _split_pieces() -> list[str]:
    """The halves of the towns' names (three letters each)."""
    towns = sorted({word.home for word in lexicon.PEOPLE})
    return sorted({town[:3] for town in towns} | {f"##{town[3:]}" for town in towns})
