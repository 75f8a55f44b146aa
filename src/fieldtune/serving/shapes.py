"""The bodies of requests and answers; `examples` shows requests that this very server answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["auto", "dense", "words", "hybrid", "sparse", "dense-sparse", "multi", "m3", "m3-words"]
Scalar = str | int | float | bool


class Body(BaseModel):
    """A request: a field that is not known is an error, since a misspelt filter would find the wrong things."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, strict=True)


class Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Between(Body):
    """A range of a filter: one end or both, inclusive."""

    from_: Scalar | None = Field(None, alias="from")
    to: Scalar | None = None


Where = Annotated[dict[str, Scalar | list[Scalar] | Between], Field(max_length=20)]


class SearchBody(Body):
    """What to look for."""

    query: str
    k: int = Field(10, ge=1, le=10_000)
    """How many passages; the server may allow fewer than this schema does."""
    mode: Mode = "auto"
    """`dense` by vectors, `words` by words, `hybrid` by both; `auto` is what found most when the index was built. Where
    GET /v1/models names them: `sparse` by learned word weights, `dense-sparse` by these and vectors, `multi` what both
    find by the vectors of its tokens, `m3` by the sum of all three, `m3-words` with BM25 too."""
    where: Where | None = None
    """Column -> a value, a list of values, or {"from": …, "to": …}; GET /v1/models names the columns."""
    rerank: bool = False
    """Let the server's cross-encoder put the first results in order."""
    adapter: str | None = None
    """Ask with this adapter, as GET /v1/models calls it in `adapter`; it must leave passages as the index has them."""
    highlight: bool = True
    """Say where the query's words and the best sentence stand."""


class Found(Answer):
    """A passage that was found."""

    rank: int
    score: float
    id: str
    title: str
    text: str
    source: str
    page: int | None
    group: str
    start: int | None
    """Where the text stands in its document, in characters."""
    end: int | None
    metadata: dict[str, Any]
    parts: dict[str, float]
    """What the score is made of: of `dense` (cosine), `words` (BM25), `sparse`, `multi`, `rerank`, and the ranks
    `dense_rank`, `words_rank` and `sparse_rank`, what the search looked at."""
    words: list[tuple[int, int]]
    """Where the query's words stand in `text`: (start, end), end exclusive."""
    sentence: tuple[int, int] | None
    """The sentence of `text` that shares most with the query."""


class SearchAnswer(Answer):
    results: list[Found]
    mode: str
    found: bool | None
    """Whether the best score is one that right passages have; null where that was not calibrated."""
    milliseconds: float


class EmbeddingsBody(Body):
    """OpenAI's request for embeddings, and `input_type`."""

    input: str | list[str] | list[int] | list[list[int]]
    """A text, several, or token ids of this model's own tokenizer."""
    model: str
    """As GET /v1/models names it."""
    encoding_format: Literal["float", "base64"] | None = "float"
    """null is `float`, as clients write it that send all fields."""
    dimensions: int | None = Field(None, ge=1)
    """Keep the first so many numbers, scaled to unit length; good for models trained with Matryoshka loss."""
    input_type: Literal["query", "passage"] = "passage"
    """Which of the model's two prompts goes before the text: that of a question, or that of what is searched."""
    user: str | None = Field(None, max_length=1_000)
    """Taken for compatibility; not used and not logged."""


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or with `encoding_format: base64` the bytes of little-endian float32."""


class Usage(Answer):
    prompt_tokens: int
    """What the model read: prompt and special tokens included, what it cut off left out."""
    total_tokens: int


class EmbeddingsAnswer(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | None
    """The model that an adapter stands on; null for a model of its own."""
    adapter: str | None
    """What `adapter` of a search calls it; null for the index's model."""
    method: str
    """Of an adapter: `lora`, `bottleneck`, or `query`, which changes vectors of questions alone."""
    dimensions: int
    """Length of the vectors."""
    matryoshka: list[int]
    """Shorter lengths that the model was trained for."""
    passages: int
    """That it can search: none with an adapter whose vectors of passages are not those of the index."""
    columns: dict[str, str]
    """What `where` can name, with types."""
    modes: list[str]
    """Of a search with it."""


class ModelList(Answer):
    object: Literal["list"]
    data: list[ModelCard]


class SimilarityBody(Body):
    """Texts to compare: each of the first with each of the second."""

    first: list[str] = Field(min_length=1, max_length=512)
    second: list[str] = Field(min_length=1, max_length=512)
    model: str | None = None
    """As GET /v1/models names it; null is the index's model."""
    first_type: Literal["query", "passage"] = "passage"
    second_type: Literal["query", "passage"] = "passage"


class SimilarityAnswer(Answer):
    scores: list[list[float]]
    """Cosine, a row for each of the first texts."""
    model: str


class RerankBody(Body):
    """Cohere's and Jina's request: documents as texts or as objects with a `text`.

    What else their clients send, such as `max_tokens_per_doc`, is taken and not used: it differs from one to the next.
    """

    model_config = ConfigDict(extra="ignore")

    query: str
    documents: list[str | RerankDocument] = Field(min_length=1, max_length=1_000)
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False


class RerankDocument(Body):
    """A text; an `id` or whatever else stands beside it is taken and not used."""

    model_config = ConfigDict(extra="ignore")

    text: str


class Reranked(Answer):
    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankAnswer(Answer):
    id: str
    model: str
    results: list[Reranked]


class AnswerBody(Body):
    """A question to answer from the documents."""

    question: str
    k: int | None = Field(None, ge=1, le=50)
    """Passages to answer from; by default as the server is set."""
    mode: Mode = "auto"
    where: Where | None = None
    rerank: bool = False
    stream: bool = False
    """Server-sent events: `passages`, then `delta` for each piece of text, then `final` or `error`."""


class Sentence(Answer):
    start: int
    end: int
    """Where it stands in `answer`, end exclusive."""
    citations: list[int]
    supported: bool
    reason: str
    """Why it is not supported; empty where it is."""


class AnswerAnswer(Answer):
    answer: str
    """With [n] for the n-th of `passages`; empty without an LLM."""
    found: bool | None
    """False: the scores say that these documents do not hold an answer. null: not calibrated."""
    by: Literal["llm", "passages"]
    """`passages`: no LLM is configured, or the answer is not there; `passages` are the best that there are."""
    note: str
    """What the reader should know about this answer, in one sentence; may be empty."""
    sentences: list[Sentence]
    passages: list[Found]
    supported: bool
    """Whether every sentence is."""


class Problem(Answer):
    message: str
    type: str
    param: str | None
    """The field that is wrong."""
    code: str | None


class ErrorAnswer(Answer):
    error: Problem


class Health(Answer):
    status: str
    passages: int | None = None
    reason: str | None = None
