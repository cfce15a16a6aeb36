"""A config as YAML that reads back equal."""

from __future__ import annotations

from typing import Any

import yaml

from megatron_nlg.config.base import YAML_FLOAT, YAML_FLOAT_FIRST, Section


class _Dumper(yaml.SafeDumper):
    """Quotes what the reader in `base.py` would take for a number, such as the string '1e5'."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that occurs twice twice."""
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", YAML_FLOAT, YAML_FLOAT_FIRST)
# Short lists stay on their line: `split: [0.98, 0.02]`.
_Dumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", list(value), flow_style=True)
)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Unicode's line breaks only survive in double quotes; PyYAML would fold them in single ones."""
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(config: Section) -> str:
    """The config with every setting, defaults included, in the order of the schema; `parse_yaml` + `build` undo it."""
    tree = config.model_dump(by_alias=True)
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
