"""How many examples a prompt shows. No lm-evaluation-harness: the command checks its arguments with it."""

from __future__ import annotations

from megatron_nlg.config.errors import InputError

FEW = {
    "lambada": 15,
    "lambada_cloze": 15,
    "race_h": 10,
    "boolq": 32,
    "piqa": 50,
    "hellaswag": 20,
    "winogrande": 50,
    "anli_r2": 50,
    "hans": 32,
    "wic": 32,
}
"""GPT-3's number of few-shot examples (Brown et al. 2020, arXiv 2005.14165, appendix H, table H.1).

GPT-3 was not evaluated on HANS: it has that of the other questions with two answers, BoolQ and WiC.
"""
OTHERS = 10
"""For tasks that are not in the table."""


def parse_shots(text: str) -> list[int | None]:
    """`0,1,few` -> [0, 1, None], None being the task's own number. Raises InputError for anything else."""
    shots: list[int | None] = []
    for word in text.split(","):
        if word != "few" and not word.isdecimal():
            raise InputError(f"--shots {text}: {word!r} is neither a number nor `few`; as an example: 0,1,few")
        shots.append(None if word == "few" else int(word))
    if len(set(shots)) != len(shots):
        raise InputError(f"--shots {text}: names the same number twice; name it once")
    return shots


def count_of(task: str, shots: int | None) -> int:
    """Examples for a task."""
    return FEW.get(task, OTHERS) if shots is None else shots
