"""The HParams tab of TensorBoard for a whole sweep: which keys and metrics it lists.

Every run writes its own values (`dltrain.callbacks.tensorboard`). The description of the experiment
lies in the sweep's folder: the metric that decides is the first metric. TensorBoard puts the keys
that differ first. It orders the runs by their names; a click on a metric orders them by it.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.files import replace_file
from dltrain.runs.folder import MANIFEST, RunFolder
from dltrain.sweeps.summary.ranking import Criterion
from dltrain.sweeps.summary.tables import shown_metrics
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")
EVENT_FILES = "events.out.tfevents.*"  # as TensorBoard calls them
EXPERIMENT_FILE = "events.out.tfevents.sweep"
FILE_VERSION = "brain.Event:2"  # the first record of a file of events
DATASETS = {"train": "DATASET_TRAINING", "val": "DATASET_VALIDATION"}


def has_events(sweep: Path) -> bool:
    """Tell if a run of a sweep has written for TensorBoard."""
    return any(path.parent != sweep for path in sweep.rglob(EVENT_FILES))


def write_experiment(sweep: Path, rows: Sequence[Row], criteria: Sequence[Criterion]) -> None:
    """Write which keys and metrics TensorBoard lists; a full disk costs a warning."""
    path = sweep / EXPERIMENT_FILE
    settings = [settings_of_run(row) for row in rows if "run" in row]
    content = experiment_bytes(settings, metrics_first(rows, criteria))
    try:
        replace_file(path, content)
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")


def settings_of_run(row: Row) -> dict[str, Any]:
    """Return the settings that a run wrote for TensorBoard, with its best evaluation."""
    try:
        settings = RunFolder(Path(row["run"])).read_json(MANIFEST).get("settings") or {}
    except InputError:
        settings = {}
    best = row.get("best")
    if best:
        settings[f"{best['metric']} (best)"] = best["value"]
    return dict(settings)


def metrics_first(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[str]:
    """Return all metrics: those that decide, their counterparts of the test, then the others."""
    names = shown_metrics(rows, criteria)
    for row in rows:
        names += row["metrics"]
    return [name for name in dict.fromkeys(names) if "/" in name]


def experiment_bytes(settings: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> bytes:
    """Return a file of events with the description of an experiment."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    experiment = api_pb2.Experiment(
        time_created_secs=time.time(),
        hparam_infos=hparam_infos(settings),
        metric_infos=[metric_info(name) for name in metrics],
    )
    content = plugin_data_pb2.HParamsPluginData(
        experiment=experiment, version=metadata.PLUGIN_DATA_VERSION
    )
    plugin = summary_pb2.SummaryMetadata.PluginData(
        plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
    )
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=metadata.EXPERIMENT_TAG,
        metadata=summary_pb2.SummaryMetadata(plugin_data=plugin),
        tensor=metadata.NULL_TENSOR,
    )
    file = io.BytesIO()
    writer = RecordWriter(file)
    for fields in ({"file_version": FILE_VERSION}, {"summary": summary}):
        writer.write(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())
    return file.getvalue()


def metric_info(name: str) -> Any:
    """Return TensorBoard's description of a metric."""
    from tensorboard.plugins.hparams import api_pb2

    kind = DATASETS.get(name.partition("/")[0], "DATASET_UNKNOWN")
    return api_pb2.MetricInfo(
        name=api_pb2.MetricName(tag=name), dataset_type=api_pb2.DatasetType.Value(kind)
    )


def hparam_infos(settings: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return TensorBoard's descriptions of all keys; it lists those that differ first, by name."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [hparam_info(key, values_of(key, settings)) for key in keys]


def values_of(key: str, settings: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the values that runs have for a key."""
    return [one[key] for one in settings if key in one]


def hparam_info(key: str, values: Sequence[Any]) -> Any:
    """Return TensorBoard's description of a key, by the values that runs have."""
    from tensorboard.plugins.hparams import api_pb2

    from dltrain.callbacks.tensorboard import as_hparam

    numbers = [float(value) for value in values if isinstance(value, bool | int | float)]
    texts = sorted({str(as_hparam(value)) for value in values})
    info = api_pb2.HParamInfo(name=key, differs=len(texts) > 1)
    if len(numbers) == len(values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = min(numbers)
        info.domain_interval.max_value = max(numbers)
    else:
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(texts)
    return info
