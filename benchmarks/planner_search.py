"""The best layouts of MT-NLG 530B on Selene by the planner, for this engine and both published stacks.

python -m benchmarks.planner_search            # three sizes of the cluster, twenty seconds
python -m benchmarks.planner_search --quick    # one size; writes nothing
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from launch.ranking import differences, name
from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.validate import load_config
from megatron_nlg.planning.search import search
from megatron_nlg.planning.stacks import STACKS, Name

CONFIG, CLUSTER = Path("configs/runs/mt_nlg_530b.yaml"), Path("configs/clusters/selene.yaml")
RESULT = Path(__file__).parent / "results" / "planner_search.json"
NODES = (280, 350, 420)
SHOWN = 5


def find(cluster: Cluster, nodes: int, stack: Name) -> dict[str, Any]:
    """The first layouts, the published one, and what lies between."""
    start = time.process_time()
    found = search(load_config(CONFIG), cluster, nodes * 8, 8, stack)
    seconds = time.process_time() - start
    best, own = found.ranked[0], found.own
    assert own
    return {
        "stack": stack,
        "nodes": nodes,
        "layouts_that_fit": found.fitting,
        "need_too_much_memory": len(found.unfit),
        "not_legal": sum(found.illegal.values()),
        "search_cpu_seconds": round(seconds, 2),
        "best": [
            {
                "layout": name(row.config),
                "data": row.layout.data,
                "step_seconds": round(row.step_seconds, 2),
                "model_tflops_per_gpu": round(row.model_tflops, 1),
                "peak_memory_gib": round(row.peak_memory_gib, 1),
            }
            for row in found.ranked[:SHOWN]
        ],
        "published_layout": {
            "layout": name(own.config),
            "step_seconds": round(own.step_seconds, 2),
            "of_the_best": round(own.step_seconds / best.step_seconds, 3),
            "because": differences(own, best),
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one size of the cluster; writes nothing")
    args = parser.parse_args()
    cluster, rows = load_cluster(CLUSTER), []
    for nodes in NODES[:1] if args.quick else NODES:
        for stack in STACKS:
            rows.append(find(cluster, nodes, stack))
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if not args.quick:
        result = {"machine": describe(), "config": str(CONFIG), "cluster": str(CLUSTER), "rows": rows}
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
