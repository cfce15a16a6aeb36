"""A run's model as lm-evaluation-harness asks for it, equal to its own HFLM on the same weights.

Ours are the order of the requests, what they share, and the ranks: the harness sees one process that has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.journal import Journal, key_of
from megatron_nlg.evaluation.ranks import Ranks
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Request

MAX_NEW_TOKENS = 256
"""Of generate_until, where the task says nothing; HFLM's."""

Advance = Callable[[int, int], None]
"""Told of (requests done, requests in all)."""


class ParallelLM(TemplateLM):  # type: ignore[misc] # lm_eval is untyped
    """log-likelihoods and texts for lm-evaluation-harness. Lives on rank 0."""

    def __init__(self, ranks: Ranks, checkpoint: str = "", journal: Journal | None = None):
        super().__init__()
        self.ranks, self.checkpoint, self.journal = ranks, checkpoint, journal
        self.advance: Advance | None = None
        self.tokens = ranks.generator.tokenizer
        self.max_length = ranks.generator.config.model.sequence_length
        self.cut = 0
        """Requests so far of which the beginning did not fit."""

    @property
    def eot_token_id(self) -> int:
        """The token that a text without context follows."""
        return self.tokens.eod

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text; special ones are never added."""
        return self.tokens.encode(string)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, whether it is what greedy decoding gives) of each request's continuation."""

        def compute(todo: list[Any], done: Callable[..., None]) -> None:
            pairs = self._encode_pairs([request.args for request in todo])
            for score in self.ranks.score(pairs):
                pair = pairs[score.index]
                cut = len(pair.context) + len(pair.continuation) > self.max_length + 1
                done(score.index, [score.total, all(score.greedy)], cut)

        return [(total, greedy) for total, greedy in self._answers("loglikelihood", requests, compute)]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """As the harness's own helpers call it."""
        answers: list[Any] = [None] * len(requests)
        for score in self.ranks.score([Request(context, rest) for _, context, rest in requests]):
            answers[score.index] = (score.total, all(score.greedy))
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each request's whole text, in windows that overlap as little as they can."""

        def compute(todo: list[Any], done: Callable[..., None]) -> None:
            windows, owners = [], []
            totals, left = [0.0] * len(todo), [0] * len(todo)
            for number, request in enumerate(todo):
                rolling = get_rolling_token_windows(
                    token_list=self.tokens.encode(request.args[0]),
                    prefix_token=self.eot_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                )
                for context, rest in map(make_disjoint_window, rolling):
                    windows.append(Request(context, rest))
                    owners.append(number)
                    left[number] += 1
                if not left[number]:  # an empty text
                    done(number, 0.0)
            for score in self.ranks.score(windows):
                owner = owners[score.index]
                totals[owner] += score.total
                left[owner] -= 1
                if not left[owner]:
                    done(owner, totals[owner])

        return list(self._answers("loglikelihood_rolling", requests, compute))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Continuation of each request's context, up to one of its stop sequences or the end of the document."""

        def compute(todo: list[Any], done: Callable[..., None]) -> None:
            prompts, how, cuts = [], [], []
            for number, request in enumerate(todo):
                context, settings = request.args
                sampling = self._sampling(settings, number)
                room = self.max_length - sampling.max_tokens
                if room < 1:
                    raise InputError(
                        f"task {request.task_name}: max_gen_toks {sampling.max_tokens} leaves no room for a context in "
                        f"the model's {self.max_length} tokens; ask for fewer"
                    )
                tokens = self.tokens.encode(context) or [self.eot_token_id]
                prompts.append(tokens[-room:])
                how.append(sampling)
                cuts.append(len(tokens) > room)
            for result in self.ranks.generate(prompts, how):
                done(result.index, result.text, cuts[result.index])

        return list(self._answers("generate_until", requests, compute))

    def _sampling(self, settings: dict[str, Any], number: int) -> Sampling:
        wanted = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        stop = handle_stop_sequences(wanted.get("until"), eos=self.tokens.decode([self.eot_token_id]))
        drawn = wanted.get("do_sample", False)
        return Sampling(
            temperature=float(wanted.get("temperature", 1.0)) if drawn else 0.0,
            top_p=float(wanted.get("top_p", 1.0)),
            top_k=int(wanted.get("top_k", 0)),
            max_tokens=int(wanted["max_gen_toks"]),
            stop=tuple(text for text in stop if text),
            seed=number,
        )

    # ---- answers ---------------------------------------------------------------------------------------------

    def _answers(
        self, kind: str, requests: list[Any], compute: Callable[[list[Any], Callable[..., None]], None]
    ) -> Any:
        """Answers in the order of the requests: those of the journal, and those that `compute` finds."""
        answers: list[Any] = [None] * len(requests)
        places: dict[str, list[int]] = {}  # equal requests are computed once, unless their answers are drawn
        for number, request in enumerate(requests):
            drawn = [number] if kind == "generate_until" and request.args[1].get("do_sample") else []
            places.setdefault(key_of(self.checkpoint, request.task_name, kind, [*request.args, *drawn]), []).append(
                number
            )
        count = 0

        def take(key: str, answer: Any, cut: bool) -> None:
            nonlocal count
            for number in places[key]:
                answers[number] = answer
            count, self.cut = count + len(places[key]), self.cut + cut * len(places[key])
            if self.advance:
                self.advance(count, len(requests))

        known = self.journal.answers if self.journal else {}
        todo = [key for key in places if key not in known]
        for key in places.keys() & known.keys():
            take(key, *known[key])

        def done(index: int, answer: Any, cut: bool = False) -> None:
            if self.journal:
                request = requests[places[todo[index]][0]]
                about = {"task": request.task_name, "kind": kind, "doc": request.doc_id, "choice": request.idx}
                self.journal.add(todo[index], [answer, cut], **about)
            take(todo[index], answer, cut)

        if todo:
            compute([requests[places[key][0]] for key in todo], done)
        return answers

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """As TemplateLM.loglikelihood encodes them, each text once and all in one call of the tokenizer."""
        split: list[tuple[str, str]] = []
        for context, rest in pairs:
            given = context.rstrip()
            split.append((given, context[len(given) :] + rest))
        wholes = [given + rest for given, rest in split]
        ids = self._encode_all({*wholes, *(given for given, _ in split)})
        requests = []
        for (given, rest), whole, (context, _) in zip(split, wholes, pairs, strict=True):
            before, tokens = ids[given], ids[whole]
            if not context:
                alone = tokens[:1] if tokens[:1] == [self.eot_token_id] else [self.eot_token_id]
                before, tokens = alone, tokens if tokens[:1] == alone else alone + tokens
            if len(tokens) - len(before) > self.max_length:
                raise InputError(
                    f"a continuation of {len(tokens) - len(before)} tokens ({rest[:40]!r}…) is longer than the model's "
                    f"sequence (model.sequence_length) {self.max_length}; leave that document out"
                )
            if not before:
                raise InputError(f"a context of spaces only precedes {rest[:40]!r}; leave that document out")
            requests.append(Request(before, tokens[len(before) :]))
        return requests

    def _encode_all(self, texts: Iterable[str]) -> dict[str, list[int]]:
        listed = list(texts)
        ids = self.tokens.encode_batch(pa.array(listed, pa.large_string())).lists()
        return dict(zip(listed, ids, strict=True))
