import time

import pyarrow as pa
import pytest

from data_prep.pii import mask_texts


def mask(text: str, kind: str) -> tuple[str, int]:
    texts, count = mask_texts(pa.array(["nothing here", text], pa.large_string()), kind, f"<{kind.upper()}>")
    assert texts[0].as_py() == "nothing here"
    return texts[1].as_py(), count


@pytest.mark.parametrize(
    ("text", "masked", "count"),
    [
        ("Write to jane.doe+x@mail.example.co.uk.", "Write to <EMAIL>.", 1),
        ("<a@b.de>,c_d@e-f.org", "<<EMAIL>>,<EMAIL>", 2),
        ("an @mention, user@localhost, a @ b.com, x@y@z.com", "an @mention, user@localhost, a @ b.com, x@y@z.com", 0),
    ],
)
def test_email(text: str, masked: str, count: int) -> None:
    assert mask(text, "email") == (masked, count)


@pytest.mark.parametrize(
    ("text", "masked", "count"),
    [
        ("from 192.168.0.1:80, 8.8.8.8.", "from <IP>:80, <IP>.", 2),
        ("[2001:db8::8a2e:370:7334] and ::ffff:1", "[<IP>] and <IP>", 2),
        ("1.2.3 12.34.56.789 1.2.3.4.5 v1.2.3.4a", "1.2.3 12.34.56.789 1.2.3.4.5 v1.2.3.4a", 0),
        ("at 12:34:56 std::vector a::b :: 10:20", "at 12:34:56 std::vector a::b :: 10:20", 0),
    ],
)
def test_ip(text: str, masked: str, count: int) -> None:
    assert mask(text, "ip") == (masked, count)


@pytest.mark.parametrize("text", ["a" * 200_000 + "@b", "a." * 100_000 + "@", "1:" * 100_000, "1." * 100_000])
def test_long_runs_cost_no_more_than_their_length(text: str) -> None:
    start = time.process_time()
    for kind in ("email", "ip"):
        mask(text, kind)
    assert time.process_time() - start < 20
