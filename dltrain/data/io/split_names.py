"""Names of folders that mean a split of a data set: train, Testing, seg_pred, images-val2017,
X_train and the like.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

# A name is a split's if one of these words is in it and the others say nothing, or are those of another split's name.
SPLIT_WORDS = {
    "train": (
        "train training trn trainval traindev entrenamiento treino treinamento entrainement apprentissage addestramento "
        "egitim обучение 训练 訓練 학습 훈련"
    ),
    "val": (
        "val valid validation validate validating validset vld dev devel development validacion validacao validazione "
        "validierung dogrulama валидация 验证 驗證 검증"
    ),
    "test": (
        "test testing tst eval evaluation evaluate evaluating holdout heldout teste prueba pruebas тест 测试 測試 테스트"
    ),
    "rest": (
        "pred preds predict prediction predictions predicting unlabeled unlabelled unlabel nolabel nolabels unsup "
        "unsupervised infer inference submission submit"
    ),
}
FILLERS = """
    set sets data dataset datasets split splits subset image images img imgs pic pics picture pictures photo photos
    text texts txt doc docs document documents file files folder folders dir directory seg small tiny mini new raw
    final full all part sample samples original orig resized cropped processed preprocessed clean cleaned augmented
    aug labeled labelled jpg jpeg png the my of for to x copy 集 数据 数据集 データ
"""
FILLER_WORDS = frozenset(FILLERS.split())
WEAK_WORDS = frozenset(
    ["development"]
)  # a topic as often as a split: only beside other splits it is one
MEANING = {word: split for split, words in SPLIT_WORDS.items() for word in words.split()}
NEGATIONS = ("in", "un", "non", "not", "no")  # valid beside invalid: both are classes
EVALUATION = re.compile("eval", re.IGNORECASE)
# Said of no class, whatever stands before it: kaggle_simpson_testset.
SET = re.compile(
    r"(train|training|test|testing|val|validation)[\W_]*sets?(?![^\W\d_])", re.IGNORECASE
)


@dataclass(frozen=True)
class SplitName:
    """The split that a folder's name means, and its further words that say something, such as those
    of a data set.
    """

    split: str
    others: tuple[str, ...]


def split_names(names: Collection[str]) -> dict[str, SplitName]:
    """Return the split that each of the `names` of sibling folders means, for those that mean one.

    A name with words of its own, such as flowers_train, means a split only beside one with the same
    words, flowers_test or flowers. So bullet_train and blood_test may be classes.
    """
    found = {name: parsed for name in names if (parsed := parse(name))}
    if all(WEAK_WORDS.intersection(words_of(name)) for name in found):
        return {}
    wholes = {meaningful_words(name) for name in names if name not in found}
    splits: dict[tuple[str, ...], set[str]] = {}
    for parsed in found.values():
        splits.setdefault(parsed.others, set()).add(parsed.split)
    return {
        name: parsed
        for name, parsed in found.items()
        if not parsed.others
        or SET.search(name)
        or len(splits[parsed.others]) > 1
        or parsed.others in wholes
        if not has_negation(name, names)
    }


@functools.lru_cache(maxsize=4096)
def parse(name: str) -> SplitName | None:
    """Return the split that `name` may mean and its other words; None if it has no split's word, or
    those of several.
    """
    words = words_of(name)
    if words[:1] and words[0] in NEGATIONS:
        return None  # not_valid: a class
    splits = {MEANING[word] for word in words if word in MEANING}
    if splits == {"train", "val"}:
        splits = {"train"}  # such as train_val: all that is not for testing
    if "rest" in splits:
        splits = {"rest"}  # such as test_predictions or train_unlabeled
    if len(splits) != 1:
        return None
    return SplitName(
        splits.pop(),
        tuple(word for word in words if word not in MEANING and not says_nothing(word)),
    )


def meaningful_words(name: str) -> tuple[str, ...]:
    """Return the words of a name that say something."""
    return tuple(word for word in words_of(name) if not says_nothing(word))


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents: of testImages-2017 test, images
    and 2017.
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    chunks = re.findall(r"\d+|[^\W\d_]+", unicodedata.normalize("NFC", plain))
    letters = "".join(chunk.lower() for chunk in chunks if not chunk.isdigit())
    if whole := segmented(letters):
        return [*whole, *(chunk for chunk in chunks if chunk.isdigit())]
    words: list[str] = []
    for chunk in chunks:
        known = segmented(chunk.lower())
        words += known or [word.lower() for word in re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+", chunk)]
    return words


@functools.lru_cache(maxsize=4096)
def segmented(text: str) -> tuple[str, ...]:
    """Return `text` as known words one after the other, the longest first: trainset is train, set;
    empty if it is not.
    """
    for end in range(len(text), 0, -1):
        if text[:end] in MEANING or text[:end] in FILLER_WORDS:
            rest = segmented(text[end:])
            if rest or end == len(text):
                return (text[:end], *rest)
    return ()


def says_nothing(word: str) -> bool:
    """Return whether a word such as set, images or 2017 does not tell two data sets apart."""
    return word.isdigit() or word in FILLER_WORDS or re.fullmatch(r"v\d*", word) is not None


def has_negation(name: str, names: Collection[str]) -> bool:
    """Return whether the opposite of a name is among the names: invalid beside valid."""
    letters = "".join(words_of(name))
    opposites = {f"{negation}{letters}" for negation in NEGATIONS}
    return any("".join(words_of(other)) in opposites for other in names if other != name)


def by_split(names: dict[str, SplitName]) -> dict[str, list[str]]:
    """Return the names of each split. Beside a test set, and no other for validation, eval is for
    validation.
    """
    found: dict[str, list[str]] = {}
    for name, parsed in names.items():
        found.setdefault(parsed.split, []).append(name)
    tests = found.get("test", [])
    evaluations = [name for name in tests if EVALUATION.search(name)]
    if "val" not in found and len(evaluations) == 1 and len(tests) == 2:
        found["val"], found["test"] = (
            evaluations,
            [name for name in tests if name not in evaluations],
        )
    return found
