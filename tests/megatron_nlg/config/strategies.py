"""Hypothesis strategies for run configs that are valid by construction."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

small = st.integers(1, 4)
positive_float = st.floats(1e-9, 10, allow_nan=False)
fraction = st.floats(0, 1, allow_nan=False)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def sequence_warmups(quantum: int) -> st.SearchStrategy[dict[str, int]]:
    """Warm-ups of a sequence longer than `quantum`, by multiples of it."""
    multiples = st.integers(1, 9).map(lambda n: n * quantum)
    return st.fixed_dictionaries({"start": st.just(quantum), "multiple": multiples, "tokens": st.integers(1, 10**6)})


def stages(train_tokens: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Stages in their order, all within training."""
    mixture = st.fixed_dictionaries(
        {"weights": st.dictionaries(st.text(max_size=5), positive_float, min_size=1, max_size=2)},
        optional={"blend": st.text(max_size=9)},
    )
    begins = st.lists(st.integers(0, train_tokens - 1), unique=True, max_size=2).map(sorted)
    return begins.flatmap(
        lambda at: st.tuples(*[mixture] * len(at)).map(
            lambda ms: [{"from_tokens": begin, **m} for begin, m in zip(at, ms, strict=True)]
        )
    )


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A tree as YAML gives it, that `build` and `consistency` accept."""
    tensor, pipeline = draw(st.sampled_from([1, 2, 4])), draw(small)
    interleave = draw(small) if pipeline > 1 else 1
    context = draw(st.sampled_from([1, 2]))
    share = draw(small)
    heads, groups = tensor * share, tensor * draw(st.sampled_from([1, share]))
    head_size = draw(st.integers(1, 64))
    quantum = tensor * 2 * context
    sequence_length = quantum * draw(st.integers(1, 256))
    train_tokens = draw(st.integers(10, 10**12))
    start, increment, levels = draw(st.integers(1, 64)), draw(st.integers(1, 64)), draw(st.integers(0, 9))
    global_batch = start + increment * levels
    model = {
        "num_layers": pipeline * interleave * draw(small),
        "hidden_size": heads * head_size,
        "num_attention_heads": heads,
        "num_query_groups": draw(maybe(st.just(groups))),
        "activation": draw(st.sampled_from(["gelu", "gelu_tanh", "swiglu", "geglu"])),
        "normalization": draw(st.sampled_from(["layernorm", "rmsnorm"])),
        "bias": draw(st.booleans()),
        "position_embedding": draw(st.sampled_from(["learned", "rotary"])) if head_size > 1 else "learned",
        "sequence_length": sequence_length,
        "vocab_size": draw(st.integers(1, 60000)),
        "vocab_multiple": tensor * draw(st.integers(1, 64)),
        "ffn_hidden_size": draw(maybe(st.integers(1, 64).map(lambda n: n * tensor))),
        "dropout": draw(st.floats(0, 0.99)),
        "init_std": draw(maybe(positive_float)),
        "tie_embeddings": draw(st.booleans()),
    }
    # ffn 4 × hidden is divisible by tensor, as hidden is a multiple of heads.
    ramp = {
        "start": start,
        "increment": increment,
        "tokens": draw(st.integers(1, 10**10)),
        "rounding": draw(st.sampled_from(["error", "up"])),
    }
    first = draw(st.integers(1, 50))
    return {
        "model": model,
        "parallel": {
            "tensor": tensor,
            "pipeline": pipeline,
            "interleave": interleave,
            "context": context,
            "offload_optimizer": pipeline == 1 and draw(st.booleans()),
            "sequence": tensor > 1 and draw(st.booleans()),
            "zero_stage": draw(st.sampled_from([1, 2, 3])) if pipeline == 1 else 1,
            "recompute": draw(st.sampled_from(["none", "selective", "full"])),
        },
        "batch": {"micro": draw(small), "global": global_batch, "ramp": draw(maybe(st.just(ramp)))},
        "precision": draw(st.sampled_from(["fp32", "bf16", "fp16"])),
        "optimizer": {
            "lr": draw(positive_float),
            "beta2": draw(st.floats(0, 0.9999)),
            "weight_decay": draw(fraction),
            "clip_grad_norm": draw(fraction),
        },
        "schedule": {
            "train_tokens": train_tokens,
            "warmup_tokens": draw(st.integers(0, train_tokens)),
            "decay": draw(st.sampled_from(["constant", "linear", "cosine", "wsd"])),
            "min_lr_ratio": draw(fraction),
            "sequence_warmup": draw(maybe(sequence_warmups(quantum))) if sequence_length > quantum else None,
        },
        "data": {
            "blend": draw(maybe(st.text(max_size=20))),
            "split": [0.75, 0.25],
            "stages": draw(stages(train_tokens)),
            "validation": draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)),
            "reset_attention": draw(st.booleans()),
        },
        "log": {
            "wandb_project": draw(st.text(max_size=20) | st.sampled_from(["1e5", "5e-5", "null", "yes", "1:30", "~"])),
            "profile_steps": draw(maybe(st.just([first, first + draw(st.integers(0, 9))]))),
        },
        "seed": draw(st.integers(0, 2**31)),
    }
