"""Low-rank changes of a transformer's matrices, by PEFT: put in before training, merged into the matrices after it."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.config import Lora, Training
from fieldtune.errors import ModelError
from fieldtune.training.blocks import Linear, linears_of

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


def add_lora(transformer: Any, settings: Training, name: str) -> Any:
    """Put trainable changes, at first without effect, into `transformer` in place; nothing else in it is trained.

    Returns PEFT's view of it. `name` is the base model as the user knows it. Raises ModelError when the targets match
    nothing that is to be trained.
    """
    from peft import LoraConfig, get_peft_model

    chosen = targets(linears_of(transformer), settings.lora, settings.freeze_layers, name)
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=[linear.name for linear in chosen],
        use_rslora=settings.lora.rslora,
        use_dora=settings.lora.dora,
        bias="none",
    )
    with _without_advice():
        wrapped = get_peft_model(transformer, config)
    wrapped.peft_config["default"].base_model_name_or_path = name
    return wrapped


def targets(linears: Iterable[Linear], settings: Lora, frozen: int, name: str) -> list[Linear]:
    """The linear layers that are changed; those of the lowest `frozen` layers never are.

    Raises ModelError naming each ending that matches nothing, and the endings there are.
    """
    there = list(linears)
    free = [linear for linear in there if linear.layer >= frozen]
    if settings.targets == "all":
        return free
    if settings.targets == "attention":
        chosen = [linear for linear in free if linear.attention]
        wrong: list[str] = [] if chosen else ["attention"]
    else:
        wrong = [word for word in settings.targets if not any(_ends(linear.name, word) for linear in free)]
        chosen = [linear for linear in free if any(_ends(linear.name, word) for word in settings.targets)]
    if wrong or not chosen:
        endings = dict.fromkeys(linear.name.rpartition(".")[2] for linear in there)
        where = f" in its layers from {frozen} on" if frozen else ""
        raise ModelError(
            f"training.lora.targets: {', '.join(wrong) or 'an empty list'} matches no linear layer of {name}{where}",
            f"there are: {', '.join(endings)}; or take all, or attention",
        )
    return chosen


def lora_state(wrapped: Any) -> dict[str, torch.Tensor]:
    """A copy of the trained change, under PEFT's names for files, on the processor."""
    from peft import get_peft_model_state_dict

    # Without the second argument PEFT asks a hub whether the vocabulary has grown.
    state = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return {name: weight.detach().cpu().clone() for name, weight in state.items()}


def merge_lora(wrapped: Any) -> Any:
    """Add the change to the matrices it belongs to, in place, and take PEFT's layers out again; returns the model.

    Raises ModelError when a number in the result is not finite.
    """
    try:
        merged = wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(
            f"the trained change cannot be merged: {error}", "lower training.learning_rate and train again"
        ) from None
    return merged.requires_grad_(True)


def apply_state(transformer: Any, config: Any, state: Mapping[str, torch.Tensor]) -> Any:
    """Put a trained change into another copy of its base, in place; returns PEFT's view of it."""
    from peft import get_peft_model, set_peft_model_state_dict

    with _without_advice():
        wrapped = get_peft_model(transformer, copy.deepcopy(config))
    set_peft_model_state_dict(wrapped, dict(state))
    return wrapped


def save_lora(folder: Path, config: Any, state: Mapping[str, torch.Tensor], kept: float = 1.0) -> None:
    """Write the change as a PEFT adapter, for `PeftModel.from_pretrained` and fieldtune alike.

    `kept` is the share of it that is in the merged model: the rest went when base weights were mixed in.
    """
    from safetensors.torch import save_file

    scaled = {name: weight * kept if ".lora_B." in name else weight for name, weight in state.items()}
    config = copy.deepcopy(config)
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    save_file({name: weight.contiguous() for name, weight in scaled.items()}, folder / "adapter_model.safetensors")


def faster_b(groups: list[dict[str, Any]], model: Module, settings: Training) -> list[dict[str, Any]]:
    """The optimizer's groups with the B matrices set apart, at `lora.b_rate` times the learning rate.

    A group's `share` is its part of the learning rate (LoRA+, arXiv:2402.12354, section 4).
    """
    if settings.method not in ("lora", "qlora") or settings.lora.b_rate == 1:
        return groups
    fast = {id(weight) for name, weight in model.named_parameters() if ".lora_B." in name}
    apart: list[dict[str, Any]] = []
    for group in groups:
        slow = [weight for weight in group["params"] if id(weight) not in fast]
        rest = [weight for weight in group["params"] if id(weight) in fast]
        apart.append({**group, "params": slow})
        if rest:
            apart.append({**group, "params": rest, "share": settings.lora.b_rate})
    return [group for group in apart if group["params"]]


def enter_lora_dropout(model: Module, settings: Training) -> None:
    """Let low-rank changes drop inputs as `lora.dropout` says, whether or not the model itself does."""
    if settings.method in ("lora", "qlora") and settings.lora.dropout:
        for name, module in model.named_modules():
            if "lora_dropout" in name:
                module.train()


def _ends(name: str, word: str) -> bool:
    return name == word or name.endswith(f".{word}")


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """PEFT's warnings are for those who call it themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
