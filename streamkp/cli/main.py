"""The commands. Each does one thing with the library and says what happened in words."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import streamkp
from streamkp.cli import logs
from streamkp.cli.actions import actions_app
from streamkp.cli.bench import bench_app
from streamkp.cli.cameras import cameras
from streamkp.cli.ctl import ctl_app, top
from streamkp.cli.doctor import doctor
from streamkp.cli.eval import eval_app
from streamkp.cli.exercises import exercises_app
from streamkp.cli.fleet import fleet_app
from streamkp.cli.gestures import gestures_app
from streamkp.cli.graph import graph_app
from streamkp.cli.infer import infer
from streamkp.cli.listen import listen
from streamkp.cli.models import models_app
from streamkp.cli.new import new_app
from streamkp.cli.node import node
from streamkp.cli.output import ReaderGone, checked_output, errors_console
from streamkp.cli.probe import probe
from streamkp.cli.run import run
from streamkp.cli.samples import samples_app
from streamkp.cli.schema import schema
from streamkp.cli.stages import stages
from streamkp.cli.view import view
from streamkp.errors import StreamkpError
from streamkp.uris import mask

EXIT_CODES = """
Exit codes: 0 done; 1 other error; 2 wrong graph, option or set-up; 3 a video source failed; 4 a model is unknown or
cannot be fetched; 5 a result could not be written or published; 130 and 143 interrupted before the end.
"""


class _Commands(TyperGroup):
    """The commands; what is wrong with the arguments is told with their credentials hidden."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; ends with `SystemExit`, or returns the exit code if not `standalone_mode`."""
        standalone = extra.pop("standalone_mode", True)
        extra["standalone_mode"] = False
        try:
            done = super().main(*args, **extra)
            code = done if isinstance(done, int) else 0
        except StreamkpError:
            raise
        except Exception as error:
            if not (hasattr(error, "show") and hasattr(error, "exit_code")):  # click's own, or typer's copy of it
                raise
            if isinstance(message := getattr(error, "message", None), str):
                error.message = mask(message)  # type: ignore[attr-defined]
            error.show()
            code = int(error.exit_code)
        if standalone:
            sys.exit(code)
        return code


app = typer.Typer(
    name="streamkp",
    cls=_Commands,
    help="Live video into human keypoints, 2D and 3D, for many cameras at once.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a help text may hold [brackets]
    pretty_exceptions_enable=False,
)

app.command()(run)
app.command()(infer)
app.add_typer(graph_app, name="graph")
app.add_typer(ctl_app, name="ctl")
app.command()(top)
app.add_typer(models_app, name="models")
app.add_typer(samples_app, name="samples")
app.command()(stages)
app.command()(cameras)
app.command()(probe)
app.command()(doctor)
app.command()(listen)
app.command()(view)
app.command()(schema)
app.command()(node)
app.add_typer(fleet_app, name="fleet")
app.add_typer(bench_app, name="bench")
app.add_typer(eval_app, name="eval")
app.add_typer(exercises_app, name="exercises")
app.add_typer(actions_app, name="actions")
app.add_typer(new_app, name="new")
app.add_typer(gestures_app, name="gestures")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(streamkp.__version__)
        raise typer.Exit


@app.callback()
def common(
    log_level: Annotated[
        str, typer.Option(envvar="STREAMKP_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "warning",
    log_format: Annotated[
        str, typer.Option(envvar="STREAMKP_LOG_FORMAT", help="text, or json: one object a line on standard error.")
    ] = "text",
    version: Annotated[
        bool,  # eager: before the parser misses a command
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options of every command."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"{log_level} is not a log level", param_hint="--log-level")
    if log_format not in logs.FORMATS:
        raise typer.BadParameter(f"{log_format} is not text or json", param_hint="--log-format")
    logs.configure(level, "json" if log_format == "json" else "text")


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that nothing on the way takes it for a failure of its own."""


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def main() -> None:
    """The program `streamkp`: runs a command, and turns errors into one message and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.exit(_run())


def _run() -> int:
    try:
        with checked_output():
            app()
            return 0
    except ReaderGone:
        return 0
    except StreamkpError as error:
        return _complain(str(error), error.exit_code)
    except Interrupted as interrupted:
        print("streamkp: interrupted", file=sys.stderr)
        return 128 + int(interrupted.args[0])
    except Exception:
        # A defect of ours; also its traceback may hold an address with a password.
        return _complain(f"this should not have happened\n{traceback.format_exc()}", 1)


def _complain(text: str, code: int) -> int:
    if logs.is_json():
        logging.getLogger("streamkp").critical("%s", text)
        return code
    errors_console().print(f"streamkp: {mask(text)}", style="red", markup=False, highlight=False)
    return code
