"""Which weights a training changes: a model made ready before it, and made whole and saved after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.adapter_folder import AdapterRecord, Kind, weights_digest, write_record
from fieldtune.config import Training
from fieldtune.encoding import with_query_adapter
from fieldtune.errors import ModelError
from fieldtune.models import resolve_model
from fieldtune.training import bottleneck, lora
from fieldtune.training.freezing import freeze_lower, require_layers, trainable
from fieldtune.training.qlora import in_four_bits

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder, QueryAdapter

_KINDS: dict[str, Kind] = {"lora": "lora", "qlora": "lora", "adapter": "bottleneck", "query": "query"}
_NAMES = {"lora": "LoRA", "qlora": "QLoRA", "adapter": "bottleneck adapters", "full": "full training"}


@dataclass(slots=True)
class Prepared:
    """What `prepare` put into a model, and `finish` took out of it."""

    settings: Training
    record: AdapterRecord | None
    """None where no adapter is kept: the whole model was trained, or a base that is stored nowhere."""
    trainable: int
    """Numbers that training changes."""
    total: int
    notes: list[str]
    wrapped: Any = None
    """PEFT's view of the transformer; None without low-rank changes and after `finish`."""
    original: Any = None
    """The transformer in full precision while one in 4 bits is trained."""
    config: Any = None
    state: dict[str, Any] = field(default_factory=dict)
    """The trained low-rank change, from `finish` on."""
    bottlenecks: Any = None
    query_adapter: QueryAdapter | None = None
    """Trained by `train_query_side`."""


def prepare(encoder: Encoder, settings: Training, seed: int) -> Prepared:
    """Put in what `settings.method` trains and take everything else out of training; vectors are as before.

    Raises ModelError when the method does not fit the model.
    """
    import torch

    module, transformer = encoder.model[0], encoder.model.transformers_model
    require_bare(settings, encoder.name, routed=encoder.routed, adapted=hasattr(module, "bottlenecks"))
    torch.manual_seed(seed)  # of new weights
    if settings.method == "full":
        freeze_lower(transformer, settings.freeze_layers)
        part, whole = trainable(encoder.model)
        frozen = f"The word vectors and the lower {settings.freeze_layers} layers were left as they are."
        return Prepared(settings, None, part, whole, [frozen] if settings.freeze_layers else [])
    require_layers(transformer, settings.freeze_layers)
    prepared = Prepared(settings, record_of(encoder, _KINDS[settings.method]), 0, 0, [])
    if settings.pretrain != "none":
        prepared.record = None
        prepared.notes.append(
            "No adapter lies beside the model: it would fit the pre-trained weights alone, which are not kept. The "
            "model itself is whole."
        )
    encoder.model.requires_grad_(False)
    if settings.method == "query":
        return prepared
    if settings.method == "adapter":
        prepared.bottlenecks = bottleneck.add_bottlenecks(module, settings)
        prepared.notes.append(
            "Outside fieldtune the model loads with SentenceTransformer(folder, trust_remote_code=True): the code of "
            "the adapters lies in its folder."
        )
    else:
        if settings.method == "qlora":
            folder = Path(transformer.config._name_or_path)
            prepared.original = transformer.to("cpu")
            transformer = module.model = in_four_bits(transformer, folder, encoder.device)
        prepared.wrapped = lora.add_lora(transformer, settings, encoder.name)
        prepared.config = prepared.wrapped.peft_config["default"]
    prepared.trainable, prepared.total = trainable(encoder.model)
    share = prepared.trainable / prepared.total
    prepared.notes.append(
        f"Trained with {_NAMES[settings.method]}: {prepared.trainable:,} of {prepared.total:,} numbers ({share:.2%})."
    )
    return prepared


def require_bare(settings: Training, name: str, *, routed: bool, adapted: bool) -> None:
    """Raise ModelError for a base that cannot be trained again: with a layer for queries alone (`routed`), or, unless
    all of it is trained, with bottleneck adapters (`adapted`)."""
    if routed:
        raise ModelError(
            f"{name} has a layer for queries alone, trained on vectors that would change",
            "give the model that it was made of",
        )
    if adapted and settings.method != "full":
        raise ModelError(f"{name} carries bottleneck adapters already", "give the model that they were trained on")


def finish(encoder: Encoder, prepared: Prepared) -> Encoder:
    """The encoder of the whole model: low-rank changes merged into the weights (for QLoRA: those in full precision),
    a query layer put behind the others; call it once."""
    if prepared.query_adapter is not None:
        return with_query_adapter(encoder, prepared.query_adapter)
    if prepared.wrapped is None:
        return encoder
    prepared.state = lora.lora_state(prepared.wrapped)
    if prepared.original is not None:
        transformer = prepared.original.to(encoder.model.device)
        prepared.wrapped = lora.apply_state(transformer, prepared.config, prepared.state)
        prepared.notes.append("The change was merged into the base in full precision, not into its 4 bits.")
    encoder.model[0].model = lora.merge_lora(prepared.wrapped)
    prepared.wrapped = prepared.original = None
    encoder.model.eval()
    return encoder


def save_beside(prepared: Prepared, model: Path, *, share: float = 0.0) -> None:
    """Write `model/adapter`, and for bottlenecks what makes the saved model load with them.

    Where a `share` of the base's weights was mixed in after `finish` (training.base_share), the adapter is weakened
    likewise; that is not possible for DoRA, whose adapter is left out (`left_out` says so).
    """
    if prepared.bottlenecks is not None:
        bottleneck.write_into_model(model, prepared.bottlenecks)
    if prepared.record is None:
        return
    kept = 1 - share
    folder = model / "adapter"
    if prepared.bottlenecks is not None:
        prepared.bottlenecks.write(folder)
    elif prepared.query_adapter is not None:
        prepared.query_adapter.save(folder)
    elif left_out(prepared, share):
        return
    else:
        lora.save_lora(folder, prepared.config, prepared.state, kept)
    write_record(folder, prepared.record)


def left_out(prepared: Prepared, share: float) -> list[str]:
    """What there is to say where a `share` of the base's weights was mixed into a model, so that no adapter fits it."""
    low_rank = prepared.record is not None and prepared.record.method == "lora"
    if not (share and low_rank and prepared.settings.lora.dora):
        return []
    return [
        f"No adapter lies beside the model: {share:.0%} of the weights are the base model's (training.base_share), and "
        "a DoRA adapter cannot be weakened so. The model itself is whole; training.base_share=0 or "
        "training.lora.dora=false keeps an adapter."
    ]


def record_of(encoder: Encoder, method: Kind) -> AdapterRecord:
    """What an adapter has to remember of its base; the encoder's model is still the base."""
    return AdapterRecord(
        method=method,
        base=encoder.name,
        base_weights=weights_digest(encoder.model),
        base_fingerprint=resolve_model(encoder.name).fingerprint,
        dimension=encoder.dimension,
        query_prompt=encoder.prompts["query"],
        passage_prompt=encoder.prompts["passage"],
        max_tokens=int(encoder.model.max_seq_length or 0),
    )
