"""The one config: typed, frozen, every default visible; a preset is the dial from which the others follow."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fieldtune.errors import ConfigError

Preset = Literal["quick", "balanced", "best"]
QueryKind = Literal[
    "question", "definition", "condition", "reason", "aspect", "table", "permission", "caption", "reference", "title",
    "crop", "keywords",
]  # fmt: skip


class Section(BaseModel):
    # Defaults are validated so that 900 is 900.0 where a float is meant: a run's record, read again, has the same
    # fingerprints as the run.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, validate_default=True
    )


class Documents(Section):
    """Which files are read."""

    paths: tuple[str, ...] = ()
    """Folders (read recursively), files or glob patterns."""
    max_bytes: int = Field(2_000_000_000, gt=0)
    """A file larger than this is recorded as not read."""
    max_word_loss: float = Field(0.02, ge=0, le=1)
    """A PDF page whose blocks lose more than this share of the words pypdfium2 sees is named in the result."""
    workers: int = Field(0, ge=0)
    """Files read at once; 0 takes one per processor."""
    max_seconds: float = Field(900, gt=0)
    """A file whose reading takes longer is recorded as not read: a damaged file can hang a parser."""

    @field_validator("paths", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Corpus(Section):
    """How documents are cut into passages."""

    max_tokens: int = Field(256, ge=32)
    """Longest passage, title included, in tokens of the base model."""
    min_tokens: int = Field(16, ge=0)
    """A shorter piece joins its neighbour under the same heading where it fits."""
    overlap_tokens: int = Field(32, ge=0)
    """Repeated at the start of the next passage, cut at a sentence border; statute articles do not overlap."""
    heading_levels: int = Field(3, ge=0, le=9)
    """A passage never crosses a heading of level 1 to this."""
    near_duplicate: float = Field(0.9, gt=0, le=1)
    """Estimated Jaccard similarity of word 3-shingles from which passages count as near-duplicates."""

    @model_validator(mode="after")
    def _fits(self) -> Corpus:
        if max(self.overlap_tokens, self.min_tokens) >= self.max_tokens:
            raise ValueError("overlap_tokens and min_tokens must be smaller than max_tokens")
        return self


class Styles(Section):
    """How often an LLM is asked for which style of query."""

    formal: float = Field(3, ge=0)
    """A question in the words of the field."""
    colloquial: float = Field(3, ge=0)
    """A layperson's question in everyday words."""
    keywords: float = Field(2, ge=0)
    """A few words typed into a search box."""
    case: float = Field(2, ge=0)
    """A short account of one's own case that ends in a question."""
    claim: float = Field(1, ge=0)
    """A statement to be checked, or a title."""
    comparison: float = Field(1, ge=0)
    """A question that takes two passages to answer; both are its positives."""

    @model_validator(mode="after")
    def _some(self) -> Styles:
        if not any(self.model_dump().values()):
            raise ValueError("at least one style must have a weight above 0")
        return self


class Queries(Section):
    """Where queries and labels come from."""

    source: str = Field("structure", alias="from")
    """"structure" (made from the documents without an LLM), "llm", or the path of a BEIR folder, a labels file, or a
    file of generated queries (JSON lines with corpus-id, style and query)."""
    test: str = ""
    """Labelled queries (a BEIR folder or a labels file) that are the test set, whatever `from` trains on; made queries
    on their passages, and near-copies of them, are left out of training. Where they ask about the very documents that
    are trained on, raise evaluation.max_shared_documents to 1. Empty: `from` is divided."""
    per_passage: int = Field(2, ge=1)
    """Queries made per chosen passage, where they are made."""
    max_passages: int = Field(20_000, ge=1)
    """Passages that get made queries, drawn evenly over documents; for an LLM over their topics as well."""
    styles: Styles = Styles()
    """Of queries that an LLM writes: shares that need not add up to anything."""
    persona: str = ""
    """Who asks, told to the LLM: "nurses on a night shift", "tenants without legal training"."""
    domain: str = ""
    """What the LLM should know of the field: "Swiss tenancy law; OR is the Code of Obligations"."""
    examples: str = ""
    """A file with real queries of your users (text, one per line; or CSV, JSONL): an LLM takes tone and length from
    them. They are not queries of the run, and made queries that are close copies of them are dropped."""
    generated: bool = False
    """A labels file whose rows name passages by id holds queries that a machine made: they are filtered, and a test set
    of them is no benchmark. Rows with a style are known as such without it."""
    corpus: str = ""
    """A BEIR folder, or a corpus.jsonl, whose passages are used as they are where documents.paths is empty; needed
    when queries.from is a file of generated queries or one that names passages by their ids."""
    kinds: tuple[QueryKind, ...] = ()
    """Which kinds "structure" makes; empty makes all of them."""
    max_kind_share: float = Field(0.25, gt=0, le=1)
    """The largest share of one kind among them: what nearly every passage gives (titles, key phrases) would leave
    little room for questions. A passage that gives nothing else keeps its one query."""
    max_copied: float = Field(0.75, gt=0, le=1)
    """A made question is dropped when one run of words copied from its passage makes up more of it than this."""
    round_trip_k: int = Field(50, ge=0)
    """A made query is kept when the base model and BM25 together find its passage among the first k; a small k drops
    the colloquial queries that are worth most; 0 keeps all."""
    judge: bool = False
    """Have the LLM grade each made query against its passage from 0 to 3."""
    judge_min: int = Field(2, ge=1, le=3)
    """The lowest grade that stays."""
    fuzzy_match: float = Field(0.85, gt=0, le=1)
    """A labelled passage given as text counts as found in the corpus from this similarity on."""


class Llm(Section):
    """An OpenAI-compatible endpoint; the key comes from the environment variable FIELDTUNE_LLM_API_KEY, for
    https://api.openai.com alone also from OPENAI_API_KEY."""

    base_url: str = ""
    """For instance http://127.0.0.1:8000/v1; empty means that no LLM is used."""
    model: str = ""
    """The endpoint's name of the model."""
    local: str = ""
    """In place of an endpoint, a model on this machine: a .gguf file, or builtin:smollm2."""
    local_context: int = Field(4096, ge=1024)
    """Tokens that the local model can hold, prompt and answer together."""
    temperature: float = Field(0.7, ge=0, le=2)
    """0 gives the plainest questions, higher values more varied ones."""
    concurrency: int = Field(4, ge=1)
    """Calls under way at once."""
    timeout_seconds: float = Field(300, gt=0)
    """A call without an answer by then is made once more, and then never again unless this is raised: the endpoint may
    bill for it all the same. A model that thinks long needs more."""
    max_retries: int = Field(5, ge=0)
    """Further tries of a call that was refused for a while (429, 5xx) or whose connection broke."""
    ask_again: bool = False
    """Ask, and pay, once more where an earlier run got nothing of use: empty, broken off, late, no completion."""
    answer_tokens: int = Field(2_000, ge=50)
    """The most that an answer may have; a model that thinks before it answers needs more."""
    price_prompt: float = Field(0, ge=0)
    """Per million tokens, in any currency; 0 where it is not known."""
    price_completion: float = Field(0, ge=0)
    """Per million tokens."""
    max_cost: float = Field(0, ge=0)
    """Stop asking before this much is spent on the whole run, and go on with what is there; 0 sets no limit. What
    queries, judge, check and teacher take counts together, earlier starts of the run included."""
    max_tokens: int = Field(0, ge=0)
    """The same in tokens, prompts and answers together."""


class SplitConfig(Section):
    """How queries are divided into train, dev and test, by document group."""

    dev: float = Field(0.1, ge=0, lt=1)
    """Share of the labelled groups."""
    test: float = Field(0.2, ge=0, lt=1)
    """Share of the labelled groups; nothing is chosen by them."""
    keep_given: bool = True
    """Keep the split of a BEIR folder that has one; leaks in it are still counted."""
    near_duplicate_query: float = Field(0.9, gt=0, le=1)
    """Jaccard similarity of words (Chinese: character pairs) from which two queries stay on one side."""

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitConfig:
        if self.dev + self.test > 1 - 1e-9:
            raise ValueError("dev and test together must be less than 1, or nothing is left to train on")
        return self


class Negatives(Section):
    """How hard negatives are mined from the base model's own mistakes."""

    per_query: int = Field(4, ge=0)
    """0 trains on in-batch negatives alone."""
    candidates: Literal["model", "bm25", "fused"] = "model"
    """Where candidates come from: the base model's top passages, BM25's, or both fused by reciprocal rank."""
    depth: int = Field(50, ge=1)
    """How many of the top passages are looked at."""
    skip_first: int = Field(0, ge=0)
    """Leading wrong results left out as likely unlabelled answers."""
    max_share_of_positive: float = Field(0.95, gt=0)
    """A candidate that scores above this share of the positive's score, both counted from the mean score of unrelated
    texts, is skipped as a likely answer."""
    near_duplicate: float = Field(0.8, gt=0, le=1)
    """A candidate this similar to a positive (Jaccard of word 3-shingles) is skipped, and no passage of another row
    that is counts as wrong in the batch. 1: only one of the very same text, which takes half the time."""
    same_document: bool = True
    """Take negatives from a positive's own document too: the hardest ones, and those most often answers themselves."""
    style_limits: dict[str, Annotated[int, Field(ge=0)]] = {}
    """At most so many negatives for a query of a style, such as {keywords=1}; queries that people wrote are of style
    human. Vague queries have many unlabelled answers."""
    rounds: int = Field(1, ge=1)
    """Trainings one after the other, the epochs divided among them; each but the first mines anew with the model that
    the one before left."""
    check: str = ""
    """A cross-encoder (hub id or folder), or "llm", that looks for answers among the candidates; empty: none."""
    check_margin: float = Field(0.0, ge=-1, le=1)
    """A candidate is dropped that the check scores (0 to 1) above the query's lowest positive by more than this."""
    check_confirm: float = Field(0.9, ge=0)
    """A dropped candidate with at least this score becomes a positive of its training query; above 1: none does."""


class Teacher(Section):
    """A stronger scorer, whose scores of positives and other passages are stored with the training data."""

    model: str = ""
    """A cross-encoder (hub id or folder), a larger embedding model (hub id, folder or builtin:NAME) whose cosines are
    the scores, "llm" for the endpoint under llm, or "fused" for BM25 and the base model together, which needs no second
    model; empty: none."""
    word_share: float = Field(0.5, ge=0, le=1)
    """Of BM25 in the scores of fused; the rest is the base model's cosine."""
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = (10, 50, 200)
    """Ends of the bands of ranks from which passages are drawn to be scored; the last band is the rest of the corpus.
    (10, 50) means ranks 1 to 10, 11 to 50, and beyond."""
    per_band: int = Field(2, ge=0)
    """Passages drawn from each band per query, beside positives and hard negatives."""
    max_tokens: int = Field(0, ge=0)
    """Longest query and passage together, in tokens, or of an embedding model each of them; 0 keeps the model's own
    limit."""
    activation: Literal["none", "sigmoid"] = "none"
    """none keeps a cross-encoder's logits; sigmoid brings them between 0 and 1."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster and rounds scores to three digits; auto takes it where the processor or GPU computes it in
    hardware."""

    @field_validator("ranks")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in pairwise(value)):
            raise ValueError("each rank must be higher than the one before")
        return value


class Model(Section):
    """The base model."""

    base: str = "builtin:all-MiniLM-L6-v2"
    """A hub id, a local folder, or builtin:NAME."""
    max_tokens: int = Field(0, ge=0)
    """Longest input in tokens; 0 keeps the model's own limit."""
    query_prompt: str | None = None
    """Put before each query; None keeps the model's own."""
    passage_prompt: str | None = None
    """Put before each passage; None keeps the model's own."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings along. For search, serve, export and others that take no
    settings: FIELDTUNE_TRUST_REMOTE_CODE=1 in the environment."""


class Lora(Section):
    """Low-rank changes of the model's matrices (training.method = lora or qlora; arXiv:2106.09685)."""

    rank: int = Field(16, ge=1)
    """Of the change of each matrix; more can learn more and costs more."""
    alpha: float = Field(32, gt=0)
    """The change is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of a matrix's inputs that its change does not see, drawn anew at each step."""
    targets: tuple[str, ...] | Literal["all", "attention"] = "all"
    """Matrices that are changed: all linear layers of the blocks, those of attention alone, or endings of their names
    such as query, value."""
    rslora: bool = False
    """Multiply by alpha / √rank instead: high ranks then learn as fast as low ones (arXiv:2312.03732)."""
    dora: bool = False
    """Learn the length of each row apart from its direction (arXiv:2402.09353); slower."""
    b_rate: float = Field(1.0, gt=0)
    """Learning rate of the B matrices over that of the A matrices; LoRA+ takes 16 (arXiv:2402.12354)."""

    @field_validator("targets", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value not in ("all", "attention") else value


class Bottleneck(Section):
    """Small layers put between the model's own (training.method = adapter)."""

    placement: Literal["pfeiffer", "houlsby"] = "pfeiffer"
    """pfeiffer: one behind each feed-forward layer (arXiv:2005.00247); houlsby: one behind attention as well
    (arXiv:1902.00751)."""
    size: int = Field(64, ge=1)
    """Width of the bottleneck."""


class QueryLayer(Section):
    """A layer behind the finished model that changes query vectors alone (training.method = query)."""

    hidden: int = Field(0, ge=0)
    """Width of the inner layer; 0 makes the change linear."""


class M3(Section):
    """Dense, sparse and multi-vectors from one encoder, trained together (BGE-M3, arXiv:2402.03216)."""

    train: Literal["none", "both", "heads", "encoder"] = "none"
    """What of it learns; none: an ordinary dense model is trained. Layers that the base's folder carries
    (sparse_linear.pt, colbert_linear.pt) are trained on, else new ones are made. With training.loss mnrl or cached, or
    kl where there are a teacher's scores."""
    size: int = Field(0, ge=0)
    """Numbers of a token's vector where the layer is new; 0: as many as the model's token states have."""
    weights: tuple[
        Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]
    ] = (1.0, 0.3, 1.0)  # fmt: skip
    """Of the dense, sparse and multi-vector score in their sum, which has a loss of its own and is the model's own
    teacher."""
    sparse_share: float = Field(0.1, ge=0)
    """Of the sparse score's loss beside the others, which count as 1."""
    in_batch: bool = True
    """The batch's other passages are negatives too; without it a query's own hard negatives alone are."""
    self_distillation: bool = True
    """Each score also follows the sum of all three."""
    self_distillation_from: int = Field(0, ge=0)
    """From this optimizer step on, counted from 0: a new layer's scores are no teacher yet."""
    distillation: Literal["kl_div", "m3_kd_loss"] = "m3_kd_loss"
    """How a teacher's scores are followed (loss kl): within a query's own passages, or each of them against the whole
    batch. teacher_temperature and contrastive_share hold here as well."""
    head_rate: float = Field(10.0, gt=0)
    """Learning rate of the two layers over that of the encoder: new ones have more to learn."""


class Training(Section):
    """How the model is tuned."""

    method: Literal["full", "lora", "qlora", "adapter", "query"] = "full"
    """full: all weights; lora: low-rank changes, merged in at the end; qlora: the same over a base in 4 bits, on a GPU;
    adapter: small layers between the model's own; query: a layer on query vectors alone, an index stays valid."""
    freeze_layers: int = Field(0, ge=0)
    """Leave the word vectors and this many of the lower layers as they are."""
    lora: Lora = Lora()
    """Of method lora and qlora."""
    bottleneck: Bottleneck = Bottleneck()
    """Of method adapter."""
    query: QueryLayer = QueryLayer()
    """Of method query."""
    m3: M3 = M3()
    """Sparse and multi-vectors beside the dense one."""
    epochs: float = Field(2, gt=0)
    """Times each (query, positive) pair is seen; 0.5 takes half of them once."""
    batch_size: int = Field(64, ge=2)
    """Queries per step, of all processes together; each brings one positive and its hard negatives. Up to a quarter
    more where pairs would be left over at the end of an epoch."""
    hard_negatives: int = Field(1, ge=0)
    """Mined negatives used per query and step, drawn anew each epoch."""
    learning_rate: float = Field(5e-5, gt=0)
    """Of AdamW, at its peak; methods that train few weights have another default."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps with a rising rate; it then falls linearly to zero."""
    weight_decay: float = Field(0.01, ge=0)
    """On matrices alone."""
    max_grad_norm: float = Field(1.0, gt=0)
    """A longer gradient is shortened to this."""
    loss: Literal[
        "auto", "mnrl", "cached", "symmetric", "gte", "guided", "triplet", "contrastive", "online_contrastive",
        "cosine", "cosent", "margin_mse", "kl", "vectors",
    ] = "auto"  # fmt: skip
    """auto: kl where a teacher scored the rows, else mnrl. In the batch: mnrl, cached (mnrl with gradient_cache),
    symmetric, gte, guided; on a query's own passages: triplet, contrastive, online_contrastive; on scores of pairs:
    cosine, cosent; after a teacher: margin_mse, kl (its scores), vectors (its vectors)."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """What is multiplied by the scale; search ranks by cosine, so dot is for models that were trained with it."""
    scale: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Similarities are multiplied by this in the loss (1/temperature); auto measures the base model's similarities."""
    margin: float = Field(0.5, gt=0)
    """Distance (1 - cosine) that triplet and the contrastive losses ask for between right and wrong."""
    guide: str = ""
    """Model whose similarities tell false negatives in the loss guided (hub id, folder, builtin:NAME); empty: the base
    model itself."""
    guide_margin: float = 0.0
    """Left out is what the guide finds more similar than the pair itself less this."""
    scored_passages: int = Field(8, ge=1)
    """Scored passages used per query and step by kl and margin_mse, beside the positive."""
    student_temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Cosines are divided by this in kl and margin_mse; auto: 1/scale."""
    teacher_temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """A teacher's scores are divided by this in kl and margin_mse; auto: half the spread of its scores for a query, or
    of an embedding model the temperature that fits its cosines between unrelated texts, as scale does for the base."""
    contrastive_share: float = Field(0.1, ge=0, lt=1)
    """Share of the in-batch loss in kl, margin_mse and vectors. In kl and margin_mse it is all of the loss for queries
    without scores, such as those of replay; in vectors it alone trains the sizes of matryoshka."""
    vector_teacher: str = ""
    """A larger embedding model whose vectors the loss vectors follows (hub id, folder, builtin:NAME)."""
    projection: Literal["pca", "learned"] = "pca"
    """How a teacher's vectors meet vectors of another size: cut to their main components, or by a matrix that is
    learned and then dropped."""
    matryoshka: tuple[Annotated[int, Field(gt=0)], ...] | Literal["auto"] = "auto"
    """Dimensions trained together; auto halves the full size down to 64; () trains the full size alone."""
    matryoshka_weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Of the loss at each size of matryoshka, in the same order; the full size has 1 where it is not among them. Empty:
    all the same."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one step. In-batch losses see the negatives of one batch alone; gradient_cache with
    a larger batch_size sees all."""
    gradient_cache: bool = False
    """Compute each vector twice, so that memory does not grow with batch_size: for large batches of any loss."""
    gradient_checkpointing: bool = False
    """Compute each layer twice instead of keeping what it computed: for long texts where memory is short."""
    query_tokens: int = Field(0, ge=0)
    """Longest query in training, in tokens; 0: as long as the model reads (model.max_tokens)."""
    passage_tokens: int = Field(0, ge=0)
    """Longest passage in training, in tokens; 0: as long as the model reads (model.max_tokens)."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the processor or GPU computes it in hardware, else fp32; fp16 needs a GPU."""
    freeze_embeddings: bool | Literal["auto"] = "auto"
    """Leave the word vectors as they are; auto: where they are over two thirds of all weights, as in models for a
    hundred languages, whose words a field's data hardly touch."""
    base_share: Annotated[float, Field(ge=0, lt=1)] | Literal["queries", "auto"] = "queries"
    """Share of the base model's weights in the result (WiSE-FT): keeps more of its general ability, for some of the
    gain in the field. queries: 0.3 where most training queries were made, which are not worded as people will ask, none
    where people asked them. auto takes, of 0 to 0.6, the share that is best on dev among those that lose no more than
    evaluation.max_general_loss on one half of the general-ability probes; the verdict is then measured on the other."""
    share_curve: bool = True
    """Measure, for a base_share that is set, what the tuned model, that share (0.3 where it is 0) and the base model
    have of the field and of general ability: the curve in the report. It takes as long as one dev measurement of
    training and three times half of the general-ability probes."""
    anchor: float = Field(0.0, ge=0)
    """Strength of the pull towards the initial weights (L2-SP): half their squared distance, times this, is added to
    the loss. 0.01 is weak, 1 strong. With method full alone."""
    replay: str = ""
    """A file of general pairs (JSON lines, CSV or Parquet, as for queries.from) that are mixed in among the field's."""
    replay_share: float = Field(0.2, gt=0, lt=1)
    """Their part of all training rows, as far as the file has so many."""
    seeds: int = Field(1, ge=1, le=20)
    """Trainings that differ in their seed alone; the best on dev of single ones and their means (soups) is taken."""
    pretrain: Literal["none", "mlm", "tsdae"] = "none"
    """A first step on the corpus alone, without any query: mlm guesses masked tokens, tsdae restores a passage of which
    most tokens were deleted from its vector."""
    pretrain_epochs: float = Field(1, gt=0)
    """Times each passage is seen in it."""
    pretrain_rate: float = Field(3e-5, gt=0)
    """Learning rate of it, at its peak."""
    pretrain_share: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """Share of the tokens that is masked or deleted; auto: 0.3 for mlm, 0.6 for tsdae."""
    pretrain_batch_size: int = Field(32, ge=1)
    """Passages per step of it."""
    dropout: bool = False
    """Off lets the fast attention kernel run on processors."""
    evaluations: int = Field(4, ge=1)
    """Times the dev set is measured; the best checkpoint wins."""
    dev_passages: int = Field(4_000, ge=1)
    """Passages in the sample that dev queries are measured on during training, the positives always among them."""
    dev_queries: int = Field(500, ge=1)
    """Dev queries measured during training, drawn once."""
    dev_measure: str = "nDCG@10"
    """The measure on dev that the best checkpoint is chosen by."""
    dev_dimension: int = Field(0, ge=0)
    """Leading dimensions that dev is measured with; 0: all."""
    patience: int = Field(0, ge=0)
    """Stop after this many evaluations without a new best one; 0 never stops early. The best weights are kept either
    way: this saves time alone."""
    checkpoint_seconds: float = Field(60, gt=0)
    """A resumable checkpoint is written about this often, and when Ctrl-C or SIGTERM (of a single process, not under
    torchrun) ends a training."""
    fsdp: bool = False
    """Cut weights, gradients and optimizer state up over the processes that torchrun starts (PyTorch's FSDP); false:
    each has a whole copy. One batch is divided among them either way."""
    deepspeed: str = ""
    """A DeepSpeed JSON for ZeRO stage 1 to 3 over the processes that torchrun starts; "auto" in it takes the config's
    value."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = ()
    """Where loss, rate and dev measure are sent as well; training/log.jsonl is always written; of a
    training that was killed it may lack the last checkpoint_seconds."""

    @field_validator("dev_measure")
    @classmethod
    def _known_measure(cls, value: str) -> str:
        from fieldtune.measures import parse

        try:
            parse(value)
        except ConfigError as error:
            raise ValueError(f"{error.message}: {error.hint}") from None
        return value

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.matryoshka_weights and self.matryoshka == "auto":
            raise ValueError("matryoshka_weights need the sizes in matryoshka")
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka):
            raise ValueError(f"{len(self.matryoshka_weights)} matryoshka_weights for {len(self.matryoshka)} sizes")
        if self.matryoshka_weights and not any(self.matryoshka_weights):
            raise ValueError("matryoshka_weights are all 0")
        if self.loss == "vectors" and not self.vector_teacher:
            raise ValueError("loss vectors needs vector_teacher, the model whose vectors are followed")
        return self


def second_models(training: Training) -> list[str]:
    """Names of the models, other than the base, whose vectors the loss looks at."""
    names = {"guided": training.guide, "vectors": training.vector_teacher}
    return [name for loss, name in names.items() if loss == training.loss and name]


class Evaluation(Section):
    """What is measured on the test split."""

    cutoffs: tuple[Annotated[int, Field(ge=1)], ...] = (1, 3, 6, 10)
    """The k of Recall@k; Recall@1 and Recall@10 are always among them."""
    bm25: bool = True
    """BM25 beside the models, as a yardstick."""
    bootstrap: int = Field(1_000, ge=100)
    """Resamples behind each 95% interval."""
    permutations: int = Field(10_000, ge=100)
    """Sign flips behind each paired test."""
    examples: int = Field(10, ge=0)
    """Queries shown in the report on each side: most gained, most lost."""
    measures: tuple[str, ...] = ()
    """Measures beside the usual ones, such as nDCG@5, Recall@100 or R-precision."""
    hybrid: bool = False
    """Each model together with BM25: reciprocal rank fusion, and weighted scores whose weight is chosen on dev."""
    rrf_k: int = Field(60, ge=1)
    """The constant of reciprocal rank fusion; higher values make the first ranks count less."""
    rerank: str = ""
    """A cross-encoder (hub id or folder) that reorders what models, BM25 and both together found; empty for none."""
    rerank_depth: int = Field(50, ge=1)
    """Ranks that the cross-encoder reads."""
    dimensions: tuple[Annotated[int, Field(gt=0)], ...] | Literal["auto"] = ()
    """Shorter vectors to measure, cut from the full ones. In a run, empty and auto take those that training.matryoshka
    trained; elsewhere auto halves the full size down to 64."""
    precisions: tuple[Literal["int8", "binary"], ...] = ()
    """Smaller number formats to measure beside float32, each with and without rescoring."""
    rescore_depth: int = Field(200, ge=1)
    """Candidates found with small vectors that are scored again by a more exact product."""
    crossed: bool = False
    """Measure each of `precisions` at each of `dimensions`, not at the full size alone."""
    m3: bool = False
    """Dense, sparse and multi-vector search of each model, alone, in pairs and together, weights chosen on dev; a run
    does it where training.m3 trained them."""
    m3_depth: int = Field(100, ge=1)
    """Ranks of dense and of sparse search whose passages are scored by token vectors and by sums."""
    m3_tokens: Literal["float32", "float16", "int8"] = "float16"
    """Number format of the passages' token vectors."""
    m3_pool: int = Field(1, ge=1)
    """Keep about this part of a passage's token vectors (2: half of them), like ones becoming their mean."""
    m3_size: int = Field(0, ge=0)
    """Numbers of a token's vector of a model without layers of its own, which gets new ones; 0: as many as its token
    states have. A run takes the size that it trained, so that before and after are of one size."""
    without_prompts: bool = False
    """Each model that has prompts also without them: what a search loses whose code forgets them."""

    @field_validator("measures")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from fieldtune.measures import canonical  # numpy is not loaded for a config that names none

        try:
            return tuple(dict.fromkeys(map(canonical, value)))
        except ConfigError as error:
            raise ValueError(f"{error.message}; there are {error.hint}") from None

    max_leak: float = Field(0.01, ge=0, le=1)
    """Largest share of test queries that may stand in train, or have a relevant passage that is relevant or a negative
    in train; above it the verdict is "not trustworthy"."""
    max_near_leak: float = Field(0.05, ge=0, le=1)
    """The same with near-copies of training queries and near-duplicates of passages counted in."""
    max_shared_documents: float = Field(0.1, ge=0, le=1)
    """Largest share of test queries about documents that train has relevant passages in, where a split by documents
    was possible; 1 if new questions about known documents are what the model is for."""
    near_copy_query: float = Field(0.75, gt=0, le=1)
    """Share of common words, plain and weighed by rarity, from which a test query with words added or left out counts
    as a near-copy of a training query; where words are put in another's place, half the distance to 1 is allowed. Stop
    words, courtesies and words that no passage holds are passed over."""
    near_copy_cosine: float = Field(0.95, gt=0, le=1)
    """Cosine of query vectors, the mean of all taken off, from which a query in other words counts as a near-copy."""
    near_copy_passage: float = Field(0.8, gt=0, le=1)
    """Share of common word 3-shingles, of both texts or of the shorter one, from which relevant passages of test and
    what training has seen count as near-duplicates."""
    slice_queries: int = Field(30, ge=1)
    """A slice of fewer queries, or of fewer than ten document groups, is shown as proving nothing."""
    unjudged: int = Field(200, ge=0)
    """Unjudged passages, the highest-ranked first, that are written to a file for labelling; 0 writes none."""
    judgements: tuple[str, ...] = ()
    """Files for labelling that someone filled in; their grades are added to those of the split that is measured."""
    general: bool = True
    """Measure on everyday texts outside the field what the tuned model lost against the base model."""
    max_general_loss: float = Field(0.01, gt=0, lt=1)
    """A larger fall of the mean over the probes, clear of chance, fails the verdict; 0.01 is one point."""
    general_data: tuple[str, ...] = ()
    """Sets of your own to watch for losses: BEIR folders, or CSV files with sentence1, sentence2 and score."""

    @field_validator("general_data", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Encoding(Section):
    """How corpora become vectors, and how a faster way is compared with the model itself before it is taken."""

    backend: Literal["auto", "torch", "onnx", "openvino"] = "auto"
    """What encodes the passages of mining, evaluation and index. auto: on a processor, where a corpus takes more than a
    minute, the fastest that is installed, by a short measurement that is remembered in the user's cache folder; the
    model as it is everywhere else. torch: a pass of its own for each processor. Queries are always encoded by the model
    as it is; for each text of a sample the cosine of both must be 0.999 or more."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Number format of that. auto: what the model computes in, bf16 where the hardware has it, never int8. int8, with
    onnx or openvino, is calibrated on the passages and taken only if it keeps to max_loss on the dev queries."""
    export: str = ""
    """A folder that `fieldtune export` wrote: it encodes the passages of the model that it was made from, in its own
    backend and precision, and nothing is measured or converted. Other models (a run has two, the base and the tuned
    one) are encoded as the settings above say, and a note says so. int8 is taken if the export was compared on queries
    (--data) and kept to max_loss. `fieldtune serve` answers requests for embeddings with it too; the query of a
    search is encoded by the model as it is."""
    max_loss: float = Field(0.3, ge=0)
    """Points of nDCG@10 that an exported model, or int8 here, may lose against the model itself in fp32."""
    check_queries: int = Field(300, ge=1)
    """At most so many queries are compared."""
    check_passages: int = Field(2_000, ge=1)
    """They rank about so many passages: their relevant ones, and others drawn at random."""


class Index(Section):
    """The LanceDB table that search runs on."""

    vectors: Literal["float32", "int8"] = "float32"
    """float32: results are those of exact search. int8: fewer candidates are settled by full vectors (rescore); what
    that costs is measured."""
    dimensions: int = Field(0, ge=0)
    """Vectors are cut to these first dimensions, for a model trained with training.matryoshka; 0 keeps all. With
    int8, candidates are found in them and settled by full vectors."""
    rescore: int = Field(10, ge=1, le=1000)
    """Of int8: candidates per result that full vectors score again."""
    base: Literal["auto"] | bool = "auto"
    """Keep the base model's vectors too, to compare its results with the tuned model's; auto: where evaluation has
    made them."""
    m3: Literal["auto"] | bool = "auto"
    """Keep sparse and token vectors beside the dense ones, for the search modes sparse, dense-sparse, multi, m3 and
    m3-words; auto: where the model's folder carries the layers that training.m3 trains."""
    m3_tokens: Literal["float32", "float16", "int8"] = "float16"
    """Number format of passages' token vectors; how many bytes a passage takes stands in the index's meta.json."""
    m3_pool: int = Field(1, ge=1)
    """Keep about this part of a passage's token vectors (2: half of them), like ones becoming their mean. With the
    values of evaluation.m3_tokens and m3_pool nothing is encoded twice."""
    m3_depth: int = Field(100, ge=1, le=10_000)
    """Ranks of dense and of sparse search whose passages are scored by token vectors and by sums of scores."""
    reranker: str = ""
    """A cross-encoder, hub id or folder, that orders the first results anew where a search asks for it."""
    rerank_depth: int = Field(50, ge=1, le=1000)
    """Results that it reads."""
    ann_above: int = Field(1_000_000, ge=0)
    """From this many passages on an approximate index is built and measured against exact search. Below, exact search
    by int8 codes is as fast: of 384 dimensions it took 4.5 ms of one core for 200,000 and 10 ms for 500,000 passages,
    inverted lists read to a recall of 0.99 took 6 and 9 ms."""
    min_recall: float = Field(0.99, ge=0, le=1)
    """An approximate index that finds less of the exact top 10 is thrown away and exact search kept."""
    uri: str = ""
    """Where the LanceDB table lies, if not in the run's folder: s3://, gs:// or az:// with a path of its own."""


_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A name that stands in an address as it is."""


class Serving(Section):
    """The service that `fieldtune serve` starts."""

    host: str = "127.0.0.1"
    """The address to listen on; any other than this machine's own wants API keys, or a proxy that asks for them."""
    port: int = Field(8765, ge=0, le=65_535)
    """0 takes a free one and says which."""
    name: str = ""
    """What the model is called in /v1/models and by clients; empty takes the name of the run's folder."""
    hosts: tuple[str, ...] = ()
    """Host names that requests may come under, beside those of this machine; ("*",) takes all. Without API keys it
    keeps pages of other sites from reading the documents through a visitor's browser."""
    keys: str = ""
    """A file of API keys' hashes; empty takes serving/keys.jsonl in the run's folder, where there is one."""
    rate_per_minute: int = Field(0, ge=0)
    """Requests of one key (without keys: of one address) in a minute; 0 sets no limit."""
    log_queries: bool = False
    """Write what was asked into the log, not only that something was."""
    page: bool = True
    """Serve the page for people at /; with API keys it asks for one."""
    labels: bool = False
    """Let people mark results right or wrong on the page; labels/ in the run's folder keeps what they say."""
    max_body_bytes: int = Field(4_000_000, gt=0)
    """A larger request is refused without being read."""
    max_query: int = Field(4_000, gt=0)
    """Characters of a query."""
    max_text: int = Field(50_000, gt=0)
    """Characters of a text to embed or to compare."""
    max_texts: int = Field(2_048, gt=0)
    """Texts in one request for embeddings."""
    max_results: int = Field(100, gt=0)
    """Passages in one answer to a search."""
    request_seconds: float = Field(60, gt=0)
    """A request that is not answered by then ends with an error; answers of an LLM have limits of their own."""
    read_seconds: float = Field(20, gt=0)
    """A client that takes longer to send its request, or to take what it asked for, is cut off."""
    stop_seconds: float = Field(20, gt=0)
    """When told to stop, what is under way gets this long to end."""
    max_requests: int = Field(256, gt=0)
    """Requests under way at once; more are refused with 503 at once, so that those under way end in time."""
    batch: int = Field(32, gt=0)
    """Queries encoded and searched in one pass."""
    waiting_texts: int = Field(8_192, gt=0)
    """Texts that may wait for the encoder; more are refused with 503."""
    cached_queries: int = Field(10_000, ge=0)
    """Query vectors that are remembered; one takes 4 bytes for each of its dimensions."""
    refresh_seconds: float = Field(2, gt=0)
    """How often the server looks whether the index was rebuilt."""
    adapters: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """Adapters served beside the index's model: names for clients, such as law, and folders of adapters, tuned models
    or runs. All stand on one base, which is in memory once: the index's model, or the one that it was trained from
    (model.base)."""
    rerank: str = ""
    """A cross-encoder (hub id or folder) for /v1/rerank and for searches that ask for it; empty takes the index's."""
    answer_passages: int = Field(6, ge=1, le=50)
    """Passages that an answer is made from."""
    answer_seconds: float = Field(120, gt=0)
    """The most that the LLM may take for one answer."""
    stall_seconds: float = Field(20, gt=0)
    """An LLM that is silent for so long is given up."""
    answers_at_once: int = Field(8, gt=0)
    """Answers that the LLM works on; more are refused with 503."""

    @field_validator("adapters")
    @classmethod
    def _names_fit_addresses(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _ADAPTER.fullmatch(name) or name == "base":
                raise ValueError(
                    f"the name {name!r} cannot be served: up to 64 of A-Z a-z 0-9 . _ -, a letter or digit first, and "
                    "not base, which is the adapters' own base"
                )
        return value


class Card(Section):
    """What the cards of model and dataset (README.md in their folders) say that no measurement can tell."""

    title: str = ""
    """Their name; empty takes the name of the run's folder."""
    license: str = ""
    """Of the model, as a hub's identifier such as apache-2.0; empty says unknown: nothing is made up or taken over."""
    data_license: str = ""
    """Of the texts, as an identifier such as cc-by-4.0."""
    languages: tuple[str, ...] = ()
    """Codes such as en, zh; empty takes what the training queries are written in, where that can be told."""
    base_model: str = ""
    """The hub id that model.base stands for, where it is a folder."""

    @field_validator("languages", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Config(Section):
    """Everything a run can be told."""

    preset: Preset = "balanced"
    """quick, balanced or best: sets the defaults below that are not given."""
    out: str = "run"
    """The run's folder."""
    seed: int = Field(13, ge=0)
    """Of every random choice."""
    documents: Documents = Documents()
    corpus: Corpus = Corpus()
    queries: Queries = Queries()
    llm: Llm = Llm()
    split: SplitConfig = SplitConfig()
    negatives: Negatives = Negatives()
    teacher: Teacher = Teacher()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    card: Card = Card()
    index: Index = Index()
    serving: Serving = Serving()
    encoding: Encoding = Encoding()


# What a preset changes against the defaults above ("balanced"): how long the model is trained and how often it is
# measured on dev meanwhile. best may train for four epochs, yet small or simple data are learnt sooner: three measures,
# one and a half epochs, without a new best one end it. The others are too short for a rule that ends them.
PRESETS: Mapping[str, dict[str, Any]] = {
    "quick": {"training": {"epochs": 1, "evaluations": 2}},
    "balanced": {},
    "best": {"training": {"epochs": 4, "evaluations": 8, "patience": 3}},
}
# What training.method changes in the same way: few weights bear, and need, a higher rate.
METHODS: Mapping[str, dict[str, Any]] = {
    "lora": {"training": {"learning_rate": 5e-4}},
    "qlora": {"training": {"learning_rate": 5e-4}},
    "adapter": {"training": {"learning_rate": 1e-3}},
    "query": {"training": {"learning_rate": 1e-3, "epochs": 10, "evaluations": 10}},
}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A nested dict in which `over` wins."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `section.key=value` words; the value is TOML, or else a plain string.

    Raises ConfigError for a word without `=`.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {pair!r} is not of the form section.key=value", "e.g. --set training.epochs=3")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        for key in reversed(name.strip().split(".")):
            value = {key: value}
        out = merge(out, value)
    return out


def evaluation_words(**given: Any) -> dict[str, Any]:
    """Settings of the section evaluation from a command line's words: what is empty is left out, commas divide.

    Raises ConfigError for dimensions that are not whole numbers.
    """
    out = {name: value for name, value in given.items() if value}
    for name in ("dimensions", "precisions"):
        if isinstance(out.get(name), str) and out[name] != "auto":
            out[name] = [word.strip() for word in out[name].split(",") if word.strip()]
    sizes = out.get("dimensions", "auto")
    if sizes != "auto":
        wrong = [word for word in sizes if not (word.isdecimal() and int(word))]
        if wrong:
            raise ConfigError(f"--dimensions {wrong[0]} is not a size", "auto, or whole numbers with commas: 256,128")
        out["dimensions"] = [int(word) for word in sizes]
    return {"evaluation": out} if out else {}


def make_config(settings: Mapping[str, Any], *, where: str = "config") -> Config:
    """Fill the preset's defaults under the given settings and check them all.

    Raises ConfigError that names each wrong key and, for a misspelt one, the nearest right one.
    """
    preset = settings.get("preset", "balanced")
    if preset not in PRESETS:
        raise ConfigError(f"{where}: preset {preset!r} is unknown", f"choose one of: {', '.join(PRESETS)}")
    training = settings.get("training")
    method = training.get("method") if isinstance(training, Mapping) else None
    defaults = merge(PRESETS[preset], METHODS.get(method, {}) if isinstance(method, str) else {})
    try:
        return Config.model_validate(merge(defaults, settings))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(map(_explain, error.errors())), _nearest(error)) from None


def load_config(path: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file; relative paths in it are taken from the file's own folder.

    Raises ConfigError naming the file, and the line where TOML itself is broken.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "fieldtune init DOCS writes one") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder", f"fieldtune init {path} writes a config for it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error})", "mend that line") from None
    config = make_config(merge(settings, overrides or {}), where=str(path))
    return anchored(config, path.parent, overrides or {})


_FILES = (
    ("queries", "test"), ("queries", "examples"), ("queries", "corpus"), ("training", "replay"),
    ("training", "deepspeed"), ("encoding", "export"), ("serving", "keys"),
)  # fmt: skip
_LISTS = (("documents", "paths"), ("evaluation", "judgements"), ("evaluation", "general_data"))
_MODELS = (
    ("model", "base"), ("negatives", "check"), ("teacher", "model"), ("training", "guide"),
    ("training", "vector_teacher"), ("evaluation", "rerank"), ("index", "reranker"), ("serving", "rerank"),
)  # fmt: skip
"""Names of models: a folder where they begin with a dot or ~, else of a hub or built in."""


def anchored(config: Config, folder: Path, overrides: Mapping[str, Any]) -> Config:
    """Make relative paths absolute: those of `folder`'s file from there, those of `overrides`, which were given on the
    command line, from where it was typed. A base model given there may be a folder without ./ before it."""

    def absolute(text: str, *key: str) -> str:
        given: Any = overrides
        for part in key:
            given = given.get(part, {}) if isinstance(given, Mapping) else {}
        base = Path.cwd() if given else folder.resolve()
        return str(base / Path(text).expanduser())

    changed: dict[str, dict[str, Any]] = {}

    def put(section: str, key: str, value: object) -> None:
        changed.setdefault(section, {})[key] = value

    for section, key in _FILES:
        if text := getattr(getattr(config, section), key):
            put(section, key, absolute(text, section, key))
    for section, key in _LISTS:
        put(section, key, tuple(absolute(text, section, key) for text in getattr(getattr(config, section), key)))
    for section, key in _MODELS:
        if (name := getattr(getattr(config, section), key)).startswith((".", "~")):
            put(section, key, absolute(name, section, key))
    base = config.model.base
    if overrides.get("model", {}).get("base") and Path(base).exists():
        put("model", "base", absolute(base, "model", "base"))
    source, local = config.queries.source, config.llm.local
    if source not in ("structure", "llm"):
        put(
            "queries",
            "source",
            absolute(source, "queries", "from" if "from" in overrides.get("queries", {}) else "source"),
        )
    if local and not local.startswith("builtin:"):
        put("llm", "local", absolute(local, "llm", "local"))
    adapters = {name: absolute(path, "serving", "adapters", name) for name, path in config.serving.adapters.items()}
    put("serving", "adapters", adapters)
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in changed.items()}
    return config.model_copy(update={"out": absolute(config.out, "out"), **sections})


def _explain(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting"
    if error["type"] == "model_type":
        return f"{name} is a section, got {error['input']!r}; set one of its keys, such as {name}.KEY=VALUE"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {message[0].lower()}{message[1:]}" + (
        "" if error["type"] == "value_error" else f", got {error['input']!r}"
    )


def _nearest(error: ValidationError) -> str:
    """For a misspelt key, the setting it was probably meant to be."""
    import difflib

    for item in error.errors():
        if item["type"] != "extra_forbidden":
            continue
        section: Any = Config
        for part in item["loc"][:-1]:
            field = section.model_fields.get(part)
            section = field.annotation if field is not None else Config
        names = list(section.model_fields)
        close = difflib.get_close_matches(str(item["loc"][-1]), names, 1)
        return f"did you mean {close[0]}?" if close else f"settings there: {', '.join(names)}"
    return "fieldtune init writes a config with every setting explained"
