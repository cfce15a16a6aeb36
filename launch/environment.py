"""The environment that a cluster's fabric wants of every rank, each variable with its reason.

It is data: the `environment` of a cluster description, which may include one of configs/fabrics and change any of it.
"""

from __future__ import annotations

from megatron_nlg.config.cluster import Cluster


def environment(cluster: Cluster) -> list[tuple[str, str, str]]:
    """(Name, value, reason) of each variable, in the order of the files; what was set to null is left out."""
    return [
        (name, variable.value, variable.reason)
        for name, variable in cluster.environment.items()
        if variable.value is not None
    ]
