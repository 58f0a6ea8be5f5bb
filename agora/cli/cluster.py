"""`agora cluster`: plan a training machine before it is bought - layout, time, memory, failures, megawatts, money."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agora.cli.output import JsonOption, Overrides, check_targets, emit, next_command
from agora.errors import UsageError

app = typer.Typer(
    help="Plan a training machine: layout, days, failures, megawatts, money.\n\n"
    "Example: agora cluster plan Llama-3-405B accelerator=H100 num_accelerators=16384 tokens=15.6e12",
    no_args_is_help=True,
)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL] [KEY=VALUE]...", help="A known model, then settings as key=value.", show_default=False),
]
Question = Annotated[str | None, typer.Option(help="Start from a ready question (agora cluster known lists them).", show_default=False)]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="Constants fitted by agora cluster calibrate.", show_default=False)
]


_OF_A_MODEL = ("model=", "model.", "shape.", "layout.", "tokens=")


@app.command()
def plan(
    words: Words = None,
    question: Question = None,
    calibration: CalibrationFile = None,
    explain: Annotated[bool, typer.Option("--explain", help="Name the assumption behind every number.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.", show_default=False)] = None,
    trace: Annotated[Path | None, typer.Option(help="Also write one step as a Chrome/Perfetto trace.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the fastest layout that fits, and what the run takes: time, memory, failures, power, money, carbon.

    Example: agora cluster plan Llama-3-405B accelerator=H100 num_accelerators=16384 tokens=15.6e12
    """
    from agora.cluster.describe import plan_table
    from agora.cluster.explain import assumptions
    from agora.cluster.plan import plan as make_plan
    from agora.cluster.requests import request_from_words

    check_targets(report, trace)
    found = make_plan(request_from_words(words or [], question=question, calibration=calibration))
    table = plan_table(found)
    if explain:
        table["assumptions"] = assumptions(found)
    _emit_plan(table, as_json)
    if report is not None:
        from agora.cluster.report import plan_report
        from agora.files import write_atomically

        write_atomically(report, plan_report(found))
    if trace is not None:
        import json

        from agora.cluster.trace import step_trace
        from agora.files import write_atomically

        write_atomically(trace, json.dumps(step_trace(found)))
    others = [name for name in ("H100", "B200") if name != found.chip.name]
    next_command(_again("compare", words, question) + "".join(f" --on {name}" for name in (found.chip.name, others[-1])))


def _again(verb: str, words: list[str] | None, question: str | None) -> str:
    """The next command, with the words of this question."""
    return " ".join(["agora cluster", verb, *(words or []), *(["--question", question] if question else [])])


def _emit_plan(table: dict[str, Any], as_json: bool) -> None:
    """Words first for people; JSON as it is."""
    if as_json:
        emit(table, as_json=True)
        return
    for line in table.pop("in_words"):
        print(line)
    not_covered = table.pop("not_covered")
    reasons = table.pop("assumptions", None)
    emit(table, as_json=False, title="plan")
    for name, lines in (reasons or {}).items():
        print(f"{name}:")
        for line in lines:
            print(f"  {line}")
    print("not covered: " + "; ".join(not_covered))


@app.command()
def compare(
    words: Words = None,
    question: Question = None,
    calibration: CalibrationFile = None,
    on: Annotated[list[str] | None, typer.Option("--on", help="An accelerator to compare (repeat).", show_default=False)] = None,
    number: Annotated[list[int] | None, typer.Option("--number", help="A number of accelerators (repeat).", show_default=False)] = None,
    power_cap: Annotated[list[float] | None, typer.Option("--power-cap", help="A share of TDP (repeat).", show_default=False)] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also write days, cost and power against the number as a page.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put the same run on other accelerators, numbers or power caps; marks what no other option beats in time, cost and energy.

    Example: agora cluster compare Llama-3-70B tokens=15e12 --on H100 --on B200 --number 8192 --number 16384
    """
    from agora.cluster.requests import request_from_words
    from agora.cluster.studies import compare as compare_options

    check_targets(plot)
    request = request_from_words(words or [], question=question, calibration=calibration)
    found = compare_options(request, accelerators=on or (), numbers=number or (), power_caps=power_cap or ())
    _emit_options(found, as_json)
    if plot is not None:
        from agora.cluster.report import curves
        from agora.files import write_atomically

        _, charts = curves(request)
        write_atomically(plot, f"<!doctype html><meta charset='utf-8'><title>curves</title>{charts}")
    next_command(_again("what-if", words, question))


def _emit_options(found: Any, as_json: bool) -> None:
    from agora.cluster.describe import short_row
    from agora.cluster.studies import pareto

    best = {option.label for option in pareto(found)}
    rows = {
        option.label: {**short_row(option.plan), "is_unbeaten": option.label in best} if option.plan else {"impossible": option.reason}
        for option in found
    }
    emit(rows, as_json=as_json, keys_are_data=True)


@app.command("what-if")
def what_if(words: Words = None, question: Question = None, calibration: CalibrationFile = None, as_json: JsonOption = False) -> None:
    """Ask the usual questions: twice the machine, half of it, a power cap, a thin network, longer sequences, 8-bit products.

    Example: agora cluster what-if --question llama-405b
    """
    from agora.cluster.requests import request_from_words
    from agora.cluster.studies import what_ifs

    _emit_options(what_ifs(request_from_words(words or [], question=question, calibration=calibration)), as_json)
    next_command(_again("grow", words, question))


@app.command()
def grow(
    words: Words = None,
    question: Question = None,
    calibration: CalibrationFile = None,
    to: Annotated[int, typer.Option("--to", help="Accelerators of the larger machine.", min=1)] = 100_352,
    as_json: JsonOption = False,
) -> None:
    """Say how much of today's layout and batch survives a larger machine.

    Example: agora cluster grow --question h100-10k --to 102400
    """
    from agora.cluster.describe import short_row
    from agora.cluster.requests import request_from_words
    from agora.cluster.studies import grow as grow_to

    request = request_from_words(words or [], question=question, calibration=calibration)
    if to <= request.num_accelerators:
        raise UsageError(f"--to {to} is no larger machine than today's {request.num_accelerators}; name more accelerators")
    found = grow_to(request, to)
    result = {
        "today": short_row(found.today),
        "same_layout_more_replicas": short_row(found.kept) if found.kept else {"impossible": found.reason},
        "best_then": short_row(found.best),
        "survives": found.survives,
        "network": found.network,
        "batch_grows_by": found.batch_factor,
    }
    emit(result, as_json=as_json)
    next_command(_again("plan", [*(words or []), f"num_accelerators={to}"], question))


@app.command()
def afford(
    words: Overrides = None,
    days: Annotated[float, typer.Option("--days", help="Days that the machine is yours.", min=0.01)] = 90.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a machine can train in a time: compute, and the size and tokens that published scaling laws recommend.

    Example: agora cluster afford accelerator=H100 num_accelerators=10000 --days 90
    """
    from agora.cluster.requests import request_from_words
    from agora.cluster.studies import affordable

    if unused := [word for word in words or [] if "=" not in word or word.startswith(_OF_A_MODEL)]:
        raise UsageError(f"{unused[0]!r} says what is trained, and that is what afford answers; give the machine alone")
    found = affordable(request_from_words(words or []), days)
    sizes = {str(size.pop("fit")): size for size in found.sizes}
    emit({"flops": found.flops, "share_of_peak": found.model_flops_share, "sizes": sizes}, as_json=as_json)
    next_command(_again("plan", words, None))


@app.command()
def calibrate(
    steps: Annotated[Path, typer.Argument(metavar="STEPS", help="CSV of measured steps, in the columns of docs/cluster.md.")],
    out: Annotated[Path, typer.Option(help="File to write the constants to.")] = Path("calibration.json"),
    as_json: JsonOption = False,
) -> None:
    """Fit the constants of the step-time model to your own measured steps (5 to 50 are enough).

    Example: agora cluster calibrate steps.csv --out mine.json
    """
    from agora.cluster.calibrate import calibrate as fit
    from agora.cluster.calibrate import save_calibration
    from agora.cluster.constants import as_mapping
    from agora.cluster.runs import read_runs

    check_targets(out)
    found = fit(read_runs(steps))
    save_calibration(found, out)
    result = {
        "rows": found.num_rows,
        "median_error_of_left_out_rows": found.median_error,
        "interval_80_percent": [found.intervals["model"][0].low, found.intervals["model"][0].high],
        "constants": dict(as_mapping(found.constants)),
        "file": str(out),
    }
    emit(result, as_json=as_json)
    next_command(f"agora cluster plan --calibration {out}")


@app.command()
def validate(
    runs: Annotated[Path | None, typer.Argument(metavar="[RUNS]", help="CSV of measured runs; default: known history.")] = None,
    calibration: CalibrationFile = None,
    median: Annotated[float, typer.Option(help="Bound on the median error of the runs.", min=0)] = 0.08,
    p90: Annotated[float, typer.Option(help="Bound on the 90th percentile of errors.", min=0)] = 0.25,
    as_json: JsonOption = False,
) -> None:
    """Print predicted beside published, row by row; exit 1 when a stated bound is exceeded.

    Example: agora cluster validate
    """
    from agora.cluster.calibrate import default_calibration, load_calibration
    from agora.cluster.runs import read_usable_runs
    from agora.cluster.validate import compare_runs, history

    chosen = default_calibration() if calibration is None else load_calibration(calibration)
    if runs is None:
        checks = history(chosen)
        rows = {
            check.name: {
                "predicted": check.predicted,
                "published": check.published,
                "unit": check.unit,
                "holds": check.holds,
                "is_judged": check.is_bar,
                "assumption": check.assumption,
            }
            for check in checks
        }
        emit(rows, as_json=as_json, keys_are_data=True)
        holds = all(check.holds for check in checks if check.is_bar)
    else:
        usable, unusable = read_usable_runs(runs)
        found = compare_runs(usable, chosen)
        holds = found.median_error <= median and found.p90_error <= p90
        summary = {
            "median_error": found.median_error,
            "p90_error": found.p90_error,
            "inside_80_percent_interval": found.inside_interval,
            "holds": holds,
        }
        emit(
            {**{str(row.pop("run_id")): row for row in found.rows}, "all": {**summary, "unusable": unusable}},
            as_json=as_json,
            keys_are_data=True,
        )
    next_command("agora cluster calibrate STEPS.csv")
    if not holds:
        raise typer.Exit(1)


@app.command()
def known(
    accelerator: Annotated[
        str | None, typer.Option(help="Show every figure of one accelerator with its source.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the accelerators, networks, models and ready questions that plans can name.

    Example: agora cluster known --accelerator GB200
    """
    from agora.cluster.accelerator import accelerator as accelerator_table
    from agora.cluster.facts import load_tables
    from agora.cluster.models import model_names
    from agora.cluster.questions import QUESTIONS

    if accelerator is not None:
        table = accelerator_table(accelerator)
        emit({name: fact.describe() for name, fact in table.facts.items()}, as_json=as_json, title=table.name)
    else:
        result = {
            "accelerators": {name: table.words["label"] for name, table in load_tables("accelerators").items()},
            "networks": {name: table.words["label"] for name, table in load_tables("networks").items()},
            "models": model_names(),
            "questions": {name: (make.__doc__ or "").strip() for name, make in QUESTIONS.items()},
        }
        emit(result, as_json=as_json)
    next_command("agora cluster plan --question llama-405b")
