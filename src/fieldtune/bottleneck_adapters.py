"""Bottleneck adapters between the layers of a text encoder.

A copy of this file lies in every model folder that has such adapters, so that the folder loads where nothing but
Sentence Transformers is installed: `SentenceTransformer(folder, trust_remote_code=True)`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

CONFIG = "bottleneck.json"
WEIGHTS = "bottleneck.safetensors"


class BottleneckAdapter(nn.Module):
    """x + up(relu(down(x))): after `__init__` exactly x, for `up` starts at zero (arXiv:1902.00751, section 2.1)."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = inputs + self.up(torch.relu(self.down(inputs)))
        return output


class Bottlenecks(nn.Module):
    """The adapters of one field; once put in, while `active`, each changes what its place in a transformer gives."""

    def __init__(self, places: Sequence[str], width: int, size: int) -> None:
        super().__init__()
        self.places, self.width, self.size = tuple(places), width, size
        self.adapters = nn.ModuleList(BottleneckAdapter(width, size) for _ in places)
        self.active = True

    def put_into(self, transformer: nn.Module) -> None:
        """Raises AttributeError, the transformer unchanged, when it has no such places."""
        modules = [transformer.get_submodule(place) for place in self.places]  # all of them, before one is changed
        for module, adapter in zip(modules, self.adapters, strict=True):
            module.register_forward_hook(self._hook(adapter))

    def _hook(self, adapter: nn.Module) -> Any:
        def changed(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return adapter(output) if self.active else output

        return changed

    def write(self, folder: Path) -> None:
        """Places and weights, to be read by `read`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"places": self.places, "width": self.width, "size": self.size}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.adapters.state_dict().items()}
        save_file(weights, folder / WEIGHTS)

    @classmethod
    def read(cls, transformer: nn.Module, config: Path, weights: Path) -> Bottlenecks:
        """Put saved adapters into a transformer. Raises ValueError, the transformer unchanged, when they do not fit."""
        said: Mapping[str, Any] = json.loads(config.read_text("utf-8"))
        like, shape = next(transformer.parameters()), cast(Any, transformer.config)
        try:
            made = cls(said["places"], said["width"], said["size"])
            if made.width != shape.hidden_size:
                raise ValueError(f"{config} is for states of {made.width} numbers, not {shape.hidden_size}")
            made.adapters.load_state_dict(load_file(weights))
            made.to(like.device, like.dtype).put_into(transformer)
        except (AttributeError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
            raise ValueError(f"the adapters in {config.parent} do not fit this transformer: {error}") from None
        return made


class AdaptedTransformer(Transformer):  # type: ignore[misc]
    """Sentence Transformers' Transformer with the adapters that lie in its folder."""

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> AdaptedTransformer:
        hub = {name: kwargs.get(name) for name in ("token", "cache_folder", "revision")}
        hub["local_files_only"] = kwargs.get("local_files_only", False)
        module: AdaptedTransformer = super().load(model_name_or_path, subfolder=subfolder, **kwargs)
        paths = [cls.load_file_path(model_name_or_path, name, subfolder=subfolder, **hub) for name in (CONFIG, WEIGHTS)]
        if None in paths:
            raise ValueError(f"{model_name_or_path} lacks {CONFIG} or {WEIGHTS}")
        module.bottlenecks = Bottlenecks.read(module.model, *map(Path, paths))
        return module

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        super().save(output_path, *args, **kwargs)
        self.bottlenecks.write(Path(output_path))


def write_code(folder: Path) -> None:
    """Make a saved model load with its adapters: this file beside it, its first module renamed."""
    shutil.copyfile(__file__, folder / "bottleneck_adapters.py")
    path = folder / "modules.json"
    modules = json.loads(path.read_text("utf-8"))
    modules[0]["type"] = "bottleneck_adapters.AdaptedTransformer"
    path.write_text(json.dumps(modules, indent=2) + "\n", "utf-8")
