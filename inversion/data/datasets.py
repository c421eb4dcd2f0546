"""The values of the parameter ``data``, and the folders where data is stored."""

from __future__ import annotations

import os
import re
from pathlib import Path

from inversion.data import div2k, folder, hub, sample, shards
from inversion.data.splits import PhotoSet
from inversion.errors import DataError, RequestError, UnknownNameError
from inversion.files import ABSENT, require_text, resolved, shown, user_path, why_not_there
from inversion.progress import Progress, no_progress
from inversion.synonyms import DATA, meaning_of

NAMES = ("sample", "div2k")
DESCRIPTIONS = {"div2k": (
    "DIV2K [@agustsson2017div2k]",
    "The test images are its validation set; training and validation images are from its training set.")}
"""What a paper says of a data set: its name with a citation (``report.render.citations``), and how it is split."""

_LIBRARY = re.compile(r"(hf|huggingface|hf[-_]hub|datasets|tfds|kaggle|torchvision)[:.]", re.IGNORECASE)
_OTHERS = ("a folder that exists", "shards/{000..099}.tar", "hf:NAME")
_HUB = ("hf", "huggingface", "hf-hub", "hf_hub", "datasets")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

DATA_DIR_VARIABLE = "INVERSION_DATA"


def default_data_dir() -> Path:
    """The folder for downloads and caches: ``$INVERSION_DATA``, else the user's cache folder."""
    if chosen := os.environ.get(DATA_DIR_VARIABLE, "").strip():
        return user_path(chosen, DATA_DIR_VARIABLE)
    import platformdirs

    return Path(platformdirs.user_cache_dir("inversion"))


def data_folder(data_dir: str | None) -> Path:
    """The folder that the parameter ``data_dir`` means; ``auto``, None and a blank text mean the default.

    Raises:
        RequestError: it starts with the home folder of an unknown user.
    """
    given = (data_dir or "").strip()
    return resolved(default_data_dir() if given in ("", "auto") else user_path(given, "data_dir"))


def cache_folder(data_dir: Path) -> Path:
    """The subfolder of the data folder for the pixel cache and the hash index."""
    return data_dir / "cache"


def resolve_auto(data_dir: Path) -> str:
    """The value of ``data=auto``: ``div2k`` if it is on disk, else ``sample``."""
    return "div2k" if div2k.is_present(data_dir) else "sample"


def find_photo_set(data: str, data_dir: Path, progress: Progress = no_progress) -> PhotoSet:
    """The photographs of ``data``: ``sample``, ``div2k``, a folder, WebDataset shards, or a Hugging Face dataset.

    A folder with the name of a dataset is written as ``./sample``.

    Raises:
        RequestError: an empty text, which as a path would be the current folder, a path that is not UTF-8, or wrong
            braces.
        UnknownNameError: neither a known name nor a folder.
        DataError: the photographs are missing, or do not make three splits.
    """
    if not data.strip():
        raise RequestError(f"data: an empty text ({data!r}) is no name and no folder. Known: {', '.join(NAMES)}, "
                           f"{', '.join(_OTHERS)} (. is the current folder).")
    if data == "sample":
        return sample.photo_set()
    if data == "div2k":
        return div2k.photo_set(data_dir)
    if hub.is_meant(data):
        return hub.photo_set(data, cache_folder(data_dir), progress)
    if _are_shards(data):
        return shards.photo_set(data, cache_folder(data_dir), progress)
    return folder.photo_set(_existing_folder(data), cache_folder(data_dir), progress)


def require_data(data: str, data_dir: Path) -> None:
    """Checks that ``data`` exists, without reading a photograph; ``auto`` always does.

    Of a dataset on the Hub, only the form of its name is checked, so that no request is sent.

    Raises:
        UnknownNameError: neither a known name nor a folder.
        DataError: it is a file, shards are missing, or DIV2K is not on disk.
    """
    if data == "div2k":
        div2k.photo_set(data_dir)
    elif hub.is_meant(data):
        hub.parse(data)
    elif _are_shards(data):
        shards.find(data)
    elif data not in ("auto", "sample"):
        _existing_folder(data)


def _are_shards(data: str) -> bool:
    return shards.are_meant(data) and not _SCHEME.match(data)


def _existing_folder(data: str) -> Path:
    root = Path(os.path.expanduser(data))
    if os.path.isdir(root):
        require_text(root.resolve(), "data")
        return root
    if os.path.exists(root):
        raise DataError(f"data: {data!r} is a file; a folder of photographs is needed, shards (*.tar), or "
                        f"{' or '.join(NAMES)}.")
    if (why := why_not_there(root)) != ABSENT and not _SCHEME.match(data):
        raise DataError(f"data: {shown(root.absolute())}: {why}.")
    meant, note = _explain(data)
    no_folder = "" if _SCHEME.match(data) else f"no folder {shown(root.absolute())} and "
    raise UnknownNameError(f"data: {no_folder}no data set", data, (*NAMES, *_OTHERS), meant, note)


def _explain(data: str) -> tuple[str, str]:
    """Our name of a data set that is called otherwise, and what is to be said of it; each may be empty."""
    if found := _LIBRARY.match(data):
        if found[1].lower() in _HUB:
            return "", f"data sets of Hugging Face are written {hub.FORM}"
        return "", f"data sets are not read from {found[1]}; save the images as files, and give their folder"
    if found := _SCHEME.match(data):
        return "", f"{found[1]} addresses are not read; copy the images to this machine, and give their folder"
    meaning = meaning_of(data, DATA, NAMES)
    return meaning.among(NAMES), meaning.remark(NAMES)
