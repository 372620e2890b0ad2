#!/usr/bin/env bash
# The commands of a newcomer's first day: the README, the guides, and data and code of their own.
#
#     bash tests/first_day.sh        in an empty folder; `dltrain` and `python` are on the PATH
#
# Ends at the first command that fails. No data set is downloaded. All data is deleted before the
# predictions: a run's folder is enough for them. `make first-day` runs it with every command a
# process of its own; tests/test_first_day.py in one process.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

refused() {  # refused CODE COMMAND...: the command ends with this exit code
  local expected=$1 code=0
  shift
  "$@" || code=$?
  [[ $code == "$expected" ]] || { echo "exit $code, not $expected: $*" >&2; return 1; }
}

# Look around
dltrain --version
dltrain --help
dltrain help predict
dltrain list
dltrain list model | head -3
dltrain show optimizer.lr
dltrain show model/cnn
dltrain show experiment/lenet5_mnist
dltrain check model=mlp dataset=digits                 # every problem at once, layers, FLOPs, memory, without training
dltrain check "regularization=[l2,dropout]" schedule=onecycle --plot
dltrain config model=mlp > settings.yaml
dltrain completion bash > completion.bash
bash -n completion.bash

# Mistakes
refused 2 dltrain model=ccn optimizer.lrr=0.1
refused 2 dltrain --epochs 5
refused 2 dltrain fit
refused 2 dltrain experiment=transfer_ants_bees
refused 3 dltrain dataset=image_folder dataset.path=nowhere model=cnn

# Train, score, continue
dltrain debug=smoke
dltrain model=mlp dataset=digits trainer.epochs=2 name=first
dltrain model=mlp "model.hidden_sizes=[64,32]" optimizer.lr=3e-3 trainer.epochs=1
dltrain "regularization=[l2,dropout,early_stopping]" schedule=onecycle device=fast trainer.epochs=1
dltrain -m model=mlp,lenet5 trainer.epochs=1
dltrain -m model=mlp "seed=range(0,2)" trainer.epochs=1 callbacks=quiet
dltrain evaluate first split=val
dltrain evaluate first --json > scores.json
python -m json.tool scores.json > /dev/null
dltrain evaluate first --out rows.csv
dltrain resume first trainer.epochs=3
dltrain "optimizer={_target_: torch.optim.AdamW, _partial_: true, lr: 0.002}" trainer.epochs=1
dltrain init.from=first "freeze=[1]" model=mlp trainer.epochs=1

# Photos, tables, letters and code of one's own
python "$HERE/first_day_files.py"
dltrain check --data dataset=image_folder "dataset.path='my photos'"
dltrain dataset=image_folder "dataset.path='my photos'" trainer.epochs=2 name=photos
dltrain dataset=image_folder "dataset.path='my photos'" "preprocessing=[flip,random_crop]" model=resnet_small trainer.epochs=1
dltrain check --data dataset=image_folder "dataset.path='my photos'" "dataset.classes=[cat,dog]"
dltrain check dataset=tabular dataset.path=houses.csv dataset.target=price task=regression loss=mse model=mlp
dltrain dataset=tabular dataset.path=houses.csv dataset.target=price task=regression loss=mse model=mlp "dataset.ignore=[id]" trainer.epochs=2 name=houses
dltrain dataset=tabular dataset.path=houses.csv dataset.target=town model=tabular_mlp "dataset.ignore=[id,'area (m2)']" trainer.epochs=1
dltrain dataset=timeseries dataset.path=load.csv dataset.column=kW dataset.window=24 trainer.epochs=1 name=load
dltrain dataset=text_files dataset.path=letters model=lstm trainer.epochs=1 name=letters
dltrain dataset=language_modeling dataset.path=book.txt dataset.length=16 model=gru_lm trainer.steps=20 name=book
dltrain dataset=words dataset.path=letters model=word2vec trainer.steps=20 name=words
dltrain check "plugins=[mymodel]" "model={_target_: mymodel.TwoLayers, width: 8}"
dltrain "plugins=[mymodel]" --config-dir myconf model=two_layers trainer.epochs=1 name=mine

# Other families, on data that needs no file
dltrain model=vae dataset=digits trainer.epochs=1 name=vae
dltrain model=autoencoder dataset=digits trainer.epochs=1
dltrain experiment=qlearning_frozenlake trainer.steps=500 name=lake
dltrain experiment=seq2seq_reverse trainer.steps=10 name=reverse
dltrain experiment=perceptron_gates dataset.gate=or

# All data is gone
rm -r "my photos" houses.csv load.csv letters book.txt
dltrain predict photos new/0.png
dltrain predict photos new "new/*.png" top=2 --out predictions.csv
dltrain predict photos new/1.png --explain --json > one.json
dltrain predict houses new_houses.csv --out prices.csv
dltrain predict letters "a fine and clever film"
dltrain predict words fine
dltrain export words --format word2vec --out vectors.vec
dltrain generate book "the " --tokens 20 temperature=0.8
dltrain generate vae --samples 4 --out samples
dltrain rollout lake --out episode.gif
dltrain predict mine new/0.png "plugins=[mymodel]"
dltrain predict reverse "1 2 3"
refused 3 dltrain evaluate photos
dltrain runs
dltrain compare first vae

# What is left
test -s rows.csv -a -s predictions.csv -a -s prices.csv -a -s vectors.vec -a -s episode.gif
echo "the first day is over: every command ended as it should"
