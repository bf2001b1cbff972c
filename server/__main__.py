"""The `esc-skills` command. Imports are made where they are used: `serve` must answer within a second."""

import gc
import json
import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from ..skills_bank.select import Selector
    from ..skills_bank.settings import Settings

LAZY = {
    "bank": ("esc_skills.server.cli_bank", "Versions of the bank: validate, history, diff, rollback."),
    "corpus": ("esc_skills.pipeline.cli", "Fetch and check dialogue corpora."),
    "build": ("esc_skills.pipeline.cli", "From labelled dialogues to situations, dossiers and evidence."),
    "eval": ("esc_skills.pipeline.cli_eval", "Measure what is shipped; the figures of docs/."),
    "fit": ("esc_skills.pipeline.cli_eval", "Fit what selection knows, on train + failed."),
    "train": ("esc_skills.pipeline.cli_eval", "Train the encoder."),
    "profiles": ("esc_skills.simulator.cli", "Profiles of simulated seekers: compose, check, show, report."),
    "simulate": ("esc_skills.simulator.cli_simulate", "Talks between a support agent and simulated seekers."),
    "replay": ("esc_skills.simulator.cli_simulate", "Show one simulated talk turn by turn."),
    "compare": ("esc_skills.simulator.cli_simulate", "Compare two simulation runs talk by talk."),
    "sage": ("esc_skills.simulator.cli", "Recorded SAGE runs: replay them and count their figures."),
    "evolve": ("esc_skills.evolve.cli", "The bank refines itself on simulated talks, and proves it."),
    "simulator": ("esc_skills.simulator.cli_seeker", "The local seeker: fit, calibrate, measure."),
}
"""Sub-commands by the module that holds them; its attribute `<name>_app`, or `app`, is loaded when one is called."""


class LazyGroup(TyperGroup):
    """A group that imports the modules of `LAZY` only when their command is called or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all commands, the lazy ones last."""
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, importing its module if need be."""
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module_name, help_text = LAZY[cmd_name]
        module = import_module(module_name)
        app = getattr(module, f"{cmd_name}_app", None) or module.app
        command = get_command(app)
        command.name, command.help = cmd_name, command.help or help_text
        return command


app = typer.Typer(
    cls=LazyGroup,
    help="Emotional-support skills, served over MCP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Text = Annotated[str, typer.Argument(help="What the seeker says, or '-' to read it (or JSON messages) from stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command()
def serve(
    transport: Annotated[str, typer.Option(help="'stdio' (a host starts the server) or 'http'.")] = "stdio",
    host: Annotated[
        str | None, typer.Option(help="Address for http (ESC_HOST, 127.0.0.1); any but loopback needs ESC_TOKEN.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port for http (ESC_PORT, 8765).")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Host name clients may use in their Host header; repeat for more.")
    ] = None,
    watch: Annotated[bool | None, typer.Option(help="Follow edits of the bank on disk (ESC_WATCH, yes).")] = None,
) -> None:
    """Serve the bank over MCP."""
    if transport not in {"stdio", "http"}:
        raise typer.BadParameter(f"{transport!r} is no transport; use 'stdio' or 'http'.", param_hint="--transport")
    _one_thread_each()
    gc.disable()  # what is imported and loaded stays; looking through it for garbage again and again costs 0.3 s
    from .app import create_server
    from .loader import BankLoader
    from .watch import LiveBank

    settings = _settings()
    _log_to_stderr(settings.log_level)
    live = LiveBank(
        BankLoader(settings, write_table=True),
        watch=settings.watch if watch is None else watch,
        on_loaded=_collect_again,
    )
    mcp = create_server(live)
    if transport == "stdio":
        mcp.run("stdio", show_banner=False, log_level="WARNING")
        return
    from .http import HttpLimits, http_app, run_http

    host = host or settings.host
    token = settings.token.get_secret_value() if settings.token else None
    limits = HttpLimits(max_body_bytes=settings.max_request_bytes, requests_per_minute=settings.requests_per_minute)
    asgi = http_app(mcp, live, host=host, token=token, allowed_hosts=allow_host, limits=limits)
    run_http(asgi, host, settings.port if port is None else port, with_token=token is not None)


@app.command()
def select(
    text: Text,
    k: Annotated[int, typer.Option("-k", help="How many skills.")] = 3,
    state: Annotated[str | None, typer.Option(help="Your own reading of the state (a taxonomy id).")] = None,
    scenario: Annotated[str | None, typer.Option(help="Your own reading of the situation (a taxonomy id).")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose skills for one seeker line, or for a talk given as JSON on stdin."""
    from .terminal import console, show_selection, show_state

    answer = _selector().select(_messages(text), k=k, state=state, scenario=scenario)
    if as_json:
        typer.echo(answer.model_dump_json(indent=2))
        return
    out = console()
    if answer.risk.level != "high":
        show_state(out, answer)
    show_selection(out, answer, details=True)


@app.command()
def classify(text: Text, as_json: AsJson = False) -> None:
    """Read the state of one seeker line, or of a talk given as JSON on stdin."""
    from .terminal import console, show_crisis, show_state

    answer = _selector().classify(_messages(text))
    if as_json:
        typer.echo(answer.model_dump_json(indent=2))
        return
    out = console()
    show_state(out, answer)
    if answer.risk.level == "high":
        show_crisis(out, answer.risk)


@app.command()
def chat() -> None:
    """Type as a seeker; see state, risk, the chosen skill and the next actions at each turn."""
    from .chat import HELP, run
    from .terminal import console

    selector, out = _selector(), console()
    if sys.stdin.isatty():
        out.print(HELP, style="dim", markup=False)
        run(selector, out, _typed(out), echo=False)
    else:
        run(selector, out, sys.stdin, echo=True)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check the bank, the index, the encoder, the settings and the hosts; exit 1 when something is wrong."""
    from .doctor import examine
    from .terminal import console

    checks = examine(_settings())
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        typer.echo(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        out = console()
        for check in checks:
            style = {"ok": "green", "warn": "yellow", "fail": "red"}[check.status]
            out.print(f"[{style}]{check.status:>4}[/] {check.name}: ", end="")
            out.print(check.detail, markup=False)
    raise typer.Exit(1 if failed else 0)


@app.command()
def hosts() -> None:
    """Print the configuration blocks with which hosts start or reach this server."""
    from .hosts import instructions

    typer.echo(instructions("http://127.0.0.1:8765/mcp", with_token=False))


def main() -> None:
    """Run the command; errors meant for a person are printed without a traceback."""
    from ..skills_bank.errors import EscError

    try:
        app()
    except EscError as error:
        typer.echo(f"esc-skills: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _collect_again() -> None:
    """Switch the garbage collector on, for what comes from now on."""
    gc.freeze()
    gc.enable()


def _one_thread_each() -> None:
    """Keep numpy's BLAS to one thread: its products are small here, and threads that wait for each other cost more.

    Measured at 1,000 skills on two busy cores: 10 ms a selection instead of 36.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _settings() -> "Settings":
    from ..skills_bank.settings import Settings

    return Settings()


def _selector() -> "Selector":
    from .loader import BankLoader

    settings = _settings()
    _log_to_stderr("WARNING")
    view = BankLoader(settings).load(None)
    for problem in view.problems:
        typer.echo(f"esc-skills: {problem}", err=True)
    return view.selector


def _messages(text: str) -> Any:
    """Return the argument or, for '-', what stdin holds: JSON messages or one line of the seeker."""
    from ..skills_bank.errors import InputError

    if text != "-":
        return text
    source = sys.stdin.read()
    if not source.lstrip().startswith(("[", "{")):
        return source
    try:
        parsed = json.loads(source)
    except ValueError as error:
        raise InputError(
            f"stdin begins like JSON but is none ({error}). Pass a list of messages or plain text."
        ) from error
    return parsed["messages"] if isinstance(parsed, dict) and "messages" in parsed else parsed


def _typed(out: Any) -> Any:
    while True:
        try:
            yield out.input("[bold]>[/bold] ")
        except (EOFError, KeyboardInterrupt):
            return


def _log_to_stderr(level: str) -> None:
    """Log to stderr: on stdio, stdout belongs to the protocol. Nothing that is logged holds message text."""
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("esc_skills").setLevel(level)


if __name__ == "__main__":
    main()
