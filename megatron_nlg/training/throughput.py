"""Model FLOPs of training, TFLOP/s per GPU and MFU, and the line of the log that says what they mean. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.flops import model_flops_per_token

# Dense bf16 tensor-core peaks in TFLOP/s, from the makers' data sheets. The first name found in the device's counts,
# so the longer names come first.
PEAK_TFLOPS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200": 989.0,
    "H800": 989.0,
    "B200": 2250.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
}


def peak_tflops(device_name: str, precision: str) -> float | None:
    """Dense peak of an accelerator in TFLOP/s by its name, or None when it is not known for this precision."""
    if precision == "fp32":
        return None
    return next((peak for name, peak in PEAK_TFLOPS.items() if name in device_name), None)


@dataclass(frozen=True)
class Throughput:
    """What a run's steps are measured by. `ranks` is the number of GPUs (or CPU processes)."""

    config: RunConfig
    ranks: int
    device_name: str

    @property
    def peak(self) -> float | None:
        """Assumed dense peak of one device in TFLOP/s: the config's, else the table's, else None."""
        return self.config.log.peak_tflops or peak_tflops(self.device_name, self.config.precision)

    def model_tflops_per_gpu(self, tokens: int, seconds: float, sequence_length: int | None = None) -> float:
        """TFLOP/s of one device when all of them together took `tokens` tokens in `seconds`.

        `sequence_length` is that of the samples, where they are shorter than the model's.
        """
        model = self.config.model
        if sequence_length is not None:
            model = model.model_copy(update={"sequence_length": sequence_length})
        return model_flops_per_token(model, not self.config.classes) * tokens / seconds / self.ranks / 1e12

    def mfu(self, tflops_per_gpu: float) -> float | None:
        """Share of the peak, or None when that is not known."""
        return tflops_per_gpu / self.peak if self.peak else None

    def header(self) -> str:
        """One line for the start of the log: the formula, its value, and the assumed peak."""
        model = self.config.model.model_copy(update={"sequence_length": self.config.sample_length})
        flops = model_flops_per_token(model, not self.config.classes)
        head = "a classifier has no logits, V = 0; " if self.config.classes else ""
        line = (
            "throughput: model FLOPs per token = 6·L·(2h² + 2hk + 2hf) + 12·L·s·h + 6·h·V (3hf when the MLP is gated), "
            "which is 72·L·h²·(1 + s/(6h) + V/(12Lh)) for k = h and f = 4h; recomputation is not counted; "
            f"{head}here {flops:.4g} a token over {self.ranks} × {self.device_name}; "
        )
        if self.config.log.peak_tflops:
            return f"{line}assumed peak {self.peak:g} TFLOP/s each (log.peak_tflops)"
        if self.peak:
            return f"{line}assumed peak {self.peak:g} TFLOP/s each (dense {self.config.precision}, data sheet)"
        return f"{line}peak in {self.config.precision} not known, so no MFU (log.peak_tflops sets it)"
