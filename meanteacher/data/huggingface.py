"""Data sets that the library `datasets` of Hugging Face reads: saved folders, parquet files, or names on its Hub."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from meanteacher.config.errors import UserError
from meanteacher.config.types import Annotated, Literal, Resize
from meanteacher.data.cache import describe
from meanteacher.data.decoding import Source
from meanteacher.data.images import Dataset
from meanteacher.data.listing import PARTS, ImageFile, Listing, build_listing, shorten, sort_by_name, stat_image
from meanteacher.data.own_images import Reading, cache_key, hash_files, hash_text, load_listed

_LABEL_COLUMNS = ("label", "labels", "target", "class")


def huggingface(
    *,
    path: str | None,
    image_column: str | None,
    label_column: str | None,
    data_dir: str,
    image_size: Annotated[int, Field(ge=1, le=4096)],
    resize: Resize,
    broken: Literal["error", "skip"],
    exclude_duplicates: Literal["none", "exact", "near"],
) -> Dataset:
    """Load a data set of Hugging Face's library, as RGB [3, image_size, image_size].

    path: a folder written by `save_to_disk`, a parquet file or a folder of them, a folder that its `imagefolder` reads,
    or a name on the Hub. Its splits `train`, `test` and `unlabeled` are the parts; without `test`, a fixed stratified
    fifth of the labeled images becomes the test part. Parquet files belong to the part that their name, or their
    folder's name, begins with, otherwise to `train`. A label that is −1, empty or missing means unlabeled (target −1).
    image_column, label_column: null finds them by their types, and the label by the names label, labels, target and
    class, too. Classes are sorted by name; an image's name is its split and row, as in `train/0000012`. The other
    arguments are those of `meanteacher.data.own_images.Reading`.
    Raises UserError if the library is missing, for a path that it cannot read, and for columns that are not found.
    """
    directory = Path(data_dir).expanduser().absolute()
    digest = fingerprint(path=path, data_dir=data_dir)
    splits = _load_splits(path, directory)
    image = image_column or _find_image_column(path, splits["train"])
    label = label_column or _find_label_column(path, splits["train"])
    parts = {part: _select(path, splits[part], part, image, label) for part in PARTS if part in splits}
    listing = _list_parts(path, parts, label)
    listing.notes.extend(f"split not used: {name}" for name in sorted(splits.keys() - parts.keys()))

    return load_listed(
        name="huggingface",
        listing=listing,
        read=lambda file: _read_cell(parts, file, image),
        key=cache_key("huggingface", f"{digest} {image}", listing),
        directory=directory,
        reading=Reading(image_size=image_size, resize=resize, broken=broken, exclude_duplicates=exclude_duplicates),
        list_again=None,
    )


def fingerprint(*, path: str | None, data_dir: str) -> str:
    """A digest (32 hexadecimal digits) of all files at a local path; of what the library knows of a name on the Hub.

    Raises UserError if the path is not set, and for a name that the library cannot load.
    """
    if not path:
        raise UserError("dataset.path is not set: use dataset.path=PATH with a saved folder or parquet files")
    directory, local = Path(data_dir).expanduser().absolute(), Path(path).expanduser().absolute()
    if not local.exists():
        return hash_text(repr({part: split._fingerprint for part, split in _load_splits(path, directory).items()}))
    root = local if local.is_dir() else local.parent
    names = [p for p in root.rglob("*") if p.is_file() and ".lock" not in p.name] if local.is_dir() else [local]
    if not names:
        raise UserError(f"dataset.path={local} has no files: use a saved folder or parquet files")
    files = [stat_image(name.relative_to(root).as_posix(), name) for name in names]
    return hash_files(root=root, files=files, directory=directory, location=f"huggingface {local}")


def _load_splits(path: str, directory: Path) -> dict[str, Any]:
    """The splits of a data set of the library, by name."""
    try:
        import datasets
    except ImportError:
        raise UserError("dataset=huggingface needs the package datasets: pip install -e '.[huggingface]'") from None
    local, cache = Path(path).expanduser().absolute(), str(directory / "huggingface")
    if os.path.isabs(path) and not local.exists():
        raise UserError(f"dataset.path={path} does not exist: use a saved folder, parquet files or a name on the Hub")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        if (local / "dataset_dict.json").exists() or (local / "state.json").exists():
            loaded = datasets.load_from_disk(str(local))
        elif files := _parquet_files(local):
            loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=cache)
        elif local.exists():
            loaded = datasets.load_dataset("imagefolder", data_dir=str(local), cache_dir=cache)
        else:
            loaded = datasets.load_dataset(path, cache_dir=cache)
    except Exception as error:
        kind = "" if local.exists() else ", where no file or folder is,"
        raise UserError(
            f"dataset.path={path}{kind} cannot be loaded by the library datasets ({describe(error)}): "
            "use a folder that it saved, parquet files or a name on the Hub"
        ) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    if "train" not in splits:
        raise UserError(f"dataset.path={path} has no split named train, only {shorten(sorted(splits))}: rename one")
    return splits


def _parquet_files(local: Path) -> dict[str, list[str]]:
    """The parquet files at a path, by part."""
    files: dict[str, list[str]] = {}
    for file in [local] if local.suffix == ".parquet" else sorted(local.rglob("*.parquet")):
        names = (file.name.lower(), file.parent.name.lower() if file.parent != local.parent else "")
        part = next((part for name in names for part in PARTS if name.startswith(part)), "train")
        files.setdefault(part, []).append(str(file))
    return files


def _read_cell(parts: dict[str, Any], file: ImageFile, column: str) -> Source:
    """The encoded image that a name such as `train/0000012` stands for. Raises ValueError for an empty cell."""
    part, row = file.name.split("/")
    value = parts[part][int(row)][column]
    if value is None:
        raise ValueError("there is no image in this row")
    return value["bytes"] if value["bytes"] is not None else Path(value["path"])


def _find_image_column(path: str, split: Any) -> str:
    """The only column of images; otherwise, the only one of bytes. Raises UserError if there is none or several."""
    import datasets

    kinds = {name: repr(kind) for name, kind in split.features.items()}
    images = [name for name, kind in split.features.items() if isinstance(kind, datasets.Image)]
    images = images or [name for name, kind in kinds.items() if "binary" in kind]
    if len(images) != 1:
        found = f"{len(images)} columns of images" if images else "no column of images"
        raise UserError(f"dataset.path={path} has {found} among {shorten(list(kinds))}: set dataset.image_column")
    return images[0]


def _find_label_column(path: str, split: Any) -> str:
    """The only column of class labels; otherwise, the first of `_LABEL_COLUMNS`. Raises UserError if there is none."""
    import datasets

    labels = [name for name, kind in split.features.items() if isinstance(kind, datasets.ClassLabel)]
    if len(labels) != 1:
        labels = [name for name in _LABEL_COLUMNS if name in split.features]
    if not labels:
        columns = shorten(list(split.features))
        raise UserError(f"dataset.path={path} has no column of labels among {columns}: set dataset.label_column")
    return labels[0]


def _select(path: str, split: Any, part: str, image: str, label: str) -> Any:
    """The two columns of a split, with its images not decoded. Only the part `unlabeled` may lack the labels."""
    import datasets

    columns = [image, *([label] if label in split.features or part != "unlabeled" else [])]
    if missing := [name for name in columns if name not in split.features]:
        names = shorten(list(split.features))
        raise UserError(f"dataset.path={path}: the split {part} has no column {missing[0]}, only {names}")
    try:
        return split.select_columns(columns).with_format(None).cast_column(image, datasets.Image(decode=False))
    except Exception as error:
        raise UserError(f"dataset.path={path}: column {image} of {part} holds no images ({describe(error)})") from error


def _list_parts(path: str, splits: dict[str, Any], label: str) -> Listing:
    """All rows by part and class."""
    parts: dict[str, dict[str, list[ImageFile]]] = {part: {} for part in PARTS}
    for part, split in splits.items():
        size = split.data.nbytes // max(1, len(split))
        names = _class_names(path, split, label) if label in split.features else [""] * len(split)
        for row, name in enumerate(names):
            if part == "test" and not name:
                raise UserError(f"dataset.path={path}: row {row} of the split test has no label: label or remove it")
            kind = part if name and part != "unlabeled" else "unlabeled"
            file = ImageFile(f"{part}/{row:07d}", size, 0, 0)
            parts[kind].setdefault("" if kind == "unlabeled" else name, []).append(file)
    if len(parts["train"]) < 2:
        raise UserError(
            f"dataset.path={path} has fewer than two classes in the column {label} of its split train: "
            "choose another column with dataset.label_column"
        )
    listing = build_listing(
        root=Path(path),
        where=Path(path),
        train=parts["train"],
        test=parts["test"],
        unlabeled=parts["unlabeled"].get("", []),
        test_name="split test",
        broken={},
    )
    return sort_by_name(listing)


def _class_names(path: str, split: Any, label: str) -> list[str]:
    """The class of each row as text, "" for a row without one. Raises UserError for a column of anything else."""
    names, values = getattr(split.features[label], "names", None), list(split.select_columns([label])[label])
    if wrong := next((value for value in values if not isinstance(value, int | str | None)), None):
        raise UserError(f"dataset.path={path}: the column {label} holds {wrong!r}: labels are whole numbers or text")
    if names:
        return ["" if value is None or value < 0 else names[value] for value in values]
    return ["" if value in (None, -1) else str(value).strip() for value in values]
