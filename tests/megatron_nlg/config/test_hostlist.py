"""SLURM's host lists, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.config.hostlist import compact, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node1", ["node1"]),
        ("n[1-3,7]", ["n1", "n2", "n3", "n7"]),
        ("m[09-10]x[1-2]", ["m09x1", "m09x2", "m10x1", "m10x2"]),
        ("a,b[1-2]-ib, c", ["a", "b1-ib", "b2-ib", "c"]),
        ("[1101-1102]", ["1101", "1102"]),
        ("", []),
        ("(null)", []),
    ],
)
def test_expands_as_slurm_does(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text", ["n[1-3", "n1-3]", "n[[1]]", "n[3-1]", "n[a]", "n[]", "n1,,n2", "n 1", "n[1-999999999]"]
)
def test_what_is_no_host_list_says_what_was_found(text: str) -> None:
    with pytest.raises(InputError, match="host list"):
        expand(text)


def test_compacts_runs_in_their_order() -> None:
    assert compact(["n1", "n2", "n3", "n07", "n08", "n09", "n10", "x", "n4"]) == "n[1-3,07-10],x,n4"
    assert compact(["r1-gpu", "r2-gpu", "r4-gpu"]) == "r[1-2,4]-gpu"
    with pytest.raises(InputError):
        compact(["a,b"])


NAMES = st.text(st.characters(exclude_characters="[],", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
NUMBERED = st.builds(
    "{}{}{}".format, st.sampled_from(["n", "gpu-", ""]), st.integers(0, 1200), st.sampled_from(["", "x"])
)


@given(st.lists(NAMES | NUMBERED, max_size=30))
def test_what_was_compacted_expands_to_the_same(names: list[str]) -> None:
    assert expand(compact(names)) == names


@given(st.text(st.sampled_from("n[]-,019 x"), max_size=20))
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        names = expand(text)
    except InputError:
        return
    assert all(name and not set(name) & set("[], ") for name in names)
