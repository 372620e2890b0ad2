"""Names that users of other programs type, and what to type here instead. Data only.

Hydra, Lightning, Ultralytics, Keras, Hugging Face, Ludwig, scikit-learn and PyTorch's examples.
`{value}` stands for the value that was typed, FILE, FOLDER, RUN, NAME and COLUMN for what only the
user knows. tests/config/suggestions/test_habits.py composes every override of this file.
"""

from __future__ import annotations

# A key here: the names that other programs have for it. If several keys list a name, the first key
# that the configuration has is meant.
RENAMED = {
    "regularization.early_stopping.patience": "patience early_stopping_patience n_iter_no_change",
    "seed": "random_state random_seed manual_seed seed_everything rng_seed global_seed",
    "name": "run_name exp_name experiment_name run_id version tag task_name wandb_name",
    "paths.output": """
        output_dir save_dir default_root_dir project log_dir logdir logging_dir out_dir
        exp_dir run_dir output_directory work_dir results_dir outdir result_dir
        checkpoint_dir
    """,
    "paths.data": "data_dir data_root datadir root dataset_dir cache_dir root_dir",
    "optimizer.lr": """
        lr learning_rate lr0 base_lr init_lr initial_lr learning_rate_init max_lr eta0 eta
    """,
    "optimizer.weight_decay": "weight_decay wd l2_reg l2_regularization reg_lambda",
    "optimizer.momentum": "momentum",
    "optimizer.eps": "adam_epsilon epsilon_adam",
    "optimizer.beta1": "adam_beta1 beta_1 b1",
    "optimizer.beta2": "adam_beta2 beta_2 b2",
    "schedule.warmup": """
        warmup warmup_steps warmup_ratio num_warmup_steps warmup_proportion
        warmup_fraction
    """,
    "dataset.batch_size": """
        batch batch_size bs batchsize train_batch_size per_device_train_batch_size
        mini_batch_size minibatch_size train_bs batch_size_train samples_per_gpu
    """,
    "dataset.eval_batch_size": """
        eval_batch_size per_device_eval_batch_size val_batch_size test_batch_size
        validation_batch_size valid_batch_size batch_size_val
    """,
    "dataset.val_fraction": """
        val_split validation_split validation_fraction val_ratio valid_size val_size
        val_percent validation_size valid_ratio val_frac
    """,
    "dataset.test_fraction": "test_size test_split test_ratio test_frac",
    "dataset.folds": "cv n_splits n_folds num_folds k_folds kfold kfolds k_fold",
    "dataset.group": "groups group_column group_col group_key split_group",
    "dataset.time": "time_column date_column time_col date_col timestamp_column",
    "dataset.workers": "workers num_workers n_workers dataloader_num_workers data_loader_workers",
    "dataset.image_size": """
        imgsz image_size img_size input_size img_sz input_shape target_size resolution
    """,
    "dataset.max_length": "max_length max_len max_seq_length max_seq_len maxlen",
    "dataset.length": """
        seq_len sequence_length block_size context_length seq_length bptt max_length
        max_len
    """,
    "dataset.target": "target target_column label_column label_col y target_col output_column",
    "dataset.vocab_size": "vocab_size max_features num_words max_tokens",
    "dataset.path": """
        data_path dataset_path train_data_dir train_dir image_dir img_dir images_dir
        image_folder images_path file data_file filename
    """,
    "dataset.test_path": "test_file test_data test_csv",
    "device.threads": "n_jobs num_threads n_threads nproc cpu_threads intra_op_threads",
    "device.precision": """
        precision amp dtype mixed_precision use_amp fp_precision torch_dtype amp_dtype
    """,
    "device.compile": "compile torch_compile jit_compile use_compile torch_compile_mode",
    "device.checkpoint_activations": """
        gradient_checkpointing activation_checkpointing use_gradient_checkpointing
        enable_activation_checkpointing grad_checkpointing checkpoint_gradients
        recompute_activations use_checkpoint activation_checkpoint recompute
    """,
    "device.deterministic": "deterministic cudnn_deterministic",
    "model.dropout": """
        dropout dropout_rate drop_rate dropout_prob drop hidden_dropout_prob dropout_p
    """,
    "model.num_layers": "num_layers n_layers num_hidden_layers n_layer layers",
    "model.hidden_size": "hidden_size hidden_dim n_hidden hidden n_units rnn_size d_model",
    "model.embedding_dim": "embedding_dim embed_dim embedding_size emb_dim emb_size",
    "model.activation": "activation act act_fn activation_function hidden_act nonlinearity",
    "model.hidden_sizes": """
        hidden_layer_sizes hidden_units layer_sizes hidden_dims hidden_layers units
    """,
    "task.top_k": "top_k topk",
    "model.nms_threshold": "iou iou_thres iou_threshold nms_thresh nms_iou",
    "task.min_score": "conf conf_thres confidence score_threshold conf_threshold",
    "trainer.epochs": """
        epochs max_epochs num_epochs n_epochs num_train_epochs nb_epoch nb_epochs max_iter
        epoch train_epochs total_epochs n_epoch num_epoch
    """,
    "trainer.steps": """
        steps max_steps num_steps total_steps n_steps iterations num_iterations max_iters
        n_iter iters iter train_steps max_train_steps
    """,
    "trainer.max_seconds": "max_time time_limit max_duration time_budget time_limit_s",
    "trainer.accumulate": """
        accumulate_grad_batches gradient_accumulation_steps accumulation_steps accum_steps
        grad_accum grad_accumulation accumulate_steps gradient_accumulation
    """,
    "trainer.log_every": """
        log_every_n_steps logging_steps log_interval log_freq print_freq print_every
        log_steps log_frequency log_period
    """,
    "trainer.evaluate_every": """
        val_check_interval eval_steps eval_interval eval_every eval_freq val_every
        val_interval evaluate_every_n_steps eval_period
    """,
    "trainer.save_every": """
        save_steps save_interval save_freq checkpoint_every
        every_n_train_steps checkpoint_interval save_every_n_steps ckpt_interval
        checkpoint_freq
    """,
    "checkpoints.keep": "save_top_k keep_top_k keep_best_k num_best_checkpoints",
    "checkpoints.every": """
        save_period every_n_epochs save_every_n_epochs keep_every_n_epochs save_every_epoch
    """,
    "trainer.watch": """
        monitor metric_for_best_model metric scoring eval_metric monitor_metric
        optimized_metric
    """,
    "trainer.mode": "greater_is_better monitor_mode direction maximize",
    "trainer.skip_nonfinite": "terminate_on_nan detect_anomaly skip_nan",
}

# A group here: the names that other programs have for it.
GROUPS = {
    "dataset": """
        datasets data datamodule dataloader data_module ds dm train_data dataset_name data_name
        train_dataset corpus
    """,
    "model": """
        models arch net network backbone architecture model_name model_name_or_path model_type
        module encoder model_class
    """,
    "schedule": """
        schedules scheduler lr_scheduler lr_scheduler_type sched lr_schedule lr_policy lr_decay
        learning_rate_schedule
    """,
    "loss": "criterion loss_fn loss_function objective loss_type losses cost",
    "optimizer": "optim opt solver optimizers optimizer_name optimizer_type",
    "preprocessing": """
        augmentation augmentations transforms transform aug augment data_augmentation
        train_transforms augs
    """,
    "initialization": "initializer init_method kernel_initializer weight_init weights_init",
    "regularization": "regularizer kernel_regularizer penalty regularizers reg",
    "callbacks": "callback cb",
    "device": """
        accelerator devices gpus gpu num_gpus n_gpu gpu_id gpu_ids cuda use_cuda use_gpu
        no_cuda use_cpu device_type
    """,
    "task": "tasks problem problem_type task_type",
    "experiment": "experiments config config_name recipe preset cfg exp hparams",
}

# Names of options, by group: in lower case without spaces, dots, dashes and underscores; * matches
# anything. An answer with a = in it is typed as it is.
OPTIONS = {
    "dataset": {
        "cocoyaml": "dataset=coco dataset.images=FOLDER dataset.annotations=FILE",
        "cifar": "cifar10",
        "fashion": "fashion_mnist",
        "csv": "dataset=tabular dataset.path=FILE dataset.target=COLUMN",
        "*csv": "dataset=tabular dataset.path={value} dataset.target=COLUMN",
        "*tsv": "dataset=tabular dataset.path={value} dataset.target=COLUMN",
        "*parquet": "dataset=tabular dataset.path={value} dataset.target=COLUMN",
        "*txt": "dataset=language_modeling dataset.path={value}",
        "imagefolder": "dataset=image_folder dataset.path=FOLDER",
        "imagenet": "dataset=image_folder dataset.path=FOLDER",
        "pascalvoc": "dataset=voc dataset.path=FOLDER",
        "*yaml": "dataset=yolo dataset.path=FOLDER",
        "*/*": "dataset=image_folder dataset.path={value}",
        "tinyshakespeare": "shakespeare",
        "random": "synthetic",
        "fake": "synthetic",
    },
    "sweep": {
        "optuna": "tpe",
        "bayes*": "tpe",
        "hyperopt": "tpe",
        "basic": "grid",
        "gridsearch": "grid",
        "randomsearch": "random",
        "cma": "cmaes",
        "hyperband": "sweep=tpe sweep.pruner=hyperband",
        "asha": "sweep=tpe sweep.pruner=halving",
    },
    "launcher": {
        "joblib": "local",
        "multiprocessing": "local",
        "basic": "inline",
        "slurm": "submitit",
        "submititslurm": "submitit",
        "submititlocal": "launcher=submitit launcher.cluster=local",
    },
    "model": {
        "yolo*": "dataset=yolo dataset.path=FOLDER",
        "*fasterrcnn*": "faster_rcnn",
        "ssd*": "dataset=yolo dataset.path=FOLDER",
        "detr*": "dataset=yolo dataset.path=FOLDER",
        "bert*": "transformer",
        "distilbert*": "transformer",
        "roberta*": "transformer",
        "gpt*": "transformer_lm",
        "llama*": "transformer_lm",
        "t5*": "transformer_seq2seq",
        "vit*": "model=torchvision model.name=vit_b_16",
        "efficientnet*": "model=torchvision model.name=efficientnet_b0",
        "mobilenet*": "model=torchvision model.name=mobilenet_v3_small",
        "convnext*": "model=torchvision model.name=convnext_tiny",
        "lenet": "lenet5",
        "resnet": "resnet18",
        "vgg": "vgg16",
        "densenet": "densenet121",
        "inception": "inception_v3",
        "simplecnn": "cnn",
        "convnet": "cnn",
        "simpledensenet": "mlp",
        "linear": "perceptron",
        "logisticregression": "perceptron",
        "dense": "mlp",
        "feedforward": "mlp",
        "fc": "mlp",
        "sequential": "mlp",
        "mlpclassifier": "mlp",
        "mlpregressor": "model=mlp task=regression",
        "dqn": "q_network",
        "*pt": "init.from=RUN",
        "*pth": "init.from=RUN",
        "*ckpt": "init.from=RUN",
    },
    "optimizer": {
        "auto": "adam",
        "adamwhf": "adamw",
        "adamwtorch*": "adamw",
        "sgdm": "momentum",
        "torchoptimadam": "adam",
        "torchoptimsgd": "sgd",
        "torchoptimadamw": "adamw",
    },
    "schedule": {
        "cosineannealing*": "cosine",
        "cosinedecay*": "cosine",
        "cosinewith*": "cosine",
        "reducelronplateau": "plateau",
        "reduceonplateau": "plateau",
        "multistep*": "step",
        "steplr": "step",
        "piecewise*": "step",
        "onecycle*": "onecycle",
        "1cycle": "onecycle",
        "linear*": "polynomial",
        "poly*": "polynomial",
        "constantlr": "constant",
        "constantwithwarmup": "warmup",
        "none": "constant",
        "null": "constant",
        "false": "constant",
    },
    "loss": {
        "ce": "cross_entropy",
        "xent": "cross_entropy",
        "nll*": "cross_entropy",
        "crossentropyloss": "cross_entropy",
        "categoricalcrossentropy": "cross_entropy",
        "sparsecategoricalcrossentropy": "cross_entropy",
        "softmaxcrossentropy": "cross_entropy",
        "softmax*": "cross_entropy",
        "bce*": "binary_cross_entropy",
        "binarycrossentropy": "binary_cross_entropy",
        "meansquarederror": "mse",
        "mseloss": "mse",
        "l2": "mse",
        "l2loss": "mse",
        "squarederror": "mse",
        "meanabsoluteerror": "mae",
        "l1": "mae",
        "l1loss": "mae",
        "smoothl1*": "huber",
        "huberloss": "huber",
        "kld*": "kl_divergence",
        "kl": "kl_divergence",
        "hingeloss": "hinge",
        "focalloss": "focal",
    },
    "preprocessing": {
        "horizontalflip": "flip",
        "randomhorizontalflip": "flip",
        "hflip": "flip",
        "fliplr": "flip",
        "randomflip": "flip",
        "randomcrop": "random_crop",
        "randomrotation": "rotation",
        "rotate": "rotation",
        "colorjitter": "color_jitter",
        "randaugment": "rand_augment",
        "autoaugment": "trivial_augment",
        "trivialaugmentwide": "trivial_augment",
        "randomerasing": "random_erasing",
        "randomaffine": "affine",
        "mixup": "regularization=[mixup]",
        "cutmix": "regularization=[cutmix]",
        "none": "preprocessing=[]",
        "false": "preprocessing=[]",
        "true": "preprocessing=[flip,random_crop]",
    },
    "regularization": {
        "weightdecay": "l2",
        "ridge": "l2",
        "lasso": "l1",
        "l1l2": "elastic_net",
        "elasticnet": "elastic_net",
        "gradientclipping": "clip",
        "gradclip": "clip",
        "gradclipping": "clip",
        "earlystop": "early_stopping",
        "batchnorm": "model.norm=batch",
        "none": "regularization=[]",
        "null": "regularization=[]",
        "false": "regularization=[]",
    },
    "initialization": {
        "kaiming*": "he",
        "glorot*": "xavier",
        "xavier*": "xavier",
        "henormal": "he",
        "heuniform": "he",
        "none": "default",
    },
    "callbacks": {
        "earlystopping": "regularization=[early_stopping]",
        "early_stopping": "regularization=[early_stopping]",
        "modelcheckpoint": "trainer.save_every=1ep",
        "checkpoint": "trainer.save_every=1ep",
        "reducelronplateau": "schedule=plateau",
        "learningratemonitor": "callbacks=default",
        "lrmonitor": "callbacks=default",
        "tensorboard": "callbacks=default",
        "wandb*": "callbacks=default",
        "mlflow*": "callbacks=default",
        "tqdm": "callbacks=default",
        "progressbar": "callbacks=default",
        "richprogressbar": "callbacks=default",
        "ema": "regularization=[ema]",
        "swa": "regularization=[swa]",
        "stochasticweightaveraging": "regularization=[swa]",
        "none": "quiet",
        "null": "quiet",
        "false": "quiet",
    },
    "device": {
        "gpu": "cuda",
        "gpu0": "cuda",
        "cuda*": "cuda",
        "[0-9]*": "cuda",
        "[[]*": "cuda",
        "true": "cuda",
        "false": "cpu",
        "metal": "mps",
        "none": "cpu",
        "null": "auto",
    },
    "task": {
        "detect": "detection",
        "objectdetection": "detection",
        "classify": "classification",
        "imageclassification": "classification",
        "textclassification": "classification",
        "multiclass": "classification",
        "binary": "classification",
        "regress": "regression",
        "forecast": "forecasting",
        "lm": "language_modeling",
        "causallm": "language_modeling",
        "textgeneration": "language_modeling",
        "translation": "seq2seq",
        "translate": "seq2seq",
        "gan": "adversarial",
        "generation": "adversarial",
        "autoencoder": "autoencoding",
        "rl": "temporal_difference",
        "qlearning": "temporal_difference",
    },
    "trainer": {
        "gpu": "device=cuda",
        "cuda": "device=cuda",
        "cpu": "device=cpu",
        "mps": "device=mps",
        "ddp*": "device=cuda",
    },
    "debug": {
        "fdr": "smoke",
        "limit": "smoke",
        "fastdevrun": "smoke",
        "true": "smoke",
        "default": "smoke",
        "overfitbatches": "overfit",
        "profiler": "profile",
        "false": "debug=null",
        "none": "debug=null",
    },
    "experiment": {},
}

# Values of a key here, by their names in other programs, written like the names of OPTIONS.
VALUES = {
    "sweep.mode": {"maximize": "max", "minimize": "min"},
    "device.precision": {
        "16": "fp16",
        "16true": "fp16",
        "16mixed": "fp16",
        "mixed": "fp16",
        "mixedfloat16": "fp16",
        "float16": "fp16",
        "half": "fp16",
        "torchfloat16": "fp16",
        "bf16mixed": "bf16",
        "bf16true": "bf16",
        "bfloat16": "bf16",
        "mixedbfloat16": "bf16",
        "torchbfloat16": "bf16",
        "tensorfloat32": "tf32",
        "high": "tf32",
        "32": "fp32",
        "32true": "fp32",
        "float32": "fp32",
        "torchfloat32": "fp32",
        "full": "fp32",
        "no": "fp32",
        "false": "fp32",
        "true": "auto",
    },
    "trainer.mode": {"true": "max", "maximize": "max", "false": "min", "minimize": "min"},
    "device.compile": {
        "1": "model",
        "0": "off",
        "default": "model",
        "inductor": "model",
        "reduceoverhead": "step",
        "maxautotune": "step",
        "cudagraphs": "step",
        "none": "off",
        "no": "off",
    },
    "device.checkpoint_activations": {"1": "true", "0": "false"},
    "dataset.scaling": {"true": "standardize", "false": "unit"},
    "trainer.skip_nonfinite": {"true": "1", "false": "0"},
    "dataset.batch_size": {"auto": "64"},
}

NO_GPU = {"no_cuda", "use_cpu"}  # names of a device: true means the CPU
GPU_COUNTS = {"devices", "gpus", "num_gpus", "n_gpu"}  # names of a device: 0 means the CPU

# Keys of RENAMED that not every configuration has: (what to type, a note) if this one lacks them.
HOMES = {
    "regularization.early_stopping.patience": (
        "regularization=[early_stopping] regularization.early_stopping.patience={value}",
        "early stopping is a regularization",
    ),
    "optimizer.weight_decay": ("regularization=[l2] regularization.l2.weight={value}", ""),
    "optimizer.momentum": ("optimizer=sgd optimizer.momentum={value}", ""),
    "optimizer.beta1": ("optimizer=adam optimizer.beta1={value}", ""),
    "optimizer.beta2": ("optimizer=adam optimizer.beta2={value}", ""),
    "dataset.workers": ("", "data in memory needs no workers: leave it out"),
    "dataset.image_size": ("preprocessing=[resize] preprocessing.resize.size={value}", ""),
    "dataset.max_length": ("dataset=text_files dataset.path=FOLDER dataset.max_length={value}", ""),
    "dataset.length": ("dataset=language_modeling dataset.path=FILE dataset.length={value}", ""),
    "dataset.vocab_size": ("dataset=text_files dataset.path=FOLDER dataset.vocab_size={value}", ""),
    "dataset.target": ("dataset=tabular dataset.path=FILE dataset.target={value}", ""),
    "dataset.folds": ("dataset=digits dataset.folds={value}", "a run for each fold"),
    "dataset.group": (
        "dataset=tabular dataset.path=FILE dataset.target=COLUMN dataset.group={value}",
        "",
    ),
    "dataset.time": (
        "dataset=tabular dataset.path=FILE dataset.target=COLUMN dataset.split=time "
        "dataset.time={value}",
        "",
    ),
    "dataset.path": ("dataset=image_folder dataset.path={value}", "for your own images"),
    "dataset.test_path": (
        "dataset=tabular dataset.path=FILE dataset.target=COLUMN dataset.test_path={value}",
        "",
    ),
    "dataset.test_fraction": (
        "dataset=tabular dataset.path=FILE dataset.target=COLUMN dataset.test_fraction={value}",
        "",
    ),
    "model.dropout": (
        "regularization=[dropout] regularization.dropout.p={value}",
        "for models that have a place for it",
    ),
    "model.hidden_sizes": ("model=mlp model.hidden_sizes={value}", ""),
    "model.num_layers": ("dataset=imdb model=lstm model.num_layers={value}", "for texts"),
    "model.hidden_size": ("dataset=imdb model=lstm model.hidden_size={value}", "for texts"),
    "model.embedding_dim": ("dataset=imdb model=lstm model.embedding_dim={value}", "for texts"),
    "model.nms_threshold": ("dataset=yolo dataset.path=FOLDER model.nms_threshold={value}", ""),
    "task.min_score": ("dataset=yolo dataset.path=FOLDER task.min_score={value}", ""),
}

# Keys that become other words, or none: (what to type, a note). A name may have its group, as in
# trainer.logger.
ANSWERS = {
    "early_stopping": ("regularization=[early_stopping]", ""),
    "early_stop": ("regularization=[early_stopping]", ""),
    "gradient_clip_val": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "gradient_clip": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "grad_clip": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "clip_grad": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "clip_grad_norm": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "max_grad_norm": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "clipnorm": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "clip_norm": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "clipvalue": ("regularization=[clip] regularization.clip.value={value}", ""),
    "clip_value": ("regularization=[clip] regularization.clip.value={value}", ""),
    "label_smoothing": (
        "regularization=[label_smoothing] regularization.label_smoothing.amount={value}",
        "",
    ),
    "label_smoothing_factor": (
        "regularization=[label_smoothing] regularization.label_smoothing.amount={value}",
        "",
    ),
    "nesterov": ("optimizer=nesterov", ""),
    "betas": ("optimizer.beta1=0.9 optimizer.beta2=0.999", ""),
    "l1": ("regularization=[l1] regularization.l1.weight={value}", ""),
    "l2": ("regularization=[l2] regularization.l2.weight={value}", ""),
    "mixup": ("regularization=[mixup] regularization.mixup.alpha={value}", ""),
    "cutmix": ("regularization=[cutmix] regularization.cutmix.alpha={value}", ""),
    "ema": ("regularization=[ema]", ""),
    "ema_decay": ("regularization=[ema] regularization.ema.decay={value}", ""),
    "swa": ("regularization=[swa]", ""),
    "fliplr": ("preprocessing=[flip] preprocessing.flip.p={value}", ""),
    "flipud": ("preprocessing=[flip] preprocessing.flip.vertical={value}", ""),
    "resize": ("preprocessing=[resize] preprocessing.resize.size={value}", ""),
    "crop_size": ("preprocessing=[center_crop] preprocessing.center_crop.size={value}", ""),
    "normalize": (
        "dataset.scaling=standardize",
        "images are standardized unless dataset.scaling=unit",
    ),
    "warmup_epochs": ("schedule.warmup=0.05", "a fraction of all updates, or a number of updates"),
    "gamma": ("schedule=step schedule.gamma={value}", ""),
    "milestones": ("schedule=step schedule.milestones={value}", "as fractions of the updates"),
    "min_lr": ("schedule=cosine schedule.floor=0.01", "as a fraction of optimizer.lr"),
    "class_weight": ("dataset.balance=weights", ""),
    "class_weights": ("dataset.balance=weights", ""),
    "pos_weight": ("dataset.balance=weights", ""),
    "sampler": ("dataset.balance=sampler", ""),
    "cache": ("dataset=image_folder dataset.path=FOLDER dataset.memory=auto", ""),
    "input_features": (
        "dataset=tabular dataset.path=FILE dataset.target=COLUMN",
        "all other columns are inputs",
    ),
    "output_features": ("dataset=tabular dataset.path=FILE dataset.target=COLUMN", ""),
    "pretrained": (
        "init.weights=default",
        "for models with published weights, such as model=resnet18",
    ),
    "pretrained_weights": (
        "init.weights=default",
        "for models with published weights, such as model=resnet18",
    ),
    "freeze_backbone": ('freeze=["layer1*"]', "names of parameters"),
    "freeze_layers": ('freeze=["layer1*"]', "names of parameters"),
    "ckpt_path": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "ckpt": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "checkpoint": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "resume": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "resume_from": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "resume_from_checkpoint": (
        "dltrain resume RUN",
        "init.from=RUN begins a new run with its weights",
    ),
    "load_checkpoint": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "restore": ("dltrain resume RUN", "init.from=RUN begins a new run with its weights"),
    "warm_start": ("init.from=RUN", "begins with the weights of another run"),
    "finetune": ("init.from=RUN", "begins with the weights of another run"),
    "load_weights": ("init.from=RUN", "begins with the weights of another run"),
    "weights": (
        "init.weights=default",
        "published weights; init.from=RUN takes those of another run",
    ),
    "do_train": ("dltrain", "it trains and then tests"),
    "do_eval": ("dltrain evaluate RUN", ""),
    "do_predict": ("dltrain predict RUN INPUT", ""),
    "train": ("dltrain", "it trains and then tests"),
    "test": ("dltrain evaluate RUN", "every training ends with the test"),
    "source": ("dltrain predict RUN INPUT", ""),
    "tta": ("dltrain evaluate RUN tta={value}", ""),
    "top": ("dltrain predict RUN INPUT top={value}", ""),
    "temperature": ("dltrain generate RUN TEXT temperature={value}", ""),
    "top_p": ("dltrain generate RUN TEXT top_p={value}", ""),
    "extras": ("dltrain config", "prints the configuration; the others of extras: leave them out"),
    "print_config": ("dltrain config", "prints the configuration"),
    "enforce_tags": ("", "a run needs no tags: leave it out"),
    "ignore_warnings": ("", "warnings are few and worth reading: leave it out"),
    "tags": ("name=NAME", "a run has a name and no tags"),
    "save_top_k": ("trainer.save_every=1ep", "the last and the best state are kept"),
    "save_last": ("", "the last and the best state are always kept: leave it out"),
    "min_epochs": ("", "training ends with trainer.epochs or by early stopping: leave it out"),
    "initial_epoch": ("dltrain resume RUN", "it continues at the epoch where the run ended"),
    "validation_data": ("dataset.val_fraction=0.1", "or a folder val/ beside train/"),
    "fraction": ("trainer.steps=100", "ends the run after so many steps"),
    "mosaic": ("", "there is no mosaic of images; dltrain list preprocessing"),
    "close_mosaic": ("", "there is no mosaic of images: leave it out"),
    "rect": ("", "images are scaled to fit and padded: leave it out"),
    "single_cls": ("", "the classes are those of the data: leave it out"),
    "lin1_size": ("model=mlp model.hidden_sizes=[256,128]", ""),
    "val": ("dltrain evaluate RUN split=val", ""),
    "evaluate": ("dltrain evaluate RUN", ""),
    "predict": ("dltrain predict RUN INPUT", ""),
    "limit_train_batches": ("trainer.steps=100", "ends the run after so many steps"),
    "limit_val_batches": ("", "every evaluation takes the whole split: leave it out"),
    "limit_test_batches": ("", "every evaluation takes the whole split: leave it out"),
    "hub_model_id": ("", "nothing is uploaded: leave it out"),
    "push_to_hub": ("", "nothing is uploaded: leave it out"),
    "save_model": ("trainer.save_every=1ep", "the last and the best state are always saved"),
    "steps_per_epoch": ("trainer.steps=100", "ends the run after so many steps"),
    "csv": ("dataset=tabular dataset.path={value} dataset.target=COLUMN", ""),
    "csv_path": ("dataset=tabular dataset.path={value} dataset.target=COLUMN", ""),
    "csv_file": ("dataset=tabular dataset.path={value} dataset.target=COLUMN", ""),
    "train_file": ("dataset=tabular dataset.path={value} dataset.target=COLUMN", ""),
    "train_csv": ("dataset=tabular dataset.path={value} dataset.target=COLUMN", ""),
    "clip": ("regularization=[clip] regularization.clip.norm={value}", ""),
    "lrf": (
        "schedule=cosine schedule.floor={value}",
        "the last rate, as a fraction of optimizer.lr",
    ),
    "step_size": ("schedule=step", '"schedule.milestones=[0.5,0.75]" says when the rate falls'),
    "cos_lr": ("schedule=cosine", ""),
    "batch_norm": ("model.norm=batch", ""),
    "bn": ("model.norm=batch", ""),
    "filters": ("model=cnn model.channels=[32,64]", ""),
    "degrees": ("preprocessing=[rotation]", 'or "preprocessing=[affine]"'),
    "translate": ("preprocessing=[affine]", ""),
    "scale": ("preprocessing=[affine]", ""),
    "shear": ("preprocessing=[affine]", ""),
    "hsv_h": ("preprocessing=[color_jitter]", ""),
    "hsv_s": ("preprocessing=[color_jitter]", ""),
    "hsv_v": ("preprocessing=[color_jitter]", ""),
    "env": ("dataset=gymnasium dataset.id={value}", ""),
    "env_id": ("dataset=gymnasium dataset.id={value}", ""),
    "env_name": ("dataset=gymnasium dataset.id={value}", ""),
    "max_new_tokens": ("dltrain generate RUN TEXT --tokens 50", ""),
    "split": ("dltrain evaluate RUN split=val", ""),
    "fast_dev_run": ("debug=smoke", ""),
    "dry_run": ("debug=smoke", "dltrain check trains nothing at all"),
    "smoke_test": ("debug=smoke", ""),
    "sanity_check": ("debug=smoke", ""),
    "num_sanity_val_steps": ("", "no steps are run before training: leave it out"),
    "overfit_batches": ("debug=overfit", ""),
    "profiler": ("debug=profile", ""),
    "profile": ("debug=profile", ""),
    "logger": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "loggers": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "report_to": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "wandb": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "wandb_project": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "wandb_entity": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "use_wandb": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "tensorboard": ("callbacks=default", "callbacks.tensorboard=null leaves it out"),
    "mlflow": (
        "",
        "every run logs to metrics.jsonl and TensorBoard; callbacks=quiet is without TensorBoard",
    ),
    "enable_progress_bar": ("callbacks.progress=null", "leaves the progress display out"),
    "progress_bar": ("callbacks.progress=null", "leaves the progress display out"),
    "disable_tqdm": ("callbacks.progress=null", "leaves the progress display out"),
    "verbose": ("callbacks=quiet", "shows no progress; --debug shows tracebacks"),
    "quiet": ("callbacks=quiet", ""),
    "silent": ("callbacks=quiet", ""),
    "plots": ("callbacks=default", "pictures are in TensorBoard; callbacks=quiet leaves them out"),
    "enable_checkpointing": (
        "trainer.save_every=1ep",
        "the last and the best state are always saved",
    ),
    "save": ("trainer.save_every=1ep", "the last and the best state are always saved"),
    "save_total_limit": ("trainer.save_every=1ep", "the last and the best state are kept"),
    "save_strategy": ("trainer.save_every=1ep", "the last and the best state are always saved"),
    "save_best_only": ("trainer.save_every=1ep", "the last and the best state are always saved"),
    "load_best_model_at_end": (
        "trainer.watch=val/loss",
        "the test always takes the best state by trainer.watch",
    ),
    "check_val_every_n_epoch": (
        "trainer.evaluate_every=100",
        "in steps; every epoch ends with an evaluation",
    ),
    "eval_strategy": (
        "trainer.evaluate_every=100",
        "in steps; every epoch ends with an evaluation",
    ),
    "evaluation_strategy": (
        "trainer.evaluate_every=100",
        "in steps; every epoch ends with an evaluation",
    ),
    "metrics": (
        "trainer.watch=val/loss",
        "a task computes its metrics; trainer.watch says which chooses the best state",
    ),
    "strategy": ("device=cuda", "one process trains on one device"),
    "distributed": ("device=cuda", "one process trains on one device"),
    "multiprocessing_distributed": ("device=cuda", "one process trains on one device"),
    "dist_url": ("device=cuda", "one process trains on one device"),
    "dist_backend": ("device=cuda", "one process trains on one device"),
    "ddp": ("device=cuda", "one process trains on one device"),
    "num_nodes": ("device=cuda", "one process trains on one device"),
    "world_size": ("device=cuda", "one process trains on one device"),
    "local_rank": ("device=cuda", "one process trains on one device"),
    "sync_batchnorm": ("device=cuda", "one process trains on one device"),
    "benchmark": ("device=fast", "everything that makes it faster"),
    "fp16": ("device.precision=fp16", ""),
    "half": ("device.precision=fp16", ""),
    "bf16": ("device.precision=bf16", ""),
    "n_trials": ("dltrain -m sweep=tpe sweep.trials=20 optimizer.lr=1e-3,1e-2", "a search"),
    "hparams_search": ("dltrain -m sweep=tpe sweep.trials=20 optimizer.lr=1e-3,1e-2", "a search"),
    "num_classes": ("", "the data says how many classes there are: leave it out"),
    "n_classes": ("", "the data says how many classes there are: leave it out"),
    "num_class": ("", "the data says how many classes there are: leave it out"),
    "input_shape": ("", "the data says how large its inputs are: leave it out"),
    "nc": ("", "the data says how many classes there are: leave it out"),
    "input_dim": ("", "the data says how large its inputs are: leave it out"),
    "in_channels": ("", "the data says how large its inputs are: leave it out"),
    "shuffle": ("", "training samples are always shuffled: leave it out"),
    "pin_memory": ("", "that is done where it helps: leave it out"),
    "persistent_workers": ("", "that is done where it helps: leave it out"),
    "drop_last": ("", "no training sample is dropped: leave it out"),
    "exist_ok": ("", "every run has a folder of its own: leave it out"),
    "overwrite_output_dir": ("", "every run has a folder of its own: leave it out"),
    "export": (
        "dltrain export RUN --format word2vec",
        "a checkpoint's weights are in safetensors files",
    ),
    "allow_tf32": ("device.precision=tf32", "on NVIDIA GPUs since Ampere"),
    "tf32": ("device.precision=tf32", "on NVIDIA GPUs since Ampere"),
    "float32_matmul_precision": (
        "device.precision=tf32",
        "for high and medium; fp32 is the highest precision",
    ),
    "plugins_dir": ("plugins=[NAME]", "your own package, whose classes may be built"),
}

# Keys of ANSWERS whose answer depends on the value: {value: (what to type, a note)}.
BY_VALUE = {
    "train": {
        "false": ("dltrain evaluate RUN", "scores a run without training"),
        "0": ("dltrain evaluate RUN", "scores a run without training"),
    },
    "test": {
        "false": ("", "every training ends with one pass over the test split: leave it out"),
        "true": ("", "every training ends with the test: leave it out"),
    },
    "checkpoint": {
        "best": ("dltrain evaluate RUN checkpoint=best", ""),
        "last": ("dltrain evaluate RUN checkpoint=last", ""),
    },
    "ckpt_path": {"best": ("dltrain evaluate RUN checkpoint=best", "")},
    "normalize": {"false": ("dataset.scaling=unit", "pixels from 0 to 1")},
    "float32_matmul_precision": {
        "highest": ("", "matrix products are not rounded: leave it out"),
    },
    "batch_norm": {"false": ("model.norm=none", "")},
    "weights": {
        "null": ("", "weights are random unless init.from or init.weights is set: leave it out")
    },
}

# Keys of ANSWERS for which false, null and 0 mean what happens anyway.
OFF_UNLESS_CHOSEN = """
    early_stopping early_stop nesterov mixup cutmix ema swa gradient_clip_val grad_clip
    max_grad_norm clipnorm clipvalue label_smoothing l1 l2 fliplr flipud class_weight
    pretrained ckpt_path ckpt checkpoint resume resume_from resume_from_checkpoint
    warm_start fast_dev_run dry_run profiler overfit_batches fp16 half bf16 cos_lr degrees
    allow_tf32 tf32 translate shear hsv_h hsv_s hsv_v logger wandb hparams_search mosaic
    print_config
"""

# Nodes of other programs that are a group here.
PARENTS = {
    "model.optimizer.": "optimizer",
    "model.scheduler.": "schedule",
    "model.lr_scheduler.": "schedule",
    "model.criterion.": "loss",
    "model.net.": "model",
    "scheduler.": "schedule",
    "lr_scheduler.": "schedule",
}

# Settings of sweeps by their names in other programs. The key counts if the chosen option has it,
# and the words otherwise.
SWEEP_KEYS = {
    "launcher.jobs": "n_jobs num_jobs max_workers n_workers num_workers workers parallel processes",
    "launcher.timeout": "timeout_s timeout_seconds time_limit",
    "launcher.time": "timeout_min timeout time_limit minutes",
    "launcher.memory": "mem_gb mem",
    "launcher.cpus": "cpus_per_task",
    "launcher.gpus": "gpus_per_node gpus_per_task",
    "sweep.trials": "n_trials num_trials max_trials num_samples n_samples n_iter count budget",
    "sweep.mode": "direction directions goal",
    "sweep.metric": "objective monitor target",
    "sweep.random_trials": "n_startup_trials startup_trials n_initial_points",
    "sweep.space": "params search_space parameters param_space param_grid",
}
SWEEP_WORDS = {
    "launcher.jobs": "launcher=local launcher.jobs={value}",
    "launcher.timeout": "launcher=local launcher.timeout={value}",
    "sweep.trials": "sweep=tpe sweep.trials={value}",
    "sweep.random_trials": "sweep=tpe sweep.random_trials={value}",
}

# Programs whose name may come first, and their verbs.
PROGRAMS = {"yolo", "ultralytics"}
PROGRAM_VERBS = {
    "train": "dltrain dataset=yolo dataset.path=FOLDER",
    "fit": "dltrain train",
    "predict": "dltrain predict RUN INPUT",
    "track": "dltrain predict RUN INPUT",
    "val": "dltrain evaluate RUN split=val",
    "export": "dltrain export RUN --format word2vec",
    "benchmark": "dltrain debug=profile",
}

# Verbs of other programs, as a first word or as the value of mode=.
VERBS = {
    "fit": "dltrain train",
    "training": "dltrain train",
    "run": "dltrain train",
    "start": "dltrain train",
    "finetune": "dltrain init.from=RUN",
    "fine-tune": "dltrain init.from=RUN",
    "eval": "dltrain evaluate RUN",
    "test": "dltrain evaluate RUN",
    "val": "dltrain evaluate RUN split=val",
    "validate": "dltrain evaluate RUN split=val",
    "validation": "dltrain evaluate RUN split=val",
    "score": "dltrain evaluate RUN",
    "infer": "dltrain predict RUN INPUT",
    "inference": "dltrain predict RUN INPUT",
    "forecast": "dltrain predict RUN INPUT",
    "sample": "dltrain generate RUN --samples 64",
    "sampling": "dltrain generate RUN --samples 64",
    "write": "dltrain generate RUN TEXT --tokens 200",
    "play": "dltrain rollout RUN",
    "enjoy": "dltrain rollout RUN",
    "render": "dltrain rollout RUN",
    "explain": "dltrain predict RUN INPUT --explain",
    "detect": "dltrain dataset=yolo dataset.path=FOLDER",
    "classify": "dltrain dataset=image_folder dataset.path=FOLDER",
    "yolo": "dltrain dataset=yolo dataset.path=FOLDER",
    "track": "dltrain predict RUN INPUT",
    "continue": "dltrain resume RUN",
    "restart": "dltrain resume RUN",
    "restore": "dltrain resume RUN",
    "sweep": "dltrain -m optimizer.lr=1e-3,1e-2",
    "tune": "dltrain -m optimizer.lr=1e-3,1e-2",
    "multirun": "dltrain -m optimizer.lr=1e-3,1e-2",
    "search": "dltrain -m optimizer.lr=1e-3,1e-2",
    "hyperopt": "dltrain -m optimizer.lr=1e-3,1e-2",
    "optimize": "dltrain -m optimizer.lr=1e-3,1e-2",
    "benchmark": "dltrain debug=profile",
    "profile": "dltrain debug=profile",
    "smoke": "dltrain debug=smoke",
    "debug": "dltrain debug=smoke",
    "overfit": "dltrain debug=overfit",
    "summary": "dltrain check",
    "info": "dltrain check",
    "lint": "dltrain check",
    "dry-run": "dltrain check",
    "plot": "dltrain check --plot",
    "cfg": "dltrain config",
    "conf": "dltrain config",
    "settings": "dltrain config",
    "print_config": "dltrain config",
    "describe": "dltrain show model/cnn",
    "ls": "dltrain list",
    "models": "dltrain list model",
    "datasets": "dltrain list dataset",
    "experiments": "dltrain list experiment",
    "version": "dltrain --version",
    "init": "dltrain",
    "new": "dltrain",
}

# Flags: Hydra's own, and short ones. A key with `=` at its end takes the next word as its value.
FLAGS = {
    "--info": "dltrain config",
    "-i": "dltrain config",
    "--hydra-help": "dltrain --help",
    "--run": "dltrain",
    "-r": "dltrain",
    "--config-path": "dltrain --config-dir FOLDER",
    "-cp": "dltrain --config-dir FOLDER",
    "--config-name": "experiment=",
    "-cn": "experiment=",
    "--config": "experiment=",
    "--config-file": "experiment=",
    "--shell-completion": "dltrain completion bash",
    "-sc": "dltrain completion bash",
    "--experimental-rerun": "dltrain resume RUN",
    "--multi-run": "dltrain -m optimizer.lr=1e-3,1e-2",
    "--sweep": "dltrain -m optimizer.lr=1e-3,1e-2",
    "--list": "dltrain list",
    "--output": "paths.output=",
    "-o": "paths.output=",
    "-e": "trainer.epochs=",
    "-n": "trainer.epochs=",
    "-b": "dataset.batch_size=",
    "-bs": "dataset.batch_size=",
    "-lr": "optimizer.lr=",
    "-l": "optimizer.lr=",
    "-s": "seed=",
    "-a": "model=",
    "-d": "dataset=",
    "-t": "task=",
    "-g": "device=cuda",
    "-j": "dataset.workers=",
    "-w": "dataset.workers=",
    "-q": "callbacks=quiet",
    "--quiet": "callbacks=quiet",
    "--silent": "callbacks=quiet",
    "--verbose": "dltrain --debug",
    "--no-cuda": "device=cpu",
    "--cpu": "device=cpu",
    "--gpu": "device=cuda",
    "--cuda": "device=cuda",
}

# Hydra's own settings, by the beginning of their names: what to type here.
HYDRA = {
    "run.dir": "paths.output=FOLDER name=NAME",
    "sweep.dir": "paths.output=FOLDER name=NAME",
    "sweep.subdir": "name=NAME",
    "output_subdir": "paths.output=FOLDER",
    "job.name": "name=NAME",
    "job.chdir": "paths.output=FOLDER",
    "runtime": "paths.output=FOLDER",
    "launcher.nodes": "launcher=submitit launcher.gpus=1",
    "launcher.tasks_per_node": "launcher=submitit launcher.gpus=1",
    "launcher": "dltrain -m launcher=local launcher.jobs=4 seed=1,2",
    "sweeper.storage": "dltrain resume SWEEP",
    "sweeper.study_name": "dltrain resume SWEEP",
    "sweeper": "dltrain -m sweep=tpe sweep.trials=20 optimizer.lr=1e-3,1e-2",
    "mode": "dltrain -m optimizer.lr=1e-3,1e-2",
    "searchpath": "dltrain --config-dir FOLDER",
    "verbose": "dltrain --debug",
    "job_logging": "callbacks=quiet",
    "hydra_logging": "callbacks=quiet",
}
