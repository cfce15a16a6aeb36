"""`megatron-nlg plan`, as far as it shows one simulated step: picture, trace, and what slow machines cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron_nlg.config.cluster import Cluster


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of a simulated step."""
    group.add_argument("--gantt", type=Path, metavar="FILE", help="draw the pipeline; .png or .svg")
    group.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace; .json")
    group.add_argument(
        "--slow", action="append", default=[], metavar="STAGE=FACTOR", help="a stage that takes FACTOR times as long"
    )
    group.add_argument(
        "--jitter", type=float, default=0.0, metavar="S", help="spread of passes, as of log-normal times"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the jitter")


def asked(args: argparse.Namespace) -> bool:
    """Whether a simulated step is wanted."""
    return bool(args.gantt or args.trace or args.slow or args.jitter)


def run(args: argparse.Namespace, cluster: Cluster, ranks_per_node: int) -> int:
    """Simulate the config's own layout, with and without what disturbs it. Raises InputError on bad input."""
    from launch.placement.plan import write_file
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.config.validate import data_parallel_size, load_config
    from megatron_nlg.planning.step import StepModel
    from megatron_nlg.planning.trace import trace

    for option, path, suffixes in (("--gantt", args.gantt, (".png", ".svg")), ("--trace", args.trace, (".json",))):
        if path is not None and path.suffix not in suffixes:
            raise InputError(f"{option} {path}: its name must end in {' or '.join(suffixes)}")
    if not 0 <= args.jitter <= 1:
        raise InputError(f"--jitter {args.jitter:g}: a spread from 0 to 1 is expected, such as 0.02")
    ranks = (args.nodes or cluster.nodes) * ranks_per_node
    config = load_config(args.config, args.overrides, ranks)
    model = StepModel(config, cluster, ranks, args.stack)
    slow = _slow_stages(args.slow, model.layout.pipeline)
    if (slow or args.jitter) and cluster.compute and cluster.compute.cores:
        raise InputError("--slow, --jitter: are for accelerators; ranks here share cores (compute.cores)")
    micro_batches = config.batch.global_ // (config.batch.micro * data_parallel_size(config, ranks))
    plain = model.step(micro_batches)
    step = model.step(micro_batches, args.jitter, args.seed, slow) if slow or args.jitter else plain
    more = f", {step.seconds / plain.seconds - 1:+.1%} by what disturbs it" if step is not plain else ""
    print(f"{model.layout}: {step.seconds:.3f} s a step{more}; bubble {step.breakdown.bubble / step.seconds:.1%}")
    found = trace(step, model.layout)
    if args.trace:
        write_file(args.trace, json.dumps(found) + "\n")
    if args.gantt:
        from megatron_nlg.report.gantt import draw, pipeline_of

        write_file(args.gantt, draw(pipeline_of(found, args.gantt), args.gantt.suffix[1:]))
    return 0


def _slow_stages(words: list[str], stages: int) -> dict[int, float]:
    """STAGE=FACTOR, read."""
    from megatron_nlg.config.errors import InputError

    out = {}
    for word in words:
        stage, _, factor = word.partition("=")
        try:
            number, times = int(stage), float(factor)
        except ValueError:
            raise InputError(f"--slow {word}: STAGE=FACTOR is expected, such as 0=1.3") from None
        if not 0 <= number < stages or not 0 < times < 1000:
            raise InputError(f"--slow {word}: a stage from 0 to {stages - 1} and a factor above 0 are expected")
        out[number] = times
    return out
