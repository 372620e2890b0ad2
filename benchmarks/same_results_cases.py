"""The configurations that `same_results.py` runs: one for each task, family of data and command.

A case is a list of commands that share a folder, so `last` is the run that the case has trained
before. `{data}` stands for the folder of `small_files.write_all`, `{real}` for that of the real
data sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """One command line.

    `words_after` is its spelling where `dltrain --help` mentions `since`, for renamed commands.
    `stop_at_line` ends the run with SIGTERM once so many lines of metrics are written.
    """

    words: tuple[str, ...]
    words_after: tuple[str, ...] = ()
    since: str = ""
    stop_at_line: int | None = None
    code: int = 0

    def spelled(self, help_text: str) -> tuple[str, ...]:
        """Return the words as the checkout with this help text wants them."""
        if self.since and self.since in help_text:
            return self.words_after
        return self.words


@dataclass(frozen=True)
class Case:
    """Commands that share a folder, and the real data sets that they need."""

    commands: tuple[Command, ...]
    needs: tuple[str, ...] = field(default=())  # folders below DLTRAIN_DATA


def command(*words: str) -> Command:
    """Return a command of a line each: `command("evaluate last", "split=val")`."""
    return Command(tuple(word for part in words for word in part.split(" ")))


QUIET = "--json callbacks=quiet trainer.log_every=2"
SHORT = f"{QUIET} trainer.epochs=2"
STEPS = f"{QUIET} trainer.steps=12"


def train(overrides: str, length: str = SHORT) -> Command:
    """Return a command that trains."""
    return command(f"{overrides} {length}")


def evaluate(overrides: str = "split=test") -> Command:
    """Return a command that scores the last run again."""
    return command(f"evaluate last {overrides} --json")


def predict(inputs: str) -> Command:
    """Return a command that predicts with the last run."""
    return command(f"predict last {inputs} --json")


def generate_images(count: int) -> Command:
    """Return a command that draws images with the last run's generator."""
    flags = ("--samples", str(count), "--out", "samples", "--json")
    return Command(("predict", "last", *flags), ("generate", "last", *flags), "dltrain generate")


def generate_text(start: str, tokens: int) -> Command:
    """Return a command that continues a text with the last run's language model."""
    flags = (start, "--tokens", str(tokens), "--json")
    return Command(("predict", "last", *flags), ("generate", "last", *flags), "dltrain generate")


def export_vectors() -> Command:
    """Return a command that writes the last run's word vectors."""
    before = ("predict", "last", "--out", "words.vec", "--json")
    after = ("export", "last", "--format", "word2vec", "--out", "words.vec", "--json")
    return Command(before, after, "dltrain export")


def roll_out() -> Command:
    """Return a command that writes an episode of the last run's agent."""
    flags = ("last", "--out", "episode.gif", "--json")
    return Command(("predict", *flags), ("rollout", *flags), "dltrain rollout")


PICTURES = "dataset=image_folder dataset.path={data}/pictures dataset.batch_size=8"
PHOTOS = "dataset=image_folder dataset.path={data}/photos dataset.batch_size=8"
HOUSES = "dataset=tabular dataset.path={data}/houses.csv dataset.batch_size=16"
REVIEWS = "dataset=text_files dataset.path={data}/reviews.csv dataset.batch_size=16"
BOOK = (
    "dataset=language_modeling dataset.path={data}/book.txt dataset.length=16 dataset.batch_size=8"
)
PAIRS = (
    "dataset=translation dataset.pairs.source={data}/english.txt "
    "dataset.pairs.target={data}/backward.txt "
    "dataset.batch_size=16 dataset.vocab_size=60 "
    "dataset.target_vocab_size=60 task.length_ratio=1.0"
)
SENTENCES = (
    "dataset=words dataset.source.path={data}/book.txt dataset.min_count=1 dataset.batch_size=64"
)
DETECTOR = (
    "dataset.image_size=64 dataset.batch_size=2 model.channels=[8,8,16,16] "
    "model.pyramid_channels=16 model.head_size=32 model.pre_nms=30 model.post_nms=20"
)
BOXES = f"{DETECTOR} dataset.val_fraction=0.2 dataset.test_fraction=0.2"
TINY_IMAGES = (
    "dataset=synthetic dataset.source.train_samples=96 dataset.source.test_samples=32 "
    "dataset.batch_size=16"
)
GRAY_DIGITS = "dataset=digits dataset.scaling=unit"

CASES: dict[str, Case] = {
    # classification of images
    "cnn": Case(
        (
            command("model=cnn dataset=digits trainer.epochs=1 trainer.log_every=10 --json"),
            evaluate("split=val"),
            evaluate("split=val tta=shift"),
            predict("split=test --out answers.csv"),
            predict("split=val checkpoint=last top=2 --out answers.jsonl"),
        )
    ),
    "mlp_regularized": Case(
        (
            train(
                "model=mlp regularization=[l1,l2,dropout,clip,label_smoothing,ema] "
                "schedule=onecycle "
                "optimizer=adamw initialization=he trainer.accumulate=2"
            ),
            evaluate(),
        )
    ),
    "resnet_augmented": Case(
        (
            train(
                f"{TINY_IMAGES} model=resnet_small "
                "preprocessing=[flip,random_crop,cutout,color_jitter] "
                "regularization=[mixup,cutmix] optimizer=muon",
                STEPS,
            ),
            evaluate("tta=flip"),
        )
    ),
    "more_augmentation": Case(
        (
            train(
                f"{TINY_IMAGES} model=lenet5 preprocessing=[rand_augment,affine,random_erasing] "
                "regularization=[swa,elastic_net] schedule=step "
                "optimizer=nesterov initialization=orthogonal",
                STEPS,
            ),
        )
    ),
    "image_folder": Case(
        (
            train(f"{PICTURES} model=cnn dataset.balance=weights"),
            evaluate(),
            predict("{data}/pictures/circle --out answers.csv"),
            predict("{data}/pictures/cross/00.png {data}/pictures/square/01.png --explain"),
        )
    ),
    "image_folder_streamed": Case(
        (
            train(
                f"{PICTURES} model=cnn dataset.memory=false "
                "dataset.workers=2 dataset.balance=sampler loss=focal"
            ),
            evaluate("split=train"),
        )
    ),
    "image_folder_jpeg": Case(
        (
            train(f"{PHOTOS} model=cnn dataset.channels=1 dataset.image_size=16"),
            predict("{data}/photos/circle --out answers.csv"),
        )
    ),
    "transfer": Case(
        (
            train(f"{PICTURES} model=resnet_small", STEPS),
            train(f"{PHOTOS} model=resnet_small init.from=last freeze=[0] unfreeze_epoch=1"),
            evaluate(),
        )
    ),
    "overfit": Case((command(f"model=cnn dataset=digits debug=overfit {QUIET} trainer.steps=20"),)),
    "smoke": Case((command("experiment=lenet5_mnist debug=smoke --json"),)),
    "perceptron_gates": Case((train("dataset=gates"), evaluate("split=train"))),
    "roi_trivial": Case(
        (train("dataset=digits model=cnn_roi preprocessing=[trivial_augment]", STEPS),)
    ),
    "half_batches": Case(
        (
            train(
                "dataset=digits model=mlp device.precision=bf16 "
                "trainer.evaluate_every=5 schedule=plateau",
                STEPS,
            ),
        )
    ),
    "patches_transformer": Case(
        (train(f"{TINY_IMAGES} model=transformer model.dim=16 preprocessing=[patches]", STEPS),)
    ),
    "folds": Case(
        (command(f"-m model=mlp dataset=digits dataset.folds=3 dataset.fold=0,1 {STEPS}"),)
    ),
    "sweep": Case((command(f"-m dataset=digits model=mlp,lenet5 optimizer=adam,rmsprop {STEPS}"),)),
    # runs that are continued
    "stopped_and_resumed": Case(
        (
            Command(
                train(
                    "dataset=digits model=cnn regularization=[dropout,ema] trainer.save_every=10",
                    "--json callbacks=quiet trainer.log_every=1 trainer.epochs=3",
                ).words,
                stop_at_line=30,
                code=143,
            ),
            command("resume last --json"),
        )
    ),
    "resumed_longer": Case(
        (
            train(
                "dataset=digits model=mlp regularization=[early_stopping] optimizer=adagrad", STEPS
            ),
            command("resume last trainer.steps=20 --json"),
        )
    ),
    "forked": Case(
        (
            train("dataset=digits model=mlp optimizer=momentum", STEPS),
            command("resume last --fork optimizer.lr=1e-4 trainer.steps=20 --json"),
            evaluate(),
        )
    ),
    # tables and series
    "tabular": Case(
        (
            train(f"{HOUSES} dataset.target=sold dataset.categories=embed dataset.balance=focal"),
            evaluate("split=val"),
            predict("{data}/new_houses.csv --out answers.csv"),
        )
    ),
    "regression": Case(
        (
            train(f"{HOUSES} dataset.target=[price,area] dataset.ignore=[sold] task=regression"),
            evaluate(),
            predict("{data}/new_houses.csv --out answers.jsonl"),
        )
    ),
    "bundled_table": Case((train("dataset=diabetes"), train("dataset=wine model=mlp loss=hinge"))),
    "series": Case(
        (
            train(
                "dataset=timeseries dataset.path={data}/series.csv "
                "dataset.column=kW dataset.horizon=3"
            ),
            evaluate(),
            predict("{data}/series.csv --out answers.csv"),
        )
    ),
    "chaotic_series": Case(
        (train("dataset=mackey_glass dataset.source.length=400 model=gru loss=huber"),)
    ),
    # texts
    "texts": Case(
        (
            train(
                f"{REVIEWS} model=lstm model.bidirectional=true "
                "model.word_dropout=0.1 regularization=[clip]"
            ),
            evaluate(),
            Command(("predict", "last", "a good cat", "a bad and unheard dog", "--json")),
            predict("{data}/letters/positive --out answers.csv"),
        )
    ),
    "text_folder": Case(
        (
            train(
                "dataset=text_files dataset.path={data}/letters model=transformer model.dim=16 "
                "dataset.tokenizer=bpe dataset.vocab_size=80 dataset.tokens_per_batch=120"
            ),
            predict("split=test --out answers.csv"),
        )
    ),
    "fasttext": Case(
        (train(f"{REVIEWS} model=fasttext model.buckets=1000"), evaluate("split=val"))
    ),
    "recurrent_lm": Case(
        (
            train(f"{BOOK} model=gru_lm dataset.stream=true task.sample_tokens=20"),
            evaluate(),
            generate_text("The cat ", 40),
        )
    ),
    "transformer_lm": Case(
        (
            train(
                f"{BOOK} model=transformer_lm model.dim=16 "
                "model.positions=rotary dataset.tokenizer=word",
                STEPS,
            ),
            generate_text("the large", 10),
        )
    ),
    "translation": Case(
        (
            train(f"{PAIRS} model=transformer_seq2seq model.dim=16 task.beam_size=2"),
            evaluate(),
            Command(("predict", "last", "the small cat", "a horse leaves", "--json")),
        )
    ),
    "reversal": Case(
        (
            train(
                "dataset=reversal dataset.pairs.train_samples=320 "
                "dataset.pairs.val_samples=32 task.teacher_forcing=0.5 "
                "dataset.pairs.test_samples=32 model.embedding_dim=16 "
                "model.hidden_size=16 dataset.batch_size=32"
            ),
            predict("split=val --out answers.jsonl"),
        )
    ),
    "word_vectors": Case(
        (
            train(f"{SENTENCES} model=word2vec model.embedding_dim=8"),
            evaluate("split=val"),
            export_vectors(),
            train(f"{REVIEWS} model=gru model.embedding_dim=8 +model.embedding.from=last", STEPS),
        )
    ),
    "cbow": Case(
        (train(f"{SENTENCES} model=cbow model.embedding_dim=8 model.output=hierarchical_softmax"),)
    ),
    "subword_vectors": Case(
        (
            train(f"{SENTENCES} model=fasttext_vectors model.embedding_dim=8 model.buckets=200"),
            export_vectors(),
        )
    ),
    # detection
    "coco": Case(
        (
            train(
                "dataset=coco dataset.images={data}/coco/images "
                "dataset.annotations={data}/coco/boxes.json "
                f"dataset.jitter=0.2 {BOXES}"
            ),
            evaluate("split=train"),
            predict("{data}/coco/images/3.png --out answers.jsonl"),
        )
    ),
    "yolo": Case((train(f"dataset=yolo dataset.path={{data}}/yolo {BOXES}"), evaluate())),
    "voc": Case(
        (
            train(f"dataset=voc dataset.path={{data}}/voc {BOXES} preprocessing=[color_jitter]"),
            evaluate(),
        )
    ),
    "digit_scenes": Case(
        (
            train(
                "dataset=digit_scenes dataset.digits=bundled "
                "dataset.train_scenes=12 dataset.val_scenes=4 "
                "dataset.test_scenes=4 "
                f"{DETECTOR}"
            ),
        )
    ),
    # generative
    "gan": Case(
        (
            train(
                f"{GRAY_DIGITS} model=gan model.conditional=true task.judge_epochs=1",
                f"{QUIET} trainer.epochs=1",
            ),
            evaluate(),
            generate_images(5),
        )
    ),
    "dcgan": Case(
        (
            train(
                f"{GRAY_DIGITS} model=dcgan model.channels=[16] "
                "model.discriminator_norm=layer task.loss=wasserstein "
                "task.judge=null task.discriminator_steps=2",
                STEPS,
            ),
            generate_images(4),
        )
    ),
    "vae": Case(
        (
            train(
                f"{GRAY_DIGITS} model=vae model.hidden_sizes=[32] "
                "model.code_size=4 task.loss=cross_entropy"
            ),
            evaluate(),
            predict("split=test --out codes.csv"),
            generate_images(4),
        )
    ),
    "autoencoder": Case(
        (
            train(
                f"{GRAY_DIGITS} model=convolutional_autoencoder "
                "model.channels=[8,16] model.code_size=4 "
                "task.noise=0.2 task.masking=0.1 task.sparsity=0.01",
                STEPS,
            ),
        )
    ),
    "deep_belief_net": Case(
        (
            train(
                f"{GRAY_DIGITS} model=deep_belief_net model.hidden_sizes=[24,16] "
                "task.pretrain_epochs=1 task.labels=200 "
                "task.method=persistent"
            ),
            evaluate(),
            predict("split=val --out answers.csv"),
        )
    ),
    "deep_autoencoder": Case(
        (
            train(
                f"{GRAY_DIGITS} model=unrolled_autoencoder "
                "model.hidden_sizes=[24,16] model.code_size=4 "
                "task.pretrain_epochs=1"
            ),
            evaluate(),
        )
    ),
    # reinforcement learning
    "q_table": Case(
        (
            train(
                "dataset=cliffwalking dataset.per_epoch=200 dataset.batch_size=20 "
                "dataset.max_episode_steps=50 task.method=double_q_learning"
            ),
            evaluate(),
            roll_out(),
        )
    ),
    "sarsa": Case(
        (
            train(
                "dataset=frozenlake dataset.per_epoch=100 "
                "dataset.batch_size=4 task.method=sarsa task.n=3 "
                "task.policy=softmax task.alpha_final=0.1"
            ),
            train(
                "dataset=taxi dataset.per_epoch=100 dataset.batch_size=4 "
                "dataset.envs=2 task.method=expected_sarsa"
            ),
        )
    ),
    "dqn": Case(
        (
            train(
                "dataset=cartpole dataset.batch_size=8 dataset.per_epoch=160 "
                "dataset.episodes=2 task.batch_size=16 "
                "model.hidden_sizes=[16] task.prioritized=true "
                "task.target_every=4 model.dueling=true"
            ),
            evaluate(),
            roll_out(),
        )
    ),
    # real data sets
    "mnist": Case(
        (
            train("dataset=mnist model=cnn paths.data={real}", STEPS),
            predict("split=test --out answers.csv"),
        ),
        ("MNIST",),
    ),
    "shakespeare": Case(
        (train("dataset=shakespeare model=lstm_lm paths.data={real}", STEPS),), ("text",)
    ),
    "multi30k": Case(
        (
            train(
                "dataset=multi30k paths.data={real} "
                "dataset.vocab_size=500 dataset.target_vocab_size=500 "
                "task.length_ratio=0.1 debug=smoke"
            ),
        ),
        ("multi30k",),
    ),
    "coco128": Case(
        (train(f"experiment=rcnn_coco128 paths.data={{real}} {QUIET} trainer.steps=2", ""),),
        ("coco128",),
    ),
}
