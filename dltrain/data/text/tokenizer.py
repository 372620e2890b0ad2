"""Text to token numbers and back, by the `tokenizers` library.

Every vocabulary begins with the same four special tokens.
"""

from __future__ import annotations

import os
from collections import Counter
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

TokenizerKind: TypeAlias = Literal["word", "whitespace", "character", "bpe", "byte"]
"""The parts that a text is split into.

word: words and punctuation marks; whitespace: what stands between spaces; character: characters;
bpe: frequent groups of bytes; byte: bytes.
"""

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")  # PAD, UNKNOWN, BEGIN, END
NUM_BYTES = 256
TEXTS_AT_ONCE = 1000
LINE_BREAK = "<br />"  # in the reviews of IMDB
MAX_SHOWN = 10  # unknown tokens in a message
MAX_TOKEN_CHARS = 40
MAX_MESSAGE_CHARS = 100  # of an error of the library


class Tokenizer:
    """A trained tokenizer; a text without any token becomes one unknown token."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.library.encode_special_tokens = True  # "<pad>" in a text is not the special token

    @classmethod
    def train(
        cls, kind: TokenizerKind, vocab_size: int, lowercase: bool, texts: Iterable[str]
    ) -> Tokenizer:
        """Learn a vocabulary from `texts`.

        The kinds word, whitespace and character take the most frequent ones. bpe merges frequent
        pairs of bytes (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword
        Units", on bytes as in GPT-2), and knows every text. byte is the same without a merge.

        Args:
            kind: The parts that a text is split into.
            vocab_size: The maximum number of tokens, the four special ones included.
            lowercase: Whether upper and lower case are the same.
            texts: The training texts.
        """
        library, trainer = untrained(kind, vocab_size, lowercase)
        library.train_from_iterator(texts, trainer)
        return cls(library)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Load a tokenizer from the text that `to_json` returned; InputError for another text."""
        tokenizers = import_tokenizers()
        try:
            library = tokenizers.Tokenizer.from_str(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # the library's panics are not of class Exception
            message = str(e)[:MAX_MESSAGE_CHARS]
            raise invalid_description(f"its tokenizer cannot be read ({message})") from e
        if any(library.id_to_token(i) != token for i, token in enumerate(SPECIAL)):
            raise invalid_description(f"its tokenizer does not begin with {', '.join(SPECIAL)}")
        return cls(library)

    def to_json(self) -> str:
        """Return the tokenizer as text."""
        return str(self.library.to_str())

    @property
    def vocab_size(self) -> int:
        """The number of tokens, the special ones included."""
        return int(self.library.get_vocab_size())

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Yield the token numbers (T,) of each text."""
        for batch in batches(texts, TEXTS_AT_ONCE):
            for encoding in self.library.encode_batch_fast(batch, add_special_tokens=False):
                yield without_special(encoding.ids or [UNKNOWN])

    def encode_one(self, text: str) -> tuple[NDArray[np.int32], list[str | None]]:
        """Return the token numbers (T,) of a text, and the text of each unknown token.

        The text of a known token is None.
        """
        (encoding,) = self.library.encode_batch([text], add_special_tokens=False)
        if not encoding.ids:
            return np.array([UNKNOWN], dtype=np.int32), [""]
        numbers = without_special(encoding.ids)
        unknown: list[str | None] = [None] * len(numbers)
        for i in np.flatnonzero(numbers == UNKNOWN):
            start, end = encoding.offsets[i]
            unknown[i] = text[start:end]
        return numbers, unknown

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token numbers; of the special ones only unknown is shown."""
        shown = [t for t in tokens if t >= len(SPECIAL) or t == UNKNOWN]
        return str(self.library.decode(shown, skip_special_tokens=False))

    def token(self, number: int) -> str:
        """Return the text of one token."""
        return str(self.library.id_to_token(number))


class UnknownTokens:
    """Counts the tokens of texts, and those that the vocabulary lacks.

    A text without any token, such as spaces for a vocabulary of words, counts as one unknown token
    that is empty.
    """

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()

    def add(self, tokens: Iterable[str | None]) -> None:
        """Count the tokens of one text: None for a known one, else its text."""
        for token in tokens:
            self.total += 1
            if token is not None:
                self.counts[token] += 1

    def message(self) -> str:
        """Return a line with the most frequent unknown tokens; "" if all are known."""
        if not self.counts:
            return ""
        frequent = self.counts.most_common(MAX_SHOWN)
        shown = ", ".join(f"{quoted(token)} ({count:,})" for token, count in frequent)
        more = len(self.counts) - MAX_SHOWN
        rest = f" and {more:,} more" if more > 0 else ""
        return (
            f"{self.counts.total():,} of {self.total:,} tokens are not in the run's vocabulary, "
            f"so the network cannot tell them apart: {shown}{rest}"
        )


def quoted(token: str) -> str:
    """Return a token as it is shown in a message."""
    if not token:
        return "texts without a token"
    if len(token) > MAX_TOKEN_CHARS:
        token = f"{token[:MAX_TOKEN_CHARS]}…"
    return repr(token)


def sufficient_vocab_size(kind: TokenizerKind, vocab_size: int) -> int:
    """Return `vocab_size`, or the size that a tokenizer of bytes has at least."""
    all_bytes = len(SPECIAL) + NUM_BYTES
    if kind == "byte":
        return all_bytes
    if kind == "bpe":
        return max(vocab_size, all_bytes)
    return vocab_size


def trained_tokenizer(text: str, max_vocab_size: int) -> Tokenizer:
    """Load a run's tokenizer; InputError if it has more tokens than the network has embeddings."""
    tokenizer = Tokenizer.from_json(text)
    if tokenizer.vocab_size > max_vocab_size:
        raise invalid_description(
            f"its tokenizer has {tokenizer.vocab_size:,} tokens, "
            f"dataset.vocab_size is {max_vocab_size:,}"
        )
    return tokenizer


def encode_corpus(
    tokenizer: Tokenizer, corpus: Corpus
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return all tokens of N texts in one row, and the place (N + 1,) where each text begins."""
    parts = list(tokenizer.encode(corpus.texts()))
    offsets = np.zeros(len(parts) + 1, dtype=np.int64)
    if not parts:
        return np.empty(0, dtype=np.int32), offsets
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.concatenate(parts), offsets


def without_special(numbers: Sequence[int]) -> NDArray[np.int32]:
    """Return token numbers as an array, with special ones as unknown: a text cannot name them."""
    array = np.array(numbers, dtype=np.int32)
    array[array < len(SPECIAL)] = UNKNOWN
    return array


def import_tokenizers() -> Any:
    """Import the library; UsageError, with the command that installs it, where it is missing."""
    # No process is forked that the library's threads would block.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import tokenizers
    except ImportError as e:
        raise UsageError("texts are split into tokens by tokenizers: pip install tokenizers") from e
    return tokenizers


def untrained(kind: TokenizerKind, vocab_size: int, lowercase: bool) -> tuple[Library, Any]:
    """Return an untrained tokenizer and its trainer."""
    tokenizers = import_tokenizers()
    trainer_settings = {"special_tokens": list(SPECIAL), "show_progress": False}
    if kind in ("bpe", "byte"):
        library, trainer = untrained_bpe(kind, vocab_size, trainer_settings)
    else:
        library, trainer = untrained_word_level(kind, vocab_size, trainer_settings)
    normalizers = tokenizers.normalizers
    steps = [normalizers.NFC()]
    if kind == "word":
        steps.append(normalizers.Replace(LINE_BREAK, " "))
    if lowercase:
        steps.append(normalizers.Lowercase())
    library.normalizer = normalizers.Sequence(steps)
    return library, trainer


def untrained_bpe(
    kind: TokenizerKind, vocab_size: int, trainer_settings: dict[str, Any]
) -> tuple[Library, Any]:
    """Return a tokenizer of groups of bytes, or of bytes, and its trainer."""
    tokenizers = import_tokenizers()
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = byte_level(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=sufficient_vocab_size(kind, vocab_size),
        initial_alphabet=sorted(byte_level.alphabet()),
        **trainer_settings,
    )
    return library, trainer


def untrained_word_level(
    kind: TokenizerKind, vocab_size: int, trainer_settings: dict[str, Any]
) -> tuple[Library, Any]:
    """Return a tokenizer of words or characters, the most frequent of which it learns."""
    tokenizers = import_tokenizers()
    splitters = tokenizers.pre_tokenizers
    splitter_by_kind = {
        "word": splitters.Whitespace(),
        "whitespace": splitters.WhitespaceSplit(),
        "character": splitters.Split(tokenizers.Regex(r"[\s\S]"), "isolated"),
    }
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
    library.pre_tokenizer = splitter_by_kind[kind]
    if kind == "character":
        library.decoder = tokenizers.decoders.Fuse()
    trainer = tokenizers.trainers.WordLevelTrainer(vocab_size=vocab_size, **trainer_settings)
    return library, trainer


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of `size` texts; the last may be shorter."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
