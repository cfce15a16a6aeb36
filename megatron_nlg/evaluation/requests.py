"""The harness's requests, built faster: the same texts, tested to be equal.

lm-evaluation-harness compiles each template for each document, formats each example for each question that shows it,
and decodes each row by itself. Here templates are compiled once, examples are formatted once, and rows come
all at once.
"""

from __future__ import annotations

import ast
from functools import cache
from itertools import islice
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

Doc = dict[str, Any]


@cache
def _compiled(template: str) -> Any:
    return utils.env.from_string(template)


class FastTask(ConfigurableTask):  # type: ignore[misc] # lm_eval is untyped
    """A task whose requests are built by this file; where it can't, by the harness."""

    def doc_to_text(self, doc: Doc, doc_to_text: Any = None) -> Any:
        """As ConfigurableTask."""
        wanted = self.config.doc_to_text if doc_to_text is None else doc_to_text
        if not self._is_template(wanted):
            return super().doc_to_text(doc, doc_to_text)
        text = _compiled(wanted).render(**doc)
        return ast.literal_eval(text) if text.isdigit() and self.config.doc_to_choice is not None else text

    def doc_to_target(self, doc: Doc, doc_to_target: Any = None) -> Any:
        """As ConfigurableTask."""
        wanted = self.config.doc_to_target if doc_to_target is None else doc_to_target
        if not self._is_template(wanted):
            return super().doc_to_target(doc, doc_to_target)
        text = _compiled(wanted).render(**doc)
        if text[:1] == "[":
            return super().doc_to_target(doc, doc_to_target)
        return ast.literal_eval(text) if text.isdigit() and self.config.doc_to_choice is not None else text

    def doc_to_choice(self, doc: Doc, doc_to_choice: Any = None) -> Any:
        """As ConfigurableTask."""
        wanted = self.config.doc_to_choice if doc_to_choice is None else doc_to_choice
        if not self._is_template(wanted):
            return super().doc_to_choice(doc, doc_to_choice)
        return ast.literal_eval(_compiled(wanted).render(**doc))

    def build_all_requests(self, *, limit: int | None = None, **options: Any) -> None:
        """As ConfigurableTask: fills `instances`."""
        if not self._is_plain(options):
            super().build_all_requests(limit=limit, **options)
            return
        examples: dict[int, str] = {}
        shots = self.config.num_fewshot or 0
        excluded = self.fewshot_cfg.split == self.config.test_split
        self._instances = []
        for number, doc in enumerate(islice(self._rows(), limit)):
            shown = self.sampler.sample(n=shots, eval_doc=doc if excluded else None) if shots else []
            before = "".join([examples.get(id(each)) or self._example(each, examples) for each in shown])
            metadata = (self.config.task, number, self.config.repeats)
            self._instances += [
                Instance(self._kind, doc, arguments, place, metadata)
                for place, arguments in enumerate(self._arguments(doc, before))
            ]
        if not self._instances:
            raise ValueError("task.build_requests() did not find any docs!")

    @property
    def _kind(self) -> str:
        return "loglikelihood" if self.OUTPUT_TYPE == "multiple_choice" else str(self.OUTPUT_TYPE)

    def _is_template(self, wanted: Any) -> bool:
        return isinstance(wanted, str) and self.prompt is None and wanted not in self.features

    def _is_plain(self, options: dict[str, Any]) -> bool:
        """Whether nothing is asked for but a prompt of examples and a question."""
        default = {"rank": 0, "world_size": 1}
        asked = any(value for name, value in options.items() if value != default.get(name) and name != "tokenizer_name")
        config = self.config
        special = config.description, config.gen_prefix, config.doc_to_image, config.doc_to_audio, self.prompt
        known = self.OUTPUT_TYPE in ("loglikelihood", "multiple_choice")
        return known and not asked and not any(special) and "acc_mutual_info" not in self._metric_fn_list

    def _rows(self) -> list[Doc]:
        """Documents to evaluate, processed when the task was made."""
        return list(self.task_docs.to_list())

    def _example(self, doc: Doc, examples: dict[int, str]) -> str:
        """An answered question."""
        how = self.fewshot_cfg
        question, answer = self.doc_to_text(doc, how.doc_to_text), self.doc_to_target(doc, how.doc_to_target)
        choices: Any = self.doc_to_choice(doc, how.doc_to_choice) if how.doc_to_choice else None
        if self.multiple_input:
            question, choices = choices[question], None
        turn = self.build_qa_turn(
            q=question, c=choices, a=answer, tgt_delim=how.target_delimiter, few_delim=how.fewshot_delimiter
        )
        examples[id(doc)] = text = "".join(message.to_text() for message in turn)
        return text

    def _arguments(self, doc: Doc, before: str) -> list[tuple[str, str]]:
        """(context, continuation) of each of a document's requests."""
        between = self.config.target_delimiter
        if self.OUTPUT_TYPE == "loglikelihood":
            return [(before + self.doc_to_text(doc), self.doc_to_target(doc))]
        choices = self.doc_to_choice(doc)
        if self.multiple_input:
            target = f"{between}{self.doc_to_target(doc)}"
            return [(before + choice, target) for choice in choices]
        context = before + self.doc_to_text(doc)
        return [(context, f"{between}{choice}") for choice in choices]
