"""Tasks on the sets of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.harness import Source, build_task, own_tasks
from tests.megatron_nlg.evaluation.sets import write_sets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def first(data: Path, name: str, shots: int = 0) -> list[tuple[str, str]]:
    task = build_task(name, shots, Source(data))
    task.build_all_requests(limit=1)
    return [instance.args for instance in task.instances]


def test_prompts(data: Path) -> None:
    said = "Ada saw the red boat and told Ben of it in 0"
    wanted = {
        "lambada": (f"{said}. It was the red", [" boat"]),
        "lambada_cloze": (f"{said}. It was the red ____. ->", [" boat"]),
        "race_h": (
            f"Article: {said}\n\nQuestion: Who saw it?\nAnswer: Ada\nAda told  _  .",
            [" Cleo", " Dan", " Eve", " Finn"],
        ),
        "boolq": (f"{said}\nQuestion: was it seen?\nAnswer:", [" no", " yes"]),
        "piqa": ("Question: see the red boat valid\nAnswer:", [" go to Ada", " ask Ada and wait for the answer"]),
        "hellaswag": (f"Seeing: {said}. She", [f"  takes {thing} home." for thing in ("the red boat", "an old lamp")]),
        "anli_r2": (
            f"{said}\nQuestion: the red boat was seen True, False, or Neither?\nAnswer:",
            [" True", " Neither", " False"],
        ),
        "hans": (f'{said} .\nQuestion: It said " {said} . True or False?\nAnswer:', [" True", " False"]),
    }
    for name, (context, choices) in wanted.items():
        asked = first(data, name)
        assert {each[0] for each in asked} == {context}
        assert [each[1] for each in asked][: len(choices)] == choices, name
    assert first(data, "winogrande") == [
        (f"Ada told Ben as {option}", " had seen the red boat.") for option in ("Ada", "Ben")
    ]
    assert first(data, "wic")[0][0].endswith(
        "Question: Is the word 'saw' used in the same way in the two sentences above?\nAnswer:"
    )
    assert set(own_tasks()) == {*wanted, "winogrande", "wic"}


def test_a_question_is_not_its_own_example(data: Path) -> None:
    [(context, word)] = first(data, "lambada", 5)  # of six
    shown = context.split("\n\n")
    assert len(set(shown)) == 6 and shown[-1] + word not in shown[:-1]
    [(context, _)] = first(data, "lambada_cloze", 1)
    assert context.count("____. -> ") == 1 and context.endswith("____. ->")  # no double space before the answer
    with pytest.raises(InputError, match="6 examples for lambada, and there are 5; ask for fewer"):
        build_task("lambada", 6, Source(data))


def test_a_sample_has_every_label(tmp_path: Path) -> None:
    data = write_sets(tmp_path, rows=40)
    rows = (data / "boolq" / "val.jsonl").read_text().splitlines()
    (data / "boolq" / "val.jsonl").write_text("\n".join(sorted(rows, key=lambda row: "true" in row)) + "\n")
    labels = {
        shuffled: [doc["label"] for doc in build_task("boolq", 0, Source(data, shuffled=shuffled)).task_docs.to_list()]
        for shuffled in (False, True)
    }
    assert set(labels[False][:12]) == {0} and set(labels[True][:12]) == {0, 1}
    assert sorted(labels[False]) == sorted(labels[True])
