"""Any Sentence Transformers model with torch alone, as many forward passes at once as there are processors."""

from __future__ import annotations

import copy
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fieldtune.encoding import packed
from fieldtune.encoding.engine import Backend, Floats, Format, Ids, processors
from fieldtune.encoding.threads import single_threaded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class TorchEngine:
    """Several single-threaded passes side by side: two cores on one pass wait for each other after each layer.

    In bf16 the weights are cast once, in a copy of the model: autocast casts them again with every pass.
    """

    backend: Backend = "torch"

    def __init__(self, model: SentenceTransformer, precision: Format) -> None:
        import torch

        self.precision = precision
        self.device = str(model.device)
        self._alone = not self.device.startswith("cpu")
        self.workers = 1 if self._alone else processors()
        self.budget = 65_536 if self._alone else 1_024
        self.model: Any = copy.deepcopy(model).to(torch.bfloat16).eval() if precision == "bf16" else model.eval()

    def threads(self) -> AbstractContextManager[Executor]:
        return ThreadPoolExecutor(1) if self._alone else single_threaded(self.workers)

    def forward(self, ids: Ids, mask: Ids) -> Floats:
        import torch

        with torch.inference_mode():
            output = packed.vectors(self.model, torch.from_numpy(ids), torch.from_numpy(mask)).float()
            unit = torch.nn.functional.normalize(output, dim=-1)
        return cast(Floats, np.asarray(unit.cpu().numpy(), np.float32))
