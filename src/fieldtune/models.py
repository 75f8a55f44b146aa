"""Names of models to folders that load: builtin:NAME, a local folder (also a run's), or a hub id."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fieldtune.builtin import BUILTINS, builtin_folder
from fieldtune.errors import ModelError
from fieldtune.hub import hub_folder
from fieldtune.model_folder import (
    fingerprint,
    has_own_code_alone,
    model_folder,
    most_tokens,
    require_text_encoder,
    saved_prompts,
    saved_sizes,
    transformer_folder,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fieldtune.config import Model

TRUST = "FIELDTUNE_TRUST_REMOTE_CODE"
"""Of the environment: whether code that a model's folder brings along may run."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was found: a local folder for `SentenceTransformer(path_or_id)` and what is known of it."""

    name: str
    """As the user gave it."""
    path_or_id: str
    """A local folder; a hub id has become its snapshot in the hub's cache."""
    fingerprint: str
    """Changes with anything that changes the vectors; the same for a copy in another place."""
    kind: Literal["builtin", "folder", "hub"]
    query_prompt: str = ""
    passage_prompt: str = ""
    max_tokens: int | None = None
    """Its own limit on the input, special tokens included; None where its folder does not say."""
    dimension: int | None = None
    """Of its vectors; None where its folder does not say."""

    @property
    def folder(self) -> Path:
        return Path(self.path_or_id)


def resolve_model(name: str) -> ResolvedModel:
    """Find a model by builtin:NAME, folder (a run's folder means its `model/`) or hub id, in this order.

    Raises ModelError with the cure when it does not exist, cannot be fetched or is no text encoder, MissingExtraError
    when a builtin's wheel is not installed.
    """
    kind: Literal["builtin", "folder", "hub"]
    if name.startswith("builtin:"):
        kind, folder = "builtin", builtin_folder(name.removeprefix("builtin:"))
    elif name.strip() and Path(name).expanduser().exists():
        kind, folder = "folder", model_folder(Path(name).expanduser())
    elif _HUB_ID.fullmatch(name):
        kind, folder = "hub", hub_folder(name, _suggestion(name))
    else:
        raise ModelError(f"{name!r} is neither a folder nor a hub id", "check the path, or " + _suggestion(name))
    require_text_encoder(folder, name)
    query, passage = saved_prompts(folder)
    return ResolvedModel(name, str(folder), fingerprint(folder), kind, query, passage, *saved_sizes(folder))


def load_model(model: Model | str) -> SentenceTransformer:
    """Load for encoding or training, on the GPU where there is one; the config's limit and prompts win over its own.

    Raises ModelError when it cannot be loaded, MissingExtraError when a builtin's wheel is not installed.
    """
    from fieldtune.config import Model as Settings

    settings = Settings(base=model) if isinstance(model, str) else model
    found = resolve_model(settings.base)
    require_length(settings, found)
    query = found.query_prompt if settings.query_prompt is None else settings.query_prompt
    passage = found.passage_prompt if settings.passage_prompt is None else settings.passage_prompt
    with quiet():
        from sentence_transformers import SentenceTransformer

        try:
            loaded = SentenceTransformer(
                found.path_or_id,
                # Always written out: encode_query and encode_document, also after saving, then use just these.
                prompts={"query": query, "document": passage},
                trust_remote_code=settings.trust_remote_code or trusted() or has_own_code_alone(found.folder),
                local_files_only=True,
            )
        except Exception as error:  # whatever a library or a model's own code raises on a folder that does not fit
            raise ModelError(f"{settings.base} cannot be loaded: {_first_line(error)}", _load_hint(error)) from error
    if settings.max_tokens:
        loaded.max_seq_length = settings.max_tokens
    return loaded


def trusted() -> bool:
    """Whether the environment allows code of model folders: for search, serve, export, which take no settings.

    An index or adapter that came from elsewhere cannot allow it for itself.
    """
    return os.environ.get(TRUST, "") not in ("", "0")


def require_length(settings: Model, found: ResolvedModel) -> None:
    """Raise ModelError when model.max_tokens is more than the model has positions for; reads its folder alone."""
    most = most_tokens(found.folder)
    if most is None or settings.max_tokens <= most:
        return
    own = f" (its own limit is {found.max_tokens})" if found.max_tokens and found.max_tokens < most else ""
    raise ModelError(
        f"{found.name} reads at most {most} tokens, model.max_tokens asks for {settings.max_tokens}",
        f"set model.max_tokens to {most} or less{own}",
    )


def token_counter(name: str) -> Callable[[Sequence[str]], list[int]]:
    """A function from texts to their lengths in the model's tokens, special tokens included, never truncated.

    Reads the tokenizer alone, without torch, where the model has a `tokenizer.json`.
    """
    folder = resolve_model(name).folder
    path = transformer_folder(folder) / "tokenizer.json"
    if path.exists():
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path} is not a tokenizer: {_first_line(error)}", "save the model again") from None
    else:
        with quiet():
            from transformers import AutoTokenizer

            try:
                tokenizer = AutoTokenizer.from_pretrained(path.parent, local_files_only=True).backend_tokenizer
            except Exception as error:  # see load_model
                raise ModelError(
                    f"{name} has no fast tokenizer: {_first_line(error)}", "choose another model"
                ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]


def _suggestion(name: str) -> str:
    wanted = name.rstrip("/").rpartition("/")[2].casefold()
    for known in BUILTINS:
        if known.casefold() == wanted:
            return f"use builtin:{known}, which needs no hub"
    return "use one of " + ", ".join(f"builtin:{known}" for known in BUILTINS)


def _load_hint(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            "its code must be run to load it: if you trust it set model.trust_remote_code = true, or where a command "
            f"takes no settings, {TRUST}=1 in the environment"
        )
    return "check that plain SentenceTransformer(folder) loads it"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the loading bar and the advice that transformers and the hub client print."""
    from transformers.utils import logging as chatter

    bar, level = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()
    chatter.set_verbosity_error()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bar:
            chatter.enable_progress_bar()
