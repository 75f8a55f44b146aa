"""An exported model on OpenVINO, one stream per processor."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np

from fieldtune.encoding.engine import Backend, Floats, Format, Ids, processors
from fieldtune.encoding.precision import has_bf16

FILE = "model.xml"


class OpenVinoEngine:
    backend: Backend = "openvino"

    def __init__(self, folder: Path, precision: Format) -> None:
        import openvino

        self.precision = precision
        self.workers = processors()
        self.budget = 1_024  # measured with MiniLM on two cores: 512 to 2,048 are alike
        # What is not int8 in an int8 model is still a product of floats.
        fast = precision == "bf16" or (precision == "int8" and has_bf16("cpu"))
        self._compiled: Any = openvino.Core().compile_model(
            str(folder / FILE),
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "NUM_STREAMS": str(self.workers),
                "INFERENCE_PRECISION_HINT": "bf16" if fast else "f32",
            },
        )
        self._own = threading.local()

    def threads(self) -> AbstractContextManager[Executor]:
        return ThreadPoolExecutor(self.workers)

    def forward(self, ids: Ids, mask: Ids) -> Floats:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        self._own.request.infer({"input_ids": ids, "attention_mask": mask})
        return cast(Floats, np.array(self._own.request.get_output_tensor(0).data, np.float32))
