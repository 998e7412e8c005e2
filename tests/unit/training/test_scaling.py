import ast
import json
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from consumer.training import scaling
from consumer.training.scaling import Column, Scaling, fit

ROWS = np.random.default_rng(6).lognormal(2, 1, size=(2_000, 3)).astype(np.float32)


def test_a_standard_column_has_mean_nought_and_deviation_one() -> None:
    inputs = fit(ROWS, "standard").apply(ROWS)
    assert inputs.dtype == np.float32
    assert inputs.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert inputs.std(axis=0) == pytest.approx([1, 1, 1], rel=1e-5)


def test_none_leaves_values_alone_and_a_weight_multiplies_them() -> None:
    assert np.array_equal(fit(ROWS, "none").apply(ROWS), ROWS)
    weighted = fit(ROWS, "none", weights={1: 2.0}).apply(ROWS)
    assert np.array_equal(weighted, ROWS * np.array([1, 2, 1], np.float32))


def test_a_logarithm_keeps_the_sign_and_takes_the_tail_away() -> None:
    values = np.array([[-7.0], [0.0], [7.0]])
    (column,) = fit(values, "log").columns
    shaped = Column(at=0, shape="log").apply(values[:, 0])
    assert shaped == pytest.approx([-np.log(8), 0, np.log(8)])
    assert column.centre == pytest.approx(0)


def test_ranks_become_normal_quantiles_whatever_the_distribution() -> None:
    inputs = fit(ROWS, "rank").apply(ROWS)
    for share in (0.05, 0.5, 0.9):
        assert np.quantile(inputs[:, 0], share) == pytest.approx(
            NormalDist().inv_cdf(share), abs=0.1
        )


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    values = np.repeat([0.0, 1.0], [900, 100])[:, np.newaxis]
    scaled = fit(values, "rank").apply(np.array([[0.0], [1.0]]))
    (column,) = fit(values, "rank").columns
    assert column.knots == (0.0, 1.0)
    assert scaled[0, 0] < 0 < scaled[1, 0]


def test_what_lies_far_outside_still_shows_after_ranking() -> None:
    front = fit(ROWS, "rank")
    highest = ROWS.max()
    low, high, higher = front.apply(np.array([[-100.0] * 3, [highest] * 3, [highest * 20] * 3]))
    assert (low < front.apply(ROWS).min(axis=0)).all()
    assert (higher > high + 3).all()


def test_the_forest_sees_only_the_columns_that_were_chosen() -> None:
    front = fit(ROWS, {0: "none", 1: "log", 2: "rank"}, columns=[2, 0])
    assert [(each.at, each.shape) for each in front.columns] == [(2, "rank"), (0, "none")]
    assert np.array_equal(front.apply(ROWS)[:, 1], ROWS[:, 0])
    assert front.width == 3


@pytest.mark.parametrize("shape", scaling.SHAPES)
def test_a_constant_feature_does_no_harm(shape: scaling.Shape) -> None:
    values = np.full((50, 1), 4.0)
    assert np.isfinite(fit(values, shape).apply(np.array([[4.0], [5.0]]))).all()


@pytest.mark.parametrize("shape", scaling.SHAPES)
def test_it_is_the_same_after_json(shape: scaling.Shape) -> None:
    front = fit(ROWS, shape)
    again = Scaling.from_dict(json.loads(json.dumps(front.to_dict())))
    assert again == front
    assert np.array_equal(again.apply(ROWS), front.apply(ROWS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": []}, "no columns"),
        ({"width": 1}, "a column at 1 of 1 features"),
        ({"width": "x"}, "ValueError"),
        ({"columns": [{"at": 0}]}, "KeyError: 'shape'"),
        ({"columns": [{"at": 0, "shape": "cube"}]}, "shape 'cube'"),
    ],
)
def test_what_cannot_be_applied_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scaling.from_dict(fit(ROWS).to_dict() | change)


def test_numbers_that_cannot_be_applied_are_refused() -> None:
    good = fit(ROWS, "rank", columns=[0]).to_dict()
    changes: list[dict[str, object]] = [
        {"factor": float("nan")},
        {"tail": 0.0},
        {"knots": [1.0, 1.0]},
        {"knots": []},
    ]
    for change in changes:
        with pytest.raises(ValueError, match="in the column at 0"):
            Scaling.from_dict(good | {"columns": [{**good["columns"][0], **change}]})


def test_the_module_runs_where_only_numpy_is() -> None:
    tree = ast.parse(Path(scaling.__file__).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"numpy"}
