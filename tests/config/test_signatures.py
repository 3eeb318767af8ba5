"""Constructor signatures are read from source through imports, without importing the module."""

import subprocess
import sys

import pytest
from conftest import ROOT

from meanteacher.config.signatures import annotated_type, constructor_parameters, public_names

PACKAGE = {
    "__init__.py": "from .absolute import Wide as Net\nfrom .deep import *\nfrom .deep import Deep\n"
    "from . import plain\nfrom .deep.inner import up\n"
    "try:\n    from .plain import fast\nexcept ImportError:\n    from .missing import fast\n"
    "if True:\n    from .plain import chosen\nelse:\n    from .missing import chosen\n",
    "absolute.py": "from signature_package.plain import Base\nclass Wide(Base):\n    pass\n",
    "plain.py": "raise ImportError\nclass Base:\n    def __init__(self, channels, width=2, *, depth: int = 3): ...\n"
    "def fast(first, second=1): ...\ndef chosen(*, name): ...\n",
    "deep/__init__.py": "from .inner import Deep as Deep\n",
    "deep/inner.py": "from ..plain import Base\nfrom ..plain import fast as up\nclass Deep(Base):\n    pass\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, source in PACKAGE.items():
        path = tmp_path / "signature_package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return "signature_package"


@pytest.mark.parametrize("name", ["Net", "Deep"])
def test_constructor_is_found_through_relative_imports_and_base_classes(package, name):
    parameters = constructor_parameters(package, name)
    required = {name: parameter.required for name, parameter in parameters.items()}
    assert required == {"channels": True, "width": False, "depth": True}


def test_conditional_imports_are_followed(package):
    assert list(constructor_parameters(package, "fast")) == ["first", "second"]
    assert list(constructor_parameters(package, "chosen")) == ["name"]
    assert list(constructor_parameters(package, "up")) == ["first", "second"]


def test_names_that_are_no_functions_or_classes_have_no_constructor(package):
    assert constructor_parameters(package, "nothing") is None
    assert constructor_parameters(package, "plain") is None, "a submodule that the package imports from itself"


def test_optimizers_of_torch_are_read_without_importing_it():
    code = (
        "import sys; from meanteacher.config.signatures import constructor_parameters as read\n"
        "assert {'params', 'lr', 'momentum', 'fused'} <= set(read('torch.optim', 'SGD'))\n"
        "assert {'params', 'lr', 'betas', 'capturable'} <= set(read('torch.optim', 'AdamW'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert {"SGD", "Adam"} <= set(public_names("torch.optim"))


def test_an_argument_without_annotation_has_no_type():
    assert annotated_type(None) is None
