"""The public interface: every name that a package lists for authors of extensions can be imported from it."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["methods", "models", "optim", "data", "data.augment", "inference"])
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(f"meanteacher.{package}")
    assert module.__all__ and all(hasattr(module, name) for name in module.__all__)


def test_the_package_itself_gives_load():
    assert importlib.import_module("meanteacher").load.__name__ == "load"
    with pytest.raises(AttributeError):
        importlib.import_module("meanteacher").unload  # noqa: B018
