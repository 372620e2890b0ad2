"""Old names of `_target_`s that have moved, so that earlier runs and configurations still load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The modules that moved from dltrain.data, dltrain.models and dltrain.tasks into a family.
FAMILIES: dict[str, tuple[str, ...]] = {
    "data.images": (
        *("cifar10", "cifar100", "digits", "emnist", "image_folder", "in_memory", "mnist"),
        *("streamed", "svhn", "synthetic"),
    ),
    "data.detection": ("coco", "digit_scenes", "voc", "yolo"),
    "data.tabular": ("bundled", "gates", "mackey_glass", "tabular", "timeseries"),
    "data.text": (
        *("imdb", "language", "multi30k", "reversal", "sentiment", "text", "text_files"),
        *("translation", "words"),
    ),
    "data.rl": ("environments",),
    "models.images": (
        *("alexnet", "cnn", "convolutional_autoencoder", "dcgan", "densenet", "gan", "googlenet"),
        *("inception", "lenet5", "resnet", "torchvision_classifier", "vgg"),
    ),
    "models.detection": ("cnn_roi", "faster_rcnn"),
    "models.tabular": ("tabular_mlp",),
    "models.text": (
        *("fasttext", "recurrent", "seq2seq", "transformer", "transformer_seq2seq"),
        "word_vectors",
    ),
    "models.rl": ("q_network", "q_table"),
    "tasks.images": ("adversarial", "autoencoding", "deep_autoencoding", "deep_belief"),
    "tasks.detection": ("detection",),
    "tasks.text": ("embedding", "language_modeling", "seq2seq"),
    "tasks.rl": ("dqn", "temporal_difference"),
}
MOVED = {
    f"dltrain.{family.partition('.')[0]}.{module}": f"dltrain.{family}.{module}"
    for family, modules in FAMILIES.items()
    for module in modules
}
# Classes that moved to another module since, by their name after MOVED.
MOVED_CLASSES = {
    "dltrain.data.text.imdb.IMDB": "dltrain.data.text.sentiment.IMDB",
    "dltrain.data.text.language.Shakespeare": "dltrain.data.text.prose.Shakespeare",
    "dltrain.data.text.multi30k.Multi30k": "dltrain.data.text.pairs.Multi30k",
    "dltrain.data.text.reversal.Reversal": "dltrain.data.text.pairs.Reversal",
    "dltrain.data.text.translation.ParallelFiles": "dltrain.data.text.pairs.ParallelFiles",
}


@dataclass(frozen=True)
class Divided:
    """A class of datasets that was divided into a dataset and the source that reads its samples."""

    dataset: str  # the present `_target_` of the dataset
    source: str  # the `_target_` of its source
    keys: tuple[str, ...]  # the keys that the source has now


# The classes that were divided, by their name after MOVED: an earlier configuration of one of them
# has the keys of its source beside those of the dataset.
DETECTION = "dltrain.data.detection"
DIVIDED: dict[str, Divided] = {
    f"{DETECTION}.coco.COCO": Divided(
        dataset=f"{DETECTION}.dataset.DetectionDataset",
        source=f"{DETECTION}.coco.COCO",
        keys=(
            *("images", "annotations", "val_images", "val_annotations"),
            *("test_images", "test_annotations", "image_size", "bad_boxes"),
        ),
    ),
    f"{DETECTION}.voc.VOC": Divided(
        dataset=f"{DETECTION}.dataset.DetectionDataset",
        source=f"{DETECTION}.voc.VOC",
        keys=("path", "classes", "image_size", "bad_boxes", "difficult"),
    ),
    f"{DETECTION}.yolo.YOLO": Divided(
        dataset=f"{DETECTION}.dataset.DetectionDataset",
        source=f"{DETECTION}.yolo.YOLO",
        keys=("path", "train", "val", "test", "image_size", "bad_boxes"),
    ),
    f"{DETECTION}.digit_scenes.DigitScenes": Divided(
        dataset=f"{DETECTION}.dataset.DetectionDataset",
        source=f"{DETECTION}.digit_scenes.DigitScenes",
        keys=(
            *("digits", "image_size", "most", "smallest", "largest", "clutter"),
            *("train_scenes", "val_scenes", "test_scenes", "draw_seed"),
        ),
    ),
    "dltrain.data.text.text_files.TextFiles": Divided(
        dataset="dltrain.data.text.text.Text",
        source="dltrain.data.text.text_files.LabeledTextFiles",
        keys=("path", "text", "label", "val_path", "test_path", "encoding", "classes"),
    ),
    "dltrain.data.text.language.LanguageModeling": Divided(
        dataset="dltrain.data.text.language.LanguageModeling",
        source="dltrain.data.text.prose.ProseFiles",
        keys=("path", "val_path", "test_path", "encoding"),
    ),
}


def current_name(target: str) -> str:
    """Return the present name of the class that `target` names, an old name or a present one."""
    module, _, name = target.rpartition(".")
    if module in MOVED:
        target = f"{MOVED[module]}.{name}"
    return MOVED_CLASSES.get(target, target)


def with_current_names(value: Any, key: str = "") -> Any:
    """Return a saved configuration (mapping, list or scalar) with the present name of each target.

    `key` is the one under which the value stands: a node under "source" is no dataset to divide.
    """
    if isinstance(value, list):
        return [with_current_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    current = {name: with_current_names(child, name) for name, child in value.items()}
    target = current.get("_target_")
    if not isinstance(target, str):
        return current
    current["_target_"] = current_name(target)
    is_whole = key != "source" and "source" not in current
    divided = DIVIDED.get(current["_target_"])
    if divided and is_whole:
        return _with_source(current, divided)
    return current


def _with_source(node: dict[str, Any], divided: Divided) -> dict[str, Any]:
    """Return the node of a divided dataset with its source's keys in a node of their own."""
    dataset: dict[str, Any] = {"_target_": divided.dataset}
    source: dict[str, Any] = {"_target_": divided.source}
    for key, value in node.items():
        if key == "_target_":
            continue
        if key in divided.keys:
            source[key] = value
        else:
            dataset[key] = value
    return {**dataset, "source": source}
