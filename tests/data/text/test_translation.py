"""Pairs of texts: aligned files and their problems, batches, targets between their ends, runs."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.text.corpus import Corpus
from dltrain.data.text.pairs import Multi30k, ParallelFiles, Reversal
from dltrain.data.text.translation import Translation
from dltrain.errors import ConfigError, InputError
from dltrain.types import BEGIN, END, PAD

SOURCES = [" ".join(["a", "red", "dog", "runs", "far"][: 1 + i % 5]) for i in range(40)]
TARGETS = [" ".join(["ein", "roter", "Hund", "läuft", "weit"][: 1 + i % 5]) for i in range(40)]


def write(name: str, texts: list[str]) -> str:
    Path(name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return name


def files(sources: list[str] = SOURCES, targets: list[str] = TARGETS, **more: str) -> ParallelFiles:
    return ParallelFiles(Path("root"), write("x.en", sources), write("x.de", targets), **more)


def data(pairs: Any = None, **settings: Any) -> Translation:
    settings = {
        "tokenizer": "word",
        "batch_size": 4,
        "val_fraction": 0.1,
        "test_fraction": 0.1,
        **settings,
    }
    return Translation(Path("root"), pairs or files(), **settings)


def texts_of(corpus: Corpus) -> list[str]:
    return list(corpus.texts())


def test_files_of_different_lengths_are_named_with_their_numbers_of_lines() -> None:
    with pytest.raises(InputError, match=r"x\.en has 3 and x\.de has 2"):
        files(["a", "b", "c"], ["d", "e"]).read()


def test_a_pair_with_an_empty_line_is_left_out_and_the_others_stay_aligned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("WARNING", logger="dltrain"):
        source, target = files(["one", " ", "three", "four"], ["eins", "zwei", "drei", ""]).read()[
            "train"
        ]
    assert (texts_of(source), texts_of(target)) == (["one", "three"], ["eins", "drei"])
    assert caplog.messages == ["2 pairs left out for an empty line, such as x.en:2"]


def test_files_of_empty_lines_are_refused() -> None:
    with pytest.raises(InputError, match=r"x\.en and x\.de have no pair"):
        files(["", ""], ["", ""]).read()


def test_bytes_that_are_not_text_are_named_by_file_and_line() -> None:
    pairs = files(["one", "two"], ["eins", "zwei"])
    Path("x.de").write_bytes(b"eins\nzw\xffei\n")
    with pytest.raises(InputError, match=r"x\.de:2: the text is not UTF-8"):
        pairs.read()


def test_an_absent_file_and_one_without_its_other_side_are_refused() -> None:
    with pytest.raises(InputError, match=r"pairs.source=none\.en: .* nor does .*root.none\.en"):
        ParallelFiles(Path("root"), "none.en", "none.de").read()
    with pytest.raises(ValueError, match="only one of val_source and val_target is set"):
        ParallelFiles(Path("root"), "a", "b", val_source="c")
    with pytest.raises(ConfigError, match=r"dataset\.pairs\.source=FILE"):
        _ = data(ParallelFiles(Path("root"))).train


def test_files_are_found_in_the_data_root_and_unpacked() -> None:
    Path("root").mkdir()
    for name, text in (("p.en.gz", "one\n"), ("p.de.gz", "eins\n")):
        with gzip.open(Path("root") / name, "wb") as file:
            file.write(text.encode())
    source, target = ParallelFiles(Path("root"), "p.en.gz", "p.de.gz").read()["train"]
    assert (texts_of(source), texts_of(target)) == (["one"], ["eins"])


@pytest.mark.parametrize("tokenizer", ["word", "whitespace", "character", "bpe", "byte"])
def test_batches_are_the_pairs_with_targets_between_their_ends(tokenizer: Any) -> None:
    made = data(tokenizer=tokenizer, vocab_size=300, target_vocab_size=300)
    pairs = set()
    for split in (made.train, made.val, made.test):
        for source, target in split.epoch(0):
            assert source.dtype == target.dtype == torch.int64
            assert (target[:, 0] == BEGIN).all()
            assert ((target == END).sum(1) == 1).all()
            assert (target.gather(1, (target != PAD).sum(1, keepdim=True) - 1) == END).all()
            pairs |= {
                (made.decode(a), made.decode_target(b))
                for a, b in zip(source.tolist(), target.tolist(), strict=True)
            }
    assert pairs == set(zip(SOURCES, TARGETS, strict=True))


def test_every_pair_is_in_one_split_and_files_of_a_split_replace_its_share() -> None:
    parts = data().stored.rows
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(40))
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 32, "val": 4, "test": 4}
    more = files(test_source=write("t.en", ["a dog"]), test_target=write("t.de", ["ein Hund"]))
    named = data(more)
    (source, target) = next(named.test.epoch(0))
    assert (named.decode(source[0].tolist()), named.decode_target(target[0].tolist())) == (
        "a dog",
        "ein Hund",
    )
    assert len(named.stored.rows["val"]) == 4


def test_each_tokenizer_knows_only_the_training_texts_of_its_side() -> None:
    more = files(
        test_source=write("t.en", ["a zebra dog"]), test_target=write("t.de", ["ein Zebra Hund"])
    )
    made = data(more)
    assert made.decode(next(made.test.epoch(0))[0][0].tolist()) == "a <unk> dog"
    assert made.decode_target(next(made.test.epoch(0))[1][0].tolist()) == "ein <unk> Hund"
    assert made.decode(made.encode_text("ein dog").tolist()) == "<unk> dog"


def test_a_long_text_is_cut_and_a_target_keeps_its_ends() -> None:
    made = data(max_length=4)
    longest = max((pair for pair in made.train.epoch(0)), key=lambda pair: pair[0].shape[1])
    assert longest[0].shape[1] == longest[1].shape[1] == 4
    words = {made.decode_target(row) for row in longest[1].tolist()}
    assert words == {"ein roter"}
    assert longest[1][0].tolist()[0] == BEGIN
    assert longest[1][0].tolist()[-1] == END
    assert (
        made.encode_text("a red dog runs far").tolist()
        == made.encode_text("a red dog runs").tolist()
    )


def test_a_batch_has_one_length_and_an_epoch_continues_where_it_was_left() -> None:
    made, again = data(seed=3), data(seed=3)
    whole = list(made.train.epoch(2))
    for start in range(len(whole) + 1):
        for (a, b), (c, d) in zip(whole[start:], again.train.epoch(2, start), strict=True):
            assert torch.equal(a, c)
            assert torch.equal(b, d)
    assert len({tuple(map(tuple, a.tolist())) for a, _ in whole}) > 1
    padding = sum(int((b == PAD).sum()) for _, b in whole)
    unsorted = sum(int((b == PAD).sum()) for _, b in data(seed=3, bucketing=False).train.epoch(2))
    assert padding * 3 < unsorted


def test_other_epochs_and_seeds_have_other_orders() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        rows: list[int] = data(seed=seed).train.order(epoch).tolist()
        return rows

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_tokens_per_batch_limits_the_tokens_of_a_training_batch() -> None:
    sizes = [tuple(source.shape) for source, _ in data(tokens_per_batch=64).train.epoch(0)]
    assert all(rows * length <= 64 for rows, length in sizes)
    assert max(rows for rows, _ in sizes) == 8  # lengths count as multiples of 8
    assert sum(rows for rows, _ in sizes) == 32


def test_tokens_are_cached_by_their_content() -> None:
    first = data()
    _ = first.stored
    folders = sorted(path.name for path in Path("root").rglob("tokens-*") if path.is_dir())
    assert len(folders) == 2  # one a side
    again = data()
    assert torch.equal(again.stored.targets.flat, first.stored.targets.flat)
    assert again.fingerprint() == first.fingerprint()
    changed = data(files(targets=[*TARGETS[:-1], "Katze"]))
    assert changed.fingerprint() != first.fingerprint()
    assert (
        len([path for path in Path("root").rglob("tokens-*") if path.is_dir()]) == 3
    )  # the sources are the same


def test_a_run_encodes_and_decodes_texts_without_its_files() -> None:
    made = data()
    description = made.description()
    other = data(ParallelFiles(Path("root")))
    other.restore(description)
    tokens = other.encode_text("a red dog").tolist()
    assert tokens == made.encode_text("a red dog").tolist()
    assert other.decode_target(next(made.train.epoch(0))[1][0].tolist()) in TARGETS
    write("new.txt", ["a dog", "", "dog"])
    samples = list(other.encode([Path("new.txt"), Path("none.txt")]))
    assert [sample.name for sample in samples] == ["new.txt:1", "new.txt:3", "none.txt"]
    assert other.decode(samples[0].inputs.tolist()) == "a dog"  # type: ignore[union-attr]
    assert "none.txt does not exist" in samples[2].problem


@pytest.mark.parametrize(
    "damage", [{}, {"target_tokenizer": 3}, {"target_tokenizer": "{}"}, "text"]
)
def test_a_damaged_description_is_refused(damage: Any) -> None:
    made = data()
    description = (
        {**made.description(), **damage} if isinstance(damage, dict) and damage else damage
    )
    with pytest.raises(InputError, match=r"manifest\.json"):
        data().restore(description)


def test_the_spec_needs_no_file_and_fake_data_has_its_shape() -> None:
    made = data(ParallelFiles(Path("root")), vocab_size=50, target_vocab_size=30, max_length=9)
    spec = made.spec
    assert (spec.vocab_size, spec.target_vocab_size, spec.target_length, spec.input_shape) == (
        50,
        30,
        9,
        (9,),
    )
    source, target = next(made.fake().train.epoch(0))
    assert source.max() < 50
    assert target.max() < 30
    assert target.shape[1] <= 9
    assert (target[:, 0] == BEGIN).all()


def test_fake_data_of_a_run_decodes_with_its_tokenizers() -> None:
    """`predict` builds the task on fake data, because the training data may be gone."""
    made = data()
    made.restore(data().description())
    spec = made.fake().spec
    assert spec.decode(made.encode_text("red dog").tolist()) == "red dog"  # type: ignore[misc]
    _, targets = next(made.train.epoch(0))
    assert spec.decode_target(targets[0].tolist()) in TARGETS  # type: ignore[misc]


def test_reversals_are_reversed_and_no_string_is_in_two_splits() -> None:
    sets = Reversal(longest=4, train_samples=300, val_samples=50, test_samples=50).read()
    strings = {name: texts_of(source) for name, (source, _) in sets.items()}
    for name, (_, target) in sets.items():
        assert texts_of(target) == [text[::-1] for text in strings[name]]
    everything = [text for some in strings.values() for text in some]
    assert len(everything) == len(set(everything)) == 400
    assert {len(text) for text in strings["train"]} == {1, 2, 3, 4}
    assert Reversal(draw_seed=1).draw(9) != Reversal().draw(9) == Reversal().draw(9)
    with pytest.raises(ValueError, match="cannot differ"):
        Reversal(longest=3, train_samples=2000)


def test_multi30k_reads_the_chosen_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []
    monkeypatch.setattr(
        "dltrain.data.text.pairs.fetch",
        lambda mirrors, wanted, folder, others: requested.extend(wanted),
    )
    (folder := Path("root") / "multi30k").mkdir(parents=True)
    for part in ("train", "val", "test_2017_flickr"):
        for code in ("de", "fr"):
            with gzip.open(folder / f"{part}.{code}.gz", "wb") as file:
                file.write(f"{part} {code}\n".encode())
    sets = Multi30k(Path("root"), "fr", "de", "test_2017_flickr").read()
    assert {name: (texts_of(a), texts_of(b)) for name, (a, b) in sets.items()} == {
        "train": (["train fr"], ["train de"]),
        "val": (["val fr"], ["val de"]),
        "test": (["test_2017_flickr fr"], ["test_2017_flickr de"]),
    }
    assert len(requested) == 6
    with pytest.raises(ValueError, match="source and target are both de"):
        Multi30k(Path("root"), "de", "de")


def test_multi30k_has_the_stated_numbers_of_pairs(real_data: Path) -> None:
    if not (real_data / "multi30k").is_dir():
        pytest.skip("needs multi30k in the data root")
    pairs = Multi30k(real_data)
    counts = {name: len(source) for name, (source, _) in pairs.read().items()}
    assert (counts["train"], counts["test"]) == pairs.samples
    assert counts["val"] == 1014
