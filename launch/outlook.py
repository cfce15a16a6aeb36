"""The run to its end as `plan` shows it: days, cost, energy, failures, other sizes of the cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from data_prep.report.text import count_text, duration_text

if TYPE_CHECKING:
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.planning.forecast import Forecast, Point
    from megatron_nlg.planning.prediction import Prediction


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of the run's costs."""
    group.add_argument("--price", type=float, metavar="P", help="of a GPU for an hour, in any currency")
    group.add_argument("--watts", type=float, metavar="W", help="that a GPU takes, with its share of the node")
    group.add_argument("--mtbf", type=float, metavar="HOURS", help="of running between two failures of a node")
    group.add_argument(
        "--write-gbs",
        type=float,
        default=10.0,
        metavar="R",
        help="GB/s of all ranks' checkpoint (default %(default)g)",
    )
    group.add_argument(
        "--restart-minutes", type=float, default=10.0, metavar="M", help="to start again (default %(default)g)"
    )
    group.add_argument("--scaling", action="store_true", help="the same layout on other numbers of nodes")


@dataclass(frozen=True)
class Outlook:
    """What is known of a run to its end."""

    forecast: Forecast
    price: float | None
    watts: float | None
    strong: tuple[Point, ...]
    weak: tuple[Point, ...]

    @property
    def megawatt_hours(self) -> float | None:
        """Energy of all GPUs."""
        return None if self.watts is None else self.forecast.gpu_hours * self.watts / 1e6


def asked(args: argparse.Namespace) -> bool:
    """Whether any option of these was given."""
    return args.scaling or any(value is not None for value in (args.price, args.watts, args.mtbf))


def check(args: argparse.Namespace) -> None:
    """Raise InputError for figures that make no sense."""
    from megatron_nlg.config.errors import InputError

    for option in ("price", "watts", "mtbf", "write_gbs", "restart_minutes"):
        value = getattr(args, option)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{option.replace('_', '-')} {value:g}: a number above 0 is expected")


def outlook(args: argparse.Namespace, found: Prediction, cluster: Cluster, nodes: int) -> Outlook:
    """Foretell a layout's run."""
    from megatron_nlg.planning.forecast import failures, forecast, scaling
    from megatron_nlg.training.schedule import BatchSchedule

    batches = BatchSchedule(found.config, found.layout.data)
    lost = None
    if args.mtbf is not None:
        lost = failures(found, nodes, args.mtbf, args.write_gbs, 60 * args.restart_minutes)
    per_node = found.layout.world_size // nodes
    wanted = args.scaling or args.html is not None
    curves = [tuple(scaling(found, cluster, per_node, weak)) if wanted else () for weak in (False, True)]
    run = forecast(found, cluster, batches.steps_by_level(batches.train_samples), lost)
    return Outlook(run, args.price, args.watts, curves[0], curves[1])


def outlook_lines(about: Outlook) -> Iterator[str]:
    """The outlook to read."""
    run = about.forecast
    steps = sum(level.steps for level in run.levels)
    yield (
        f"the run: {count_text(run.tokens)} tokens in {steps:,} steps, {run.days:.1f} days, "
        f"{count_text(run.tokens_per_day)} tokens a day, {count_text(run.gpu_hours)} GPU-hours"
    )
    if about.price is not None:
        yield f"  cost            {run.gpu_hours * about.price:,.0f} at {about.price:g} a GPU-hour"
    if about.megawatt_hours is not None:
        yield f"  energy          {about.megawatt_hours:,.1f} MWh at {about.watts:g} W a GPU"
    if run.failures:
        lost = run.failures
        yield (
            f"  failures        every {lost.job_mtbf_hours:.1f} hours; a checkpoint takes "
            f"{duration_text(lost.checkpoint_seconds)}: one every {lost.interval_steps:,} steps "
            f"({duration_text(lost.interval_seconds)}) is best, and {lost.lost:.1%} of the time is lost"
        )
        yield f"                  checkpoint.interval={lost.interval_steps}"
    for what, points in (("strong", about.strong), ("weak", about.weak)):
        for point in points:
            yield (
                f"  {what:<6} scaling  {point.nodes:7g} nodes  {point.sequences:7,} sequences  "
                f"{point.step_seconds:8.2f} s  efficiency {point.efficiency:6.1%}"
                + ("" if point.fits else "  does not fit")
            )


def outlook_tree(about: Outlook) -> dict[str, Any]:
    """The outlook for JSON."""
    run = about.forecast
    return {
        "tokens": run.tokens,
        "steps": sum(level.steps for level in run.levels),
        "days": round(run.days, 3),
        "tokens_per_day": round(run.tokens_per_day),
        "gpu_hours": round(run.gpu_hours, 1),
        "cost": None if about.price is None else round(run.gpu_hours * about.price, 2),
        "megawatt_hours": None if about.megawatt_hours is None else round(about.megawatt_hours, 3),
        "failures": asdict(run.failures) if run.failures else None,
        "levels": [asdict(level) for level in run.levels],
        "strong_scaling": [asdict(point) for point in about.strong],
        "weak_scaling": [asdict(point) for point in about.weak],
    }
