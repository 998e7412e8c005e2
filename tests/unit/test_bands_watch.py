"""Whose bands are in force while models come and go."""

from dataclasses import dataclass, field

import orjson
import pytest

from consumer.bands import TAG, ModelBands, render_tag
from consumer.bands_watch import BandsWatch
from consumer.decision import Policy
from consumer.errors import Misconfigured, Unavailable
from consumer.feature_hash import Deployment
from consumer.logs import configure
from consumer.model import Bands
from consumer.settings import DecisionSettings, Settings


def bands_of(review: float, model: str = "first") -> ModelBands:
    return ModelBands({"anomaly_review": review}, model)


@dataclass
class Control:
    """A control plane and an archive in memory, for the one model whose bands are asked for."""

    configuration: str = "v1"
    tag: str | None = render_tag(bands_of(1.5))
    archive: ModelBands | None = None
    failure: str | None = None
    tags_read: int = 0
    told: list[tuple[str, bool]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def describe(self, name: str) -> Deployment:
        assert name == "fraudstream-anomaly"
        if self.failure:
            raise Unavailable("sagemaker", self.failure)
        return Deployment(self.configuration, ("arn",))

    def read_tag(self, deployment: Deployment, key: str) -> str | None:
        assert (deployment.resources, key) == (("arn",), TAG)
        self.tags_read += 1
        return self.tag

    def serve(self, configuration: str, tag: str | None) -> None:
        self.configuration, self.tag = configuration, tag

    def watch(self, **changes: object) -> BandsWatch:
        asked = {"anomaly_review": "model", **changes}
        settings = Settings(decision=DecisionSettings.model_validate(asked))
        return BandsWatch(
            self, settings, lambda _score: self.archive, self.hear, self.unread.append
        )

    def hear(self, score: str, policy: Policy | None) -> None:
        self.told.append((score, policy is not None))


def looked(watch: BandsWatch) -> tuple[float, str, bool]:
    watch.look()
    bands = watch.policy.bands
    return bands.anomaly_review, bands.anomaly_from, watch.usable("anomaly")


def test_numbers_ask_nobody() -> None:
    control = Control(failure="AccessDeniedException")
    watch = control.watch(anomaly_review=2.0)
    watch.look()
    watch.start(0.001)
    assert watch.policy.bands == Bands(0.5, 0.9, 2.0)


def test_the_tag_of_the_model_is_in_force_and_read_at_each_look() -> None:
    control = Control(archive=bands_of(9.0, "archive"))
    watch = control.watch()
    for looks in (1, 2, 3):
        assert control.tags_read == looks
        assert looked(watch) == (1.5, "first", True)
    assert control.told == [("fraud", True), ("anomaly", True)]
    assert control.unread == []


def test_bands_that_change_without_another_model_are_taken_over() -> None:
    control = Control()
    watch = control.watch()
    control.serve("v1", render_tag(bands_of(2.5)))
    assert looked(watch) == (2.5, "first", True)
    assert control.told[2:] == [("anomaly", True)]


@pytest.mark.parametrize(
    ("tag", "cause"), [(None, "no tag fraudstream:bands"), ("anomaly_review=high", "no name=")]
)
def test_a_tag_that_is_lost_is_counted_at_each_look_and_warned_of_once(
    tag: str | None, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", "json")
    control = Control()
    watch = control.watch()
    control.serve("v1", tag)
    assert [looked(watch) for _ in range(3)] == [(1.5, "first", True)] * 3
    assert control.unread == ["anomaly"] * 3
    (line,) = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["level"], line["event"], line["score_used"]) == ("warning", "bands not read", True)
    assert cause in line["cause"]

    control.serve("v1", render_tag(bands_of(1.5)))
    looked(watch)
    (line,) = [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["event"] == "bands taken over"
    control.serve("v1", tag)
    looked(watch)
    assert "bands not read" in capsys.readouterr().err


def test_a_new_model_brings_its_own_bands() -> None:
    control = Control()
    watch = control.watch()
    control.serve("v2", render_tag(bands_of(2.5, "second")))
    assert looked(watch) == (2.5, "second", True)


@pytest.mark.parametrize("tag", [None, "anomaly_review=high", "fraud_review=0.1"])
def test_a_new_model_without_bands_of_its_own_is_not_used_until_it_has_them(
    tag: str | None,
) -> None:
    control = Control()
    watch = control.watch()
    control.serve("v2", tag)
    assert looked(watch) == (1.5, "first", False)
    assert looked(watch) == (1.5, "first", False)
    assert control.told[2:] == [("anomaly", False)]
    control.serve("v2", render_tag(bands_of(2.5, "second")))
    assert looked(watch) == (2.5, "second", True)


def test_going_back_to_the_former_model_brings_its_bands_back() -> None:
    control = Control()
    watch = control.watch()
    control.serve("v2", None)
    watch.look()
    control.serve("v1", render_tag(bands_of(1.5)))
    assert looked(watch) == (1.5, "first", True)


def test_a_tag_that_is_lost_or_spoilt_without_another_model_changes_nothing() -> None:
    control = Control(tag=None, archive=bands_of(4.0, "archive"))
    watch = control.watch()
    for tag in (None, "anomaly_review=high"):
        control.serve("v1", tag)
        assert looked(watch) == (4.0, "archive", True)


@pytest.mark.parametrize("cause", ["AccessDeniedException", "ThrottlingException"])
def test_a_control_plane_that_does_not_answer_leaves_the_bands(cause: str) -> None:
    control = Control()
    watch = control.watch()
    control.failure = cause
    assert looked(watch) == (1.5, "first", True)


@pytest.mark.parametrize("control", [Control(tag=None), Control(failure="AccessDeniedException")])
def test_without_a_tag_the_archive_speaks_for_the_model_of_the_start(control: Control) -> None:
    control.archive = bands_of(4.0, "archive")
    watch = control.watch()
    assert looked(watch) == (4.0, "archive", True)
    # Who tags nothing and names an archive has lost nothing.
    assert control.unread == (["anomaly"] if control.failure else [])
    control.failure = None
    assert looked(watch) == (
        (4.0, "archive", True) if control.tag is None else (1.5, "first", True)
    )
    control.serve("v2", None)
    assert looked(watch)[2] is False
    control.serve("v1", None)
    assert looked(watch)[2] is True


def test_a_tag_that_comes_later_wins_over_the_archive() -> None:
    control = Control(tag=None, archive=bands_of(4.0, "archive"))
    watch = control.watch()
    control.serve("v1", render_tag(bands_of(2.5, "second")))
    assert looked(watch) == (2.5, "second", True)


@pytest.mark.parametrize(
    ("control", "cause"),
    [
        (Control(tag=None), "no tag fraudstream:bands"),
        (Control(tag="anomaly_review=high"), "no name=number"),
        (Control(failure="AccessDeniedException"), "AccessDeniedException"),
    ],
)
def test_without_tag_and_archive_it_does_not_start(control: Control, cause: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        control.watch()
    (problem,) = refused.value.problems
    assert problem.key == "decision.anomaly_review"
    assert cause in problem.found
    assert "scoring.anomaly.archive" in problem.expected


def test_an_outage_at_the_start_is_waited_out_where_no_archive_stands_for_the_model() -> None:
    control = Control(failure="ThrottlingException")
    with pytest.raises(Unavailable, match="ThrottlingException"):
        control.watch()
    control.archive = bands_of(4.0, "archive")
    assert control.watch().policy.bands.anomaly_review == 4.0


def test_an_archive_that_cannot_be_used_is_refused() -> None:
    control = Control(tag=None)
    settings = Settings(decision=DecisionSettings.model_validate({"anomaly_review": "model"}))

    def broken(_score: str) -> ModelBands | None:
        raise Misconfigured([])

    with pytest.raises(Misconfigured):
        BandsWatch(control, settings, broken)


def test_it_goes_on_looking_until_it_is_closed() -> None:
    control = Control()
    watch = control.watch()
    control.serve("v2", None)
    watch.start(0.001)
    while watch.usable("anomaly"):
        pass
    watch.close()
    assert control.told[-1] == ("anomaly", False)
