"""Prompts that a template can't say. They are GPT-3's (appendix G), as lm-evaluation-harness has them."""

from __future__ import annotations

import ast
import re
from typing import Any

Doc = dict[str, Any]


def _clean(text: str) -> str:
    """Without the brackets that HellaSwag's WikiHow part has left."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag_docs(dataset: Any) -> Any:
    """Add `query` and `choices` to every row."""

    def add(doc: Doc) -> Doc:
        context = doc["ctx_a"] + " " + doc["ctx_b"].capitalize()
        return {
            "query": _clean(doc["activity_label"] + ": " + context),
            "choices": [_clean(ending) for ending in doc["endings"]],
            "gold": int(doc["label"]),
        }

    return dataset.map(add)


def winogrande_text(doc: Doc) -> int:
    """Which of the two contexts is the right one: the option stands in the context (partial evaluation)."""
    return {"1": 0, "2": 1}[doc["answer"]]


def winogrande_target(doc: Doc) -> str:
    """What follows the gap."""
    return str(doc["sentence"].split("_", 1)[1].strip())


def winogrande_choices(doc: Doc) -> list[str]:
    """The sentence up to its gap, filled by each option."""
    before = doc["sentence"].split("_", 1)[0]
    return [before + doc["option1"], before + doc["option2"]]


def _problems(doc: Doc) -> list[Doc]:
    """The hub's version has them as text."""
    problems = doc["problems"]
    return list(ast.literal_eval(problems) if isinstance(problems, str) else problems)


def race_text(doc: Doc) -> str:
    """The article, its other questions with their answers, and the last question."""
    text = "Article: " + str(doc["article"]) + "\n\n"
    *others, last = _problems(doc)
    for problem in others:
        answer = problem["options"]["ABCD".index(problem["answer"])]
        if problem["question"][-6:] == "  _  .":
            text += f"{problem['question'][:-5]}{answer}\n"
        else:
            text += f"Question: {problem['question']}\nAnswer: {answer}\n"
    return text + str(last["question"])


def race_choices(doc: Doc) -> list[str]:
    """The four options of the last question."""
    return list(_problems(doc)[-1]["options"])


def race_target(doc: Doc) -> int:
    """The right one of them."""
    return "ABCD".index(_problems(doc)[-1]["answer"])
