from __future__ import annotations

import pytest

from fieldtune.encoding.checking import Check, require_close
from fieldtune.errors import ModelError


def test_a_loss_within_the_limit_passes_and_one_beyond_is_refused() -> None:
    require_close(Check(0.99, 0.995, 100, 500, 0.800, 0.798), "int8", 0.3, "m")
    require_close(Check(0.99, 0.995, 100, 500, 0.800, 0.900), "int8", 0.0, "m")  # a gain is no loss
    with pytest.raises(ModelError, match=r"loses 0\.40 points"):
        require_close(Check(0.99, 0.995, 100, 500, 0.800, 0.796), "int8", 0.3, "m")


@pytest.mark.parametrize(
    ("precision", "mean"), [("fp32", 0.999), ("bf16", 0.99), ("int8", 0.9), ("fp32", float("nan"))]
)
def test_wrong_vectors_are_refused_without_any_query(precision: str, mean: float) -> None:
    with pytest.raises(ModelError, match="not the model's"):
        require_close(Check(mean, mean), precision, 0.3, "m")  # type: ignore[arg-type]
