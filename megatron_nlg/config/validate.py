"""What a run config must satisfy across sections and for a given number of ranks. No torch: runs on a login node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any

from megatron_nlg.config.base import apply_overrides, build, read_yaml
from megatron_nlg.config.classification import classification_problems, with_loaded_model
from megatron_nlg.config.errors import ConfigError, Problem
from megatron_nlg.config.schema import LossScale, RunConfig


def load_config(path: Path, overrides: Sequence[str] = (), ranks: int | None = None) -> RunConfig:
    """Read a run config with its includes and overrides, or raise a ConfigError that lists every problem.

    With `ranks`, the layout on that many ranks is checked too.
    """
    tree = with_loaded_model(apply_overrides(read_yaml(path), overrides))
    try:
        config = build(RunConfig, tree, str(path))
    except ConfigError as error:
        raise ConfigError([*error.problems, *_further_problems(tree, error.problems, ranks)], str(path)) from None
    problems = [*consistency(config), *rank_problems(config, ranks)]
    if problems:
        raise ConfigError(problems, str(path))
    return config


def _further_problems(tree: Mapping[str, Any], found: Sequence[Problem], ranks: int | None) -> Iterator[Problem]:
    """What is wrong across sections in a tree that can't be built as it is.

    The keys in `found` are left out. A problem that speaks of one of them, or of the key that it was probably meant to
    be, is not reported: it may be a mere consequence.
    """
    rest = dict(tree)
    doubtful: set[str] = set()
    for problem in found:
        path = [part for part in problem.key.split(".") if not part.isdigit()] or [""]  # an item of a list: the list
        rest = _without(rest, path)
        doubtful.update([path[-1], *(key.rpartition(".")[2] for key in _MEANT_KEY.findall(problem.mend))])
    try:
        config = build(RunConfig, rest, "")
    except ConfigError:
        return
    for problem in (*consistency(config), *rank_problems(config, ranks)):
        if doubtful.isdisjoint(_WORD.findall(str(problem))):
            yield problem


_MEANT_KEY = re.compile(r"did you mean ([\w.]+)")
_WORD = re.compile(r"\w+")


def _without(tree: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The tree less one dotted key."""
    rest = {key: value for key, value in tree.items() if str(key) != path[0]}
    nested = tree.get(path[0])
    if len(path) > 1 and isinstance(nested, Mapping):
        rest[path[0]] = _without(nested, path[1:])
    return rest


def data_parallel_size(config: RunConfig, ranks: int) -> int:
    """Replicas that `ranks` ranks make; raises ConfigError when the layout does not fit or a batch can't be split."""
    problems = list(rank_problems(config, ranks))
    if problems:
        raise ConfigError(problems, f"layout on {ranks} ranks")
    return ranks // replica_ranks(config)


def replica_ranks(config: RunConfig) -> int:
    """Ranks that work on one micro-batch together."""
    return config.parallel.tensor * config.parallel.pipeline * config.parallel.context


def rank_problems(config: RunConfig, ranks: int | None) -> Iterator[Problem]:
    """Why the config can't run on `ranks` ranks; nothing when their number is not known."""
    if ranks is None:
        return
    replica = replica_ranks(config)
    context = f" × context {config.parallel.context}" if config.parallel.context > 1 else ""
    if ranks < replica or ranks % replica:
        yield Problem(
            "parallel",
            f"tensor {config.parallel.tensor} × pipeline {config.parallel.pipeline}{context} needs a multiple of "
            f"{replica} ranks, and there are {ranks}",
            f"start {replica * max(1, ranks // replica)} ranks, or change parallel.tensor or parallel.pipeline",
        )
    else:
        if config.log.noise_scale and ranks == replica:
            yield Problem(
                "log.noise_scale", "compares replicas, and there is only one", "start more ranks, or set it to 0"
            )
        yield from batch_problems(config, ranks // replica)


def consistency(config: RunConfig) -> Iterator[Problem]:
    """Contradictions between settings, whatever the number of ranks."""
    model, parallel = config.model, config.parallel
    tensor, stages = parallel.tensor, parallel.pipeline * parallel.interleave
    if model.hidden_size % model.num_attention_heads:
        yield Problem(
            "model.num_attention_heads",
            f"{model.num_attention_heads} heads do not divide hidden_size {model.hidden_size}",
            f"nearest that do: {_nearest_divisors(model.hidden_size, model.num_attention_heads)}",
        )
    elif model.position_embedding == "rotary" and int(model.head_size * model.rotary_fraction) < 2:
        yield Problem(
            "model.rotary_fraction",
            f"{model.rotary_fraction:g} of heads of {model.head_size} leaves nothing to rotate",
            "raise it, or use fewer heads",
        )
    if model.num_attention_heads % model.query_groups:
        yield Problem(
            "model.num_query_groups",
            f"{model.query_groups} groups do not divide num_attention_heads {model.num_attention_heads}",
            f"nearest that do: {_nearest_divisors(model.num_attention_heads, model.query_groups)}",
        )
    for key, value in (
        ("model.num_attention_heads", model.num_attention_heads),
        *([("model.num_query_groups", model.query_groups)] if model.num_query_groups else []),
        ("model.ffn_hidden_size", model.ffn_size),
        ("model.vocab_multiple", model.padded_vocab_size),
    ):
        if value % tensor:
            what = f"padded vocabulary of {value} is" if key.endswith("multiple") else f"{value} is"
            yield Problem(key, f"{what} not divisible by parallel.tensor {tensor}", "change one of the two")
    if model.num_layers % stages:
        yield Problem(
            "model.num_layers",
            f"{model.num_layers} layers can't be cut into pipeline {parallel.pipeline} × interleave "
            f"{parallel.interleave} = {stages} equal chunks",
            f"nearest pipeline × interleave: {_nearest_divisors(model.num_layers, stages)}",
        )
    if parallel.interleave > 1 and parallel.pipeline == 1:
        yield Problem("parallel.interleave", f"{parallel.interleave} chunks without a pipeline", "set it to 1")
    if parallel.sequence and tensor == 1:
        yield Problem("parallel.sequence", "sequence parallelism needs parallel.tensor > 1", "set it to false")
    yield from _sequence_problems(config)
    if parallel.zero_stage > 1 and parallel.pipeline > 1:
        yield Problem(
            "parallel.zero_stage",
            f"stage {parallel.zero_stage} cuts gradients that the pipeline (parallel.pipeline "
            f"{parallel.pipeline}) still adds to",
            "set zero_stage to 1, or pipeline to 1",
        )
    if parallel.offload_optimizer and parallel.pipeline > 1:
        yield Problem(
            "parallel.offload_optimizer",
            f"gradients that the pipeline (parallel.pipeline {parallel.pipeline}) still adds to would leave the device",
            "set offload_optimizer to false, or pipeline to 1",
        )
    if config.loss_scale != LossScale() and config.precision != "fp16":
        yield Problem(
            "loss_scale", f"is for fp16, and precision is {config.precision}", "remove it, or change precision"
        )
    yield from _schedule_problems(config)
    yield from _task_problems(config)
    yield from _sequence_warmup_problems(config)
    yield from _data_problems(config)
    yield from classification_problems(config)
    yield from _fault_problems(config)


def _fault_problems(config: RunConfig) -> Iterator[Problem]:
    """Ways to find faults that can't work together."""
    beat, watchdog = config.heartbeat.interval_seconds, config.watchdog.timeout_seconds
    if watchdog and not beat:
        yield Problem(
            "watchdog.timeout_seconds",
            f"{watchdog:g}, but heartbeats are off (heartbeat.interval_seconds 0)",
            "set it to 0 as well, or write heartbeats",
        )
    elif watchdog and watchdog < 2 * beat:
        yield Problem(
            "watchdog.timeout_seconds",
            f"{watchdog:g} is less than two heartbeats (heartbeat.interval_seconds {beat:g})",
            f"set heartbeat.interval_seconds to {watchdog / 4:g}, or wait longer",
        )
    if config.guard.spike_window and config.guard.spike_window < 8:
        yield Problem(
            "guard.spike_window", f"{config.guard.spike_window} losses have no usable deviation", "set 8 or more"
        )
    if config.guard.spike_window and not config.checkpoint.interval:
        yield Problem(
            "guard.spike_window",
            "without checkpoints there is nothing to roll back to",
            "set checkpoint.interval, or spike_window to 0",
        )
    if config.integrity.interval and config.parallel.zero_stage == 3 and config.parallel.tensor == 1:
        yield Problem(
            "integrity.interval",
            "parallel.zero_stage 3 cuts all weights over the ranks, so that no two ranks hold the same",
            "set it to 0, or choose ZeRO-1 or 2",
        )


def _sequence_problems(config: RunConfig) -> Iterator[Problem]:
    """Sequences that the ranks which share them can't cut."""
    length, parallel = config.model.sequence_length, config.parallel
    if length % (2 * parallel.context) and parallel.context > 1:
        yield Problem(
            "model.sequence_length",
            f"{length} is not divisible by 2 × parallel.context {parallel.context}: each rank holds two pieces",
            "change one of the two",
        )
    elif parallel.sequence and length // parallel.context % parallel.tensor:
        what = f"{length}" if parallel.context == 1 else f"{length} / parallel.context {parallel.context}"
        yield Problem(
            "model.sequence_length",
            f"{what} is not divisible by parallel.tensor {parallel.tensor}, as parallel.sequence needs",
            "change one of the two",
        )


def _schedule_problems(config: RunConfig) -> Iterator[Problem]:
    schedule, ramp = config.schedule, config.batch.ramp
    decay_tokens = schedule.decay_tokens or schedule.train_tokens
    if not schedule.train_tokens and config.task == "pretraining":
        yield Problem("schedule.train_tokens", "is required", "set it in the file or as an override")
    elif decay_tokens and schedule.warmup_tokens > decay_tokens:
        yield Problem(
            "schedule.warmup_tokens",
            f"the warm-up ({schedule.warmup_tokens}) is longer than the decay ({decay_tokens})",
            "shorten it",
        )
    parallel = config.parallel
    for key in ("layer_statistics", "noise_scale"):
        if getattr(config.log, key) and (parallel.zero_stage > 1 or parallel.context > 1 or config.precision == "fp16"):
            yield Problem(
                f"log.{key}",
                "needs each replica's whole gradient, unscaled: parallel.zero_stage 1, parallel.context 1 and no fp16",
                "set it to 0, or change these",
            )
    for key in ("profile_steps", "timeline_steps"):
        steps = getattr(config.log, key)
        if steps and steps[0] > steps[1]:
            yield Problem(f"log.{key}", f"{list(steps)} ends before it starts", "swap the two")
    if config.checkpoint.load == "all" and config.checkpoint.load_from is None:
        yield Problem("checkpoint.load", "all of nothing", "set checkpoint.load_from too, or leave load out")
    if ramp and ramp.start > config.batch.global_:
        yield Problem("batch.ramp.start", f"{ramp.start} is above batch.global {config.batch.global_}", "start lower")
    elif ramp and (config.batch.global_ - ramp.start) % ramp.increment:
        yield Problem(
            "batch.ramp.increment",
            f"steps of {ramp.increment} from {ramp.start} do not reach batch.global {config.batch.global_}",
            f"nearest increments: {_nearest_divisors(config.batch.global_ - ramp.start, ramp.increment)}",
        )


def _task_problems(config: RunConfig) -> Iterator[Problem]:
    """Task evaluation while training: the model must lie whole on its replica's ranks, sequences uncut."""
    evaluation, parallel = config.evaluation, config.parallel
    if bool(evaluation.task_interval) != bool(evaluation.tasks):
        given, other = ("tasks", "task_interval") if evaluation.tasks else ("task_interval", "tasks")
        yield Problem(f"evaluation.{given}", f"is set without evaluation.{other}", f"set evaluation.{other} too")
    if not evaluation.tasks:
        return
    for key, value, cut in (
        ("zero_stage", parallel.zero_stage, parallel.zero_stage == 3),
        ("sequence", "true", parallel.sequence),
        ("context", parallel.context, parallel.context > 1),
    ):
        if cut:
            yield Problem(
                f"parallel.{key}",
                f"{value}: evaluation.tasks can't be measured on such a model while it trains",
                "change it, or leave evaluation.tasks out and run `megatron-nlg evaluate` on checkpoints",
            )


def _sequence_warmup_problems(config: RunConfig) -> Iterator[Problem]:
    warmup = config.schedule.sequence_warmup
    if warmup is None:
        return
    if warmup.start >= config.model.sequence_length:
        yield Problem(
            "schedule.sequence_warmup.start",
            f"{warmup.start} is not below model.sequence_length {config.model.sequence_length}",
            "start shorter",
        )
    parallel = config.parallel
    quantum = lcm(
        2 * parallel.context if parallel.context > 1 else 1,  # two pieces a rank
        parallel.context * parallel.tensor if parallel.sequence else 1,
    )
    for key, value in (("start", warmup.start), ("multiple", warmup.multiple)):
        if value % quantum:
            yield Problem(
                f"schedule.sequence_warmup.{key}",
                f"{value} is not divisible by {quantum}, as parallel.sequence or parallel.context needs",
                f"nearest: {' or '.join(str(n * quantum) for n in (value // quantum, value // quantum + 1) if n)}",
            )


def _data_problems(config: RunConfig) -> Iterator[Problem]:
    data, train_tokens = config.data, config.schedule.train_tokens
    if abs(sum(data.split) - 1) > 1e-6:
        yield Problem("data.split", f"{list(data.split)} does not sum to 1", "give two shares of 1")
    if data.reset_positions and config.model.position_embedding == "rotary":
        yield Problem(
            "data.reset_positions",
            "rotary positions are relative: inside a document they are the same wherever it begins",
            "set it to false; data.reset_attention is what keeps documents apart",
        )
    before = -1
    for number, stage in enumerate(data.stages):
        key = f"data.stages.{number}"
        if stage.from_tokens <= before:
            yield Problem(
                f"{key}.from_tokens", f"{stage.from_tokens} does not come after {before}", "put stages in their order"
            )
        elif stage.from_tokens >= train_tokens:
            yield Problem(
                f"{key}.from_tokens",
                f"{stage.from_tokens} is never reached: schedule.train_tokens is {train_tokens}",
                "begin earlier, or leave the stage out",
            )
        if stage.blend is None and stage.weights is None:
            yield Problem(key, "says nothing of its mixture", "give blend, weights or both")
        if stage.weights == {}:
            yield Problem(f"{key}.weights", "names no source", "name at least one, or leave weights out")
        before = max(before, stage.from_tokens)


def ramp_levels(config: RunConfig) -> list[int]:
    """Global batch sizes from the first to the full one, before rounding."""
    ramp = config.batch.ramp
    if ramp is None:
        return [config.batch.global_]
    return list(range(ramp.start, config.batch.global_ + 1, ramp.increment))


def batch_quantum(config: RunConfig, data_parallel: int) -> int:
    """Every global batch must be a multiple of this: micro × data-parallel size (× pipeline when interleaved)."""
    interleaved = config.parallel.pipeline if config.parallel.interleave > 1 else 1
    return config.batch.micro * data_parallel * interleaved


def batch_problems(config: RunConfig, data_parallel: int) -> Iterator[Problem]:
    """Global batches that the micro-batch and the data-parallel size do not divide."""
    quantum = batch_quantum(config, data_parallel)
    what = f"batch.micro {config.batch.micro} × data-parallel size {data_parallel}"
    if config.parallel.interleave > 1:
        what += f" × parallel.pipeline {config.parallel.pipeline} (interleaving)"
    if config.batch.global_ % quantum:
        near = sorted(
            {max(1, config.batch.global_ // quantum) * quantum, -(-config.batch.global_ // quantum) * quantum}
        )
        yield Problem(
            "batch.global",
            f"{config.batch.global_} is not a multiple of {what} = {quantum}",
            f"nearest: {' or '.join(map(str, near))}",
        )
    if config.batch.ramp and config.batch.ramp.rounding == "error":
        bad = [level for level in ramp_levels(config)[:-1] if level % quantum]
        if bad:
            shown = ", ".join(map(str, bad[:5])) + (f", … ({len(bad)} levels)" if len(bad) > 5 else "")
            yield Problem(
                "batch.ramp",
                f"levels {shown} are not multiples of {what} = {quantum}",
                "set batch.ramp.rounding to up, or change start and increment",
            )


def _nearest_divisors(number: int, wanted: int) -> str:
    """The divisors of `number` next to `wanted`, for a message. Looks no further than a million either way."""
    reach = 1_000_000
    below = next((d for d in range(min(wanted, number), max(0, wanted - reach), -1) if number % d == 0), None)
    above = next((d for d in range(wanted, min(number, wanted + reach) + 1) if number % d == 0), None)
    return " or ".join(map(str, sorted({d for d in (below, above) if d}))) or "none"
