"""What other tools call the things of this one: parameters, keys of spec files, parts of a model, encoders, data.

The options of the commands, ``mlflow run -P``, the keys of spec files, ``--set`` and ``--where`` all ask here, so that
a name that is known elsewhere is answered with ours, or with the statement that there is none and what is done instead.
Names are compared without case, hyphens and other punctuation: ``batch-size``, ``batchSize``, ``BATCH_SIZE`` are one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from inversion.errors import UnknownNameError


@dataclass(frozen=True)
class Meaning:
    """What another tool's name stands for.

    Attributes:
        names: our names, of which the first one that is allowed at the place is suggested.
        note: what is to be said beside the suggestion.
        instead: what is done instead, where none of our names is allowed.
    """

    names: tuple[str, ...] = ()
    note: str = ""
    instead: str = ""

    def among(self, known: Collection[str]) -> str:
        """The first of our names that is allowed; empty if none is."""
        return next((name for name in self.names if name in known), "")

    def remark(self, known: Collection[str]) -> str:
        """What is to be said where these names are allowed; may be empty."""
        if self.among(known):
            return self.note
        return f"there is none here; {self.instead}" if self.instead else ""


NOTHING = Meaning()

Entries = Iterable[tuple[str, ...]]
"""Other tools' names, our names, and perhaps ``note`` and ``instead``; names are separated by blanks. Where there is
none of ours, what follows is ``instead``."""


def plain(name: str) -> str:
    """A name as names are compared: ``--Batch_Size`` → ``batchsize``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _table(entries: Entries) -> Mapping[str, Meaning]:
    table: dict[str, Meaning] = {}
    for others, ours, *said in entries:
        meaning = Meaning(tuple(ours.split()), *(said if ours else ("", *said)))
        for other in others.split():
            if table.setdefault(plain(other), meaning) is not meaning:
                raise ValueError(f"{other!r} has two meanings")
    return table


_DEVICES = "device is cpu, cuda or cuda:N; several GPUs are used by inversion-sweep, a run on each"
_LOSS = ("the loss is mse_weight times MSE plus lpips_weight times LPIPS, and loss adds a term of your own, as "
         "my_loss.py:MyLoss")
_SCHEDULE = "the rate is reduced when val/loss stops falling: lr_patience, lr_factor, min_lr"
_SCHEDULES = "schedule is plateau (lr_patience, lr_factor, min_lr) or cosine (from lr to min_lr)"
_ADAM = "the optimiser is always Adam, and lr its learning rate"
_TRACKED = ("everything of a run is logged to MLflow, where --tracking-uri and --experiment say; reconstruct and "
            "inversion-report write to their --output")
_LIMITS = "train_limit, val_limit and test_limit use the first images of a split"
_SPLITS = "folders train, val and test in the data are used, and a folder without them is split 70/15/15"

PARAMETERS = _table((
    ("learning_rate base_lr init_lr initial_lr start_lr peak_lr max_lr adam_lr step_size learning_rate_init", "lr"),
    ("batch bs train_batch_size per_device_train_batch_size per_gpu_batch_size samples_per_gpu mini_batch_size "
     "minibatch minibatch_size train_bs", "batch_size"),
    ("max_epochs num_epochs n_epochs nb_epochs no_epochs total_epochs train_epochs num_train_epochs nepoch", "epochs",
     ""),
    ("epoch iters iterations max_iters num_steps max_steps n_steps train_steps", "steps epochs"),
    ("backbone model arch architecture network net model_name model_type encoder_name feature_extractor "
     "base_model pretrained_model", "encoder"),
    ("layers layer_name layer_names block stage feature_layer target_layer cut cut_layer split_layer out_indices "
     "return_nodes", "layer"),
    ("decoder_name decoder_type decoder_arch inverter generator", "decoder"),
    ("fuse fusion_type fusion_method aggregation merge", "fusion"),
    ("dataset datasets data_set dataset_name train_data data_path dataset_path data_folder data_root dataroot "
     "dataset_dir dataset_root root root_dir img_dir image_dir images image_folder image_path train_dir "
     "train_path input_dir", "data",
     "data is a folder of images, shards/*.tar, hf:NAME, div2k or sample"),
    ("cache cache_dir download_dir cache_folder", "data_dir", "data_dir is the folder of downloads and caches"),
    ("img_size size resolution input_size image_resolution imgsz im_size crop crop_size input_resolution img_dim "
     "image_dim res", "image_size"),
    ("random_seed manual_seed rng_seed random_state", "seed"),
    ("num_threads n_threads cpu_threads", "threads"),
    ("gpus gpu num_gpus n_gpus gpu_id gpu_ids gpu_count devices cuda use_cuda use_gpu accelerator no_cuda cpu "
     "device_ids nproc_per_node", "device", _DEVICES),
    ("dtype amp fp16 bf16 half mixed_precision autocast use_amp", "precision", "precision is auto, fp32 or bf16"),
    ("early_stopping early_stop early_stopping_patience early_stop_patience es_patience", "patience",
     "patience is the epochs without a better val/loss before training stops"),
    ("pretrained pretrained_weights weight_file weights_path weights_file ckpt ckpt_path checkpoint checkpoint_path "
     "load state_dict encoder_weights", "weights",
     "weights are the encoder's (imagenet, random or a file); --resume RUN_ID continues a run"),
    ("resume_from resume_from_checkpoint continue_from run_id", "resume"),
    ("mse l2 l2_weight mse_lambda lambda_mse lambda_l2 pixel_weight pixel_loss_weight mse_coef", "mse_weight"),
    ("lpips perceptual perceptual_weight lambda_lpips lpips_lambda perceptual_loss_weight lambda_perceptual lpips_coef",
     "lpips_weight"),
    ("lr_decay lr_gamma gamma decay_rate decay_factor plateau_factor factor", "lr_factor", _SCHEDULE),
    ("plateau_patience scheduler_patience lr_scheduler_patience reduce_patience", "lr_patience"),
    ("lr_min eta_min min_learning_rate end_lr final_lr", "min_lr"),
    ("limit subset max_samples num_samples n_samples limit_train_batches max_train_samples train_size n_train "
     "num_train", "train_limit"),
    ("max_val_samples max_eval_samples limit_val_batches n_val num_val", "val_limit"),
    ("max_test_samples limit_test_batches n_test num_test", "test_limit"),
    ("decoder_kwargs decoder_args decoder_params decoder_config", "decoder_options", "as depth=4,heads=4"),
    ("fusion_kwargs fusion_args fusion_params", "fusion_options", "as design=published"),
    ("loss_fn loss_function loss_type criterion losses objective_fn", "loss", _LOSS),
    ("loss_lambda lambda_loss own_loss_weight", "loss_weight", _LOSS),
    ("metric scores eval_metrics extra_metrics metric_fn", "metrics", "metrics are your own, as my_metric.py:NAME"),
    ("l1 l1_weight lambda_l1 ssim_weight lambda_ssim gan_weight adv_weight tv tv_lambda", "tv_weight", "", _LOSS),
    ("optimizer optimiser optim opt optimizer_name solver", "", _ADAM),
    ("momentum betas beta1 beta2 adam_beta1 adam_beta2 adam_epsilon eps", "",
     "Adam is used with PyTorch's defaults"),
    ("weight_decay wd l2_reg l2_regularization adam_weight_decay", "", "Adam is used without weight decay"),
    ("scheduler lr_scheduler lr_schedule sched lr_policy lr_scheduler_type", "schedule", _SCHEDULES),
    ("warmup warmup_epochs warmup_steps warmup_ratio num_warmup_steps", "",
     "training begins with the full rate; " + _SCHEDULES),
    ("clip_grad grad_clip max_grad_norm gradient_clip_val clip_grad_norm clip clipnorm", "clip_norm"),
    ("accumulate accumulate_grad_batches gradient_accumulation_steps accum_iter grad_accum", "",
     "a batch that does not fit in the device's memory is split by itself"),
    ("num_workers n_workers nworkers dataloader_num_workers loader_workers j", "workers", "",
     "images are decoded once into a cache, and training reads them without worker processes"),
    ("output out output_dir out_dir output_path outdir save_dir save_path log_dir logdir logging_dir results "
     "results_dir result_dir work_dir checkpoint_dir default_root_dir exp_dir", "output", "", _TRACKED),
    ("experiment_name exp_name exp mlflow_experiment project project_name", "experiment"),
    ("tracking_server mlflow_uri mlflow_tracking_uri tracking tracking_url", "tracking_uri"),
    ("name run_name run_id_name", "", "a run is named after its encoder, layer and decoder"),
    ("config config_file cfg conf yaml config_path spec_file", "",
     "parameters are options; a file of them is a spec, for inversion-sweep"),
    ("dropout drop_rate drop_path augment augmentation augmentations", "",
     "training images get random crops and horizontal flips, and decoders have options of their own (decoder_options)"),
    ("val_split test_split train_split validation_split split_ratio", "", _SPLITS),
    ("val_dir test_dir val_data test_data val_path test_path", "", _SPLITS),
    ("freeze freeze_encoder frozen finetune fine_tune trainable", "", "encoders are always frozen"),
    ("log_interval log_every print_freq log_freq eval_interval val_interval save_every save_interval save_freq "
     "val_check_interval", "", "every epoch is logged, validated and saved"),
    ("distributed ddp world_size local_rank num_nodes nnodes strategy", "",
     "a run trains on one device; inversion-sweep uses several, a run on each"),
    ("mean std normalize normalization img_mean", "", "each encoder gets images normalised as its weights want them"),
    ("deterministic benchmark cudnn_benchmark", "", "equal seeds give equal numbers on one kind of machine"),
))
"""Parameters of a run, and options of the commands."""

SPEC_KEYS = _table((
    ("name title study_name project", "study name"),
    ("defaults default common fixed shared params parameters config constants", "base space"),
    ("matrix axes product runs configurations sweep experiments combinations", "grid"),
    ("optuna hyperparameters hpo hyperparameter_search bayes", "search"),
    ("tuning tuned", "tune"),
    ("extend inherit inherits inherits_from inherit_from include includes parent base_config", "extends"),
    ("labels tag", "tags"),
    ("note notes description summary", "comment"),
    ("excludes excluded exclusions skip", "exclude"),
    ("limit run_limits per_run_limits stopping stop_criteria", "limits"),
    ("time time_total_s max_time max_runtime max_run_time timeout time_limit walltime max_duration run_time_limit "
     "max_total_time_s", "run_time"),
    ("objective target monitor goal_metric score", "metric"),
    ("goal mode optimization_direction", "direction"),
    ("n_trials num_trials max_trials budget count run_cap", "trials"),
    ("search_space parameter_space distributions", "space"),
    ("method algorithm search_alg searcher", "sampler"),
    ("scheduler early_terminate early_stopping pruning", "pruner"),
    ("random_seed random_state", "seed"),
    ("min minimum lower start from", "low"),
    ("max maximum upper stop end to", "high"),
    ("values categories options list", "choices"),
    ("q quantum increment", "step"),
    ("log_scale loguniform logarithmic log_uniform", "log"),
    ("distribution kind", "type"),
))
"""Keys of spec files that are no parameters, in the words of Optuna, W&B, Ray Tune and CI matrices."""

METRICS = _table((
    ("psnr val_psnr_best best_psnr", "best/val_psnr"),
    ("loss best_loss val_loss_best", "best/val_loss"),
    ("mse l2", "val/mse"), ("lpips perceptual", "val/lpips"), ("ssim", "val/ssim"),
    ("accuracy acc val_acc top1", "", "nothing is classified"),
))
"""What a search optimises."""

WEIGHTS = _table((
    ("true yes default in1k imagenet1k imagenet_1k imagenet1k_v1 imagenet1k_v2 timm", "imagenet"),
    ("none false no scratch init untrained random_init", "random"),
))
"""The source of an encoder's weights."""

PARTS = {
    "decoder": _table((
        ("deconv deconvolution conv_transpose conv_transpose2d transpose_conv transposed transposed_convolution upconv "
         "conv cnn convolutional dcgan", "transposed_conv"),
        ("transformer vit self_attention attn mha multihead_attention vit_decoder mae", "attention",
         "attention has transformer blocks over the features"),
        ("unet u_net unet_decoder skip", "", "a decoder gets the features at the cut alone, without skip connections; "
         "several layers are fused as encoder=resnet34:layer1+resnet34:layer2"),
        ("dct frequency freq spectral idct jpeg block_dct", "frequency_aware",
         "frequency_aware predicts block-DCT coefficients"),
        ("fft fourier ifft", "frequency_aware",
         "frequency_aware predicts block-DCT coefficients; there is no Fourier transform"),
        ("edsr resblock resblocks residual_blocks resnet_decoder pixel_shuffle pixelshuffle subpixel espcn", "residual",
         "residual has residual blocks and pixel shuffle"),
        ("dwt idwt haar wavelets daubechies", "wavelet"),
        ("mlp fc fully_connected lin linear_decoder", "linear", "linear is a single linear map"),
        ("gan vae diffusion vqgan autoencoder ldm", "", "decoders are trained by regression, and none is generative"),
    )),
    "fusion": _table((
        ("mean sum average avg add weighted_sum learned_weights", "weighted",
         "weighted learns a weight for each encoder"),
        ("concatenate concatenation cat stack", "concat"),
        ("attn transformer cross_attention spatial_attention gated", "attention"),
    )),
    "sampler": _table((
        ("bayes bayesian bayesian_optimization tpe_sampler hyperopt", "tpe"),
        ("gaussian_process gp_sampler", "gp"),
        ("cma cma_es cmaes_sampler", "cmaes"),
        ("uniform random_search random_sampler", "random"),
        ("grid grid_search grid_sampler brute_force", "", "a spec with grid instead of search runs every combination"),
    )),
    "pruner": _table((
        ("hyperband_pruner bohb hyperband_scheduler", "hyperband"),
        ("asha sha halving successive_halving_pruner asha_scheduler async_hyperband", "successive_halving"),
        ("median_stopping median_pruner median_stopping_rule", "median"),
        ("off no nop nop_pruner never", "none"),
    )),
}
"""Parts of a model and of a search, by kind."""

_VIT = "timm has Vision Transformers of other sizes"
_ONLY_TIMM = "only timm's models can be encoders beside those with short names, and timm does not have it"

ENCODERS = _table((
    ("vgg vggnet", "vgg16", "it is the VGG with a short name; timm has others, as timm/vgg19"),
    ("resnet resnet34v1", "resnet34", "it is the ResNet with a short name; timm has others, as timm/resnet50"),
    ("vit vits vits16 vit_small16 vit_small_16 vit_small_patch16 vit_small_patch16_224 vision_transformer",
     "vit_small", f"timm's ViT-S/16 has this short name; {_VIT}"),
    ("pvt pvtv2 pvtb2 pvtv2b2 pyramid_vision_transformer", "pvt_v2_b2",
     "it is the PVT with a short name; timm has pvt_v2_b0 to b5"),
    ("vitti vit_t vitti16 vit_tiny vit_tiny_16", "timm/vit_tiny_patch16_224", "it is timm's ViT-Ti/16"),
    ("vitb vitb16 vit_base vit_base16", "timm/vit_base_patch16_224", "it is timm's ViT-B/16"),
    ("vitb32 vit_base32", "timm/vit_base_patch32_224", "it is timm's ViT-B/32"),
    ("vitl vitl16 vit_large vit_large16", "timm/vit_large_patch16_224", "it is timm's ViT-L/16"),
    ("dino dinov1 dino_vits16", "timm/vit_small_patch16_224.dino", "timm has DINO's models"),
    ("dinov2 dino_v2 dinov2s dinov2_small dinov2_vits14", "timm/vit_small_patch14_dinov2",
     "timm has DINOv2's models"),
    ("dinov2b dinov2_base dinov2_vitb14", "timm/vit_base_patch14_dinov2", "timm has DINOv2's models"),
    ("dinov3 dino_v3", "timm/vit_small_patch16_dinov3", "timm has DINOv3's models"),
    ("clip openclip open_clip clip_vit clip_vitb16 clip_vit_base_patch16 vit_b_16_clip openai_clip",
     "timm/vit_base_patch16_clip_224.openai", "timm has CLIP's image encoders"),
    ("clip_vitb32 clip_vit_base_patch32", "timm/vit_base_patch32_clip_224.openai", "timm has CLIP's image encoders"),
    ("clip_vitl14 clip_vit_large_patch14", "timm/vit_large_patch14_clip_224.openai", "timm has CLIP's image encoders"),
    ("siglip", "timm/vit_base_patch16_siglip_224", "timm has SigLIP's image encoders"),
    ("mae vit_mae vit_mae_base", "timm/vit_base_patch16_224.mae", "timm has MAE's encoders"),
    ("sam segment_anything", "timm/samvit_base_patch16", "timm has SAM's image encoders"),
    ("beit", "timm/beit_base_patch16_224", "timm has BEiT's models"),
    ("deit deits", "timm/deit_small_patch16_224", "timm has DeiT's models"),
    ("swin swint swin_tiny swin_transformer", "timm/swin_tiny_patch4_window7_224", "timm has Swin's models"),
    ("convnext", "timm/convnext_tiny", "timm has ConvNeXt's models"),
    ("efficientnet", "timm/efficientnet_b0", "timm has EfficientNet's models"),
    ("mobilenet mobilenetv3", "timm/mobilenetv3_large_100", "timm has MobileNet's models"),
    ("densenet", "timm/densenet121", "timm has DenseNet's models"),
    ("inception inceptionv3", "timm/inception_v3", "timm has Inception's models"),
    ("alexnet", "", f"{_ONLY_TIMM}; its weights are those of LPIPS (lpips_weights)"),
    ("squeezenet googlenet shufflenet shufflenetv2", "", _ONLY_TIMM),
    ("vae vqvae vqgan stable_diffusion sd", "", "encoders are timm's models, and timm has no such autoencoder"),
))
"""Encoders that are called otherwise here, and families of which one model is suggested."""

_FOLDER = "give the folder of its images, as data=./"

DATA = _table((
    ("div2k div_2k div2khr div2k_hr div2ktrainhr div2ktrain div2kvalid ntire ntire2017", "div2k"),
    ("demo example examples toy samples builtin bundled skimage", "sample",
     "sample is images that Python packages bring along"),
    ("imagenet imagenet1k ilsvrc ilsvrc2012 in1k tiny_imagenet imagenette",
     "", f"{_FOLDER}imagenet (train/CLASS and val/CLASS are recognised)"),
    ("coco coco2017 mscoco", "", f"{_FOLDER}coco (its train2017 and val2017 are recognised)"),
    ("cifar cifar10 cifar100 mnist fashionmnist svhn stl10", "",
     f"save its images as files, and {_FOLDER}images"),
    ("bsd bsds bsds300 bsds500 bsd68 bsd100 set5 set14 urban100 kodak flickr2k celeba ffhq places places365 voc "
     "pascal ade20k cityscapes openimages lsun flowers102 oxford_pets df2k", "", f"{_FOLDER}images"),
))
"""Data sets by their usual names."""


def meaning_of(name: str, table: Mapping[str, Meaning], known: Iterable[str] = ()) -> Meaning:
    """What a name stands for in a table; one of ``known`` that is only written otherwise is itself."""
    key = plain(name)
    written = next((ours for ours in known if plain(ours) == key), "")
    return Meaning((written,)) if written else table.get(key, NOTHING)


def unknown_name(what: str, name: str, known: Iterable[str], table: Mapping[str, Meaning]) -> UnknownNameError:
    """The error for a name that is not known, with what it stands for in a table."""
    names = list(known)
    meaning = meaning_of(name, table, names)
    return UnknownNameError(what, name, names, meaning.among(names), meaning.remark(names))
