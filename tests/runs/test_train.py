"""Arguments of the command line before Hydra reads them."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from meanteacher.runs.train import quote_unicode


@pytest.mark.parametrize("path", ["фото/labels.csv", "/data/Fotos für alle/猫 1", "~/é.json"])
def test_paths_beyond_ascii_need_no_quotes(path):
    quoted = quote_unicode(f"dataset.root={path}")
    assert OverridesParser.create().parse_override(quoted).value() == path
    assert quote_unicode(quoted) == quoted


@pytest.mark.parametrize("argument", ["label=1000", "seed=0,1", "dataset.root=a b", "logger=[é,b]", "x=é,ü", "--help"])
def test_other_arguments_stay_as_they_are(argument):
    assert quote_unicode(argument) == argument
