"""Strict config sections, and how a YAML file with dotted overrides becomes one.

Used for run configs (`schema.py`) and corpus recipes (`data_prep`): an unknown key is an error that names the nearest
known one, and all problems of a file are reported together.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from megatron_nlg.config.errors import ConfigError, InputError, Problem


class Section(BaseModel):
    """Base of every part of a config: immutable, strictly typed, closed to unknown keys, documented by docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )


SectionT = TypeVar("SectionT", bound=Section)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (`5e-5` is a number, not a string) and no repeated keys."""


YAML_FLOAT = re.compile(
    r"^[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)
"""What is a number in our YAML files beyond PyYAML's idea of one."""
YAML_FLOAT_FIRST = list("-+0123456789.")
"""The characters it can start with."""

_Loader.add_implicit_resolver("tag:yaml.org,2002:float", YAML_FLOAT, YAML_FLOAT_FIRST)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a single value", problem_mark=key_node.start_mark)
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, source: str) -> Any:
    """Parse one YAML document; a syntax error becomes an InputError with `source`, line and column."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise InputError(f"{where}: not valid YAML: {error.problem or error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Its optional `include:` list names files (relative to it) that it is laid over, in order."""
    return _read_yaml(path, ())


def _read_yaml(path: Path, parents: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in parents:
        raise InputError(f"{path}: includes itself through {parents[-1]}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a mapping of settings is expected, not a {type(tree).__name__}")
    include = tree.pop("include", [])
    if not isinstance(include, list) or not all(isinstance(name, str) for name in include):
        raise InputError(f"{path}: include: a list of file names is expected, not {include!r}")
    merged: dict[str, Any] = {}
    for name in include:
        merged = merge(merged, _read_yaml(path.parent / name, (*parents, path.resolve())))
    return merge(merged, tree)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings are merged key by key, anything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Lay dotted overrides (`model.num_layers=4`, values in YAML) on a tree."""
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not all(key.split(".")):
            raise InputError(f"override {override!r}: expected key=value, such as model.num_layers=4")
        value: Any = parse_yaml(text, f"override {key}")
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return dict(tree)


def known_keys(section: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Key in the file -> the nested section it holds, or None for a plain value."""
    keys: dict[str, type[BaseModel] | None] = {}
    for name, field in section.model_fields.items():
        nested = [t for t in (field.annotation, *typing.get_args(field.annotation)) if _is_section(t)]
        keys[field.alias or name] = nested[0] if nested else None
    return keys


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section, nested ones included."""
    out = []
    for key, nested in known_keys(section).items():
        out.append(prefix + key)
        if nested:
            out += all_keys(nested, f"{prefix}{key}.")
    return out


def build(section: type[SectionT], tree: Mapping[str, Any], source: str) -> SectionT:
    """Validate a tree into a section, or raise a ConfigError that lists every problem."""
    try:
        # By alias only: `batch.global_` is how Python spells the field, not a key of the file.
        return section.model_validate(dict(tree), by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError(problems_of(error, section), source) from None


def problems_of(error: ValidationError, section: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's errors: unknown keys get the nearest known one, wrong values are shown."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            problems.append(Problem(key, "unknown key", _nearest(key, section)))
        elif item["type"] == "missing":
            problems.append(Problem(key, "is required", "set it in the file or as an override"))
        elif "problems" in item.get("ctx", {}):
            problems += item["ctx"]["problems"]
        else:
            problems.append(Problem(key, f"{item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"))
    return problems


def _nearest(key: str, section: type[BaseModel]) -> str:
    known = all_keys(section)
    key = ".".join(part for part in key.split(".") if not part.isdigit())  # an item of a list: the list's keys
    parent, _, last = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(last, [k.rpartition(".")[2] for k in siblings], n=1, cutoff=0.5)
    if close:
        return f"did you mean {parent + '.' if parent else ''}{close[0]}?"
    elsewhere = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(key, known, n=1)
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"known here: {', '.join(k.rpartition('.')[2] for k in siblings)}"
