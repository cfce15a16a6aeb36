"""SLURM's topology.yaml: several topologies, each a tree, blocks or flat. The cluster's default one is read."""

from __future__ import annotations

from launch.topology.marked import Value, load
from launch.topology.model import Topology, malformed
from launch.topology.slurm import Record, blocks_topology, tree_topology

KINDS = ("tree", "block", "flat")


def parse_slurm_yaml(text: str, source: str) -> Topology:
    """Read topology.yaml. Raises InputError."""
    entries = load(text, source).items("a list of topologies")
    topologies = [entry.fields("a mapping: topology, cluster_default, and tree, block or flat") for entry in entries]
    for entry, each in zip(entries, topologies, strict=True):
        if "topology" not in each or len([kind for kind in KINDS if kind in each]) != 1:
            raise malformed(source, entry.line, f"the keys {', '.join(each)}", "topology and one of tree, block, flat")
    usable = [each for each in topologies if "flat" not in each]
    if not usable:
        raise malformed(source, 1, "no tree and no blocks", "a topology that is not flat")
    chosen = next((each for each in usable if _is_default(each)), usable[0])
    others = [each["topology"].text("a name") for each in topologies if each is not chosen]
    notes = [f"topology {chosen['topology'].text('a name')} is read, not {', '.join(others)}"] if others else []
    if "tree" in chosen:
        return tree_topology(_switches(chosen["tree"]), "SLURM topology.yaml (tree)", source, notes)
    return blocks_topology(_blocks(chosen["block"]), "SLURM topology.yaml (block)", source, notes)


def _is_default(topology: dict[str, Value]) -> bool:
    default = topology.get("cluster_default")
    return default is not None and default.text("true or false").lower() in {"true", "yes", "on"}


def _switches(tree: Value) -> list[Record]:
    fields = tree.fields("a mapping with switches")
    if "switches" not in fields:
        raise malformed(tree.source, tree.line, f"the keys {', '.join(fields)}", "switches")
    records = []
    for item in fields["switches"].items("a list of switches"):
        switch = item.fields("a switch with its nodes or children")
        if "switch" not in switch:
            raise malformed(item.source, item.line, f"the keys {', '.join(switch)}", "switch, and nodes or children")
        record = Record(switch["switch"].text("a name"), item.line)
        for key, names in (("nodes", record.nodes), ("children", record.switches)):
            if key in switch and switch[key].data:
                names.extend(switch[key].hosts("a host list"))
        records.append(record)
    return records


def _blocks(block: Value) -> list[Record]:
    fields = block.fields("a mapping with blocks")
    if "blocks" not in fields:
        raise malformed(block.source, block.line, f"the keys {', '.join(fields)}", "blocks")
    records = []
    for item in fields["blocks"].items("a list of blocks"):
        each = item.fields("a block with its nodes")
        if "block" not in each or "nodes" not in each:
            raise malformed(item.source, item.line, f"the keys {', '.join(each)}", "block and nodes")
        records.append(Record(each["block"].text("a name"), item.line, each["nodes"].hosts("a host list")))
    return records
