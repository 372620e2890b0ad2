"""Text to token numbers and back, by the `tokenizers` library; every vocabulary begins with the same four tokens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dltrain.data.dataset import invalid_description
from dltrain.data.text.corpus import Corpus
from dltrain.errors import UsageError
from dltrain.types import UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

Kind: TypeAlias = Literal["word", "whitespace", "character", "bpe", "byte"]
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")  # PAD, UNKNOWN, BEGIN, END
AT_ONCE = 1000  # texts
MARKUP = "<br />"  # as in the reviews of IMDB: the end of a line, not a word
BYTES = 256


class Tokenizer:
    """A trained tokenizer. Texts without any token are one unknown token, so that no sequence is empty."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.library.encode_special_tokens = True  # a text that says "<pad>" means it

    @classmethod
    def train(cls, kind: Kind, vocab_size: int, lowercase: bool, texts: Iterable[str]) -> Tokenizer:
        """Learn a vocabulary of at most `vocab_size` tokens, the four special ones included, from `texts`.

        word splits into words and marks, whitespace at spaces alone, character into characters; they take the most frequent.
        bpe merges bytes to frequent groups of them (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with
        Subword Units", on bytes as in GPT-2): it knows no unknown text. byte is the same without a merge.
        """
        tokenizers = imported()
        library, trainer = made(tokenizers, kind, vocab_size, lowercase)
        library.train_from_iterator(texts, trainer)
        return cls(library)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that `to_json` wrote; InputError if it is none."""
        tokenizers = imported()
        try:
            library = tokenizers.Tokenizer.from_str(text)
        except (
            BaseException
        ) as e:  # the library panics on some, with an exception that is no Exception
            if isinstance(e, KeyboardInterrupt | SystemExit):
                raise
            raise invalid_description(f"its tokenizer cannot be read ({str(e)[:100]})") from e
        if any(library.id_to_token(i) != token for i, token in enumerate(SPECIAL)):
            raise invalid_description(f"its tokenizer does not begin with {', '.join(SPECIAL)}")
        return cls(library)

    def to_json(self) -> str:
        return str(self.library.to_str())

    @property
    def vocab_size(self) -> int:
        return int(self.library.get_vocab_size())

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """The token numbers of each text."""
        for batch in batches(texts, AT_ONCE):
            for encoding in self.library.encode_batch_fast(batch, add_special_tokens=False):
                ids = np.array(encoding.ids or [UNKNOWN], dtype=np.int32)
                ids[ids < len(SPECIAL)] = UNKNOWN
                yield ids

    def encode_one(self, text: str) -> tuple[NDArray[np.int32], list[str | None]]:
        """Return the token numbers of one text, and for each of them its text where it is unknown,
        else None.
        """
        (encoding,) = self.library.encode_batch([text], add_special_tokens=False)
        if not encoding.ids:
            return np.array([UNKNOWN], dtype=np.int32), [""]
        ids = np.array(encoding.ids, dtype=np.int32)
        ids[ids < len(SPECIAL)] = UNKNOWN
        places = zip(ids.tolist(), encoding.offsets, strict=True)
        return ids, [
            text[start:end] if number == UNKNOWN else None for number, (start, end) in places
        ]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token numbers, without special ones but for unknown words."""
        shown = [t for t in tokens if t >= len(SPECIAL) or t == UNKNOWN]
        return str(self.library.decode(shown, skip_special_tokens=False))

    def token(self, number: int) -> str:
        return str(self.library.id_to_token(number))


def encoded(tokenizer: Tokenizer, corpus: Corpus) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """All tokens of a corpus in one row, and where each text begins in it (N + 1)."""
    parts = list(tokenizer.encode(corpus.texts()))
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32), offsets


def imported() -> Any:
    """The library; UsageError, saying how to install it, where it is missing."""
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "true"
    )  # nothing is forked that its threads would hang
    try:
        import tokenizers
    except ImportError as e:
        raise UsageError("texts are split into tokens by tokenizers: pip install tokenizers") from e
    return tokenizers


def made(tokenizers: Any, kind: Kind, vocab_size: int, lowercase: bool) -> tuple[Library, Any]:
    """An untrained tokenizer, and its trainer."""
    decoders, models, normalizers = tokenizers.decoders, tokenizers.models, tokenizers.normalizers
    splitters, trainers = tokenizers.pre_tokenizers, tokenizers.trainers
    steps = [normalizers.NFC()]
    if kind == "word":
        steps.append(normalizers.Replace(MARKUP, " "))
    if lowercase:
        steps.append(normalizers.Lowercase())
    common = {"special_tokens": list(SPECIAL), "show_progress": False}
    if kind in ("bpe", "byte"):
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = splitters.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        size = len(SPECIAL) + BYTES if kind == "byte" else max(vocab_size, len(SPECIAL) + BYTES)
        alphabet = sorted(splitters.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, **common)
    else:
        library = tokenizers.Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
        character = splitters.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        splits = {
            "word": splitters.Whitespace(),
            "whitespace": splitters.WhitespaceSplit(),
            "character": character,
        }
        library.pre_tokenizer = splits[kind]
        if kind == "character":
            library.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, **common)
    library.normalizer = normalizers.Sequence(steps)
    return library, trainer


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
