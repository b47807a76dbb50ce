"""Settings that every test shares: Hypothesis profiles, markers by folder, the line on peers."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Compiling a kernel inside the first example is slow and says nothing about the example.
_SHARED = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("default", max_examples=30, **_SHARED)
# The same examples every time: what a change broke is then what the change broke.
settings.register_profile("ci", max_examples=30, derandomize=True, database=None, **_SHARED)
settings.register_profile("full", max_examples=300, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

PEERS_FOLDER = Path(__file__).parent / "peers"
PEERS = ("torch", "torchvision", "autograd")


def is_peer_test(path: Path) -> bool:
    return PEERS_FOLDER in path.parents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_peer_test(item.path):
            item.add_marker(pytest.mark.peers)


class PeerCount:
    """Counts how many tests really compared something with a peer."""

    def __init__(self) -> None:
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped and "peers" in report.keywords:
            self.ran += 1

    def line(self) -> str:
        if importlib.util.find_spec("torch") is None:
            return "peers: torch is missing, so nothing was compared with it (extra `peers`)"
        names = [
            f"{name} {importlib.metadata.version(name)}"
            for name in PEERS
            if importlib.util.find_spec(name) is not None
        ]
        return f"peers: {self.ran} tests compared with {', '.join(names)}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(PeerCount(), "minigrad-peer-count")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With MINIGRAD_REQUIRE_PEERS=1 a run that compared nothing fails."""
    if hasattr(session.config, "workerinput"):  # a worker of pytest-xdist sees only its share
        return
    count = session.config.pluginmanager.get_plugin("minigrad-peer-count")
    required = os.environ.get("MINIGRAD_REQUIRE_PEERS") == "1"
    if required and count.ran == 0 and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    terminalreporter.write_line(config.pluginmanager.get_plugin("minigrad-peer-count").line())


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the four real MNIST files; tests that ask for it are skipped without it."""
    root = os.environ.get("MINIGRAD_DATA")
    folder = Path(root) / "mnist" if root else None
    if folder is None or not folder.is_dir():
        pytest.skip("MINIGRAD_DATA names no folder with mnist/ in it")
    return folder
