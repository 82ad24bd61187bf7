"""What the pictures of two domains draw, and where their points lie."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tlx.errors import TlxError
from tlx.reporting import domains
from tlx.reporting.domains import class_colors, draw_discriminator, draw_feature_maps, project
from tlx.reporting.figure import save

RANDOM = np.random.default_rng(0)
SOURCE, TARGET = RANDOM.normal(size=(30, 5)), RANDOM.normal(size=(20, 5)) + 1
LABELS = RANDOM.integers(0, 3, 30), RANDOM.integers(0, 3, 20)


def test_principal_components_of_both_domains() -> None:
    left, right = project(SOURCE, TARGET)
    rows = np.concatenate([SOURCE, TARGET])
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.svd(centred)[2][:2]
    expected, found = centred @ axes.T, np.concatenate([left, right])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    assert left.shape == (30, 2)
    with pytest.raises(TlxError, match="by 'umap'"):
        project(SOURCE, TARGET, "umap")


@pytest.mark.long
def test_neighbors_stay_together_in_t_sne() -> None:
    """Two far groups, in each of which both domains mix."""
    source, target = (np.concatenate([x[: len(x) // 2], x[len(x) // 2 :] + 50]) for x in (SOURCE, SOURCE + 0.1))
    left, right = project(source, target, "tsne")
    distances = np.linalg.norm(left[:, None] - right[None], axis=-1)
    assert ((distances.argmin(axis=1) < 15) == (np.arange(30) < 15)).all()
    np.testing.assert_array_equal(project(source, target, "tsne")[0], left)


def test_what_feature_maps_draw(tmp_path: Path) -> None:
    points = project(SOURCE, TARGET)
    figure = draw_feature_maps({"before": points, "after": points}, *LABELS, ["a", "b", "c"])
    panels = figure.axes
    assert [axis.get_title() for axis in panels] == ["before", "after"]
    circles, crosses = panels[1].collections
    np.testing.assert_array_equal(circles.get_offsets(), points[0])
    np.testing.assert_array_equal(crosses.get_offsets(), points[1])
    colors = class_colors(3)
    for drawn, labels in zip((circles, crosses), LABELS):
        face = drawn.get_facecolors() if drawn is circles else drawn.get_edgecolors()
        np.testing.assert_allclose(face[:, :3], [colors[label] for label in labels])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["source", "target", "a", "b", "c"]
    assert save(figure, tmp_path / "map.png").is_file()


def test_a_target_without_labels_and_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "MOST_ROWS", 10)
    points = project(SOURCE, TARGET)
    first, second = (axis.collections for axis in draw_feature_maps(
        {"before": points, "after": (-points[0], -points[1])}, LABELS[0], None, ["a", "b", "c"]).axes)  # fmt: skip
    assert len(first[0].get_offsets()) == len(first[1].get_offsets()) == 10
    np.testing.assert_array_equal(first[0].get_offsets(), -second[0].get_offsets())
    np.testing.assert_allclose(first[1].get_edgecolors()[0, :3], to_rgb(domains.UNLABELLED))


@pytest.mark.parametrize("count", [3, 10, 15, 100])
def test_every_class_has_a_color_of_its_own(count: int) -> None:
    assert len(set(class_colors(count))) == count


def test_what_the_discriminator_picture_draws() -> None:
    axis = draw_discriminator({"dann": ([0, 10, 20], [0.9, 0.7, 0.55])}).axes[0]
    curve, chance = axis.get_lines()
    np.testing.assert_array_equal(curve.get_xydata(), [[0, 0.9], [10, 0.7], [20, 0.55]])
    assert list(chance.get_ydata()) == [0.5, 0.5]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["dann", "chance"]
