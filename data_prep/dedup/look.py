"""A finished deduplication to look at: clusters with their texts, a picture of sizes and similarity, a table of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.dedup.clusters import BINS
from data_prep.dedup.partitioned import Shards
from data_prep.files import replacing
from data_prep.jobs import Done, finished
from data_prep.shards import read_table
from data_prep.stages.base import flat, stem
from data_prep.stages.dedup import CLUSTERS, pick, starts_of
from megatron_nlg.config.errors import InputError

TABLE = "clusters.parquet"
PICTURE = "clusters.png"
_TABLE_SCHEMA = pa.schema([("id", pa.string()), ("cluster", pa.int64()), ("keep", pa.bool_())])
_MEMBERS, _CHARACTERS = 10, 400  # shown of a cluster and of a text


class Found(NamedTuple):
    """What deduplication found in an output folder."""

    done: Done
    shards: Shards
    """Of the stage before: all documents."""
    cluster: NDArray[np.int64]
    """Position of the cluster's first document; [documents]."""
    keep: NDArray[np.bool_]
    """[documents]."""


def found_in(out: Path) -> Found:
    """Read a folder that `prep` wrote; raises InputError where deduplication is not finished."""
    done = finished("dedup", out / "shards" / "dedup")
    if done is None:
        raise InputError(f"{out}: holds no finished deduplication; run it first")
    before = out / "shards" / done.summary["before"]
    paths = {stem(name): before / name for name in flat(done.summary["shards"])}
    with np.load(done.folder / CLUSTERS) as arrays:
        return Found(done, Shards(paths, starts_of(paths.values())), arrays["cluster"], arrays["keep"])


def write_table(found: Found, path: Path) -> None:
    """`clusters.parquet`: id, cluster (the same number for the same cluster) and keep of every document, in order.

    It names the stage's key, and is left alone when it is of this very deduplication.
    """
    schema = _TABLE_SCHEMA.with_metadata({"key": found.done.key})
    try:
        if pq.read_schema(path).metadata == schema.metadata:
            return
    except (OSError, pa.ArrowInvalid):
        pass  # not there, or damaged
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for i, shard in enumerate(found.shards.paths.values()):
            here = slice(found.shards.starts[i], found.shards.starts[i + 1])
            columns = [read_table(shard, ["id"])["id"], pa.array(found.cluster[here]), pa.array(found.keep[here])]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def largest(found: Found, count: int) -> list[NDArray[np.int64]]:
    """Members of the `count` largest clusters of two and more, the first of equals first."""
    sizes = np.bincount(found.cluster, minlength=len(found.cluster))
    names = np.argsort(-sizes, kind="stable")[:count]
    return [np.flatnonzero(found.cluster == name) for name in names[sizes[names] > 1]]


def describe(found: Found, count: int) -> Iterator[str]:
    """Lines that show the largest clusters: each document's id, what became of it, and how its text begins."""
    groups = largest(found, count)
    wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *(group[:_MEMBERS] for group in groups)]))
    ids, texts = dict(pick(found.shards, wanted, "id")), dict(pick(found.shards, wanted, "text"))
    for number, group in enumerate(groups, 1):
        yield f"cluster {number} of {found.done.summary['clusters']['clusters']:,}: {len(group):,} documents"
        for i in group[:_MEMBERS].tolist():
            text = " ".join(texts[i].split())
            more = f" … ({len(text):,} characters)" if len(text) > _CHARACTERS else ""
            yield f"  {'kept   ' if found.keep[i] else 'dropped'} {ids[i]}"
            yield f"    {text[:_CHARACTERS]}{more}"
        if len(group) > _MEMBERS:
            yield f"  and {len(group) - _MEMBERS:,} more"
        yield ""
    if not groups:
        yield "no two documents are near"


def draw(found: Found, path: Path) -> None:
    """A picture: how many clusters there are of each size, and candidates by similarity over the banding's S-curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    about = found.done.summary["clusters"]
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    sizes = {int(size): count for size, count in about["sizes"].items()}
    left.loglog(list(sizes), list(sizes.values()), "o")
    for axis, values in ((left.xaxis, sizes), (left.yaxis, sizes.values())):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}" if max(values, default=0) < 20 else "")
    left.set(title=f"{about['clusters']:,} clusters", xlabel="documents in a cluster", ylabel="clusters")
    if "bands" in about:
        _draw_similarity(right, about)
    else:
        right.set_axis_off()
    with replacing(path) as temporary, temporary.open("wb") as stream:
        figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})


def _draw_similarity(axes: Any, about: dict[str, Any]) -> None:
    bands, rows, threshold = about["bands"], about["rows"], about["threshold"]
    edges = np.linspace(0, 1, BINS + 1)
    axes.bar(edges[:-1], about["similarity"], width=1 / BINS, align="edge", color="tab:blue", alpha=0.6)
    axes.set(xlabel="Jaccard similarity", ylabel="candidate pairs", title=f"{bands} bands of {rows} min-hashes")
    axes.axvline(threshold, color="black", linestyle=":", label=f"threshold {threshold:g}")
    curve = axes.twinx()
    curve.plot(edges, 1 - (1 - edges**rows) ** bands, color="tab:red", label=f"1 − (1 − J^{rows})^{bands}")
    curve.set(ylim=(0, 1.05), ylabel="probability of being compared")
    curve.legend(loc="upper left")
    axes.legend(loc="center left")
