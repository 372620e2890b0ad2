"""Multi30k: what is seen in pictures, in a sentence of English, German and French each."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from dltrain.data.io.download import Published, fetch
from dltrain.data.text.translation import Aligned, aligned

Language = Literal["en", "de", "fr"]
Test = Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"]
PUBLISHED: dict[str, dict[str, Published]] = {
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
PAIRS = {
    "train": 29_000,
    "test_2016_flickr": 1000,
    "test_2017_flickr": 1000,
    "test_2017_mscoco": 461,
}


class Multi30k:
    """29000 + 1014 + 1000 sentences that describe a picture (Elliott et al. 2016, "Multi30K: Multilingual English-German
    Image Descriptions"; French by Elliott et al. 2017), from `root`/multi30k. `test` names the test set."""

    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
    )
    named = True

    def __init__(
        self,
        root: Path,
        source: Language = "en",
        target: Language = "de",
        test: Test = "test_2016_flickr",
    ) -> None:
        if source == target:
            raise ValueError(f"source and target are both {source}: choose two of en, de, fr")
        self.folder, self.languages = Path(root) / "multi30k", (source, target)
        self.parts = {"train": "train", "val": "val", "test": test}
        self.samples = (PAIRS["train"], PAIRS[test])

    def read(self) -> dict[str, Aligned]:
        wanted = {
            f"{name}.{code}.gz": PUBLISHED[name][code]
            for name in self.parts.values()
            for code in self.languages
        }
        fetch(self.mirrors, wanted, self.folder)
        source, target = self.languages
        return {
            part: aligned(self.folder / f"{name}.{source}.gz", self.folder / f"{name}.{target}.gz")
            for part, name in self.parts.items()
        }
