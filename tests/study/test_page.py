"""The page of a stepping: what it says as data, and what a real browser shows at each step."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import minigrad
from minigrad import study
from minigrad.draw.graph import GraphTooLarge
from minigrad.study.page.picture import marked_picture
from tests.study import browser


def circuit():
    with study.recording():
        x = minigrad.scalar(3.0)
        y = minigrad.scalar(-2.0)
        q = x * y
        f = q * q + q * x + minigrad.exp(y)
    return f


def network():
    with study.recording():
        x = minigrad.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, -1.0]])
        w = minigrad.tensor([[0.5, -1.0], [0.25, 2.0], [1.0, 0.0]], requires_grad=True)
        b = minigrad.tensor([0.1, -0.1], requires_grad=True)
        h = minigrad.relu(x @ w + b)
        loss = (h * h).mean()
    return loss


def data_of(html):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(found.group(1))


def full(value):
    """A gradient as the page gives it in full: a number, or the norm of an array."""
    if isinstance(value, float):
        return repr(value)
    return repr(float(np.linalg.norm(np.asarray(value, np.float64))))


def expected(s):
    """At each step of the backward pass: what each name has received, in full."""
    s.go(0)
    found = []
    while True:
        known = {s.names[node]: full(g) for node, g in s.known().items()}
        found.append(known)
        if s.step() is None:
            return found


def test_helpers_of_rules_are_explained():
    x = minigrad.scalar(2.0, name="x")
    (step,) = data_of(study.stepping(x**3.0).html())["steps"]
    (flow,) = step["flows"]
    assert flow["rule"] == "g × slope_in_base(a, b)"
    assert flow["filled"] == "1 × slope_in_base(2, 3)"
    assert flow["note"] == "slope_in_base(a, b): b × a**(b - 1), and 0 for a**0 at a = 0"
    with study.stepping(x**3.0) as s:
        s.step()
        assert f"\n    with {flow['note']}" in str(s)
    (step,) = data_of(study.stepping(x * x).html())["steps"]
    assert [flow["note"] for flow in step["flows"]] == ["", ""]


@pytest.mark.parametrize("make", [circuit, network])
def test_the_data_of_the_page_are_the_steps(make):
    s = study.stepping(make())
    data = data_of(s.html())
    assert s.position == 0
    assert len(data["steps"]) == len(s)
    for described, step in zip(data["steps"], s.trace()[0], strict=True):
        assert described["name"] == s.names[step.gate]
        for told, flow in zip(described["flows"], step.contributions, strict=True):
            amount = flow.contribution
            assert told["result"]["full"] == repr(getattr(amount, "norm", amount))
            if flow.local_gradient is not None:
                assert float(described["g"]["full"]) * float(
                    told["local"]["full"]
                ) == pytest.approx(float(told["result"]["full"]))


def test_a_page_is_no_step_and_hands_nothing_over():
    f = circuit()
    s = study.stepping(f)
    s.step(2)
    s.html()
    assert s.position == 2 and all(node.grad is None for node in s.names)
    s.finish()
    grads = [node.grad for node in s.names]
    s.html()
    assert [node.grad for node in s.names] == grads and None not in grads
    s.back()
    assert all(node.grad is None for node in s.names)


def test_the_page_asks_for_nothing_and_quotes_what_users_write(tmp_path):
    x = minigrad.scalar(1.0, name="</script><b>&")
    page = study.stepping(x * 2.0).save(tmp_path / "page.html", title="<i>title</i>").read_text()
    assert "<b>" not in page and "<i>" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)


def test_every_edge_has_its_pieces_of_wire():
    s = study.stepping(circuit())
    from minigrad.study.page.data import page_data

    _, graph = page_data(s, {})
    picture, links = marked_picture(graph)
    root = ET.fromstring(picture.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    drawn = {part.get("data-link") for part in root.iter() if part.get("data-link")}
    assert {str(i) for pieces in links.values() for i in pieces} <= drawn
    assert all(links[str(i)] for i in range(len(graph.edges)))


def test_a_graph_too_large_for_a_page_is_told_and_a_region_is_shown():
    x = minigrad.scalar(1.0, name="x")
    y = x
    for i in range(100_000):
        y = y + 0.0
        if i == 50_000:
            y.name = "middle"
    s = study.stepping(y)
    with pytest.raises(GraphTooLarge, match="around=x"):
        s.html()
    data = data_of(s.html(around="middle", radius=2))
    assert [node["name"] for node in data["nodes"]].count("middle") == 1
    assert len(data["nodes"]) == 5
    assert "Draw a part" in s._repr_html_()


def test_the_notebook_shows_picture_and_words_at_the_step():
    s = study.stepping(circuit())
    s.step()
    html = s._repr_html_()
    assert html.count("<svg") == 1 and "step 1 of" in html
    picture = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    marked = [part for part in picture.iter() if part.get("fill") == "#ffd54a"]
    assert len(marked) == 1


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    found = browser.start(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()


READ = """
const rows = [...document.querySelectorAll("#numbers tbody tr")].map(row =>
  [...row.children].map(cell => cell.textContent));
const shown = {};
for (const group of document.querySelectorAll("#picture g.wire")) {
  const number = group.querySelector("[data-number]");
  if (number) shown[group.dataset.node] =
    getComputedStyle(number.parentNode).visibility === "visible" ? number.dataset.full : null;
}
const focus = document.querySelector("#picture g.focus");
const marked = document.querySelector("#code .now");
return {
  place: Number(document.body.dataset.place), phase: document.body.dataset.phase, rows, shown,
  focus: focus && Number(focus.dataset.node), line: marked && marked.textContent,
  words: document.getElementById("focus").innerText,
  results: [...document.querySelectorAll("#focus .result")].map(x => x.dataset.full),
};
"""


def read(driver):
    return driver.run(READ)


def check_step(found, s, known, data):
    """The table, the picture and the words of one backward step hold the engine's numbers."""
    gradients = {row[0]: row[3] for row in found["rows"] if row[3] not in ("", "none needed")}
    assert gradients == known
    names = {str(node["id"]): node["name"] for node in data["nodes"]}
    shown = {names[i]: number for i, number in found["shown"].items() if number is not None}
    assert shown == known
    states = {row[0]: row[4] for row in found["rows"] if row[0] in known}
    nodes = {name: node for node, name in s.names.items()}
    assert states == {name: "complete" if s.complete(nodes[name]) else "so far" for name in known}


@pytest.mark.parametrize("make", [circuit, network])
def test_a_browser_shows_the_numbers_of_every_step(make, driver, tmp_path):
    s = study.stepping(make())
    path = s.save(tmp_path / "page.html")
    data = data_of(path.read_text())
    wanted = expected(s)
    driver.open(path)
    forward = len(data["forward"])

    found = read(driver)
    assert found["phase"] == "inputs" and found["place"] == 0
    assert not any(row[3] not in ("", "none needed") for row in found["rows"])
    for i in range(forward):
        driver.press("ArrowRight")
        found = read(driver)
        assert found["phase"] == f"forward {i + 1} of {forward}"
        assert data["forward"][i]["filled"] in found["words"]

    for k, known in enumerate(wanted):
        s.go(k)
        found = read(driver)
        check_step(found, s, known, data)
        if k:
            assert found["phase"] == f"backward {k} of {len(s)}"
            step = s.focus
            assert found["focus"] == data["steps"][k - 1]["gate"]
            assert found["results"] == [
                repr(getattr(flow.contribution, "norm", flow.contribution))
                for flow in step.contributions
            ]
            assert step.gate.origin.text in found["line"]
        driver.press("ArrowRight")
    end = read(driver)

    # Back again gives the same pictures.
    for k in reversed(range(len(wanted))):
        s.go(k)
        driver.press("End" if k == len(s) else "ArrowLeft")
        check_step(read(driver), s, wanted[k], data)
    driver.press("Home")
    assert read(driver)["place"] == 0
    driver.press("End")
    assert read(driver) == end
    assert driver.errors == [] and driver.requests() == []


def test_a_browser_plays_and_pauses_and_its_buttons_move(driver, tmp_path):
    s = study.stepping(circuit())
    driver.open(s.save(tmp_path / "page.html"))

    def pace(seconds):
        driver.run(f"document.getElementById('pace').options[2].value = '{seconds}'")
        driver.run("document.getElementById('pace').selectedIndex = 2")

    pace(1000.0)  # so that a busy machine does not play to the end between two questions
    forward = len(data_of(s.html())["forward"])
    driver.press("Space")
    assert driver.run("return document.body.dataset.playing") == "true"
    driver.press("Space")
    held = read(driver)["place"]
    assert held >= 1
    assert driver.run("return document.body.dataset.playing") == "false"
    assert read(driver)["place"] == held

    def click(name):
        driver.run(f"document.getElementById('{name}').click()")
        return read(driver)["place"]

    assert click("first") == 0 and click("step") == 1 and click("back") == 0
    assert click("last") == forward + len(s)
    driver.press("b")
    assert read(driver)["place"] == forward
    pace(0.05)
    driver.press("Space")
    # Not wait_for_function: the rules of the page allow no eval.
    driver.page.wait_for_selector(f"body[data-place='{forward + len(s)}']", timeout=60_000)
    assert driver.run("return document.body.dataset.playing") == "false"


def test_keys_zoom_and_the_table_opens(driver, tmp_path):
    s = study.stepping(circuit())
    driver.open(s.save(tmp_path / "page.html"))
    box = "return document.getElementById('picture').getAttribute('viewBox')"
    driver.press("0")
    whole = driver.run(box)
    driver.press("+")
    assert float(driver.run(box).split()[2]) < float(whole.split()[2])
    driver.press("0")
    assert driver.run(box) == whole
    driver.press("n")
    assert driver.run("return document.getElementById('numbers').open")


def test_a_page_that_asks_for_something_is_found(driver, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/picture.png">')
    driver.open(page)
    assert driver.requests() == ["http://127.0.0.1:9/picture.png"]
    assert driver.errors


def test_pages_are_driven_wherever_there_is_a_browser(monkeypatch, tmp_path):
    """They are skipped only for a reason that is said, and not where a browser is required."""
    monkeypatch.setattr(browser, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MINIGRAD_REQUIRE_BROWSER", raising=False)
    assert "no Chromium is on the PATH" in browser.missing()
    with pytest.raises(pytest.skip.Exception, match="no Chromium is on the PATH"):
        browser.start(tmp_path / "profile")
    (tmp_path / "google-chrome").write_text("#!/bin/sh\n")
    (tmp_path / "google-chrome").chmod(0o755)
    assert browser.missing() is None
    monkeypatch.setattr(browser, "find_spec", lambda name: None)
    monkeypatch.setenv("MINIGRAD_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="playwright is not installed"):
        browser.start(tmp_path / "profile")
