"""Running text for word vectors: kept words, held-out documents, questions to score vectors by."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.text.blocks import WordBlocks, keep_probabilities
from dltrain.data.text.sentiment import IMDB
from dltrain.data.text.similarity import BUILT_IN_ANALOGIES, analogies, similarities
from dltrain.data.text.words import FakeWords, WordFiles, Words
from dltrain.errors import ConfigError, InputError
from dltrain.types import PAD

TEXTS = ["The film was good .", "the film was bad .", "The films were good good", "the plot ?"] * 5


def corpus(root: Path, **settings: Any) -> Words:
    (root / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    settings = {
        "min_count": 5,
        "sample": 0,
        "batch_size": 8,
        "val_fraction": 0.1,
        "test_fraction": 0.1,
        **settings,
    }
    return Words(root, WordFiles(root, "text.txt"), **settings)


def texts(data: Words, split: WordBlocks) -> list[str]:
    """Return the documents of a split as text."""
    parts = [
        split.words[split.documents == i].tolist() for i in range(int(split.documents.max()) + 1)
    ]
    return [" ".join(data.words[word] for word in part) for part in parts]


def test_words_are_numbered_by_their_frequency_in_the_training_text(tmp_path: Path) -> None:
    data = corpus(tmp_path, val_fraction=0.0, test_fraction=0.0, min_count=6)
    assert data.words[4] == "the"
    assert set(data.words[4:]) == {"the", "film", "was", "good", "."}
    assert data.counts.tolist()[:5] == [0, 0, 0, 0, 20]
    assert data.counts.tolist()[4:] == sorted(data.counts.tolist()[4:], reverse=True)


def test_rare_words_are_left_out_of_the_text(tmp_path: Path) -> None:
    data = corpus(tmp_path, val_fraction=0.0, test_fraction=0.0, min_count=6)
    assert set(texts(data, data.train)) == {
        "the film was good .",
        "the film was .",
        "the good good",
        "the",
    }
    few = corpus(tmp_path, val_fraction=0.0, test_fraction=0.0, vocab_size=5)
    assert few.words[4:] == ["the"]
    assert set(few.train.words.tolist()) == {4}


def test_documents_are_in_one_split_each(tmp_path: Path) -> None:
    data = corpus(tmp_path, min_count=1)
    counts = [len(texts(data, split)) for split in (data.train, data.val, data.test)]
    assert counts == [16, 2, 2]
    again = corpus(tmp_path, min_count=1)
    assert torch.equal(again.val.words, data.val.words)
    other = corpus(tmp_path, min_count=1, split_seed=3)
    assert texts(other, other.train) != texts(data, data.train)


def test_keep_probabilities_are_those_of_word2vec() -> None:
    counts = torch.tensor([0, 900, 90, 10])
    kept = keep_probabilities(counts, 0.05)
    rarity = 0.05 / 0.9
    assert kept.tolist() == pytest.approx([1, rarity**0.5 + rarity, 1, 1])
    assert keep_probabilities(counts, 0).tolist() == [1, 1, 1, 1]


def test_frequent_words_are_left_out_at_that_rate() -> None:
    words = torch.tensor([1, 2]).repeat(10_000).int()
    kept = torch.tensor([1.0, 0.2, 1.0])
    split = WordBlocks(words, torch.zeros(20_000, dtype=torch.int32), kept, 1000, seed=0)
    words = torch.cat([block for block, _ in split.epoch(0)])
    assert int((words == 2).sum()) == 10_000
    assert int((words == 1).sum()) == pytest.approx(2000, rel=0.1)
    assert len(split) == 12


def test_a_text_without_a_kept_word_is_kept_whole() -> None:
    words = torch.tensor([4, 5, 4])
    split = WordBlocks(words, torch.zeros(3, dtype=torch.int32), torch.full((6,), 1e-9), 8, seed=0)
    (block, _), *more = list(split.epoch(0))
    assert not more
    assert block.tolist() == [4, 5, 4, *[PAD] * 5]


def test_an_epoch_is_a_function_of_seed_and_number_from_any_batch(tmp_path: Path) -> None:
    split = corpus(tmp_path, sample=0.01).train
    whole, again = list(split.epoch(1)), list(split.epoch(1, 2))
    assert len(again) == len(whole) - 2
    for (words, documents), (same, also) in zip(whole[2:], again, strict=True):
        assert torch.equal(words, same)
        assert torch.equal(documents, also)
    other = list(split.epoch(2))
    assert not torch.equal(torch.cat([w for w, _ in whole]), torch.cat([w for w, _ in other]))


def test_the_last_block_is_padded(tmp_path: Path) -> None:
    split = corpus(tmp_path, batch_size=10).train
    blocks = list(split.epoch(0))
    assert len(blocks) == len(split)
    assert {tuple(words.shape) for words, _ in blocks} == {(10,)}
    words, documents = blocks[-1]
    assert (words == PAD).any()
    assert torch.equal(words == PAD, documents == -1)
    flat = torch.cat([words for words, _ in blocks])
    assert torch.equal(flat[: split.samples], split.words.long())


def test_a_run_reads_other_text_by_its_own_vocabulary(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    (tmp_path / "other.txt").write_text("good good good film nothing else", encoding="utf-8")
    other = Words(tmp_path, WordFiles(tmp_path, "other.txt"), val_fraction=0.0, test_fraction=0.0)
    other.restore(data.description())
    assert texts(other, other.train) == ["good good good film"]
    assert other.words == data.words
    assert torch.equal(other.counts, data.counts)
    assert other.encode_text("Film") == data.words.index("film")


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"words": ["a"] * 9, "counts": [1] * 8},
        {"words": ["a"] * 9, "counts": ["x"] * 9},
        {"words": 3, "counts": 3},
    ],
)
def test_an_invalid_description_is_refused(description: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        corpus(tmp_path).restore(description)


def test_an_unknown_word_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nonsense' is not one of the"):
        corpus(tmp_path).encode_text("nonsense")


def test_a_file_of_words_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("film\n\nnonsense\n", encoding="utf-8")
    data = corpus(tmp_path)
    samples = list(data.encode([tmp_path / "words.txt"]))
    assert [sample.name for sample in samples] == ["film", f"{tmp_path / 'words.txt'}:3"]
    assert samples[1].inputs is None
    assert "'nonsense' is not one of the" in samples[1].problem


def test_missing_texts_and_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.source\.path"):
        _ = Words(tmp_path, WordFiles(tmp_path)).train
    with pytest.raises(InputError, match="none does not exist"):
        _ = Words(tmp_path, WordFiles(tmp_path, "none")).train
    with pytest.raises(InputError, match=r"dataset\.min_count"):
        _ = corpus(tmp_path, min_count=100).train
    with pytest.raises(ValueError, match="leave some to train on"):
        corpus(tmp_path, val_fraction=0.5, test_fraction=0.5)
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="no text in it"):
        _ = Words(tmp_path, WordFiles(tmp_path, "empty.txt")).train


def test_a_folder_of_texts_is_a_document_a_file(tmp_path: Path) -> None:
    (tmp_path / "texts" / "more").mkdir(parents=True)
    for i, text in enumerate(TEXTS):
        (tmp_path / "texts" / ("more" if i % 2 else "") / f"{i}.txt").write_text(
            text, encoding="utf-8"
        )
    data = Words(
        tmp_path, WordFiles(tmp_path, "texts"), min_count=1, val_fraction=0.0, test_fraction=0.0
    )
    assert len(texts(data, data.train)) == len(TEXTS)


def test_texts_for_testing_can_be_left_out(tmp_path: Path) -> None:
    for part, text in {"train": "seen and seen", "test": "never seen"}.items():
        for name in ("neg", "pos"):
            (tmp_path / "aclImdb" / part / name).mkdir(parents=True)
            (tmp_path / "aclImdb" / part / name / "0_1.txt").write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {"min_count": 1, "val_fraction": 0.0, "test_fraction": 0.0}
    every, train = (
        Words(tmp_path, IMDB(tmp_path), parts=parts, **settings) for parts in ("all", "train")
    )
    assert set(every.words[4:]) == {"seen", "and", "never"}
    assert set(train.words[4:]) == {"seen", "and"}
    assert len(texts(train, train.train)) == 2
    assert every.spec.train_samples == 2 * train.spec.train_samples
    assert every.fingerprint() != train.fingerprint()


def test_fake_words_have_the_same_vocabulary_size_and_no_file(tmp_path: Path) -> None:
    fake = Words(tmp_path, WordFiles(tmp_path, "none"), vocab_size=50).fake()
    assert isinstance(fake, FakeWords)
    assert len(fake.words) == len(fake.counts) == 50
    words, documents = next(fake.train.epoch(0))
    assert words.shape == documents.shape == (256,)
    assert fake.similarities == {}


def test_word_pairs_are_read_as_they_are_published(tmp_path: Path) -> None:
    assert similarities(tmp_path) == {}
    folder = tmp_path / "wordsim"
    folder.mkdir()
    (folder / "wordsim353-combined.csv").write_text(
        "Word 1,Word 2,Human (mean)\nlove,sex,6.77\nFBI,fingerprint,6.94\n"
    )
    with zipfile.ZipFile(folder / "SimLex-999.zip", "w") as archive:
        archive.writestr(
            "SimLex-999/SimLex-999.txt", "word1\tword2\tPOS\tSimLex999\r\nold\tnew\tA\t1.58\r\n"
        )
    assert similarities(tmp_path) == {
        "wordsim353": [("love", "sex", 6.77), ("fbi", "fingerprint", 6.94)],
        "simlex999": [("old", "new", 1.58)],
    }


def test_broken_files_of_word_pairs_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "wordsim"
    folder.mkdir()
    (folder / "wordsim353-combined.csv").write_text("Word 1,Word 2,Human (mean)\nlove,sex,much\n")
    with pytest.raises(InputError, match=r"wordsim353-combined\.csv:2: 'much' is not a number"):
        similarities(tmp_path)
    (folder / "wordsim353-combined.csv").unlink()
    (folder / "SimLex-999.zip").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"SimLex-999\.zip is not as it was published"):
        similarities(tmp_path)


def test_analogies_come_from_the_file_or_are_built_in(tmp_path: Path) -> None:
    assert analogies(tmp_path) == list(BUILT_IN_ANALOGIES)
    (tmp_path / "wordsim").mkdir()
    path = tmp_path / "wordsim" / "questions-words.txt"
    path.write_text(": family\nBoy girl king queen\n")
    assert analogies(tmp_path) == [("boy", "girl", "king", "queen")]
    path.write_text("boy girl\n")
    with pytest.raises(InputError, match=r"questions-words\.txt:1: expected four words"):
        analogies(tmp_path)
