"""An exported model on ONNX Runtime, several single-threaded passes side by side."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np

from fieldtune.encoding.engine import Backend, Floats, Format, Ids, processors

FILE = "model.onnx"


class OnnxEngine:
    backend: Backend = "onnx"

    def __init__(self, folder: Path, precision: Format) -> None:
        import onnxruntime

        self.precision = precision
        self.workers = processors()
        self.budget = 1_024
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / FILE), options, providers=["CPUExecutionProvider"]
        )

    def threads(self) -> AbstractContextManager[Executor]:
        return ThreadPoolExecutor(self.workers)

    def forward(self, ids: Ids, mask: Ids) -> Floats:
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return cast(Floats, np.asarray(vectors, np.float32))
