"""How the model itself is set for training: what is frozen, what drops out, what is computed twice."""

from __future__ import annotations

from typing import Any

from fieldtune.config import Training
from fieldtune.errors import ModelError
from fieldtune.training.optimizer import freezes_embeddings


def set_up(model: Any, settings: Training) -> None:
    """Freeze and mark what the settings say, once before the optimizer is made.

    Raises ModelError for a model that cannot compute its layers a second time.
    """
    inner = model.transformers_model
    if freezes_embeddings(model, settings.freeze_embeddings):
        inner.get_input_embeddings().requires_grad_(False)
    if settings.gradient_checkpointing:
        if not getattr(inner, "supports_gradient_checkpointing", False):
            raise ModelError(
                f"{type(inner).__name__} has no gradient checkpointing",
                "set training.gradient_checkpointing=false; training.gradient_cache saves memory with any model",
            )
        inner.activation_checkpointing_enable({"use_reentrant": False})


def enter_training(model: Any, settings: Training) -> None:
    """Switch to training; without dropout the modules stay as in evaluation."""
    model.train(settings.dropout)
    if settings.gradient_checkpointing:
        from transformers.modeling_layers import GradientCheckpointingLayer

        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True  # of the layer alone: it looks here, while the dropout inside stays as set
