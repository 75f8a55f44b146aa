"""Time and memory of pieces of work that lie within each other."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from fieldtune.metering import meter


def test_time_is_that_between_start_and_end() -> None:
    took = meter("rest")
    time.sleep(0.05)
    cost = took()
    assert cost.stage == "rest"
    assert 0.05 <= cost.seconds < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process begin its peak again")
def test_each_piece_has_its_own_peak_and_the_whole_the_largest() -> None:
    whole, big = meter("whole"), meter("big")
    held = np.ones(40_000_000)  # 320 MB
    first = big()
    del held
    small = meter("small")
    second, both = small(), whole()
    assert first.peak_own
    assert second.peak_own
    assert first.peak_gb is not None
    assert second.peak_gb is not None
    assert first.peak_gb > second.peak_gb + 0.25
    assert both.peak_gb == first.peak_gb
