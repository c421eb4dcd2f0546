"""A typing error is told at once: names, numbers and paths are checked before PyTorch and MLflow are imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inversion.cli.imports import slow_imports

SLOW = ("torch", "torchvision", "timm", "mlflow", "optuna", "ray", "pandas", "sqlalchemy")

WRONG = {
    "inversion": [
        ("trian", "unknown command 'trian'"),
        ("train --epoch 3", "No such option '--epoch'"),
        ("train --encoder vgg61", "Did you mean 'vgg16'?"),
        ("train --encoder vgg16:blok1", "vgg16 has no layer 'blok1'"),
        ("train --encoder vgg16:block1/pol=2", "unknown modifier 'pol'"),
        ("train --encoder vgg16:block1/pol=2", "Did you mean 'pool'?"),
        ("train --encoder vgg16:block1/pool=1", "modifier pool: '1' is not allowed. Allowed: a whole number, 2 to"),
        ("train --encoder vgg16:block1/pool=3", "pool=3 does not divide a map of 112×112. Allowed here: 2, 4, 7"),
        ("train --encoder vgg16:block1/channels=65", "channels=65 is more than the 64 channels of the map"),
        ("train --encoder vgg16:block1/channels=pac:4", "Did you mean 'pca'?"),
        ("train --encoder vgg16:block1/bits=0", "modifier bits: '0' is not allowed. Allowed: a whole number, 1 to 16"),
        ("train --encoder vgg16:block1/noise=-1", "modifier noise: '-1' is not allowed. Allowed: 0.000001 to 100"),
        ("train --encoder resnet34/bits=4+vgg16:block1/bits", "modifier bits has no value"),
        ("train --layer block1/pol=2", "Did you mean 'pool'?"),
        ("train --encoder vgg16+vgg16", "is there twice"),
        ("train --encoder resnet18", "Did you mean 'timm/resnet18'?"),
        ("train --learning-rate 1e-3", "Did you mean '--lr'?"),
        ("train --learning_rate 1e-3", "No such option '--learning_rate'. Did you mean '--lr'?"),
        ("train --bs 4", "No such option '--bs'. Did you mean '--batch-size'?"),
        ("train --batchSize 4", "Did you mean '--batch-size'?"),
        ("train --max_epochs 4", "Did you mean '--epochs'?"),
        ("train --arch vgg16", "Did you mean '--encoder'?"),
        ("train --data-path x", "data is a folder of images, shards/*.tar, hf:NAME, div2k or sample. "
         "Did you mean '--data'?"),
        ("train --gpus 2", "several GPUs are used by inversion-sweep, a run on each. Did you mean '--device'?"),
        ("train --wd 0.1", "No such option '--wd': there is none here; Adam is used without weight decay."),
        ("train --optimizer sgd", "there is none here; the optimiser is always Adam, and lr its learning rate."),
        ("train --loss l1", "loss 'l1' is not of the form FILE.py:NAME (as in my_loss.py:MyLoss), and no installed "
                            "package has one. The weights of MSE and LPIPS are mse_weight and lpips_weight"),
        ("train --loss-fn l1", "and loss adds a term of your own, as my_loss.py:MyLoss. Did you mean '--loss'?"),
        ("train --metric psnr", "metrics: psnr is computed in any case"),
        ("train --num_workers 4", "there is none here; images are decoded once into a cache"),
        ("train --output-dir x", "there is none here; everything of a run is logged to MLflow"),
        ("train --decoder deconv", "Did you mean 'transposed_conv'?"),
        ("train --decoder fft", "there is no Fourier transform. Known: attention, frequency_aware, "),
        ("train --decoder unet", "there is none here; a decoder gets the features at the cut alone"),
        ("train --encoder ensemble --fusion mean", "Did you mean 'weighted'?"),
        ("train --encoder hf-hub:timm/resnet50.a1_in1k", "Did you mean 'timm/resnet50.a1_in1k'?"),
        ("train --encoder timm/resnet344:layer1", "timm has no model 'resnet344' among its"),
        ("train --encoder timm/vit-small-patch16-224", "Did you mean 'timm/vit_small_patch16_224'?"),
        ("train --data imagenet", "give the folder of its images, as data=./imagenet"),
        ("train --data s3://bucket/x", "no data set 's3://bucket/x': s3 addresses are not read"),
        ("train --data kaggle:org/x", "data sets are not read from kaggle; save the images as files"),
        ("train --data DIV-2K", "Did you mean 'div2k'?"),
        ("train --weights yes", "Did you mean 'imagenet'?"),
        ("train --layer blok1", "vgg16 has no layer 'blok1'"),
        ("train --decoder wavlet", "Did you mean 'wavelet'?"),
        ("train --decoder-options heads=3", "decoder 'transposed_conv' has no option 'heads'"),
        ("train --decoder attention --decoder-options depht=3", "Did you mean 'depth'?"),
        ("train --decoder attention --decoder-options depth=many", "depth=many of decoder 'attention'"),
        ("train --decoder attention --decoder-options width=10,heads=3", "heads=3 does not divide width=10"),
        ("train --decoder wavelet --decoder-options wavelet=dbb2", "not a discrete wavelet of PyWavelets"),
        ("train --decoder frequency_aware --decoder-options block=5", "block=5 of decoder 'frequency_aware'"),
        ("train --fusion concat", "fusion=concat needs two encoders"),
        ("train --encoder ensemble --fusion conact", "Did you mean 'concat'?"),
        ("train --epochs many", "epochs: 'many' is not allowed"),
        ("train --lr 1e", "lr: '1e' is not allowed"),
        ("train --lr 1e300", "lr: '1e300' is not allowed. Allowed: a number, above 0, at most 1e+30."),
        ("train --mse-weight 1e-320",
         "mse_weight: '1e-320' is not allowed. Allowed: a number, 0 or more, and 1e-30 or more unless it is 0."),
        ("train --lr 1e-40", "lr: '1e-40' is not allowed. Allowed: a number, above 0, and 1e-30 or more."),
        ("train --mse-weight 1e39", "Allowed: a number, 0 or more, at most 1e+30."),
        ("train --image-size 100", "image_size: '100' is not allowed"),
        ("train --device gpu", "device: 'gpu' is not allowed"),
        ("train --protocol publisched", "Did you mean 'published'?"),
        ("train --data nowhere", "no data set 'nowhere'"),
        ("train --data file.png", "'file.png' is a file"),
        ("train --data div2", "Did you mean 'div2k'?"),
        ("train --data div2k --data-dir empty", "DIV2K is not in"),
        ("train --weights nowhere.pth", "'nowhere.pth': no such file"),
        ("train --weights vgg61=random", "Did you mean 'vgg16'?"),
        ("train --lpips-weights nowhere.pth", "lpips_weights: no such file as 'nowhere.pth'"),
        ("train --resume 4fbe --epochs 3 --lr-factor 0.1", "leave out --lr-factor"),
        ("optimize --encoder vgg61", "Did you mean 'vgg16'?"),
        ("optimize --encoder vgg16:block1/pol=2", "Did you mean 'pool'?"),
        ("optimize --iterations 10", "Did you mean '--steps'?"),
        ("optimize --loss l1", "loss belongs to training a decoder"),
        ("reconstruct 4fbe file.png --out-dir x", "Did you mean '--output'?"),
        ("optimize --steps 0", "steps: '0' is not allowed"),
        ("optimize --lr 1e300", "lr: '1e300' is not allowed. Allowed: a number, above 0, at most 1e+30."),
        ("optimize --tv-weight 1e300", "tv_weight: '1e300' is not allowed"),
        ("optimize --decoder wavelet", "decoder belongs to training a decoder"),
        ("optimize --data nowhere", "no data set 'nowhere'"),
        ("optimize --weights nowhere.pth", "'nowhere.pth': no such file"),
        ("evaluate 4fbe --data nowhere", "no data set 'nowhere'"),
        ("evaluate 4fbe --data div2k --data-dir empty", "DIV2K is not in"),
        ("evaluate 4fbe --device cuda:x", "device: 'cuda:x' is not allowed"),
        ("evaluate 4fbe --lpips-weights nowhere.pth", "lpips_weights: no such file as 'nowhere.pth'"),
        ("evaluate 4fbe --split tets", "Invalid value for '--split'"),
        ("evaluate 4fbe --test-limit -1", "Invalid value for '--test-limit'"),
        ("evaluate", "Missing argument 'RUN'"),
        ("evaluate 4fbe --split all", "--split all is for other images: give --data too"),
        ("evaluate 4fbe --study smoke", "give one of a RUN, --best-of and --study"),
        ("reconstruct 4fbe nowhere.png --output out", "nowhere.png: No such file or directory"),
        ("reconstruct 4fbe spec.yaml --output out", "spec.yaml: not an image in a known format"),
        ("reconstruct 4fbe nowhere*.png --output out", "no picture's name matches this pattern"),
        ("reconstruct 4fbe file.png --output file.png", "--output file.png cannot be written: Not a directory"),
        ("reconstruct 4fbe file.png --output file.png/below", "--output file.png/below cannot be written"),
        ("reconstruct 4fbe file.png", "Missing option '--output'"),
        ("reconstruct 4fbe file.png --output out --device gpu", "device: 'gpu' is not allowed"),
        ("reconstruct 4fbe file.png --output out --lpips-weights nowhere.pth", "lpips_weights: no such file"),
        ("reconstruct 4fbe file.png --output out --size tile", "Invalid value for '--size'"),
        ("data nowhere", "no data set 'nowhere'"),
        ("data div2", "Did you mean 'div2k'?"),
        ("data file.png", "'file.png' is a file"),
        ("data sample --image-size x", "Invalid value for '--image-size'"),
        ("list vgg61", "Did you mean 'vgg16'?"),
        ("list vgg16:blok1", "Did you mean 'block1'?"),
        ("doctor --ned 4fbe", "No such option '--ned'"),
    ],
    "inversion.sweeps": [
        ("", "give a SPEC"),
        ("smok.yaml", "Did you mean 'smoke.yaml'?"),
        ("spec.yaml", "no data set 'nowhere'"),
        ("smoke.yaml --set encoder=vgg61", "Did you mean 'vgg16'?"),
        ("smoke.yaml --set learning_rate=1", "unknown parameter 'learning_rate'. Known: encoder, layer, "),
        ("smoke.yaml --set batch-size=4", "Did you mean 'batch_size'?"),
        ("smoke.yaml --set optimizer=sgd", "unknown parameter 'optimizer': there is none here; the optimiser is"),
        ("smoke.yaml --where model=vgg16", "Did you mean 'encoder'?"),
        ("smoke.yaml --epochs 3", "parameters of runs are set with --set. Did you mean '--set epochs=VALUE'?"),
        ("smoke.yaml --learning-rate 1", "Did you mean '--set lr=VALUE'?"),
        ("smoke.yaml --num-workers 2", "No such option '--num-workers'. Did you mean '--workers'?"),
        ("other.yaml", "other.yaml:1: a spec has no 'name'. Known: study, extends, base, grid, exclude, tune, "),
        ("other.yaml", "other.yaml:2: a spec has no 'n_epochs': epochs is a parameter of runs, and belongs in base"),
        ("other.yaml", "search has no 'n_trials'. Known: metric, direction, trials, seed, sampler, pruner, space. Did"),
        ("other.yaml", "unknown sampler 'bayes'. Known: tpe, random, gp, cmaes. Did you mean 'tpe'?"),
        ("other.yaml", "unknown validation metric 'psnr'. Known: best/val_psnr, best/val_loss, val/loss, val/mse, "),
        ("other.yaml", "the range of lr has no option 'min'. Known: type, low, high, log, step. Did you mean 'low'?"),
        ("smoke.yaml --set epochs=many", "epochs: 'many' is not allowed"),
        ("--study made --seeds-for undecided --seed-sd 1e300", "not in the range 0<x<=1000000000"),
        ("smoke.yaml --ray=", "--ray: an empty text"),
        ("smoke.yaml --set weights=nowhere.pth", "'nowhere.pth'"),
        ("smoke.yaml --set data=nowhere", "no data set 'nowhere'"),
        ("smoke.yaml --where decoder=wavlet", "no run has decoder=wavlet"),
        ("smoke.yaml --workers many", "Invalid value for '--workers'"),
        ("--status --study a/b", "'a/b' is not a valid name"),
        ("smoke.yaml --status --dry-run", "three different requests"),
        ("search.yaml --set data=nowhere", "no data set 'nowhere'"),  # imports Optuna, which the next ones would find
    ],
    "inversion.report": [
        ("", "Missing argument 'NAME...'"),
        ("made", "Missing option '--output'"),
        ("made --out-dir x", "Did you mean '--output'?"),
        ("made --output file.png", "'file.png' is a file"),
        ("made --output file.png/below", "--output file.png/below: Not a directory"),
        ("made --output out --seed-sd 1e300", "not in the range 0<x<=1000000000"),
        ("made --output out --memory-budget much", "Invalid value for '--memory-budget'"),
    ],
}
"""Of each program (``python -m``), command lines and a part of what is said of them."""

RUN_ALL = """
import contextlib, io, json, sys
from importlib import import_module
from inversion.cli.app import run_command

command = import_module(sys.argv[1]).cli
for words in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = run_command(command, words)
    print(json.dumps([code, said.getvalue(), [name for name in sys.argv[3:] if name in sys.modules]]))
"""
"""Tries command lines one after the other; after each, tells the exit code, the errors and what was imported so far."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("typing-errors")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(root / "file.png")
    (root / "spec.yaml").write_text("study: s\nbase: {data: nowhere, weights: nowhere.pth}\n"
                                    "grid:\n  - encoder: [vgg16]\n")
    (root / "other.yaml").write_text("name: x\nn_epochs: 3\nsearch:\n  n_trials: 3\n  metric: psnr\n"
                                     "  sampler: bayes\n  space: {lr: {min: 1e-5, max: 1e-2}}\n")
    return root


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, list[Any]]:
    """What was said of each command line, by program and line."""
    found: dict[str, list[Any]] = {}
    modules = {"inversion": "inversion.cli.app", "inversion.sweeps": "inversion.cli.sweep",
               "inversion.report": "inversion.cli.report"}
    for program, cases in WRONG.items():
        lines = [line.split() for line, _ in cases]
        done = subprocess.run([sys.executable, "-c", RUN_ALL, modules[program], json.dumps(lines), *SLOW], text=True,
                              cwd=folder, capture_output=True, check=True, env=os.environ | {"INVERSION_DATA": "empty"})
        found |= {f"{program} {line}": json.loads(told)
                  for (line, _), told in zip(cases, done.stdout.splitlines(), strict=True)}
    return found


@pytest.mark.parametrize(("line", "said"), [(f"{program} {line}", said) for program, cases in WRONG.items()
                                            for line, said in cases])
def test_it_is_told_without_importing_anything_slow(line: str, said: str, outcomes: dict[str, list[Any]]) -> None:
    code, errors, imported = outcomes[line]
    # the search sets options of a pruner: Optuna is asked which there are, in a third of a second
    assert (code, imported) == (2, ["optuna"] if line.startswith("inversion.sweeps search.yaml") else [])
    assert errors.startswith("error: ")
    assert said in errors


def test_a_sweep_tells_all_that_is_not_there_at_once(outcomes: dict[str, list[Any]]) -> None:
    data, weights, advice = outcomes["inversion.sweeps spec.yaml"][1].splitlines()
    assert "no data set 'nowhere'" in data
    assert "'nowhere.pth': no such file" in weights
    assert "nothing was queued" in advice


def test_nothing_is_left_behind(outcomes: dict[str, list[Any]], folder: Path) -> None:
    assert outcomes
    assert {path.name for path in folder.iterdir()} == {"file.png", "spec.yaml", "other.yaml"}


@pytest.mark.parametrize("words", [["inversion", "train", "--encoder", "vgg61"],
                                   ["inversion.sweeps", "smoke.yaml", "--set", "encoder=vgg61"],
                                   ["inversion.report", "made", "--output", "file.png"]], ids=lambda words: words[0])
def test_the_program_imports_nothing_slow(words: list[str], folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-X", "importtime", "-m", *words], text=True, cwd=folder,
                           capture_output=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time")}
    assert ended.returncode == 2
    assert "inversion.cli.app" in imported
    assert not imported & set(SLOW)


INTERRUPTED = """
import os, signal, sys

class Interrupting:
    "Finds nothing; at the import of a certain module, Ctrl-C is pressed, and somebody catches the KeyboardInterrupt."

    def find_spec(self, name, path=None, target=None):
        if name == module:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                pass

from importlib import import_module
_, module, *sys.argv[:] = sys.argv
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
main = getattr(import_module("inversion.cli"), sys.argv[0])
sys.meta_path.insert(0, Interrupting())
main()
"""


@pytest.mark.parametrize(("module", "words"), [
    ("rich.console", ["main", "list"]),
    ("inversion.config.resolve", ["main", "train", "--data", "sample"]),
    ("torch", ["main", "train", "--data", "sample"]),
    ("torch", ["main", "optimize", "--data", "sample"]),
    ("mlflow", ["main", "evaluate", "4fbe"]),
    ("mlflow", ["main", "reconstruct", "4fbe", "file.png", "--output", "out"]),
    ("torch", ["main", "doctor"]),
    ("pyarrow", ["main", "data", "sample"]),
    ("click", ["sweep_main", "smoke.yaml"]),
    ("optuna", ["sweep_main", "search.yaml", "--dry-run"]),
    ("mlflow", ["sweep_main", "smoke.yaml"]),
    ("mlflow", ["sweep_main", "--status", "--study", "made"]),
    ("mlflow", ["report_main", "made", "--output", "out"]),
], ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]))
def test_ctrl_c_during_imports_ends_the_command_at_once(module: str, words: list[str], folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, module, *words], text=True, cwd=folder,
                           capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "own"])
def test_another_handling_of_ctrl_c_stays(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with slow_imports():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
