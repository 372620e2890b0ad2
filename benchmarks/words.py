"""Compare word vectors from IMDB's reviews with gensim's: words per second and correlations.

    python -m benchmarks.words [--experiment word2vec_imdb] [--epochs 5] [--rounds 3]
                               [--threads 2] [--only dltrain] [key=...]

Both get the same documents with the same vocabulary (dataset.min_count and vocab_size), vectors of
100 numbers, a window of 5, 5 negative samples (or a tree, as model.output says), the same
subsampling and epochs. dltrain trains with its engine and all its defaults; gensim with as many
workers as dltrain has threads. `words/s` counts the words of the text before subsampling, as gensim
does, over the training time without evaluation. In every round each trains from a new seed, and
the order alternates; the last line has the median ratio of the rates and the mean of every
correlation.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dltrain.config.compose import compose
from dltrain.data.text.words import Words
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.runs.folder import RunFolder
from dltrain.tasks.text.embedding import spearman
from dltrain.types import END

Figures = dict[str, float]


def dltrain(built: Experiment, epochs: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(built, RunFolder(Path(folder)), "benchmark")
        start = time.perf_counter()
        session.engine.fit(built.task)
        seconds = time.perf_counter() - start - session.engine.evaluation_seconds
        session.engine.emit("close")
    words, vectors = built.task.vectors()  # type: ignore[operator]
    return figures(built.data, words, vectors, epochs * built.data.train.samples / seconds)


def gensim(built: Experiment, epochs: int, threads: int, seed: int) -> Figures:
    from gensim.models import FastText, Word2Vec

    data, model = built.data, built.config["model"]
    assert isinstance(data, Words)
    numbers, lengths = (
        data.train.words.tolist(),
        torch.bincount(data.train.documents.long()).tolist(),
    )
    ends = torch.tensor(lengths).cumsum(0).tolist()
    documents = [
        [data.words[i] for i in numbers[e - n : e]] for n, e in zip(lengths, ends, strict=True)
    ]
    tree = model["output"] == "hierarchical_softmax"
    settings: dict[str, Any] = {
        "vector_size": model["embedding_dim"],
        "window": model["window"],
        "min_count": 1,
        "sg": int(model["method"] == "skip_gram"),
        "hs": int(tree),
        "negative": 0 if tree else model["negative"],
        "sample": data.sample,
        "workers": threads,
        "epochs": epochs,
        "seed": seed,
    }
    if model["subwords"]:
        made = FastText(
            min_n=model["min_n"], max_n=model["max_n"], bucket=model["buckets"], **settings
        )
    else:
        made = Word2Vec(**settings)
    made.build_vocab(documents)
    start = time.perf_counter()
    made.train(documents, total_examples=made.corpus_count, epochs=epochs)
    seconds = time.perf_counter() - start
    return figures(
        data, made.wv.index_to_key, torch.tensor(made.wv.vectors), epochs * len(numbers) / seconds
    )


def figures(data: Any, words: list[str], vectors: torch.Tensor, rate: float) -> Figures:
    number, unit, found = (
        {word: i for i, word in enumerate(words)},
        F.normalize(vectors, dim=1),
        {"words/s": rate},
    )
    for name, pairs in data.similarities.items():
        known = [
            (number[a], number[b], score) for a, b, score in pairs if a in number and b in number
        ]
        one, other = (unit[[pair[i] for pair in known]] for i in range(2))
        found[name] = float(
            spearman((one * other).sum(1), torch.tensor([score for *_, score in known]))
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiment", default="word2vec_imdb")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("dltrain", "gensim"))
    arguments, overrides = parser.parse_known_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    epochs = arguments.epochs
    rows: dict[str, list[Figures]] = {"gensim": [], "dltrain": []}
    for turn in range(arguments.rounds):
        seed = turn + 1
        composed = compose(
            [
                f"experiment={arguments.experiment}",
                f"trainer.epochs={epochs}",
                f"seed={seed}",
                *overrides,
            ]
        )
        assert not composed.problems, composed.problems
        built = Experiment.to_train(composed.config)
        assert isinstance(built.data, Words)
        if not turn:
            known = len(built.data.words) - END - 1
            print(
                f"{built.data.train.samples:,} words, {known:,} different ones; "
                f"{epochs} epochs, {arguments.threads} threads"
            )
        for name in list(rows)[:: -1 if turn % 2 else 1]:
            if arguments.only in (None, name):
                row = (
                    gensim(built, epochs, arguments.threads, seed)
                    if name == "gensim"
                    else dltrain(built, epochs)
                )
                rows[name].append(row)
                print(
                    f"{name:8}" + "  ".join(f"{key} {value:,.4g}" for key, value in row.items()),
                    flush=True,
                )
    if arguments.only is None:
        pairs = zip(rows["dltrain"], rows["gensim"], strict=True)
        ratio = statistics.median(ours["words/s"] / theirs["words/s"] for ours, theirs in pairs)
        print(f"words/s, dltrain's to gensim's: {ratio:.3f}")
        for key in (key for key in rows["dltrain"][0] if key != "words/s"):
            means = [
                statistics.mean(row[key] for row in rows[name]) for name in ("dltrain", "gensim")
            ]
            print(f"{key}: {means[0]:.3f} against {means[1]:.3f}")


if __name__ == "__main__":
    main()
