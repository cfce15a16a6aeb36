"""Choices from pieces: log-probabilities stand beside their text, streamed or not, cut or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import Tokenizer
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Score
from megatron_nlg.generation.sequence import Piece, Sequence
from megatron_nlg.generation.text import UNFINISHED
from megatron_nlg.serving.choice import Choice
from megatron_nlg.serving.protocol import Prompt
from tests.megatron_nlg.serving.model import tokenizer

WORDS: Tokenizer = tokenizer()
IDS = st.lists(st.integers(0, WORDS.vocab_size - 1), min_size=1, max_size=12)


def pieces(tokens: list[int], stop: tuple[str, ...]) -> list[Piece]:
    """As the model gives them: each token with a log-probability of its own, beside token 65."""
    text = Sequence(0, [1], Sampling(max_tokens=len(tokens), stop=stop, logprobs=1), WORDS, None)
    found = []
    for number, token in enumerate(tokens):
        found.append(text.add([token, -float(number) - 1, 65, -0.5]))
        if found[-1].result:
            break
    return found


@given(IDS, st.sampled_from([(), ("a",), ("\n", "th")]), st.booleans())
def test_offsets_are_where_the_tokens_are(tokens: list[int], stop: tuple[str, ...], echo: bool) -> None:
    choice = Choice(Prompt("A – b", WORDS.encode("A – b")), WORDS, echo, True)
    text, names, offsets, values = choice.head(None)[0], [], [], []
    for piece in (every := pieces(tokens, stop)):
        new, found = choice.take(piece)
        text += new
        assert found and len({*map(len, found.values())}) == 1
        names += found["tokens"]
        offsets += found["text_offset"]
        values += found["token_logprobs"]
    result = every[-1].result
    assert result and text == choice.text == ("A – b" if echo else "") + result.text
    assert choice.finish_reason == result.finish_reason and choice.completion_tokens == len(every)
    assert values == [piece.logprob.logprob for piece in every if piece.logprob][: len(values)]
    assert offsets == sorted(offsets)
    cut = result.finish_reason == "stop" and every[-1].token != WORDS.eod
    if not cut:
        assert len(names) == len(every)
    elif offsets:
        assert offsets[-1] < len(text)
    if not echo and UNFINISHED not in text:  # broken bytes come out with what follows them
        for name, start in zip(names, offsets, strict=True):
            whole = not name.startswith("token_id:") and name != "<|endoftext|>"
            assert not whole or name.startswith(text[start : start + len(name)])


def test_the_echo_is_scored() -> None:
    ids = WORDS.encode("The dog")
    choice = Choice(Prompt(None, ids), WORDS, True, True)
    score = Score(0, [-float(i) for i in range(len(ids))], [False] * len(ids), [{70: -0.1, 71: -0.2}] * len(ids))
    text, found = choice.head(score)
    assert text == "The dog" and found
    assert "".join(found["tokens"]) == text
    assert found["token_logprobs"] == [None, *score.logprobs[:-1]]
    assert found["top_logprobs"][0] is None and found["top_logprobs"][1][found["tokens"][1]] == -0.0
    assert len(found["top_logprobs"][1]) == 3


def test_an_empty_prompt_shows_nothing() -> None:
    choice = Choice(Prompt("", [WORDS.eod]), WORDS, True, True)
    text, found = choice.head(Score(0, [-1.0], [True], [{70: -1.0}]))
    assert text == "" and found == {
        "tokens": ["<|endoftext|>"],
        "token_logprobs": [None],
        "top_logprobs": [None],
        "text_offset": [0],
    }
