"""Lists the images of an image folder and checks its layout, without opening an image."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from meanteacher.config.errors import UserError
from meanteacher.data.cache import describe
from meanteacher.data.listing import PARTS, ImageFile, Listing, build_listing, stat_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})


def list_images(*, root: str | None, directory: Path) -> Listing:
    """List the images of all parts and check the layout. `directory` (data_dir) may be root or a folder inside it.

    Raises UserError if root is missing, empty or has another layout than `image_folder` describes.
    """
    top = _resolve_root(root)
    ignored = {str(top / "unlabeled"), str(directory / "cache")}
    has_train, has_test, has_unlabeled = ((top / part).is_dir() for part in PARTS)
    if has_test and not has_train:
        raise UserError(f"{top} has a test folder but no train folder: expected train/<class>/*, test/<class>/*")
    walk = _Walk(top)
    train = walk.list_classes(top / "train" if has_train else top, ignored)
    if len(train) < 2:
        raise UserError(
            f"{top} has one class only ({next(iter(train))}), but at least two are needed: "
            "root must be the folder that contains train/<class>/* or <class>/*"
        )
    test = walk.list_classes(top / "test", ignored) if has_test else {}
    unlabeled = walk.list_files(top / "unlabeled") if has_unlabeled else []
    listing = build_listing(
        root=top, where=top, train=train, test=test, unlabeled=unlabeled, test_name="test folder", broken=walk.broken
    )
    others = [path.name for path in _subfolders(top) if path.name not in PARTS and str(path) not in ignored]
    if has_train and others:
        listing.notes.append(f"folders beside train/ skipped: {', '.join(others)}")
    if has_unlabeled and not unlabeled:
        listing.notes.append("unlabeled/ contains no images")
    if walk.skipped:
        reasons = "hidden, no regular file, no image suffix, or not in a class folder"
        listing.notes.append(f"files skipped: {len(walk.skipped)} ({reasons})")
    return listing


def _resolve_root(root: str | None) -> Path:
    """The root folder as an absolute path. Raises UserError if it is not set, missing or a file."""
    if not root:
        raise UserError(
            "dataset.root is not set: use dataset.root=DIR with the folder that contains train/<class>/* or <class>/*"
        )
    path = Path(root).expanduser().absolute()
    if os.path.isfile(path):
        raise UserError(f"dataset.root={path} is a file, not a folder: unpack it, or use the folder that contains it")
    if not os.path.isdir(path):
        parent = next(parent for parent in path.parents if os.path.isdir(parent))
        raise UserError(f"dataset.root={path} does not exist (its nearest existing parent folder: {parent})")
    return path


@dataclass
class _Walk:
    """Lists files below `root`. skipped: other files; broken: names of links that lead nowhere, with the reason."""

    root: Path
    skipped: list[Path] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def list_classes(self, folder: Path, ignored: set[str]) -> dict[str, list[ImageFile]]:
        """The files of each class in a folder, sorted by name. Raises UserError for a class without images."""
        paths = [path for path in _subfolders(folder) if str(path) not in ignored]
        class_files = {path.name: self.list_files(path) for path in paths}
        if not any(class_files.values()):
            raise UserError(
                f"{folder} has no images in class folders: expected <class>/<image> in it, "
                f"with one of the suffixes {' '.join(sorted(SUFFIXES))}"
            )
        for name, files in class_files.items():
            if not files:
                raise UserError(f"class folder {folder / name} contains no images: add some or delete the folder")
        self.skipped.extend(folder / entry.name for entry in _scan(folder) if not is_folder(entry))
        return class_files

    def list_files(self, folder: Path) -> list[ImageFile]:
        """The image files in a folder at any depth, sorted by name. A link to a folder that contains it is skipped."""
        files, pending = [], [(folder, (folder.resolve(),))]
        while pending:
            current, above = pending.pop()
            for entry in _scan(current):
                visible, path = not entry.name.startswith("."), current / entry.name
                if visible and is_folder(entry):
                    inner = path.resolve()
                    if any(outer.is_relative_to(inner) for outer in above):
                        self.skipped.append(path)
                    else:
                        pending.append((path, (*above, inner)))
                elif visible and entry.name[entry.name.rfind(".") :].lower() in SUFFIXES:
                    files += self.list_file(path)
                else:
                    self.skipped.append(path)
        return sorted(files)

    def list_file(self, path: Path) -> list[ImageFile]:
        """The image file at a path; none if it is a link that leads nowhere, a device or a pipe."""
        name = path.relative_to(self.root).as_posix()
        try:
            return [stat_image(name, path)]
        except OSError as error:
            self.broken[name] = describe(error)
        except ValueError:
            self.skipped.append(path)
        return []


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder except hidden ones, sorted by name."""
    names = sorted(entry.name for entry in _scan(folder) if is_folder(entry) and not entry.name.startswith("."))
    return [folder / name for name in names]


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link that leads nowhere or to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder. Raises UserError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({describe(error)}): make it readable or remove it") from error
