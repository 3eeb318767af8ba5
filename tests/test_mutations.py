"""Every mutation in the list still applies, and its file of tests exists. `scripts/mutations` runs them."""

import runpy

from conftest import ROOT


def test_every_mutations_old_text_is_in_its_file_exactly_once():
    read = runpy.run_path(str(ROOT / "scripts" / "mutations"))["mutations"]
    found = read((ROOT / "scripts" / "mutations.txt").read_text())
    assert len(found) >= 24 and len({one.name for one in found}) == len(found)
    for one in found:
        assert one.old != one.new and one.occurrences(ROOT) == 1, one.name
        assert (ROOT / one.test).is_file() and one.tests.strip(), one.name
