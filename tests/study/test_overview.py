"""The module graph: what is in its boxes, how they are connected, and its page in a browser."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import minigrad
import minigrad_nn as nn
from minigrad.draw.graph import GraphTooLarge
from minigrad_nn.inspect import overview
from minigrad_nn.inspect.overview.layout import place
from minigrad_nn.inspect.overview.tree import METRICS, walk
from minigrad_nn.models import LeNet5, resnet50
from minigrad_nn.models.resnet import Bottleneck, ResNet
from tests.study import browser
from tests.study.networks import Recurrent


def residual(depths=(2, 3)):
    """A ResNet of few and narrow bottlenecks."""
    return ResNet(Bottleneck, depths, classes=10, width=4, stride_on="1x1")


def small():
    return overview(residual(), minigrad.zeros((1, 3, 32, 32)), passes=0)


def titles(part):
    return [child.title for child in part.children]


def wired(part):
    """The links between the children of a part, by title."""
    names = [f"{child.title} {child.name}".strip() for child in part.children]
    ports = [*names, "out", "in"]
    links = [(ports[i], ports[j], again) for i, j, again in part.wires.links]
    links += [("in", ports[j], False) for j in part.wires.inward]
    return sorted([*links, *((ports[i], "out", False) for i in part.wires.outward)])


def test_equal_blocks_that_follow_each_other_are_one_box():
    found = small()
    assert titles(found.root) == [
        "input", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Sequential", "Sequential",
        "GlobalAvgPool", "Linear", "output",
    ]  # fmt: skip
    assert titles(found.part("layer1")) == ["Bottleneck", "Bottleneck"]  # the first one projects
    (first, repeat) = found.part("layer2").children
    assert (first.title, repeat.title) == ("Bottleneck", "Bottleneck × 2")
    assert [child.path for child in repeat.children] == ["layer2.1", "layer2.2"]
    assert repeat.parameters == 2 * repeat.children[0].parameters
    alone = overview(residual(), minigrad.zeros((1, 3, 32, 32)), repeats=False, passes=0)
    assert titles(alone.part("layer2")) == ["Bottleneck"] * 3


def test_a_residual_block_is_wired_as_it_computes():
    assert wired(small().part("layer2.1")) == sorted(
        [
            ("in", "Conv2d conv1", False),
            ("Conv2d conv1", "BatchNorm2d bn1", False),
            ("BatchNorm2d bn1", "ReLU relu", False),
            ("ReLU relu", "Conv2d conv2", False),
            ("Conv2d conv2", "BatchNorm2d bn2", False),
            ("BatchNorm2d bn2", "ReLU relu", False),
            ("ReLU relu", "Conv2d conv3", False),
            ("Conv2d conv3", "BatchNorm2d bn3", False),
            ("BatchNorm2d bn3", "add", False),
            ("in", "add", False),
            ("add", "ReLU relu", False),
            ("ReLU relu", "out", False),
        ]
    )


@pytest.mark.parametrize(
    "make, shape",
    [(residual, (1, 3, 32, 32)), (LeNet5, (1, 1, 28, 28))],
)
def test_parameters_of_the_boxes_are_those_of_the_modules(make, shape):
    model = make()
    found = overview(model, minigrad.zeros(shape), passes=0)
    modules = dict(model.named_modules())
    for part in walk(found.root):
        if part.kind == "module":
            wanted = sum(p.size for p in modules[part.path].parameters())
            assert part.parameters == wanted, part.path
            for metric in METRICS if part.children else ():
                if metric != "parameters":
                    total = sum(getattr(child, metric) for child in part.children)
                    assert getattr(part, metric) == pytest.approx(total)


def test_multiply_adds_of_the_lectures():
    def count(layer, *shape):
        return overview(nn.Sequential(layer), minigrad.zeros(shape), passes=0).root.multiply_adds

    assert count(nn.Conv2d(3, 6, 5, bias=False), 1, 3, 32, 32) == 352_800
    assert count(nn.Conv2d(3, 64, 3), 1, 3, 224, 224) == 85_162_752
    assert count(nn.Conv2d(3, 3, 3, groups=3), 1, 3, 224, 224) == 1_330_668
    assert count(nn.Conv2d(3, 64, 1), 1, 3, 222, 222) == 9_462_528


@pytest.mark.full
def test_resnet50_has_the_multiply_adds_of_the_lectures():
    found = overview(resnet50(stride_on="1x1"), minigrad.zeros((1, 3, 224, 224)), passes=0)
    assert found.root.multiply_adds == 3_857_973_248
    assert titles(found.part("layer3")) == ["Bottleneck", "Bottleneck × 5"]


def test_a_loop_is_rolled_up_and_can_be_unrolled():
    found = overview(Recurrent(), minigrad.zeros((1, 5, 3)), passes=0)
    assert [(p.title, p.calls) for p in found.root.children] == [
        ("input", 1), ("getitem", 5), ("Linear", 5), ("Linear", 5), ("add", 5), ("tanh", 5),
        ("Linear", 1), ("output", 1),
    ]  # fmt: skip
    again = [link for link in wired(found.root) if link[2]]
    assert again == [("tanh", "Linear whh", True)]
    assert found.root.multiply_adds == found.unrolled.multiply_adds == 5 * (24 + 64) + 16
    assert found.unrolled.parameters == found.root.parameters == 32 + 72 + 18
    assert titles(found.unrolled).count("tanh") == 5
    assert not [link for link in wired(found.unrolled) if link[2]]
    assert found.svg().count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in found.svg(unrolled=True)


def test_a_layer_that_is_used_at_several_places_is_no_loop():
    found = overview(LeNet5(), minigrad.zeros((1, 1, 28, 28)), passes=0)
    assert titles(found.root).count("Tanh") == 4 and found.unrolled is None


def test_looking_changes_nothing():
    model = residual((1,))
    model.layer1.eval()
    before = model.state_dict()
    modes = [module.training for module in model.modules()]
    x = minigrad.zeros((2, 3, 32, 32))
    with minigrad.no_grad():
        overview(model, x, passes=1)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert [module.training for module in model.modules()] == modes
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(p.grad is None for p in model.parameters()) and not x.requires_grad


def test_an_error_in_the_model_leaves_it_as_it_was():
    model = LeNet5()
    with pytest.raises(ValueError, match="pictures must be"):
        overview(model, minigrad.zeros((1, 1, 8, 8)))
    assert "forward" not in vars(model) and model.training


def test_what_is_inside_of_a_module():
    found = overview(residual(), minigrad.zeros((1, 3, 32, 32)), inside="layer2.0", passes=0)
    assert titles(found.root)[0] == "Conv2d" and "layer2.0" in found.title
    with pytest.raises(ValueError, match="no module with parts inside at 'fc'"):
        overview(residual((1,)), minigrad.zeros((1, 3, 32, 32)), inside="fc", passes=0)


def test_a_graph_of_very_many_operations_does_not_hang():
    class Long(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)

        def forward(self, x):
            x = self.first(x)
            for _ in range(100_000):
                x = x + 1.0
            return x

    found = overview(Long(), minigrad.zeros((1, 2)), passes=0)
    assert titles(found.root) == ["input", "Linear", "add", "output"]
    assert found.root.children[2].calls == 100_000
    assert found.unrolled is None
    with pytest.raises(ValueError, match="no loop to unroll, or it is too long"):
        found.svg(unrolled=True)


def test_too_many_boxes_are_refused_with_advice():
    model = nn.Sequential(*[nn.Sequential(*[nn.ReLU() for _ in range(90)]) for _ in range(50)])
    with pytest.raises(GraphTooLarge, match=r"inside=, such as '0'"):
        overview(model, minigrad.zeros((1, 2)), repeats=False, passes=0)
    inside = overview(model, minigrad.zeros((1, 2)), repeats=False, passes=0, inside="7")
    assert len(inside.root.children) == 90


def test_times_are_taken():
    found = overview(LeNet5(), minigrad.zeros((1, 1, 28, 28)), passes=2)
    assert all(p.seconds > 0 for p in walk(found.root) if p.kind == "module")


def test_the_picture_holds_every_open_box_and_says_it_without_colour():
    found = small()
    for colour in METRICS:
        svg = found.svg(colour, opened=["layer2.0"])
        ET.fromstring(svg)
        assert "layer2.0.conv1" in svg and METRICS[colour] in svg
    assert "layer1.0.conv1" not in found.svg(opened=["layer2.0"])
    with pytest.raises(ValueError, match="colour must be one of"):
        found.svg("weight")
    with pytest.raises(ValueError, match="no module at nowhere"):
        found.svg(opened=["nowhere"])


def boxes_of(placed, x=0.0, y=0.0):
    for dx, dy, inner in placed.inside:
        yield inner.part, (x + dx, y + dy, inner.width, inner.height)
        yield from boxes_of(inner, x + dx, y + dy)


@pytest.mark.parametrize("everything", [False, True])
def test_no_two_boxes_overlap_and_wires_keep_inside(everything):
    found = small()
    placed = place(
        found.root, (lambda part: everything) if everything else found.opened().__contains__
    )

    def check(at):
        for i, (x, y, a) in enumerate(at.inside):
            assert x >= 0 and y >= 0 and x + a.width <= at.width and y + a.height <= at.height
            for p, q, b in at.inside[i + 1 :]:
                assert (
                    x + a.width <= p or p + b.width <= x or y + a.height <= q or q + b.height <= y
                )
            check(a)
        for path, _ in at.wires:
            xs = [float(v) for v in re.findall(r"(-?[\d.]+),", path)]
            assert min(xs) >= 0 and max(xs) <= at.width

    check(placed)


def test_files_and_the_table(tmp_path):
    found = small()
    assert found.save(tmp_path / "a.svg").read_text() == found.svg()
    html = found.save(tmp_path / "a.html").read_text()
    assert "default-src 'none'" in html and "Bottleneck × 2" in html
    assert not re.search(r"(src|href)\s*=|@import|https?://(?!www\.w3\.org/2000/svg)", html)
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.html"):
        found.save(tmp_path / "a.pdf")
    text = str(found)
    assert "layer2.1.conv2" in text and "parameters" in text


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    found = browser.start(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()


def numbers(path):
    return [float(v) for v in re.findall(r"-?[\d.]+", path)]


def same_geometry(driver, root):
    """The browser's layout is Python's, box by box and wire by wire."""
    parts = list(walk(root))
    state = driver.run("return overview.parts().map(part => part.open)")
    opened = {part for part, is_open in zip(parts, state, strict=True) if is_open}
    placed = place(root, opened.__contains__)
    found = driver.run("return overview.geometry()")
    assert found["width"] == pytest.approx(placed.width, abs=0.05)
    assert found["height"] == pytest.approx(placed.height, abs=0.05)
    ids = {part: i for i, part in enumerate(parts)}
    wanted = {ids[part]: box for part, box in boxes_of(placed)}
    assert {box[0] for box in found["boxes"]} == set(wanted)
    for i, *box, _ in found["boxes"]:
        assert box == pytest.approx(wanted[i], abs=0.1)

    def wires(at):
        for path, _ in at.wires:
            yield path
        for *_, inner in at.inside:
            yield from wires(inner)

    paths = list(wires(placed))
    assert len(found["wires"]) == len(paths)
    for (_, shown), path in zip(found["wires"], paths, strict=True):
        assert numbers(shown) == pytest.approx(numbers(path), abs=0.16)
    return len(paths)


def test_a_browser_opens_and_closes_boxes_and_places_them_as_python_does(driver, tmp_path):
    found = small()
    driver.open(found.save(tmp_path / "page.html"))
    counts = [same_geometry(driver, found.root)]
    driver.run("document.getElementById('close').click()")
    counts.append(same_geometry(driver, found.root))
    driver.run("document.getElementById('open').click()")
    counts.append(same_geometry(driver, found.root))
    assert counts[1] < counts[0] < counts[2]

    driver.run("document.getElementById('close').click()")
    driver.run("document.querySelector('[data-path=layer2]').focus()")
    driver.press("Enter")
    expanded = "return document.querySelector('[data-path=layer2]').getAttribute('aria-expanded')"
    assert driver.run(expanded) == "true"
    assert "Sequential layer2" in driver.run("return document.body.innerText")
    same_geometry(driver, found.root)
    driver.press("Enter")
    assert driver.run(expanded) == "false"
    assert driver.errors == [] and driver.requests() == []


def test_a_browser_colours_by_the_chosen_number(driver, tmp_path):
    found = small()
    driver.open(found.save(tmp_path / "page.html"))
    shown = {}
    for metric in METRICS:
        driver.run(
            "const s = document.getElementById('metric'); s.value = given;"
            "s.dispatchEvent(new Event('change'))", metric
        )  # fmt: skip
        shown[metric] = driver.run(
            "return [...document.querySelectorAll('[data-path=fc] text')].map(t => t.textContent)"
        )[-1]
    fc = found.part("fc")
    assert shown["parameters"].startswith(f"{fc.parameters} parameters")
    assert shown["multiply_adds"].startswith(f"{fc.multiply_adds} multiply-adds")
    assert shown["seconds"].split(" · ")[0].endswith("s")


def test_a_browser_unrolls_a_loop(driver, tmp_path):
    found = overview(Recurrent(), minigrad.zeros((1, 4, 3)), passes=0)
    path = found.save(tmp_path / "page.html")
    driver.open(path)
    same_geometry(driver, found.root)
    driver.run("document.getElementById('unrolled').click()")
    same_geometry(driver, found.unrolled)
    data = re.search(r'id="data">(.*?)</script>', path.read_text(), re.S).group(1)
    assert len(json.loads(data)["trees"]) == 2
