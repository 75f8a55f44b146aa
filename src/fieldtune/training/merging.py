"""A base model and an adapter of it made one saved model."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from fieldtune.adapter_folder import read_record, require_base, weights_digest
from fieldtune.encoding import Encoder, QueryAdapter, with_query_adapter
from fieldtune.errors import ModelError
from fieldtune.training.bottleneck import write_into_model
from fieldtune.training.lora import merge_lora


def save_merged(base: Encoder, adapter: Path, out: Path) -> None:
    """Save `base`, changed by the adapter in the folder `adapter`, to the folder `out`, the adapter beside it.

    The encoder is used up. Prompts and length limit become those that the adapter was trained with. Raises ModelError
    for an adapter of another base.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    record = read_record(adapter)
    require_base(record, weights_digest(base.model), base.dimension, adapter, base.name)
    model = base.model
    if record is not None and record.base_weights:  # vectors from files say nothing of prompts
        model.prompts = {**model.prompts, "query": record.query_prompt, "document": record.passage_prompt}
        model.max_seq_length = record.max_tokens or model.max_seq_length
        base = Encoder(model, name=base.name, precision=base.precision)
    if record is not None and record.method == "query":
        with_query_adapter(base, QueryAdapter.load(adapter)).model.save(str(out))
    elif record is not None and record.method == "bottleneck":
        from fieldtune.bottleneck_adapters import CONFIG, WEIGHTS, Bottlenecks

        adapters = Bottlenecks.read(model.transformers_model, adapter / CONFIG, adapter / WEIGHTS)
        model.save(str(out))
        write_into_model(out, adapters)
    else:
        _merge_low_rank(base, adapter)
        model.save(str(out))
    shutil.copytree(adapter, out / "adapter")


def _merge_low_rank(base: Encoder, adapter: Path) -> None:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = PeftModel.from_pretrained(base.model.transformers_model, str(adapter))
    except Exception as error:  # whatever PEFT raises about a file it cannot read or that does not fit
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the adapter {adapter} does not fit {base.name}: {first}", "give its own base") from None
    base.model[0].model = merge_lora(wrapped)
