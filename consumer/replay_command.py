"""``fraudstream replay``: history through the stream, the engine or the features."""

import argparse
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import orjson
from rich.console import Console

from consumer import configuration
from consumer.clock import SystemClock
from consumer.decode import DecodeRules
from consumer.errors import Unavailable
from consumer.garbage import calm_garbage_collector
from consumer.logs import configure
from consumer.masking import printable
from consumer.outside import build_source_bucket
from consumer.replay.arguments import Wishes, add_arguments, read_wishes
from consumer.replay.chunks import ChunkReader
from consumer.replay.dry_run import (
    Looked,
    describe_dry_run,
    dry_run_fields,
    is_good,
    try_events,
)
from consumer.replay.history import History, Survey
from consumer.replay.leftovers import clear, forget
from consumer.replay.mapping import EventForm
from consumer.replay.opening import HistoryRequest, open_history, read_request
from consumer.replay.pace import Pacer
from consumer.replay.progress import build_display, surveying
from consumer.replay.room import lacks_room, needing_room
from consumer.replay.run import Outcome, Parts, Replay, Snapshots
from consumer.replay.standing import build_identity, open_state, take_up
from consumer.replay.state import State, StatePlace, encode_state
from consumer.replay.summary import summary_fields, summary_lines
from consumer.replay.target_opening import Opening, on_scratch, open_target, patient
from consumer.replay.undecodable import Undecodable
from consumer.settings import Settings
from consumer.stop import Stop

__all__ = ["add_arguments", "run"]

_CHUNK = 1_000
_INTERRUPTED = 130
# A dry run reads files of so much in all, to count what cannot be mapped.
_READ_THROUGH_BYTES = 2_000_000_000


def run(arguments: argparse.Namespace) -> int:
    """
    Replay what is asked for; 130 when a signal ended it, with a state to resume from.

    Raises Misconfigured for arguments, settings and history that cannot be, and Unavailable.
    """
    settings = patient(configuration.load(arguments.config).settings)
    wishes = read_wishes(arguments)
    configure("warning", settings.logs.format)
    with ExitStack() as stack:
        if wishes.dry_run and not wishes.work.exists():
            stack.callback(forget, wishes.work)
        # Before all that writes, and so behind all that closes.
        stack.enter_context(needing_room(wishes.work))
        form = EventForm(settings.events.base_currency, settings.events.extra_fields)
        request = read_request(arguments, form)
        bucket = partial(build_source_bucket, settings)
        history = stack.enter_context(open_history(request, bucket, wishes.work / "history"))
        if wishes.dry_run:
            return _dry_run(history, wishes, settings, _rejects(request, wishes.work))
        # From here on a signal ends the replay at a place from which it can go on.
        stop = stack.enter_context(Stop())
        session = _Session(settings, wishes, history, stop)
        code = session.run(request, stack)
    if code == 0:
        clear(wishes.work)
        if not wishes.kept_work:
            forget(wishes.work)
    return code


class _Session:
    """One replay from its arguments to its summary."""

    def __init__(self, settings: Settings, wishes: Wishes, history: History, stop: Stop) -> None:
        self._settings = settings
        self._wishes = wishes
        self._work = wishes.work
        self._history = history
        self._stop = stop
        self._clock = SystemClock()
        self._label_delay_s = 0
        self._left: dict[str, Path] = {}

    def run(self, request: HistoryRequest, stack: ExitStack) -> int:
        """Begin or go on; return the exit code. Raises as ``run``."""
        wishes = self._wishes
        self._label_delay_s = request.policy.delay_s or 0
        self._left = {
            "rejected": self._work / "undecodable.ndjson",
            "unmapped": _rejects(request, self._work),
        }
        place = open_state(wishes.state, self._settings)
        identity = build_identity(wishes, self._settings, self._history)
        state = take_up(place, wishes, identity)
        if state is not None and state.finished:
            return self._tell(Outcome(state))
        with surveying(self._clock) as on_rows:
            survey = self._history.survey(on_rows)
        if state is None:
            state = State(identity=identity, begun_ms=self._clock.now_ms())
            # Whatever comes in between, there is something to resume.
            place.write(encode_state(state))
        left_out = {"unmapped": survey.rejected, "unmatched_labels": survey.unmatched_labels}
        state = msgspec.structs.replace(state, counts=state.counts | left_out)
        share = request.max_rejects
        undecodable = stack.enter_context(
            Undecodable(self._work / "undecodable.ndjson", state.rejects_bytes, share)
        )
        try:
            outcome = self._replay(state, place, survey, undecodable, stack)
        except Unavailable:
            self._tell_how_to_go_on()
            raise
        except OSError as error:
            if lacks_room(error):
                self._tell_how_to_go_on()
            raise
        return self._tell(outcome)

    def _replay(
        self,
        state: State,
        place: StatePlace,
        survey: Survey,
        undecodable: Undecodable,
        stack: ExitStack,
    ) -> Outcome:
        wishes, settings = self._wishes, self._settings
        snapshots: Snapshots | None = None
        if wishes.scratch:
            # The embedded server comes with the local extra.
            from consumer.local.scratch import ScratchRedis  # noqa: PLC0415

            server = stack.enter_context(ScratchRedis(self._work / "redis", state.snapshot))
            settings, snapshots = on_scratch(settings, server.url), server
        opening = Opening(
            settings=settings,
            out=wishes.out,
            folder=self._work,
            now_ms=state.begun_ms,
            saved=state.target,
            scratch=wishes.scratch,
            source=self._history.outline().files,
            label_delay_s=self._label_delay_s,
            shard=f"replay-{self._history.fingerprint[:12]}",
            columns=wishes.features,
            allow_degraded=wishes.allow_degraded,
        )
        target = open_target(wishes.to, opening, stack)
        calm_garbage_collector()
        reader = ChunkReader(
            self._history,
            wishes.selection,
            DecodeRules.of(settings.events),
            size=_CHUNK,
            first=state.ordinal,
            taken=state.taken,
            truths=wishes.out is not None,
        )
        parts = Parts(
            reader=reader,
            target=target,
            pacer=Pacer(wishes.pace, self._clock),
            undecodable=undecodable,
            place=place,
            snapshots=snapshots,
            display=build_display(self._clock, "replay", survey.events, state.ordinal),
            stopping=self._stop,
            clock=self._clock,
            save_every_s=wishes.save_every_s,
        )
        return Replay(parts, state).run()

    def _tell(self, outcome: Outcome) -> int:
        """Say how it ended, and return the exit code."""
        wishes = self._wishes
        if wishes.json:
            sys.stdout.buffer.write(
                orjson.dumps(summary_fields(outcome, wishes, self._left)) + b"\n"
            )
        else:
            sys.stdout.write("\n".join(summary_lines(outcome, wishes, self._left)) + "\n")
        sys.stdout.flush()
        if not outcome.state.finished:
            self._tell_how_to_go_on()
            return _INTERRUPTED
        if wishes.report is not None:
            self._report(wishes.report)
        return 0

    def _report(self, folder: Path) -> None:
        """Evaluate the decisions that were just written into *folder*."""
        from consumer.evaluation.reporting import Request, write_report  # noqa: PLC0415

        out = self._wishes.out
        report = write_report(
            Request(
                decisions=[] if out is None else [out],
                out=folder,
                currency=self._settings.events.base_currency,
                unlabelled=self._wishes.unlabelled,
            )
        )
        if not self._wishes.json:
            report.print(Console(highlight=False))

    def _tell_how_to_go_on(self) -> None:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--restart")]
        command = shlex.join(["fraudstream", *words, "--resume"])
        sys.stderr.write(f"to go on where it stood:\n  {command}\n")


def _dry_run(history: History, wishes: Wishes, settings: Settings, rejects: Path) -> int:
    """Say what would be done; 1 where a row was found that cannot be replayed."""
    rules = DecodeRules.of(settings.events)
    outline = history.outline()
    looked = None
    if outline.size_bytes < _READ_THROUGH_BYTES:
        with surveying(SystemClock()) as on_rows:
            survey = history.survey(on_rows)
        with build_display(SystemClock(), "decoding", survey.events, 0) as display:
            looked = Looked(survey, try_events(history, rules, display.show), rejects)
    if wishes.json:
        fields = dry_run_fields(outline, looked, wishes, rules)
        sys.stdout.buffer.write(orjson.dumps(fields) + b"\n")
    else:
        told = "\n".join(describe_dry_run(outline, looked, wishes, rules))
        # A file that is no CSV is shown as what it is.
        sys.stdout.write(printable(told) + "\n")
    sys.stdout.flush()
    return 0 if is_good(outline, looked, rules) else 1


def _rejects(request: HistoryRequest, work: Path) -> Path:
    return request.rejects or work / "history" / "rejects.ndjson"
