"""YAML (and JSON, a part of it) whose every value knows its line: names stay text, so that node 0101 keeps its zero."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from launch.topology.model import malformed
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.hostlist import expand


class _Loader(yaml.SafeLoader):
    """Without aliases: a file of a few lines could stand for more values than fit into memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not read here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Value:
    """A value of a file, with accessors that raise an InputError when it is another kind of value."""

    source: str
    line: int
    data: str | list[Value] | dict[str, Value]

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        return {str: "a single value", list: "a list", dict: "a mapping"}[type(self.data)]

    def text(self, expected: str) -> str:
        """A single value that is not empty."""
        if not isinstance(self.data, str) or not self.data:
            raise malformed(self.source, self.line, self.kind if self.data else "an empty value", expected)
        return self.data

    def number(self, expected: str) -> float:
        """A positive number."""
        try:
            number = float(self.text(expected))
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise malformed(self.source, self.line, self.data, expected)
        return number

    def items(self, expected: str) -> list[Value]:
        """The items of a list."""
        if not isinstance(self.data, list):
            raise malformed(self.source, self.line, self.kind, expected)
        return self.data

    def fields(self, expected: str, known: set[str] | None = None) -> dict[str, Value]:
        """The values of a mapping; with `known`, other keys are errors."""
        if not isinstance(self.data, dict):
            raise malformed(self.source, self.line, self.kind, expected)
        for key, value in self.data.items():
            if known is not None and key not in known:
                raise malformed(self.source, value.line, key, f"one of {', '.join(sorted(known))}")
        return self.data

    def hosts(self, expected: str) -> list[str]:
        """The names of a host list, or of a list of them."""
        if isinstance(self.data, list):
            return [name for item in self.data for name in item.hosts(expected)]
        try:
            return expand(self.text(expected))
        except InputError as error:
            message = str(error)
        raise InputError(message if message.startswith(f"{self.source}:") else f"{self.source}:{self.line}: {message}")


def load(text: str, source: str) -> Value:
    """Parse one document. Raises InputError with the line."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            raise malformed(source, 1, "an empty file", "switches and nodes")
        return _value(node, source)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{source}:{line}: found text that is not YAML ({error.problem}), expected YAML") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{source}:{line}: found a character that YAML does not allow, expected text") from None
    except RecursionError:
        raise malformed(source, 1, "a value in a value hundreds of times", "switches and nodes") from None


def _value(node: yaml.Node, source: str) -> Value:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Value(source, line, [_value(item, source) for item in node.value])
    if not isinstance(node, yaml.MappingNode):
        empty = node.tag == "tag:yaml.org,2002:null"
        return Value(source, line, "" if empty else str(node.value))
    fields: dict[str, Value] = {}
    for key_node, value_node in node.value:
        key = _value(key_node, source).text("a name")
        if key in fields:
            raise malformed(source, key_node.start_mark.line + 1, f"a second {key}", "one")
        fields[key] = _value(value_node, source)
    return Value(source, line, fields)
