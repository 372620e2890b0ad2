"""Pairs of texts to translate: the user's aligned files, Multi30k, and reversed digits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

import torch

from dltrain.data.io.download import OWN_PAIRS, Published, fetch
from dltrain.data.io.places import existing_path
from dltrain.data.io.text_encoding import check_encoding
from dltrain.data.text.corpus import Corpus, lines
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types import Ge, Gt, PositiveInt

log = logging.getLogger("dltrain")
STATED_PAIRS = 1000  # of the user's own files, until they are read
NUM_DIGITS = 10
AlignedCorpora = tuple[Corpus, Corpus]
"""N source texts and their N target texts."""

Language = Literal["en", "de", "fr"]
TestSet = Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]
MULTI30K_FILES: dict[str, dict[str, Published]] = {
    "train": {
        "en": Published(568_929, "0065d13af80720a55ca8153d126e6627"),
        "de": Published(637_044, "81ff90b99829c0cd4b1b587d394afd39"),
        "fr": Published(604_242, "6cb767741dcad3931f966fefbc05203f"),
    },
    "val": {
        "en": Published(21_650, "2b69aa9253948ac9f67e94917272dd40"),
        "de": Published(24_681, "6e0e229eb049e3fc99a1ef02fb2d5f91"),
        "fr": Published(23_001, "93fc564584b7e5ba410c761ea5a1c682"),
    },
    "test_2016_flickr": {
        "en": Published(21_077, "ff2c0fcb4893a13bd73414306bc250ae"),
        "de": Published(22_890, "efd67d314d98489b716b145475101932"),
        "fr": Published(22_310, "08dc7cd4a662f31718412de95ca9bfe3"),
    },
    "test_2017_flickr": {
        "en": Published(19_138, "005396bac545d880abe6f00bbb7dbbb4"),
        "de": Published(21_471, "6a8d5c87f6ae19e3d35681aa6fd16571"),
        "fr": Published(20_434, "cb09af7d2b501f9112f2d6a59fa1360d"),
    },
    "test_2017_mscoco": {
        "en": Published(8_844, "a7b684e0edbef1d4a23660c8e8e743fd"),
        "de": Published(10_230, "e8cd6ec2bc8a11fc846fa48a46e3d0bb"),
        "fr": Published(9_751, "4995d10954a804d3cdfd907b9fd093e8"),
    },
}
MULTI30K_PAIRS = {
    "train": 29_000,
    "test_2016_flickr": 1000,
    "test_2017_flickr": 1000,
    "test_2017_mscoco": 461,
}


class PairSource(Protocol):
    """A source of pairs; if `named` is false no file is named and nothing is read."""

    named: bool

    @property
    def samples(self) -> tuple[int, int]:
        """The numbers of training and test pairs, as far as they are known without reading."""

    def read(self) -> dict[str, AlignedCorpora]:
        """Return the pairs of "train" and, if they have pairs of their own, of "val" and "test".

        Raises:
            InputError: A file cannot be read.
        """


class ParallelFiles:
    """Pairs of lines of two aligned text files.

    Line i of `target` is the translation of line i of `source`. Names that end in .gz are unpacked,
    and a file is looked for here and in the data root. A pair with an empty side is left out and
    logged.

    Args:
        root: The data root.
        source: A file with a text a line.
        target: The file with their translations.
        val_source: More for validation.
        val_target: Their translations.
        test_source: More for testing.
        test_target: Their translations.
        encoding: The encoding, such as latin-1; null: UTF-8, or what a byte order mark says.
    """

    def __init__(
        self,
        root: Path,
        source: str | None = None,
        target: str | None = None,
        val_source: str | None = None,
        val_target: str | None = None,
        test_source: str | None = None,
        test_target: str | None = None,
        encoding: str | None = None,
    ) -> None:
        check_encoding(encoding)
        names = {
            "": (source, target),
            "val_": (val_source, val_target),
            "test_": (test_source, test_target),
        }
        self.root = Path(root)
        self.encoding = encoding
        self.named = source is not None
        self.files: dict[str, tuple[str, str]] = {}
        for prefix, (source_name, target_name) in names.items():
            if source_name is not None and target_name is not None:
                self.files[prefix.rstrip("_") or "train"] = source_name, target_name
            elif source_name is not None or target_name is not None:
                raise ValueError(
                    f"only one of {prefix}source and {prefix}target is set: name the other file too"
                )
        self._corpora: dict[str, AlignedCorpora] | None = None

    @property
    def samples(self) -> tuple[int, int]:
        """The numbers of training and test pairs, stated ones until the files are read."""
        if self._corpora is None:
            return STATED_PAIRS, STATED_PAIRS
        counts = {split: len(sources) for split, (sources, _) in self._corpora.items()}
        return counts["train"], counts.get("test", 0)

    def read(self) -> dict[str, AlignedCorpora]:
        """Return the pairs of each split that has files.

        Raises:
            InputError: A file is absent or is not text, two files have different numbers of lines,
                or there is no pair.
        """
        if self._corpora is None:
            self._corpora = {
                split: read_aligned(source, target, self.encoding)
                for split, (source, target) in self._places().items()
            }
        return self._corpora

    def text_names(self, part: str) -> Sequence[str]:
        """Return file and line of each source text of a split."""
        return aligned_places(*self._places()[part], self.encoding)

    def find_files(self) -> None:
        """Raise InputError where a named file is absent."""
        self._places()

    def _places(self) -> dict[str, tuple[Path, Path]]:
        """Return the two files of each split; AbsentDataError for one that is not there."""
        places = {}
        for split, (source, target) in self.files.items():
            prefix = "" if split == "train" else f"{split}_"
            places[split] = (
                existing_path(f"dataset.pairs.{prefix}source", source, self.root),
                existing_path(f"dataset.pairs.{prefix}target", target, self.root),
            )
        return places


def read_aligned(source: Path, target: Path, encoding: str | None = None) -> AlignedCorpora:
    """Return the pairs of lines of two files, without those that have an empty side."""
    sources, targets = lines(source, encoding), lines(target, encoding)
    if len(sources) != len(targets):
        raise InputError(
            "the lines of one file translate those of the other, but "
            f"{source} has {len(sources):,} and {target} has {len(targets):,}"
        )
    pairs = [pair for pair in zip(sources, targets, strict=True) if all(map(str.strip, pair))]
    if not pairs:
        raise InputError(f"{source} and {target} have no pair of lines: expected a text a line")
    omitted = len(sources) - len(pairs)
    if omitted:
        place = first_empty_line({source: sources, target: targets})
        noun = "pair" if omitted == 1 else "pairs"
        log.warning(f"{omitted:,} {noun} left out for an empty line, such as {place}")
    kept_sources, kept_targets = zip(*pairs, strict=True)
    return (
        Corpus.from_texts(map(str.encode, kept_sources)),
        Corpus.from_texts(map(str.encode, kept_targets)),
    )


def aligned_places(source: Path, target: Path, encoding: str | None = None) -> list[str]:
    """Return file and line of the source text of each pair that `read_aligned` returns."""
    pairs = zip(lines(source, encoding), lines(target, encoding), strict=True)
    return [
        f"{source}:{number}" for number, pair in enumerate(pairs, 1) if all(map(str.strip, pair))
    ]


def first_empty_line(lines_by_file: dict[Path, list[str]]) -> str:
    """Return the place of the first empty line, as file:line."""
    for path, texts in lines_by_file.items():
        for number, text in enumerate(texts, 1):
            if not text.strip():
                return f"{path}:{number}"
    raise AssertionError("no line is empty")


class Multi30k:
    """Sentences that describe a picture, each in English, German and French.

    29000 training, 1014 validation and 1000 test pairs (Elliott et al. 2016, "Multi30K:
    Multilingual English-German Image Descriptions"; French by Elliott et al. 2017), from
    `root`/multi30k.

    Args:
        root: The data root.
        source: The language to translate from.
        target: The language to translate to.
        test: The name of the test set.
    """

    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
    )
    named = True

    def __init__(
        self,
        root: Path,
        source: Language = "en",
        target: Language = "de",
        test: TestSet = "test_2016_flickr",
    ) -> None:
        if source == target:
            raise ValueError(f"source and target are both {source}: choose two of en, de, fr")
        self.folder, self.languages = Path(root) / "multi30k", (source, target)
        self.files = {"train": "train", "val": "val", "test": test}
        self.samples = (MULTI30K_PAIRS["train"], MULTI30K_PAIRS[test])

    def read(self) -> dict[str, AlignedCorpora]:
        """Return the pairs of each split; they are downloaded if they are absent."""
        published = {
            f"{name}.{language}.gz": MULTI30K_FILES[name][language]
            for name in self.files.values()
            for language in self.languages
        }
        fetch(self.mirrors, published, self.folder, [OWN_PAIRS])
        return {split: read_aligned(*self.paths(split)) for split in self.files}

    def paths(self, part: str) -> tuple[Path, Path]:
        """Return the files of both languages of a split."""
        source, target = self.languages
        name = self.files[part]
        return self.folder / f"{name}.{source}.gz", self.folder / f"{name}.{target}.gz"

    def text_names(self, part: str) -> Sequence[str]:
        """Return file and line of each source text of a split."""
        return aligned_places(*self.paths(part))


class Reversal:
    """Random strings of digits to reverse; a model must remember more of a longer one.

    All strings differ, also between splits. Every length is as frequent as the others, except that
    there are few short strings. They are a function of `draw_seed`.

    Args:
        longest: The maximum number of digits.
        train_samples: The number of training strings.
        val_samples: The number of validation strings.
        test_samples: The number of test strings.
        draw_seed: The seed of the strings.

    Raises:
        ValueError: There are not so many strings that differ.
    """

    named = True

    def __init__(
        self,
        longest: Annotated[int, Gt(2)] = 12,
        train_samples: PositiveInt = 20_000,
        val_samples: Annotated[int, Ge(1)] = 500,
        test_samples: Annotated[int, Ge(1)] = 1000,
        draw_seed: int = 0,
    ) -> None:
        self.longest, self.draw_seed = longest, draw_seed
        self.counts = {"train": train_samples, "val": val_samples, "test": test_samples}
        self.samples = (train_samples, test_samples)
        count = sum(self.counts.values())
        possible = sum(NUM_DIGITS**length for length in range(1, longest + 1))
        if count > possible // 2:
            raise ValueError(
                f"{count:,} strings of up to {longest} digits cannot differ: "
                "fewer samples, or a greater longest"
            )

    def read(self) -> dict[str, AlignedCorpora]:
        """Return the strings and their reversals."""
        strings = self.draw(sum(self.counts.values()))
        corpora = {}
        first = 0
        for split, count in self.counts.items():
            texts = strings[first : first + count]
            reversed_texts = [text[::-1] for text in texts]
            corpora[split] = Corpus.from_texts(texts), Corpus.from_texts(reversed_texts)
            first += count
        return corpora

    def draw(self, count: int) -> list[bytes]:
        """Draw `count` different strings."""
        generator = keyed(self.draw_seed)
        low, high = ord("0"), ord("0") + NUM_DIGITS
        strings: dict[bytes, None] = {}  # in the order in which they were first drawn
        while len(strings) < count:
            lengths = torch.randint(1, self.longest + 1, (count,), generator=generator)
            codes = torch.randint(low, high, (count, self.longest), generator=generator)
            rows = codes.to(torch.uint8).numpy()
            for row, length in zip(rows, lengths.tolist(), strict=True):
                strings[row[:length].tobytes()] = None
        return list(strings)[:count]
