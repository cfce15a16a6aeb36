"""Plain descriptions: NVIDIA topograph's models, and a YAML or JSON of this project's own with `switches`."""

from __future__ import annotations

from launch.topology.marked import Value, load
from launch.topology.model import Topology, check_tree, empty_note, malformed, report, without_empty
from megatron_nlg.config.switches import Switches, unknown_switches

DOMAIN = "/domain"
"""How the annotation of a block's NVLink domain ends."""


def parse_model(text: str, source: str) -> Topology:
    """Read a mapping with `switches`: topograph's, when it has `blocks` too, else our own. Raises InputError."""
    value = load(text, source)
    fields = value.fields("a mapping with switches")
    if "switches" not in fields:
        raise malformed(source, value.line, f"the keys {', '.join(fields)}", "switches")
    return _topograph(fields, source) if "blocks" in fields else _plain(value, source)


def _plain(value: Value, source: str) -> Topology:
    """`switches: {leaf1: n[1-8], spine: [leaf1, leaf2]}`, and uplink_gbs, domains and rails where they are known."""
    fields = value.fields("a mapping", {"switches", "uplink_gbs", "domains", "rails"})
    lines: dict[str, int] = {}
    switches: Switches = {}
    for name, below in fields["switches"].fields("a mapping of switches").items():
        switches[name] = tuple(below.hosts("a host list, or a list of them"))
        lines |= {each: below.line for each in switches[name] if each not in lines}
    lines |= {name: below.line for name, below in fields["switches"].fields("").items()}
    report(list(unknown_switches(switches)), lines, source)
    check_tree(switches, lines, source)
    known = {*switches, *lines}
    uplinks = {
        name: each.number(f"the links up of {name} in GB/s")
        for name, each in (fields["uplink_gbs"].fields("a mapping") if "uplink_gbs" in fields else {}).items()
    }
    domains: dict[str, str] = {}
    for domain, nodes in (fields["domains"].fields("a mapping") if "domains" in fields else {}).items():
        for node in nodes.hosts("a host list, or a list of them"):
            if node in domains or node not in lines or node in switches:
                raise malformed(source, nodes.line, node, "a node of one switch and one domain")
            domains[node] = domain
    for name in uplinks:
        if name not in known:
            raise malformed(source, fields["uplink_gbs"].line, name, "a switch or node of the tree")
    rails = fields["rails"].number("a number of rails") if "rails" in fields else None
    if rails is not None and rails != int(rails):
        raise malformed(source, fields["rails"].line, str(rails), "a whole number of rails")
    return Topology("plain switches", source, switches, domains, uplinks, int(rails) if rails else None)


def _topograph(fields: dict[str, Value], source: str) -> Topology:
    """`switches: {spine: {switches: [leaf]}}`, `blocks: [{switch: leaf, nodes: […], annotations: {…/domain: d}}]`."""
    below: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for name, value in fields["switches"].fields("a mapping of switches").items():
        inner = value.fields("a switch with its switches").get("switches")
        below[name] = inner.hosts("a list of switches") if inner and inner.data else []
        lines |= {name: value.line, **{each: value.line for each in below[name] if each not in lines}}
    # A leaf switch may be described by its block only.
    for name in [each for names in below.values() for each in names]:
        below.setdefault(name, [])
    domains: dict[str, str] = {}
    for block in fields["blocks"].items("a list of blocks"):
        each = block.fields("a block with switch and nodes")
        if "switch" not in each or "nodes" not in each:
            raise malformed(source, block.line, f"the keys {', '.join(each)}", "switch and nodes")
        nodes = each["nodes"].hosts("a list of nodes")
        below.setdefault(each["switch"].text("a switch"), []).extend(nodes)
        lines |= dict.fromkeys(nodes, block.line)
        notes = each["annotations"].fields("a mapping") if "annotations" in each else {}
        for key, domain in notes.items():
            if key.endswith(DOMAIN):
                domains |= dict.fromkeys(nodes, domain.text("a domain's name"))
    switches = without_empty(below)
    check_tree(switches, lines, source)
    return Topology("topograph model", source, switches, domains, notes=empty_note(below, switches))
