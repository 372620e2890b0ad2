"""Recognizes names of folders that mean a split of a data set.

Examples are train, Testing, seg_pred, images-val2017 and X_train.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass

# A name means a split if it has one of these words, and its other words are fillers or belong to
# the name of another split.
SPLIT_WORDS = {
    "train": (
        "train training trn trainval traindev entrenamiento treino treinamento entrainement "
        "apprentissage addestramento egitim обучение 训练 訓練 학습 훈련"
    ),
    "val": (
        "val valid validation validate validating validset vld dev devel development validacion "
        "validacao validazione validierung dogrulama валидация 验证 驗證 검증"
    ),
    "test": (
        "test testing tst eval evaluation evaluate evaluating holdout heldout teste prueba pruebas "
        "тест 测试 測試 테스트"
    ),
    "rest": (
        "pred preds predict prediction predictions predicting unlabeled unlabelled unlabel nolabel "
        "nolabels unsup unsupervised infer inference submission submit"
    ),
}
FILLERS = """
    set sets data dataset datasets split splits subset image images img imgs pic pics picture
    pictures photo photos text texts txt doc docs document documents file files folder folders dir
    directory seg small tiny mini new raw final full all part sample samples original orig resized
    cropped processed preprocessed clean cleaned augmented aug labeled labelled jpg jpeg png the my
    of for to x copy 集 数据 数据集 データ
"""
FILLER_WORDS = frozenset(FILLERS.split())
WEAK_WORDS = frozenset(["development"])  # as often a topic: a split only beside other splits
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words.split()}
NEGATIONS = ("in", "un", "non", "not", "no")  # valid beside invalid: both are classes
EVALUATION = re.compile("eval", re.IGNORECASE)
# No class is called so, whatever stands before it: kaggle_simpson_testset.
SPLIT_SET = re.compile(
    r"(train|training|test|testing|val|validation)[\W_]*sets?(?![^\W\d_])", re.IGNORECASE
)
MAX_CACHED_NAMES = 4096


@dataclass(frozen=True)
class SplitName:
    """The split that a folder's name means, and its further words, such as those of a data set."""

    split: str
    others: tuple[str, ...]


def split_names(names: Collection[str]) -> dict[str, SplitName]:
    """Return the split that each of the `names` of sibling folders means, for those that mean one.

    A name with words of its own, such as flowers_train, means a split only beside one with the same
    words, flowers_test or flowers. So bullet_train and blood_test may be classes.
    """
    parsed = {name: split_name for name in names if (split_name := parse_name(name))}
    if all(WEAK_WORDS.intersection(words_of(name)) for name in parsed):
        return {}
    siblings = words_of_siblings(names, parsed)
    certain = [name for name in parsed if is_certain(name, parsed[name], siblings)]
    return {name: parsed[name] for name in certain if not has_negation(name, names)}


def words_of_siblings(
    names: Collection[str], parsed: Mapping[str, SplitName]
) -> set[tuple[str, ...]]:
    """Return the words of the names that mean no split, and of those that mean several splits."""
    words = {meaningful_words(name) for name in names if name not in parsed}
    splits = {(split_name.others, split_name.split) for split_name in parsed.values()}
    frequency = Counter(own_words for own_words, _ in splits)
    return words | {own_words for own_words, count in frequency.items() if count > 1}


def is_certain(
    name: str, split_name: SplitName, words_of_others: Container[tuple[str, ...]]
) -> bool:
    """Return whether a name has no words of its own, or stands beside one with the same words."""
    own_words = split_name.others
    return not own_words or SPLIT_SET.search(name) is not None or own_words in words_of_others


@functools.lru_cache(maxsize=MAX_CACHED_NAMES)
def parse_name(name: str) -> SplitName | None:
    """Return the split that `name` may mean and its other words.

    None if it has no split's word, or those of several splits.
    """
    words = words_of(name)
    if words[:1] and words[0] in NEGATIONS:
        return None  # not_valid: a class
    split = common_split({SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD})
    if split is None:
        return None
    others = [word for word in meaningful_words(name) if word not in SPLIT_OF_WORD]
    return SplitName(split, tuple(others))


def common_split(splits: set[str]) -> str | None:
    """Return the split that a name with words for these splits means; None for a contradiction."""
    if "rest" in splits:
        return "rest"  # such as test_predictions or train_unlabeled
    if splits == {"train", "val"}:
        return "train"  # such as train_val: everything that is not for testing
    if len(splits) == 1:
        return next(iter(splits))
    return None


def meaningful_words(name: str) -> tuple[str, ...]:
    """Return the words of a name without fillers."""
    return tuple(word for word in words_of(name) if not is_filler(word))


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents.

    The words of testImages-2017 are test, images and 2017.
    """
    chunks = re.findall(r"\d+|[^\W\d_]+", without_accents(name))
    numbers = [chunk for chunk in chunks if chunk.isdigit()]
    letters = "".join(chunk.lower() for chunk in chunks if not chunk.isdigit())
    known_words = segment(letters)
    if known_words:
        return [*known_words, *numbers]
    return [word for chunk in chunks for word in words_in(chunk)]


def words_in(chunk: str) -> Sequence[str]:
    """Return the words in letters without spaces: known ones, or by their capital letters."""
    camel_case = re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+", chunk)
    return segment(chunk.lower()) or [word.lower() for word in camel_case]


def without_accents(name: str) -> str:
    """Return a name with plain letters instead of accented ones."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", plain)


@functools.lru_cache(maxsize=MAX_CACHED_NAMES)
def segment(text: str) -> tuple[str, ...]:
    """Return `text` as known words one after the other, the longest first: trainset is train, set.

    Empty if it is not made of known words.
    """
    for end in range(len(text), 0, -1):
        if text[:end] in SPLIT_OF_WORD or text[:end] in FILLER_WORDS:
            rest = segment(text[end:])
            if rest or end == len(text):
                return (text[:end], *rest)
    return ()


def is_filler(word: str) -> bool:
    """Return whether a word such as set, images or 2017 does not tell two data sets apart."""
    return word.isdigit() or word in FILLER_WORDS or re.fullmatch(r"v\d*", word) is not None


def has_negation(name: str, names: Collection[str]) -> bool:
    """Return whether the opposite of a name is among the names: invalid beside valid."""
    letters = "".join(words_of(name))
    opposites = {f"{negation}{letters}" for negation in NEGATIONS}
    return any("".join(words_of(other)) in opposites for other in names if other != name)


def group_by_split(names: dict[str, SplitName]) -> dict[str, list[str]]:
    """Return the names of each split.

    One called eval beside a test set is for validation if no other is.
    """
    groups: dict[str, list[str]] = {}
    for name, split_name in names.items():
        groups.setdefault(split_name.split, []).append(name)
    if "val" not in groups and len(groups.get("test", ())) == 2:
        return groups | groups_with_evaluation(groups["test"])
    return groups


def groups_with_evaluation(tests: list[str]) -> dict[str, list[str]]:
    """Return the one of two test sets that is called eval for validation; none if both are."""
    evaluations = [name for name in tests if EVALUATION.search(name)]
    if len(evaluations) != 1:
        return {}
    return {"val": evaluations, "test": [name for name in tests if name not in evaluations]}
