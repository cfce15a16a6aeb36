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
