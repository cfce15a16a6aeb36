"""The step-time model against published steps: fitted, left out one by one, and drawn.

    python -m benchmarks.planner_rows [--check]

Seven rows: Narayanan et al. 2021, table 1 (Megatron-LM), and Smith et al. 2022, section 2.4 (Megatron-DeepSpeed), all
on Selene. Fitted are two constants of the hardware (the shares of the peak that matrix products and that memory reach)
and one of a stack (the time of Megatron-DeepSpeed's kernels against Megatron-LM's); everything else has a source. Each
row is also predicted from the six others. Writes benchmarks/results/planner_rows.json and docs/planner_rows.png.
`--check` compares the constants in the repository with the fit and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest.mock import patch

from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning import step
from megatron_nlg.planning.flops import step_flops
from megatron_nlg.planning.stacks import STACKS, Name

RESULT, PICTURE = Path("benchmarks/results/planner_rows.json"), Path("docs/planner_rows.png")
CLUSTER = Path("configs/clusters/selene.yaml")
FITTED: Name = "megatron-deepspeed-2022"


@dataclass(frozen=True)
class Row:
    """A published step."""

    name: str
    heads: int
    hidden: int
    layers: int
    tensor: int
    pipeline: int
    interleave: int
    micro: int
    gpus: int
    batch: int
    stack: Name
    tflops: float | None = None
    """Published, a GPU, in place of seconds."""
    step_seconds: float | None = None

    @property
    def config(self) -> RunConfig:
        """The run: sequences of 2,048 tokens, 51,200 words, everything recomputed."""
        model = {"num_layers": self.layers, "hidden_size": self.hidden, "num_attention_heads": self.heads}
        return RunConfig.model_validate(
            {
                "model": model | {"sequence_length": 2048, "vocab_size": 51200},
                "parallel": {
                    "tensor": self.tensor,
                    "pipeline": self.pipeline,
                    "interleave": self.interleave,
                    "recompute": "full",
                },
                "batch": {"micro": self.micro, "global": self.batch},
                "precision": "bf16" if self.step_seconds else "fp16",
                "optimizer": {"lr": 1e-4},
                "schedule": {"train_tokens": 10**9},
            }
        )

    @property
    def seconds(self) -> float:
        """Of a step, as published."""
        if self.step_seconds is not None:
            return self.step_seconds
        assert self.tflops is not None
        return step_flops(self.config.model, self.batch, recompute="full") / (self.gpus * self.tflops * 1e12)


OLD, NEW = "megatron-lm-2021", FITTED
ROWS = (
    Row("1.7B", 24, 2304, 24, 1, 1, 1, 16, 32, 512, OLD, tflops=137),
    Row("7.5B", 32, 4096, 36, 4, 1, 1, 16, 128, 512, OLD, tflops=142),
    Row("39.1B", 64, 8192, 48, 8, 2, 1, 4, 512, 1536, OLD, tflops=138),
    Row("145.6B", 96, 12288, 80, 8, 8, 2, 2, 1536, 2304, OLD, tflops=148),
    Row("529.6B", 128, 20480, 105, 8, 35, 3, 1, 2520, 2520, OLD, tflops=163),
    Row("MT-NLG, 280 nodes", 128, 20480, 105, 8, 35, 1, 1, 2240, 1920, NEW, step_seconds=60.1),
    Row("MT-NLG, 420 nodes", 128, 20480, 105, 8, 35, 1, 1, 3360, 1920, NEW, step_seconds=44.4),
)


@dataclass(frozen=True)
class Constants:
    """What is fitted."""

    gemm_efficiency: float
    memory_efficiency: float
    kernel_factor: float


def in_repository(cluster: Cluster) -> Constants:
    assert cluster.compute
    factor = STACKS[FITTED].kernel_factor
    return Constants(cluster.compute.gemm_efficiency, cluster.compute.memory_efficiency, factor)


def predict(row: Row, cluster: Cluster, constants: Constants) -> step.Step:
    assert cluster.compute
    efficiencies = {name: getattr(constants, name) for name in ("gemm_efficiency", "memory_efficiency")}
    fitted = cluster.model_copy(update={"compute": cluster.compute.model_copy(update=efficiencies)})
    with patch.dict(STACKS, {FITTED: replace(STACKS[FITTED], kernel_factor=constants.kernel_factor)}):
        model = step.StepModel(row.config, fitted, row.gpus, row.stack)
    return model.step(row.batch // (model.layout.data * row.micro))


def fit(rows: Sequence[Row], cluster: Cluster) -> Constants:
    """Least squares of the logarithms' differences."""
    from scipy.optimize import least_squares

    def differences(values: Sequence[float]) -> list[float]:
        return [math.log(predict(row, cluster, Constants(*values)).seconds / row.seconds) for row in rows]

    start = (0.75, 0.8, 1.2)
    return Constants(*least_squares(differences, start, bounds=([0.3, 0.3, 0.8], [1, 1, 2]), diff_step=1e-3).x)


def compare(cluster: Cluster, constants: Constants) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for row in ROWS:
        found = predict(row, cluster, constants)
        others = fit([other for other in ROWS if other is not row], cluster)
        left_out = predict(row, cluster, others).seconds
        rows.append(
            {
                "row": row.name,
                "stack": row.stack,
                "gpus": row.gpus,
                "published_seconds": round(row.seconds, 3),
                "predicted_seconds": round(found.seconds, 3),
                "error": round(found.seconds / row.seconds - 1, 4),
                "error_left_out": round(left_out / row.seconds - 1, 4),
                "breakdown": {part: round(float(seconds), 3) for part, seconds in asdict(found.breakdown).items()},
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def draw(rows: Sequence[dict[str, object]], path: Path) -> None:
    """Published against predicted, and where the predicted seconds go."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, StrMethodFormatter

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), gridspec_kw={"width_ratios": [1, 1.5]})
    for stack, marker in ((OLD, "o"), (NEW, "s")):
        some = [row for row in rows if row["stack"] == stack]
        left.plot([r["published_seconds"] for r in some], [r["predicted_seconds"] for r in some], marker, label=stack)
    ends = [3, 75]
    left.plot(ends, ends, color="0.6", linewidth=0.8)
    left.fill_between(ends, [0.95 * end for end in ends], [1.05 * end for end in ends], color="0.92", label="± 5 %")
    left.set(xscale="log", yscale="log", xlabel="published seconds a step", ylabel="predicted seconds a step")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(FixedLocator([3, 5, 10, 20, 40, 60]))
        axis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axis.set_minor_locator(FixedLocator([]))
    left.legend(loc="upper left", frameon=False)
    names = [str(row["row"]) for row in rows]
    bottom = [0.0] * len(rows)
    for part in rows[0]["breakdown"]:  # type: ignore[attr-defined]
        shares = [100 * row["breakdown"][part] / row["published_seconds"] for row in rows]  # type: ignore[index, operator]
        right.barh(names, shares, left=bottom, label=part)
        bottom = [a + b for a, b in zip(bottom, shares, strict=True)]
    for i, row in enumerate(rows):
        right.text(bottom[i] + 1, i, f"{row['error']:+.1%} ({row['error_left_out']:+.1%})", va="center", fontsize=8)
    right.axvline(100, color="0.3", linewidth=0.8)
    right.set(xlabel="predicted, % of the published step (in brackets: fitted without the row)", xlim=(0, 128))
    right.invert_yaxis()
    right.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=6, frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="are the repository's constants the fitted ones?")
    args = parser.parse_args()
    cluster = load_cluster(CLUSTER)
    fitted, here = fit(ROWS, cluster), in_repository(cluster)
    print(f"fitted {fitted}\nhere   {here}")
    if args.check:
        return (
            0
            if all(abs(a / b - 1) < 2e-3 for a, b in zip(asdict(fitted).values(), asdict(here).values(), strict=True))
            else 1
        )
    rows = compare(cluster, here)
    result = {"cluster": str(CLUSTER), "fitted": {k: round(v, 4) for k, v in asdict(fitted).items()}, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(rows, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
