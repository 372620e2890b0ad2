"""Keys of a dataset's source may be written without `source.`, wherever keys are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dltrain.config import renamed
from dltrain.config.check import problems_of
from dltrain.config.compose import compose, compose_over
from dltrain.config.composing.source_keys import full_key, has_listed, short_keys, without_shorthand
from dltrain.config.grid import expand
from dltrain.config.groups import config_dir
from dltrain.config.own_settings import own_settings
from dltrain.config.renamed import Divided, with_current_names


def source(*overrides: str) -> dict[str, Any]:
    composed = compose(list(overrides))
    assert problems_of(composed) == []
    node: dict[str, Any] = composed.config["dataset"]["source"]
    return node


@pytest.mark.parametrize(
    "typed",
    [
        "dataset.path=texts",
        "+dataset.path=texts",
        "++dataset.path=texts",
        "dataset/path=texts",
        "dataset={path: texts}",
        "dataset.source.path=texts",
    ],
)
def test_a_key_of_the_source_is_set_by_its_short_name(typed: str) -> None:
    assert source("dataset=words", typed)["path"] == "texts"


def test_a_deleted_key_of_the_source_leaves_its_default() -> None:
    assert "path" not in source("dataset=words", "~dataset.path")
    assert source("dataset=words", "~dataset.path", "dataset.path=texts")["path"] == "texts"


def test_a_key_that_the_dataset_has_itself_is_its_own() -> None:
    composed = compose(["dataset=words", "dataset.vocab_size=9"])
    assert composed.config["dataset"]["vocab_size"] == 9
    assert "vocab_size" not in composed.config["dataset"]["source"]


def test_a_key_that_the_source_lists_comes_before_one_of_the_signature_of_the_dataset() -> None:
    composed = compose(["dataset=words", "dataset.encoding=cp1252"])
    assert composed.config["dataset"]["source"]["encoding"] == "cp1252"
    assert "encoding" not in composed.config["dataset"]


def test_a_key_in_the_signature_of_the_source_needs_no_file_that_lists_it() -> None:
    own = "dataset.source={_target_: dltrain.data.text.words.WordFiles}"
    assert source("dataset=words", own, "dataset.path=texts")["path"] == "texts"


def test_problems_name_what_was_typed() -> None:
    found = problems_of(compose(["dataset=emnist", "dataset.split=lettres"]))
    assert [what for what, _ in found] == ["dataset.split=lettres"]
    assert "did you mean letters?" in found[0][1]


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        (["dataset=emnist", "dataset.splt=letters"], "dataset.split (now balanced)"),
        (["dataset=emnist", "dataset.source.splt=letters"], "dataset.source.split (now balanced)"),
        (["dataset=words", "data_path=texts"], "dataset.path (now null)"),
        (["dataset=words", "dataste.path=texts"], "dataset.path (now null)"),
    ],
    ids=str,
)
def test_a_misspelled_key_is_answered_with_the_short_one(overrides: list[str], meant: str) -> None:
    found = problems_of(compose(overrides))
    assert len(found) == 1
    assert f"did you mean {meant}?" in found[0][1]


def test_options_whose_source_has_the_key_are_named() -> None:
    ((_, why),) = problems_of(compose(["dataset=digits", "dataset.noise=1"]))
    assert "dataset=synthetic has it" in why


def test_a_swept_short_key_is_a_setting_of_the_run() -> None:
    jobs = expand(["dataset=emnist", "dataset.split=letters,digits"])
    assert [source(*job)["split"] for job in jobs] == ["letters", "digits"]
    settings = own_settings(compose(jobs[0]), ["dataset.split"])
    assert next(iter(settings.items())) == ("dataset.source.split", "letters")


def test_a_sweep_by_pattern_knows_the_values_of_the_source() -> None:
    jobs = expand(["dataset=emnist", "dataset.split=glob(b*)"])
    assert [job[1] for job in jobs] == [
        f"dataset.split={x}" for x in ("balanced", "bymerge", "byclass")
    ]


def test_show_finds_the_key_by_its_short_name(dltrain) -> None:
    shown = dltrain("show", "dataset.split", "dataset=emnist", "dataset.split=letters", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["dataset.split"]["value"] == "letters"
    assert shown.json["dataset.split"]["set_by"] == "the command line: dataset.split=letters"
    assert "dataset.source.split" in shown.out


def test_files_of_ones_own_may_use_short_keys() -> None:
    files = {
        "dataset/mine.yaml": "# Mine\ndefaults: [words]\npath: texts\n",
        "experiment/mine.yaml": "# @package _global_\n# Mine\n"
        "defaults:\n  - override /dataset: mine\n"
        "dataset: {path: other, sample: 0.5}\n",
    }
    for name, text in files.items():
        path = Path("own", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with config_dir("own"):
        assert source("dataset=mine")["path"] == "texts"
        composed = compose(["experiment=mine"])
    assert problems_of(composed) == []
    assert composed.config["dataset"]["source"]["path"] == "other"
    assert composed.config["dataset"]["sample"] == 0.5


def test_show_names_the_file_of_ones_own_that_sets_a_short_key(dltrain) -> None:
    path = Path("own/dataset/mine.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("# Mine\ndefaults: [words]\npath: texts\n", encoding="utf-8")
    words = ("dataset=mine", "--config-dir", "own", "--json")
    shown = dltrain("show", "dataset.path", *words).json["dataset.path"]
    assert shown["set_by"] == str(path.absolute())
    shown = dltrain("show", "dataset.source.encoding", *words).json["dataset.source.encoding"]
    assert shown["set_by"] != str(path.absolute())


def test_over_a_saved_configuration_short_keys_are_known_too() -> None:
    saved = compose(["dataset=words", "dataset.path=texts"]).config
    composed = compose_over(saved, ["dataset.path=other"])
    assert problems_of(composed) == []
    assert composed.config["dataset"]["source"]["path"] == "other"


def test_a_saved_configuration_of_a_divided_dataset_gets_a_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    divided = Divided("dltrain.data.Whole", "dltrain.data.Reader", ("path", "encoding"))
    monkeypatch.setitem(renamed.DIVIDED, "dltrain.data.text.text.Old", divided)
    node = {"_target_": "dltrain.data.text.Old", "path": "x", "batch_size": 3}
    assert with_current_names({"dataset": node})["dataset"] == {
        "_target_": "dltrain.data.Whole",
        "batch_size": 3,
        "source": {"_target_": "dltrain.data.Reader", "path": "x"},
    }


@pytest.mark.parametrize(
    ("key", "full"),
    [
        ("dataset.a", "dataset.a"),
        ("dataset.b", "dataset.source.b"),
        ("dataset.b.x", "dataset.source.b.x"),
        ("dataset.c", "dataset.c"),
        ("dataset.source", "dataset.source"),
        ("dataset", "dataset"),
        ("model.b", "model.b"),
        ("b", "b"),
    ],
)
def test_which_key_is_meant(key: str, full: str) -> None:
    config = {"dataset": {"a": 1, "source": {"a": 2, "b": {"x": 3}}}}
    assert full_key(key, has_listed(config)) == full


def test_a_short_key_exists_only_where_the_dataset_has_none_of_that_name() -> None:
    keys = ["dataset.a", "dataset.source.a", "dataset.source.b", "model.b"]
    assert short_keys(keys) == ["dataset.b"]


def test_a_key_written_in_full_wins_over_the_short_one_of_the_same_file() -> None:
    under = {"source": {"path": None, "encoding": None}}
    written = without_shorthand({"path": "a", "source": {"path": "b"}, "encoding": "c"}, under)
    assert written == {"source": {"path": "b", "encoding": "c"}}


@pytest.mark.parametrize(
    ("old", "module", "keys"),
    [
        ("coco.COCO", "detection.coco.COCO", {"images": "a", "annotations": "b"}),
        ("voc.VOC", "detection.voc.VOC", {"path": "a", "difficult": "train", "classes": ["x"]}),
        ("detection.yolo.YOLO", "detection.yolo.YOLO", {"path": "a", "test": "train"}),
        ("digit_scenes.DigitScenes", "detection.digit_scenes.DigitScenes", {"digits": "bundled"}),
    ],
)
def test_earlier_configurations_of_images_with_boxes_get_a_source(
    old: str, module: str, keys: dict[str, Any]
) -> None:
    node = {"_target_": f"dltrain.data.{old}", **keys, "image_size": 64, "flip": 0.5}
    current = with_current_names({"dataset": node})
    assert current["dataset"] == {
        "_target_": "dltrain.data.detection.dataset.DetectionDataset",
        "flip": 0.5,
        "source": {"_target_": f"dltrain.data.{module}", **keys, "image_size": 64},
    }
    assert with_current_names(current) == current, "a present configuration stays as it is"


def test_interpolations_may_use_short_keys() -> None:
    composed = compose(["dataset=words", "dataset.path=texts", "name=${dataset.path}-1"])
    assert problems_of(composed) == []
    assert composed.config["name"] == "texts-1"


def test_a_source_that_is_typed_as_a_whole_is_not_divided() -> None:
    coco = "{_target_: dltrain.data.detection.coco.COCO, images: pictures}"
    composed = compose(["dataset=coco", f"dataset.source={coco}"])
    assert composed.config["dataset"]["source"] == {
        "_target_": "dltrain.data.detection.coco.COCO",
        "images": "pictures",
    }
