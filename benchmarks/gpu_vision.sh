#!/usr/bin/env bash
# Accuracy and time of VGG-16 and ResNet-18 on CIFAR-10 on a GPU, beside a reference recipe on the same copy of the data.
#
#     benchmarks/gpu_vision.sh FOLDER [OUTPUT]     with FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg
#
# dltrain's runs are the two experiments as they stand: 30 epochs each, in bf16, compiled. The reference is a plain loop with
# the settings of github.com/kuangliu/pytorch-cifar (SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, padded crops and
# flips, cosine over EPOCHS epochs, 200 unless set), on the same networks. Figures to hold: on lossless images VGG-16 >= 0.93
# and ResNet-18 >= 0.95; on a JPEG copy, not below the reference on that copy. Every line at the end is one figure.
set -euo pipefail
folder=$(realpath "${1:?the folder of images}")
output=$(realpath -m "${2:-outputs/gpu_vision}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
mkdir -p "$output"

for network in vgg16 resnet18; do
  "$python" -m dltrain "experiment=${network}_cifar10" dataset=image_folder "dataset.path=$folder" dataset.val_fraction=0 device=cuda \
    device.precision=bf16 device.compile=true "name=gpu_$network" "paths.output=$output" --json 2>&1 | tee "$output/$network.txt"
done
"$python" - "$folder" "${EPOCHS:-200}" <<'PYTHON' | tee "$output/reference.txt"
"""The reference: a loop that knows nothing of dltrain's engine, data or optimizers; only the networks are the same."""

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.io import ImageReadMode, decode_image

from dltrain.models.images.resnet import ResNet
from dltrain.models.images.vgg import VGG

FOLDER, EPOCHS = Path(sys.argv[1]), int(sys.argv[2])
CLASSES = sorted(folder.name for folder in (FOLDER / "train").iterdir() if folder.is_dir())
MEAN, STD = ([255 * v for v in values] for values in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))


def read(split):
    files = [(path, k) for k, name in enumerate(CLASSES) for path in sorted((FOLDER / split / name).iterdir())]
    images = torch.stack([decode_image(str(path), ImageReadMode.RGB) for path, _ in files]).cuda().float()
    mean, std = (torch.tensor(values, device="cuda").view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std, torch.tensor([k for _, k in files], device="cuda")


def augmented(x):
    """Mirrored and shifted by up to 4 pixels, each image by its own draw."""
    count = len(x)
    x = torch.where(torch.rand(count, 1, 1, 1, device="cuda") < 0.5, x.flip(3), x)
    rows, columns = (torch.randint(9, (count, 1), device="cuda") + torch.arange(32, device="cuda") for _ in range(2))
    image, channel = torch.arange(count, device="cuda").view(-1, 1, 1, 1), torch.arange(3, device="cuda").view(1, 3, 1, 1)
    return F.pad(x, (4, 4, 4, 4))[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


train, test = read("train"), read("test")
NETWORKS = {
    "vgg16": lambda: VGG(3, (32, 32), len(CLASSES), norm="batch", dropout=0.0),
    "resnet18": lambda: ResNet(3, (32, 32), len(CLASSES)),
}
for name, made in NETWORKS.items():
    torch.manual_seed(0)
    network = made().cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        network.train()
        for rows in torch.randperm(len(train[0]), device="cuda").split(128):
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(network(augmented(train[0][rows])), train[1][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    network.eval()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        batches = zip(test[0].split(500), test[1].split(500), strict=True)
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches)
    print(f"reference {name}: test accuracy {right / len(test[0]):.4f}, {EPOCHS} epochs, {seconds:.0f} s", flush=True)
PYTHON
grep -h "test/accuracy\|reference" "$output"/*.txt
