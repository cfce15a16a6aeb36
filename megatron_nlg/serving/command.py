"""`megatron-nlg serve`: a run's model as an OpenAI-compatible endpoint."""

from __future__ import annotations

import argparse
import signal
import tempfile
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.command import ONE_RANK
from megatron_nlg.serving.address import listen
from megatron_nlg.serving.settings import TOKEN_VARIABLE, Settings, read_token

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.supervisor import Terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout to serve in, as parallel.tensor=2")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; not this machine's own: with a token"
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any free one")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"clients must show what it holds; or set {TOKEN_VARIABLE}"
    )
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the newest)")
    parser.add_argument("--model-name", metavar="NAME", help="as clients name it (default: the run folder's name)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="texts at once (default: 16)")
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="tokens of prompt and completion (default: the model's sequence)"
    )
    parser.add_argument(
        "--max-requests", type=int, default=64, metavar="N", help="in hand at once, the rest get 429 (default: 64)"
    )
    parser.add_argument("--max-texts", type=int, default=128, metavar="N", help="prompts × n a request (default: 128)")
    parser.add_argument("--max-logprobs", type=int, default=20, metavar="N", help="logprobs a request (default: 20)")
    parser.add_argument("--max-body-kib", type=int, default=4096, metavar="N", help="of a request (default: 4096)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds that an answer may take (default: 600)"
    )
    parser.add_argument(
        "--read-timeout", type=float, default=10.0, metavar="S", help="seconds to send a request (default: 10)"
    )
    parser.add_argument("--quiet", action="store_true", help="no line a request on standard error")
    parser.epilog = (
        "SIGTERM and Ctrl-C end it when all requests in hand are answered, a second one at once (exit code 3)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)}: not installed; install megatron_nlg[serve]")
    if not (args.run / "config.yaml").is_file():
        raise InputError(f"{args.run}: has no config.yaml; name the folder of a run")
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.parallel import supervisor

    config = load_config(args.run / "config.yaml", [*ONE_RANK, *args.overrides])
    settings = _settings(args, config)
    listen(settings.host, settings.port).close()  # rank 0 binds it; what is wrong with it is said before ranks start
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.serving import engine, server  # noqa: F401 - imported once, before ranks are forked

    run_tokenizer(config, args.run)
    ranks = supervisor.local_ranks(replica_ranks(config))
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        return supervisor.supervise(partial(serve, config, args.run, args.step, settings), Path(logs), ranks)


def _settings(args: argparse.Namespace, config: RunConfig) -> Settings:
    longest = config.model.sequence_length
    if args.max_length is not None and args.max_length > longest:
        what = f"the model's sequence (model.sequence_length) is {longest}; choose at most that"
        raise InputError(f"--max-length {args.max_length}: {what}")
    settings = Settings(
        name=args.model_name or args.run.resolve().name,
        host=args.host,
        port=args.port,
        token=read_token(args.token_file),
        batch_size=args.batch_size,
        length=longest if args.max_length is None else args.max_length,
        requests=args.max_requests,
        texts=args.max_texts,
        logprobs=args.max_logprobs,
        body_bytes=args.max_body_kib << 10,
        read_seconds=args.read_timeout,
        seconds=args.timeout,
        quiet=args.quiet,
    )
    settings.check()
    return settings


def serve(config: RunConfig, folder: Path, step: int | None, settings: Settings, terminal: Terminal) -> int:
    """Be one of the server's ranks."""
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.parallel.rendezvous import Rendezvous
    from megatron_nlg.parallel.supervisor import STOP_SIGNALS, STOPPED
    from megatron_nlg.serving.desk import Desk
    from megatron_nlg.serving.engine import Engine
    from megatron_nlg.serving.server import front

    tokenizer = run_tokenizer(config, folder)
    is_main = (Rendezvous.from_environment() or Rendezvous()).rank == 0
    desk = Desk(settings.requests) if is_main else None
    with front(config, settings, tokenizer, desk, terminal) if desk else nullcontext("") as address:
        generator = Generator(config, folder, tokenizer, step)
        for problem in generator.damaged if desk else ():
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
        engine = Engine(generator, settings, desk)
        for number in STOP_SIGNALS:  # the other ranks hear of it from the first
            signal.signal(number, (lambda got, frame: desk.signal()) if desk else signal.SIG_IGN)
        if desk:
            desk.ready = True
            what = f"{settings.name}, step {generator.progress.step}, at {address}/v1; Ctrl-C ends it"
            print(what, file=terminal.out, flush=True)
        engine.run()
    generator.context.barrier()
    generator.context.destroy()
    return STOPPED if desk and desk.cut_off else 0
