"""Reading."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from megatron_nlg.config.base import Section


class Read(Section):
    """When to stop over records that can't be read."""

    max_reject_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The run stops when more of a source's records are rejected. Files of unknown ending do not."""
