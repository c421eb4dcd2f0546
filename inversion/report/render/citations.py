"""BibTeX entries of what the methods section of a report cites, by their keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def _entry(kind: str, title: str, author: str, year: int, **fields: str) -> str:
    return "\n".join([f"{kind}{{KEY,", *(f"  {name} = {{{value}}}," for name, value in {
        "title": title, "author": author, "year": str(year), **fields}.items()), "}"])


ENTRIES: Mapping[str, str] = {
    "agustsson2017div2k": _entry(
        "@inproceedings", "{NTIRE} 2017 Challenge on Single Image Super-Resolution: Dataset and Study",
        "Agustsson, Eirikur and Timofte, Radu", 2017, booktitle="CVPR Workshops"),
    "akiba2019optuna": _entry(
        "@inproceedings", "{Optuna}: A Next-generation Hyperparameter Optimization Framework",
        "Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and Koyama, Masanori", 2019,
        booktitle="KDD"),
    "ding2022dists": _entry(
        "@article", "Image Quality Assessment: Unifying Structure and Texture Similarity",
        "Ding, Keyan and Ma, Kede and Wang, Shiqi and Simoncelli, Eero P.", 2022,
        journal="IEEE Transactions on Pattern Analysis and Machine Intelligence"),
    "dosovitskiy2021vit": _entry(
        "@inproceedings", "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        "Dosovitskiy, Alexey and others", 2021, booktitle="ICLR"),
    "he2016resnet": _entry(
        "@inproceedings", "Deep Residual Learning for Image Recognition",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian", 2016, booktitle="CVPR"),
    "holm1979": _entry(
        "@article", "A Simple Sequentially Rejective Multiple Test Procedure", "Holm, Sture", 1979,
        journal="Scandinavian Journal of Statistics", volume="6", number="2", pages="65--70"),
    "kingma2015adam": _entry(
        "@inproceedings", "{Adam}: A Method for Stochastic Optimization", "Kingma, Diederik P. and Ba, Jimmy", 2015,
        booktitle="ICLR"),
    "paszke2019pytorch": _entry(
        "@inproceedings", "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library",
        "Paszke, Adam and others", 2019, booktitle="NeurIPS"),
    "simonyan2015vgg": _entry(
        "@inproceedings", "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        "Simonyan, Karen and Zisserman, Andrew", 2015, booktitle="ICLR"),
    "steiner2022augreg": _entry(
        "@article", "How to train your {ViT}? Data, Augmentation, and Regularization in Vision Transformers",
        "Steiner, Andreas and Kolesnikov, Alexander and Zhai, Xiaohua and Wightman, Ross and Uszkoreit, Jakob and "
        "Beyer, Lucas", 2022, journal="Transactions on Machine Learning Research"),
    "wang2003msssim": _entry(
        "@inproceedings", "Multiscale Structural Similarity for Image Quality Assessment",
        "Wang, Zhou and Simoncelli, Eero P. and Bovik, Alan C.", 2003,
        booktitle="Asilomar Conference on Signals, Systems and Computers", doi="10.1109/ACSSC.2003.1292216"),
    "wang2004ssim": _entry(
        "@article", "Image Quality Assessment: From Error Visibility to Structural Similarity",
        "Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.", 2004,
        journal="IEEE Transactions on Image Processing", volume="13", number="4", doi="10.1109/TIP.2003.819861"),
    "wang2022pvtv2": _entry(
        "@article", "{PVT} v2: Improved Baselines with Pyramid Vision Transformer", "Wang, Wenhai and others", 2022,
        journal="Computational Visual Media"),
    "wightman2019timm": _entry(
        "@misc", "{PyTorch} Image Models", "Wightman, Ross", 2019,
        howpublished="https://github.com/huggingface/pytorch-image-models"),
    "zhang2018lpips": _entry(
        "@inproceedings", "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        "Zhang, Richard and Isola, Phillip and Efros, Alexei A. and Shechtman, Eli and Wang, Oliver", 2018,
        booktitle="CVPR"),
}


def bibliography(keys: Iterable[str]) -> str:
    """The BibTeX entries of some keys; others, which a name of a user may look like, are left out."""
    cited = set(keys)
    return "\n\n".join(entry.replace("KEY", key, 1) for key, entry in ENTRIES.items() if key in cited) + "\n"
