"""The run config: one documented field is one setting.

Sections say what a value means and its own range. What only makes sense across sections or for a given number of ranks
is checked in `validate.py`; all of it runs before any process starts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from megatron_nlg.config.base import Section


def _whole(value: Any) -> Any:
    """`270e9` is a float in YAML and a count to a reader."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pair(value: Any) -> Any:
    """A tuple: YAML knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def _texts(value: Any) -> Any:
    """YAML reads the class `1` as a number."""
    if not isinstance(value, list):
        return value
    return tuple(str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value)


def _not_fp8(value: Any) -> Any:
    """Refuse what users of the field would expect to work, with the reason."""
    if value == "fp8":
        raise ValueError("fp8 needs Transformer Engine's layers, which have not been tried here: choose bf16")
    return value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Model(Section):
    """A causal decoder with norms before its blocks.

    The defaults are GPT's: LayerNorm, GeLU, biases, learned positions. Llama's shape is normalization rmsnorm,
    activation swiglu, bias false, position_embedding rotary, tie_embeddings false and, where large, num_query_groups.
    """

    num_layers: Positive
    """Transformer layers."""
    hidden_size: Positive
    """Width of the residual stream."""
    num_attention_heads: Positive
    """Attention heads; must divide hidden_size, and be divisible by parallel.tensor."""
    num_query_groups: Positive | None = None
    """Heads of keys and values, each shared by a group of query heads (grouped-query attention; 1 is multi-query); as
    many as query heads when not given."""
    sequence_length: Positive
    """Tokens in a training sample."""
    vocab_size: Positive
    """Entries of the tokenizer. The embedding has more rows (vocab_multiple); their logits are masked."""
    vocab_multiple: Positive = 128
    """The embedding's rows are rounded up to a multiple of this, for every tensor-parallel size alike."""
    ffn_hidden_size: Positive | None = None
    """Width of the MLP's hidden layer; 4 × hidden_size when not given."""
    activation: Literal["gelu", "gelu_tanh", "swiglu", "geglu"] = "gelu"
    """Of the MLP: GeLU, its tanh approximation (GPT-2's), or gated by SiLU or GeLU (Shazeer 2020), which adds a third
    matrix of the same size."""
    normalization: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Norm before attention, before the MLP and at the end; RMSNorm has no bias and subtracts no mean."""
    bias: bool = True
    """Whether linear layers have biases."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropout on embeddings, attention weights and residual branches."""
    init_std: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of initial weights; sqrt(1 / (3 × hidden_size)) when not given (MT-NLG, section 3.2)."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    """Epsilon of the norms."""
    position_embedding: Literal["learned", "rotary"] = "learned"
    """How positions enter: one learned vector each, or rotations of queries and keys (RoPE, Su et al. 2021)."""
    rotary_base: Annotated[float, Field(gt=1)] = 10000.0
    """Base of the rotary wavelengths."""
    rotary_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each head that is rotated."""
    tie_embeddings: bool = True
    """Whether the output projection is the input embedding."""

    @property
    def query_groups(self) -> int:
        """Heads of keys and values."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def gated(self) -> bool:
        """Whether the MLP's hidden layer is multiplied by a gate."""
        return self.activation in ("swiglu", "geglu")

    @property
    def ffn_size(self) -> int:
        """Width of the MLP's hidden layer."""
        return self.ffn_hidden_size or 4 * self.hidden_size

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def weight_std(self) -> float:
        """Standard deviation of initial weights."""
        return self.init_std or (1 / (3 * self.hidden_size)) ** 0.5


class Parallel(Section):
    """How the model is cut over ranks.

    The data-parallel size is what is left: ranks / (tensor × pipeline × context).
    """

    tensor: Positive = 1
    """Ranks that share every matrix (inside a node on a cluster)."""
    pipeline: Positive = 1
    """Stages that the layers are cut into."""
    interleave: Positive = 1
    """Model chunks a stage holds (virtual pipeline); 1 is plain 1F1B."""
    context: Positive = 1
    """Ranks that share each sequence (context parallelism, for long ones): each holds every layer for two pieces of it,
    one from the front and one from the back, and gathers the keys and values of the others."""
    sequence: bool = False
    """Sequence parallelism: activations between matrices are cut along the sequence over the tensor ranks."""
    zero_stage: Literal[1, 2, 3] = 1
    """What is cut over data- and context-parallel ranks: 1 optimizer state, 2 also gradients, 3 also weights."""
    offload_optimizer: bool = False
    """Keep the optimizer state in host memory and update there; without a pipeline."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations computed again in the backward pass: none, those of the attention core, or whole layers."""
    check_memory: bool = True
    """Whether `train` and `launch` refuse a layout that by prediction needs more memory than a rank has."""


class Ramp(Section):
    """Growth of the global batch at the start: from `start` by `increment` over `tokens`."""

    start: Positive
    """Sequences in the first global batches."""
    increment: Positive
    """Sequences added at a level."""
    tokens: Positive
    """Tokens until the full batch is reached; every level takes an equal share of them."""
    rounding: Literal["error", "up"] = "error"
    """What to do with a level that micro-batch × data-parallel size does not divide: refuse, or round it up."""


class Batch(Section):
    """Sequences in a step."""

    micro: Positive = 1
    """Sequences a rank takes through the model at once."""
    global_: Positive = Field(alias="global")
    """Sequences in an optimizer step, over all ranks."""
    ramp: Ramp | None = None
    """Growth of the global batch at the start of training; none when not given."""


class LossScale(Section):
    """Dynamic loss scale of fp16: doubled after `window` good steps, halved when gradients overflow."""

    initial: Annotated[float, Field(ge=1, le=2**32)] = 65536.0
    """First scale; rounded to a power of two."""
    window: Positive = 1000
    """Steps without overflow before the scale is doubled."""
    hysteresis: Positive = 2
    """Overflows before the scale is halved."""
    minimum: Annotated[float, Field(ge=1)] = 1.0
    """The scale never falls below this."""


class Optimizer(Section):
    """AdamW. Weight decay is applied to matrices, not to biases and norms."""

    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this global norm; 0 switches clipping off."""


class SequenceWarmup(Section):
    """Samples are cut short at the start: from `start` tokens by `multiple` up to model.sequence_length."""

    start: Positive
    """Tokens of a sample in the first step."""
    tokens: Positive
    """Tokens until samples are whole; every length takes an equal share of them."""
    multiple: Positive = 8
    """What each length adds to the one before; parallel.tensor must divide it under parallel.sequence, twice
    parallel.context with that."""


class Schedule(Section):
    """Length of training and the learning rate, both in tokens, so that neither depends on the batch size."""

    train_tokens: Count = 0
    """Training stops after this many tokens (rounded up to whole samples). Required, but for task classification, where
    it follows from data.classification.epochs: epochs × examples × data.classification.max_length."""
    warmup_tokens: Count = 0
    """The learning rate rises linearly from 0 over these."""
    decay: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    """Shape after the warm-up; wsd holds the peak and falls linearly over the last wsd_fraction of decay_tokens."""
    decay_tokens: Positive | None = None
    """Where the decay ends, counted from the start of training; train_tokens when not given."""
    min_lr_ratio: Fraction = 0.1
    """The learning rate never falls below this share of its peak."""
    wsd_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of decay_tokens in which wsd falls."""
    sequence_warmup: SequenceWarmup | None = None
    """Growth of the sequence length at the start; none when not given. Tokens that are cut off count nowhere."""


class Stage(Section):
    """A mixture and where it begins."""

    from_tokens: Count
    """It takes over at the first sample after this many tokens of training."""
    blend: str | None = None
    """Its blend.yaml, of the same tokenizer; data.blend when not given."""
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Source -> weight, in place of the blend's own; sources that are not named are left out."""


class Classification(Section):
    """Labelled texts for task classification: TSV with a header, or JSONL (*.jsonl), seen from the current directory.

    An example is its text's tokens; its class is predicted at the last of them.
    """

    train: str
    """Examples to train on."""
    validation: str | None = None
    """Examples to validate on; when not given, a share of `train` by data.split, drawn by the seed."""
    text: str = "{sentence}"
    """How columns make the text, such as "{question}\\n{sentence}" for a pair."""
    label: str = "label"
    """Column of the class."""
    labels: Annotated[tuple[str, ...], BeforeValidator(_texts)]
    """The classes as the file writes them, in the order of their numbers. With two of them, F1 is that of the second;
    with more, the mean over all."""
    tokenizer: str | None = None
    """A folder with a tokenizer, or a blend.yaml; that of the run in checkpoint.load_from when not given."""
    max_length: Positive
    """Tokens of an example at most, and what it counts as in schedules; up to model.sequence_length."""
    cut: Literal["end", "start"] = "end"
    """Where longer texts lose what is too much."""
    epochs: Positive = 3
    """Passes over the training examples, each in an order of its own. The last step is filled up with the first
    examples of one pass more."""


class Data(Section):
    """What is trained on."""

    blend: str | None = None
    """A prepared corpus's blend.yaml: its sources, weights and tokenizer. Seen from the current directory. Required to
    train."""
    stages: Annotated[tuple[Stage, ...], BeforeValidator(_pair)] = ()
    """Mixtures that follow each other. A source that occurs in several goes on where it was. Until the first one
    begins, data.blend is read as it is."""
    validation: dict[str, str] = Field(default_factory=dict)
    """Further validation sets: name -> a blend.yaml, or the prefix of a .bin and .idx; all of it is for validation."""
    accept_changed_blend: bool = False
    """Let a run go on with other sources, weights or split than its checkpoint has read; noted as an event."""
    classification: Classification | None = None
    """Labelled texts, in place of a blend; for task classification."""
    split: Annotated[tuple[Fraction, Fraction], BeforeValidator(_pair)] = (0.98, 0.02)
    """Shares of each source's documents for training and for validation."""
    index_cache: str | None = None
    """Folder for sample indices; `data_index` in the run folder when not given."""
    build_index_ranks: Count = 8
    """A larger job than this many ranks does not build missing indices itself: `megatron-nlg index` does."""
    prefetch: Positive = 2
    """Batches that are prepared ahead of the step."""
    reset_attention: bool = False
    """Whether tokens see their own document only; else all that is before them in the sample."""
    reset_positions: bool = False
    """Whether positions begin at 0 in every document of a sample; else only in its first."""
    mask_eod_loss: bool = False
    """Whether what follows an end-of-document token, the next document's first token, is left out of the loss."""


class Evaluation(Section):
    """Validation while training."""

    interval: Count = 0
    """Steps between validations; 0 for none but the one at the end."""
    batches: Count = 10
    """Global batches a source is validated on; 0 switches validation off. Of labelled texts (task classification) all
    are taken, also after every epoch."""
    tasks: Annotated[tuple[str, ...], BeforeValidator(_pair)] = ()
    """Tasks of `megatron-nlg evaluate` that the model is measured on as it trains; results go to events.jsonl."""
    task_interval: Count = 0
    """Steps between these measurements; 0 for none."""
    task_limit: Positive = 200
    """Documents of each task: drawn from task_data, always the same, or the hub's first ones."""
    task_shots: Count = 0
    """Examples in their prompts."""
    task_data: str | None = None
    """Folder with the tasks' sets in their published files; None: the Hugging Face hub."""


class Checkpoint(Section):
    """When state is saved and what is kept."""

    interval: Count = 0
    """Steps between checkpoints; 0 saves at the end (and on a signal) only."""
    keep_last: Positive = 2
    """The newest ones that are kept."""
    keep_every: Count = 0
    """Checkpoints at multiples of this many steps are kept for ever; 0 for none."""
    asynchronous: bool = True
    """Write in the background while training goes on."""
    load_from: str | None = None
    """A checkpoint of another run, or that run's folder, that a new run starts from; a run that has checkpoints of its
    own goes on from those. Seen from the current directory."""
    load: Literal["weights", "all"] = "weights"
    """What is taken from load_from: the weights, for a run from step 0 (fine-tuning), or all, to go on from there."""


class Log(Section):
    """What a run says of itself."""

    interval: Positive = 1
    """Steps between metrics."""
    wandb: bool = False
    """Log to Weights & Biases; offline when no key is set."""
    wandb_project: str = "megatron_nlg"
    """Project the run is filed under."""
    tensorboard: bool = False
    """Write TensorBoard event files to `tensorboard/` in the run folder."""
    profile_steps: Annotated[tuple[Positive, Positive], BeforeValidator(_pair)] | None = None
    """First and last step that torch's profiler records, as a Chrome trace in `logs/`."""
    timeline_steps: Annotated[tuple[Positive, Positive], BeforeValidator(_pair)] | None = None
    """First and last step of which every rank's phases are recorded, as one Chrome trace in `logs/`; `report` draws
    it."""
    layer_statistics: Count = 0
    """Steps between rows of every layer's weight norm, gradient norm and output's RMS; 0 for none."""
    noise_scale: Count = 0
    """Steps between estimates of the gradient-noise scale, by the gradients of single replicas; 0 for none."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """Dense peak of one accelerator in this precision, for MFU; looked up by its name when not given."""


class Distributed(Section):
    """Process groups."""

    timeout_seconds: Positive = 600
    """A collective that waits longer than this fails the job."""


class Guard(Section):
    """What happens to steps that would spoil the model. A step whose gradient is not finite is never applied."""

    spike_window: Count = 0
    """Losses of the latest applied steps that a new one is compared with, before it is applied; 0 looks for no spikes,
    and spares every step a wait for its loss."""
    spike_factor: Annotated[float, Field(gt=0)] = 10.0
    """A loss this many standard deviations above the window's median is a spike (1.4826 × the median absolute deviation
    is taken for one: a spike does not move it)."""
    spike_margin: Annotated[float, Field(ge=0)] = 0.2
    """A loss less than this above the median, in nats per token, is never a spike."""
    max_skips: Positive = 4
    """As many skipped steps within suspect_window lead back to the last checkpoint before them; the samples from the
    first to the last of them are then left out."""
    suspect_window: Positive = 20
    """After a skipped step no checkpoint is written for this many steps."""
    max_rollbacks: Count = 2
    """The next one ends the job (exit code 5)."""


class Heartbeat(Section):
    """Signs of life: every rank writes `heartbeats/rank_NNNNN.json` in the run folder."""

    interval_seconds: Annotated[float, Field(ge=0)] = 5.0
    """Seconds between two of them; 0 writes none."""


class Watchdog(Section):
    """Ends a job in which nothing moves (exit code 4), naming rank, node and phase, with all Python stacks in logs/."""

    timeout_seconds: Annotated[float, Field(ge=0)] = 480.0
    """Longest time without progress: choose more than a micro-batch or the optimizer's update takes; 0 switches off."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """The same while training waits for a checkpoint to be written."""


class Stragglers(Section):
    """Ranks whose own work takes longer than the others', found in the heartbeats without any communication."""

    interval: Count = 100
    """Steps that phase times are summed over; 0 compares nothing."""
    factor: Annotated[float, Field(gt=1)] = 1.5
    """A rank that takes this many times the median of all ranks in a phase is named."""


class Integrity(Section):
    """Silent corruption: ranks that hold the same weights compare checksums of them."""

    interval: Count = 0
    """Steps between comparisons; 0 for none. A difference ends the job (exit code 4), naming rank and parameter."""


class KernelSettings(Section):
    """Implementations of the hot operations, printed at start. The CPU has a choice of attention only."""

    compiled: bool = True
    """Activation, bias, residual and loss compiled to one kernel each, where triton and a C compiler are installed.
    Their sums are rounded once and not in between: losses differ from the uncompiled ones within the precision."""
    libraries: bool = True
    """apex's and Transformer Engine's kernels where they can be imported; false: PyTorch's in any case."""
    attention: Literal["fused", "naive"] = "fused"
    """fused: scaled_dot_product_attention (flash attention where the device has it) or Transformer Engine's. naive:
    the matrix of all scores is written out, as a yardstick; it takes memory of the square of the sequence length."""
    tf32: bool = False
    """Let GPUs round the factors of fp32 matrix products to TF32 (10 bits of mantissa). The CPU has no such format."""


class RunConfig(Section):
    """Everything a training run depends on. Written, resolved, to the run folder as config.yaml."""

    task: Literal["pretraining", "classification"] = "pretraining"
    """What is learnt: the next token, or the class of a text (data.classification). A classifier's head replaces the
    output layer; what else there is of model may be left out with checkpoint.load_from: it is that run's."""
    model: Model
    """The network."""
    parallel: Parallel = Parallel()
    """How it is cut over ranks."""
    batch: Batch
    """Sequences in a step."""
    precision: Annotated[Literal["fp32", "bf16", "fp16"], BeforeValidator(_not_fp8)] = "bf16"
    """Number format of weights and activations; master weights and gradient sums stay fp32."""
    loss_scale: LossScale = LossScale()
    """Dynamic loss scale; fp16 only."""
    kernels: KernelSettings = KernelSettings()
    """Kernels on GPUs."""
    optimizer: Optimizer
    """AdamW."""
    schedule: Schedule
    """Length and learning rate."""
    data: Data = Data()
    """What is trained on."""
    evaluation: Evaluation = Evaluation()
    """Validation while training."""
    checkpoint: Checkpoint = Checkpoint()
    """When state is saved."""
    log: Log = Log()
    """What the run says of itself."""
    distributed: Distributed = Distributed()
    """Process groups."""
    guard: Guard = Guard()
    """Loss spikes and gradients that are not finite."""
    heartbeat: Heartbeat = Heartbeat()
    """Signs of life of every rank."""
    watchdog: Watchdog = Watchdog()
    """Jobs that hang."""
    stragglers: Stragglers = Stragglers()
    """Ranks that are slower than others."""
    integrity: Integrity = Integrity()
    """Weights that must be equal on several ranks."""
    seed: Count = 1234
    """Initial weights, sample order and dropout are functions of this."""

    @property
    def classes(self) -> int:
        """Classes of task classification; 0 for other tasks."""
        return len(self.data.classification.labels) if self.data.classification else 0

    @property
    def sample_length(self) -> int:
        """Tokens that a sample counts as."""
        return self.data.classification.max_length if self.data.classification else self.model.sequence_length
