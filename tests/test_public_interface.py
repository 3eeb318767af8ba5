"""The public interface: every name that a package lists for authors of extensions can be imported from it."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["methods", "models", "optim", "data", "data.augment"])
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(f"meanteacher.{package}")
    assert module.__all__ and all(hasattr(module, name) for name in module.__all__)
