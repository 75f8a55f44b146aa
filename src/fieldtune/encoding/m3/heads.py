"""The two linear layers that make an encoder speak in words and in tokens as well, in the files of BGE-M3."""

from __future__ import annotations

import pickle
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.errors import ModelError
from fieldtune.workspace import atomic_file, digest

if TYPE_CHECKING:
    from torch.nn import ModuleDict

SPARSE, MULTI = "sparse_linear", "colbert_linear"
"""Names of the layers; with .pt, of their files beside the model (arXiv:2402.03216 and its public code)."""
# Every word of a text weighs the same at first: the sparse score then is the number of shared words, and no token
# stands at zero, where relu passes no gradient on.
_FIRST_WEIGHT = 0.2


def new_heads(hidden: int, size: int = 0) -> ModuleDict:
    """Layers for token states of `hidden` numbers; `size` numbers per token vector, 0 for as many.

    At first token vectors are the token states themselves (their leading coordinates), and all tokens weigh the same:
    both say something before any training. Raises ModelError for a size over `hidden`.
    """
    import torch

    size = size or hidden
    if size > hidden:
        raise ModelError(
            f"token vectors of {size} numbers do not come out of states of {hidden}", f"take {hidden} or less"
        )
    heads = torch.nn.ModuleDict({SPARSE: torch.nn.Linear(hidden, 1), MULTI: torch.nn.Linear(hidden, size)})
    with torch.no_grad():
        torch.nn.init.zeros_(heads[SPARSE].weight)  # type: ignore[arg-type]
        torch.nn.init.constant_(heads[SPARSE].bias, _FIRST_WEIGHT)  # type: ignore[arg-type]
        torch.nn.init.eye_(heads[MULTI].weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(heads[MULTI].bias)  # type: ignore[arg-type]
    return heads


def has_heads(folder: Path) -> bool:
    """Whether a model's folder carries both layers."""
    return all((folder / f"{name}.pt").exists() for name in (SPARSE, MULTI))


def load_heads(folder: Path, hidden: int) -> ModuleDict:
    """The layers that a folder carries, float32 on the processor.

    Raises ModelError when a file is missing, cannot be read, or does not fit token states of `hidden` numbers.
    """
    import torch

    states = {name: _state(folder / f"{name}.pt") for name in (SPARSE, MULTI)}
    for name, state in states.items():
        shape = tuple(state["weight"].shape)
        fits = len(shape) == 2 and shape[1] == hidden and (name == MULTI or shape[0] == 1)
        if not fits or tuple(state["bias"].shape) != shape[:1]:
            raise ModelError(
                f"{folder / name}.pt holds a layer of shape {shape}, the model's token states have {hidden} numbers",
                "take the file that was saved with this model",
            )
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(hidden, len(state["bias"])) for name, state in states.items()})
    for name, state in states.items():
        heads[name].load_state_dict({part: weight.float() for part, weight in state.items()})
    return heads.eval()


def token_size(heads: ModuleDict) -> int:
    """Numbers of a token's vector."""
    layer: Any = heads[MULTI]
    return int(layer.out_features)


def heads_digest(heads: ModuleDict) -> str:
    """Names the weights of both layers."""
    numbers = {name: weight.detach().float().cpu().numpy() for name, weight in heads.state_dict().items()}
    return digest([[name, part.shape, sha256(part.tobytes()).hexdigest()] for name, part in numbers.items()])


def save_heads(heads: ModuleDict, folder: Path) -> None:
    """Write sparse_linear.pt and colbert_linear.pt: each the state of one linear layer, weight and bias."""
    import torch

    for name in (SPARSE, MULTI):
        state = {part: weight.detach().cpu().clone() for part, weight in heads[name].state_dict().items()}
        with atomic_file(folder / f"{name}.pt", "wb") as stream:
            torch.save(state, stream)


def _state(path: Path) -> dict[str, Any]:
    import torch

    if not path.exists():
        raise ModelError(
            f"{path} is missing", "the folder is not one of BGE-M3's form; train it with training.m3.train"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} cannot be read: {first}", "save or fetch the model again") from None
    if not isinstance(state, dict) or set(state) != {"weight", "bias"}:
        raise ModelError(f"{path} does not hold one linear layer", "its keys must be weight and bias")
    return state
