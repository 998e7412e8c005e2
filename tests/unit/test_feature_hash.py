from dataclasses import dataclass, field

import pytest

from consumer.errors import Unavailable
from consumer.feature_hash import TAG, Deployment, FeatureHashWatch

OURS, OTHER = "a" * 64, "b" * 64


@dataclass
class Control:
    """A control plane in memory: the configuration and tag of the one endpoint."""

    configuration: str = "v1"
    tag: str | None = OURS
    failure: str | None = None
    tags_read: int = 0
    verdicts: list[tuple[str, bool]] = field(default_factory=list)

    def describe(self, name: str) -> Deployment:
        assert name == "fraudstream-fraud"
        if self.failure:
            raise Unavailable("sagemaker", self.failure)
        return Deployment(self.configuration, ("arn",))

    def read_tag(self, deployment: Deployment, key: str) -> str | None:
        assert (deployment.resources, key) == (("arn",), TAG)
        self.tags_read += 1
        return self.tag

    def watch(self) -> FeatureHashWatch:
        return FeatureHashWatch(
            self,
            {"fraud": "fraudstream-fraud"},
            OURS,
            lambda score, matches: self.verdicts.append((score, matches)),
        )


def test_a_model_of_these_features_is_used() -> None:
    control = Control()
    watch = control.watch()
    watch.look()
    assert watch.usable("fraud")
    assert watch.problems() == []
    assert control.verdicts == [("fraud", True)]


def test_a_model_of_other_features_is_refused_with_what_to_do() -> None:
    watch = Control(tag=OTHER).watch()
    watch.look()
    assert not watch.usable("fraud")
    assert watch.usable("anomaly")
    (problem,) = watch.problems()
    assert problem.key == "scoring.fraud.name"
    assert "bbbbbbbbbbbb" in problem.found
    assert "aaaaaaaaaaaa" in problem.expected


def test_tags_are_read_again_only_after_a_change() -> None:
    control = Control()
    watch = control.watch()
    watch.look()
    watch.look()
    assert control.tags_read == 1
    control.configuration, control.tag = "v2", OTHER
    watch.look()
    assert not watch.usable("fraud")
    assert control.verdicts == [("fraud", True), ("fraud", False)]


def test_a_corrected_tag_is_noticed_without_a_change_of_configuration() -> None:
    control = Control(tag=OTHER)
    watch = control.watch()
    watch.look()
    control.tag = OURS
    watch.look()
    assert watch.usable("fraud")


@pytest.mark.parametrize("control", [Control(tag=None), Control(failure="AccessDeniedException")])
def test_what_cannot_be_compared_is_passed_over(control: Control) -> None:
    watch = control.watch()
    watch.look()
    watch.look()
    assert watch.usable("fraud")
    assert control.verdicts == []


def test_a_control_plane_that_fails_for_a_while_leaves_the_last_verdict() -> None:
    control = Control(tag=OTHER)
    watch = control.watch()
    watch.look()
    control.failure = "ThrottlingException"
    watch.look()
    assert not watch.usable("fraud")


def test_a_model_whose_tag_went_away_is_used_again() -> None:
    control = Control(tag=OTHER)
    watch = control.watch()
    watch.look()
    control.tag = None
    watch.look()
    assert watch.usable("fraud")


def test_it_goes_on_looking_until_it_is_closed() -> None:
    control = Control(tag=OTHER)
    watch = control.watch()
    watch.start(0.001)
    while not control.verdicts:
        pass
    watch.close()
    assert not watch.usable("fraud")
