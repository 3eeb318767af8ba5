"""The table of random streams: fixed values, and streams that are independent of each other."""

import numpy as np
import pytest

from meanteacher.data.random_streams import RunStream, SplitStream, derive_seed, numpy_generator


def test_the_values_of_the_streams_are_fixed():
    values = {"IMAGE_ORDER": 1, "CLASS_ORDER": 2, "LABELED_CLASSES": 5, "UNLABELED_ORDER": 6}
    assert {stream.name: stream.value for stream in SplitStream} == values
    assert [stream.value for stream in RunStream] == [1, 2, 3, 4, 7, 8]
    assert [derive_seed(0, RunStream.AUGMENTATION, step) for step in (0, 1)] == [
        int(np.random.SeedSequence([0, 3, step]).generate_state(1, np.uint64)[0] >> 1) for step in (0, 1)
    ]


def test_seeds_differ_by_seed_stream_and_step():
    seeds = {derive_seed(seed, stream, step) for seed in range(5) for stream in RunStream for step in range(50)}
    assert len(seeds) == 5 * len(RunStream) * 50 and min(seeds) >= 0 and max(seeds) < 2**63


@pytest.mark.parametrize("position", [(), (3,)])
def test_a_generator_is_determined_by_its_stream_and_position(position):
    first = numpy_generator(5, RunStream.LABELED_ORDER, *position).random(4)
    np.testing.assert_array_equal(first, np.random.default_rng([5, 1, *position]).random(4))
    assert not np.array_equal(first, numpy_generator(5, RunStream.UNLABELED_ORDER, *position).random(4))
