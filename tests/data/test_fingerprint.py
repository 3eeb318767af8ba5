"""The fingerprint of an image folder."""

import os
import time

import numpy as np
import pytest
from folder_cases import age, failure, fill, load, save

from meanteacher.data import folder, own_images
from meanteacher.data.folder import fingerprint


def test_fingerprint_depends_on_paths_and_content_only(tmp_path):
    root = fill(tmp_path / "root")
    data_dir = str(tmp_path / "data")
    first = fingerprint(root=str(root), data_dir=data_dir)
    assert len(first) == 32 and int(first, 16) >= 0
    (root / "train" / "cat" / "0001.png").touch()
    (root / "notes.txt").write_text("x")
    assert fingerprint(root=str(root), data_dir=data_dir) == first
    root = root.rename(tmp_path / "renamed")
    assert fingerprint(root=str(root), data_dir=data_dir) == first
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "elsewhere")) == first
    (root / "train" / "cat" / "0001.png").rename(root / "train" / "cat" / "1000.png")
    assert fingerprint(root=str(root), data_dir=data_dir) != first


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("restored", [True, False])
def test_fingerprint_changes_with_a_pixel(tmp_path, old, restored):
    """Even if the size in bytes stays the same and the modification time is restored."""
    root = fill(tmp_path / "root")
    path = root / "train" / "cat" / "pixel.ppm"
    save(path)
    if old:
        age(root)
        time.sleep(0.02)
    before = fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if restored:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "data")) != before


def test_fingerprint_of_an_unchanged_folder_reads_no_file(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    age(root)
    first = fingerprint(root=str(root), data_dir=str(tmp_path / "data"))

    def forbidden(**options):
        raise AssertionError("files were read")

    monkeypatch.setattr(own_images, "map_in_threads", forbidden)
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "data")) == first
    (root / "train" / "cat" / "0001.png").touch()
    with pytest.raises(AssertionError, match="files were read"):
        fingerprint(root=str(root), data_dir=str(tmp_path / "data"))


def test_fingerprint_of_recently_written_files_is_not_stored(tmp_path):
    """A file written twice within the resolution of time stamps has the same stamp both times."""
    root = fill(tmp_path / "root")
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    assert not list((tmp_path / "data" / "cache").glob("fingerprint-*"))


def test_changed_image_is_decoded_again(tmp_path):
    root = fill(tmp_path / "root")
    load(root)
    values = save(root / "train" / "cat" / "0000.png", seed=99)
    np.testing.assert_array_equal(load(root).train.pixels[0], values.transpose(2, 0, 1))


def test_a_run_lists_its_folder_once_and_trains_on_the_listed_files(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    load(root)
    listed, calls = folder.list_images, []
    monkeypatch.setattr(folder, "list_images", lambda **options: calls.append(1) or listed(**options))
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    save(root / "train" / "cat" / "new.png")
    assert len(load(root).train.names) == 10 and len(calls) == 1
    assert len(load(root).train.names) == 11


def test_images_that_change_during_decoding_are_not_cached(tmp_path):
    root = fill(tmp_path / "root")
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    values = save(root / "train" / "cat" / "0000.png", seed=99)
    assert "changed" in failure(root) and not list((tmp_path / "data" / "cache").glob("image_folder-*"))
    np.testing.assert_array_equal(load(root).train.pixels[0], values.transpose(2, 0, 1))
