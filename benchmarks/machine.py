"""What a benchmark ran on, for its JSON."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from typing import Any

import psutil

from megatron_nlg.parallel.device import select_device


def describe() -> dict[str, Any]:
    """Processor or GPU, cores, memory, versions, and how busy the machine is."""
    device = select_device()
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.name,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "deepspeed", "megatron-core")},
    }
