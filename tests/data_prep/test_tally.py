from data_prep.tally import Tally


def test_sum_adds_documents_bytes_and_reasons() -> None:
    a, b = Tally(), Tally()
    a.keep(10, 8)
    a.drop("short", 2)
    b.drop("short", 3)
    b.drop("empty", 1)
    assert Tally.sum([a.as_json(), b.as_json()]) == {
        "documents_in": 4,
        "bytes_in": 16,
        "documents_out": 1,
        "bytes_out": 8,
        "dropped": {"empty": {"documents": 1, "bytes": 1}, "short": {"documents": 2, "bytes": 5}},
    }
    assert Tally.sum([])["documents_in"] == 0


def test_a_document_that_goes_on_as_several() -> None:
    tally = Tally()
    tally.cut(100, [30, 40])
    tally.cut(50, [20])
    assert tally.as_json() | {"dropped": 0} == {
        "documents_in": 2, "bytes_in": 150, "documents_out": 3, "bytes_out": 90, "dropped": 0
    }  # fmt: skip
