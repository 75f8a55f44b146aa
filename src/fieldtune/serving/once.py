"""One question without a server: the same answer that the endpoint gives."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fieldtune.config import Config
from fieldtune.errors import EndpointError, InputError
from fieldtune.serving.answering import retrieve, whole_answer
from fieldtune.serving.opening import open_service
from fieldtune.serving.problems import ApiError
from fieldtune.serving.shapes import AnswerAnswer, AnswerBody


def ask_once(run: Path, config: Config, question: str) -> AnswerAnswer:
    """The answer to one question from a finished run.

    Raises InputError for a question that cannot be asked, EndpointError where the LLM fails, and what `open_service`
    raises.
    """

    async def asked() -> AnswerAnswer:
        try:
            return await whole_answer(service, await retrieve(service, AnswerBody(question=question)))
        except ApiError as error:
            kind = EndpointError if error.status >= 500 else InputError
            raise kind(error.message) from None
        finally:
            await service.close()

    alone = config.serving.model_copy(update={"adapters": {}})  # an answer needs none, and each takes time to load
    with open_service(run, config.model_copy(update={"serving": alone})) as service:
        return asyncio.run(asked())
