"""Background workers: the same batches, order and state as without, errors told, nothing left."""

import gc
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad_nn.data import Loader, RandomSampler, Streams, WorkerError
from minigrad_nn.data import processes as processes_module
from tests.data.loader_helpers import (
    Failing,
    FailingToLoad,
    Growing,
    Noting,
    Wide,
    failing_transform,
    jitter,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """After each test: no thread, no process, no open pipe, no shared memory of a worker."""
    blocks = []
    make = processes_module._block

    def block(size):
        blocks.append(make(size))
        return blocks[-1]

    monkeypatch.setattr(processes_module, "_block", block)
    before = pipes()
    yield
    gc.collect()
    assert [t.name for t in threading.enumerate() if t.name.startswith("minigrad-loader")] == []
    assert multiprocessing.active_children() == []
    assert pipes() <= before + 1  # the first start keeps one, to multiprocessing's own helper
    for made in blocks:
        with pytest.raises(FileNotFoundError):
            SharedMemory(made.name)


def pipes():
    """How many pipes this process has open; 0 where it cannot be told."""
    gc.collect()
    if not os.path.isdir("/proc/self/fd"):
        return 0
    files = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    targets = [os.readlink(file) for file in files if os.path.lexists(file)]
    return sum(target.startswith(("pipe:", "socket:")) for target in targets)


def same(first, second):
    """Whether two batches are the same to the bit and the kind."""
    return pickle.dumps(as_data(first)) == pickle.dumps(as_data(second))


def as_data(value):
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: as_data(part) for key, part in value.items()}
    return [as_data(v) for v in value] if isinstance(value, tuple | list) else value


def epochs(loader, count):
    """All batches of some epochs, each with the state after it."""
    return [(batch, json.dumps(loader.state_dict())) for _ in range(count) for batch in loader]


def agree(first, second):
    assert len(first) == len(second)
    for (batch, state), (other, other_state) in zip(first, second, strict=True):
        assert same(batch, other) and state == other_state


loaders = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**64 - 1),
        "drop_last": st.just(False),
        "transform": st.sampled_from([None, jitter]),
    }
)


class TestThreads:
    @given(st.integers(0, 30), loaders, st.integers(1, 5), st.integers(1, 4))
    def test_batches_order_and_state_are_those_without(self, size, options, workers, prefetch):
        data = Wide(size, 3)
        plain = Loader(data, **options)
        other = Loader(data, **options, workers=workers, prefetch=prefetch)
        agree(epochs(plain, 2), epochs(other, 2))

    @given(st.integers(1, 20), st.integers(0, 30), loaders)
    def test_a_run_that_is_cut_anywhere_goes_on(self, size, cut, options):
        """Prepared batches that were not handed out do not count."""
        wanted = epochs(Loader(Wide(size, 2), **options), 3)
        cut = min(cut, len(wanted) - 1)
        loader = Loader(Wide(size, 2), **options, workers=3)
        loader.load_state_dict(json.loads(wanted[cut][1]))
        agree(epochs(loader, 3 - loader.epoch), wanted[cut + 1 :])

    def test_samplers_and_streams(self):
        for make in (
            lambda **kw: Loader(Wide(20, 2), 3, sampler=RandomSampler(20, 11), seed=4, **kw),
            lambda **kw: Streams(np.arange(50), 3, 4, transform=jitter, seed=4, **kw),
        ):
            agree(epochs(make(), 2), epochs(make(workers=2), 2))

    def test_no_more_than_prefetch_is_prepared_ahead(self, tmp_path):
        loader = Loader(Noting(100, tmp_path), 1, workers=2, prefetch=3)
        for handed_out, _ in enumerate(loader, start=1):
            if handed_out == 5:
                time.sleep(0.2)
                assert len(list(tmp_path.iterdir())) <= 5 + 2 * 3
                break
        time.sleep(0.1)
        assert len(list(tmp_path.iterdir())) <= 5 + 2 * 3

    def test_work_is_done_beside(self, tmp_path):
        """Before the second batch is asked for, it is there."""
        batches = iter(Loader(Noting(4, tmp_path), 1, workers=1))
        next(batches)
        deadline = time.monotonic() + 10
        while not (tmp_path / "1").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "1").exists()
        batches.close()

    def test_an_error_comes_in_its_place_and_tells_the_sample(self):
        for workers in (0, 2):
            loader = Loader(Failing(10, 5), 2, workers=workers)
            seen = []
            with pytest.raises(KeyError, match="no 5") as told:
                for (x,) in loader:
                    seen.append(x.tolist())
            assert seen == [[0, 1], [2, 3]] and loader.batch == 2
            assert told.value.__notes__ == ["While reading sample 5, the file 5.png."]
            assert any(entry.name == "__getitem__" for entry in told.traceback)

    def test_an_error_in_the_transform_is_told(self):
        for workers in (0, 1):
            with pytest.raises(ZeroDivisionError) as told:
                list(Loader(Wide(3, 1), 2, workers=workers, transform=failing_transform))
            (note,) = told.value.__notes__
            assert "In the transform <function failing_transform" in note
            assert note.endswith("of samples 0, 1.")

    def test_a_sample_that_fails_only_in_company(self):
        class Picky(Wide):
            def __getitem__(self, index):
                if len(index) > 1:
                    raise ValueError("one at a time")
                return super().__getitem__(index)

        with pytest.raises(ValueError) as told:
            list(Loader(Picky(30, 1), 20))
        assert told.value.__notes__ == ["While reading samples 0, 1, 2, 3, 4, 5, 6, 7, ...."]

    def test_a_loop_left_early_leaves_no_thread(self):
        loader = Loader(Wide(50, 2), 1, workers=3)
        for _ in loader:
            break
        assert not [t for t in threading.enumerate() if t.name.startswith("minigrad-loader")]
        forgotten = iter(loader)
        next(forgotten)
        del forgotten
        gc.collect()
        assert not [t for t in threading.enumerate() if t.name.startswith("minigrad-loader")]

    def test_two_loops_at_once_are_told(self):
        loader = Loader(Wide(6, 1), 2, workers=2)
        outer = iter(loader)
        next(outer)
        list(loader)
        with pytest.raises(RuntimeError, match="another loop"):
            next(outer)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"workers": -1}, ValueError, "workers must be at least 0"),
        ({"workers": 1.0}, TypeError, "workers must be an integer"),
        ({"workers": 1, "prefetch": 0}, ValueError, "prefetch must be at least 1"),
        ({"worker_kind": "fork"}, ValueError, "one of thread, process, got 'fork'"),
    ],
)
def test_wrong_arguments_are_told(options, error, message):
    with pytest.raises(error, match=message):
        Loader(Wide(3, 1), 1, **options)


class Local:
    """A dataset with something inside that cannot be pickled."""

    def __init__(self, inside):
        self.inside = inside

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    "dataset, transform, path",
    [
        (Local({"open": [1, lambda: None]}), None, r"dataset\.inside\['open'\]\[1\] is a function"),
        (Wide(3, 1), lambda batch, generator: batch, "transform is a function"),
        (Local(threading.Lock()), None, r"dataset\.inside is a lock"),
        (Local(Local(sys.__stdout__)), None, r"dataset\.inside\.inside is a TextIOWrapper"),
    ],
)
def test_what_cannot_be_pickled_is_told_before_a_process_begins(dataset, transform, path):
    loader = Loader(dataset, 1, transform=transform, workers=1, worker_kind="process")
    with pytest.raises(TypeError, match=f"but {path}.* or use worker_kind='thread'"):
        next(iter(loader))


def processes(dataset, batch_size, **options):
    return Loader(dataset, batch_size, worker_kind="process", **{"workers": 1, **options})


class TestProcesses:
    """Each starts interpreters, a second of work: most run in the full check."""

    @pytest.mark.parametrize(
        "data, size",
        [(Wide(12, 20_000), 4), pytest.param(Wide(40, 3), 7, marks=pytest.mark.full)],
        ids=["large", "small"],
    )
    def test_batches_order_and_state_are_those_without(self, data, size):
        """Several epochs by the same processes, and from another position."""
        options = dict(shuffle=True, seed=5, transform=jitter)
        wanted = epochs(Loader(data, size, **options), 3)
        with processes(data, size, workers=2, **options) as loader:
            agree(epochs(loader, 1), wanted[: len(wanted) // 3])
            first = [p.pid for p in multiprocessing.active_children()]
            agree(epochs(loader, 2), wanted[len(wanted) // 3 :])
            assert [p.pid for p in multiprocessing.active_children()] == first
            loader.load_state_dict(json.loads(wanted[1][1]))
            agree(epochs(loader, 3 - loader.epoch), wanted[2:])

    def test_an_error_is_raised_with_the_workers_traceback(self):
        loader = processes(Failing(10, 5), 2)
        seen = []
        with pytest.raises(KeyError, match="no 5") as told:
            for (x,) in loader:
                seen.append(x.tolist())
        assert seen == [[0, 1], [2, 3]] and loader.batch == 2
        reading, worker = told.value.__notes__
        assert reading == "While reading sample 5, the file 5.png."
        assert worker.startswith("In a worker process:\nTraceback (most recent call last):")
        assert "loader_helpers.py" in worker and 'raise KeyError(f"no {self.bad}")' in worker
        assert multiprocessing.active_children() == []

    def test_a_killed_worker_is_told(self):
        with pytest.raises(
            WorkerError,
            match=r"worker process 0 of the loader \(pid \d+\) was ended "
            r"by the signal SIGKILL while it prepared batches\. A machine that runs",
        ):
            list(processes(Failing(10, 5, "kill"), 2))

    @pytest.mark.full
    def test_a_worker_that_exits_is_told(self):
        with pytest.raises(WorkerError, match="ended with exit code 3 while it prepared"):
            list(processes(Failing(10, 5, "exit"), 2, workers=2))

    @pytest.mark.full
    def test_a_worker_killed_between_loops_is_told_and_the_next_loop_has_another(self):
        with processes(Wide(6, 2), 2) as loader:
            first = [x.tolist() for x, _ in loader]
            (child,) = multiprocessing.active_children()
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(WorkerError, match="SIGKILL"):
                list(loader)
            assert [x.tolist() for x, _ in loader] == first

    @pytest.mark.full
    def test_errors_and_batches_that_cannot_be_pickled_are_told(self):
        with pytest.raises(WorkerError, match=r"an error in a worker process:\n(.*\n)*.*Odd"):
            list(processes(Failing(10, 5, "unpicklable"), 2))
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            list(processes(Failing(10, 5, "unpicklable batch"), 2))

    @pytest.mark.full
    def test_a_dataset_that_cannot_be_rebuilt_is_told(self):
        with pytest.raises(WorkerError, match=r"could not be rebuilt(.*\n)*.*no such database"):
            list(processes(FailingToLoad(), 2, workers=2))

    @pytest.mark.full
    @pytest.mark.parametrize("leave", ["break", "error", "del", "close"])
    def test_leaving_a_loop_ends_the_processes(self, leave):
        loader = processes(Wide(60, 3), 2, workers=2)
        batches = iter(loader)
        next(batches)
        assert len(multiprocessing.active_children()) == 2
        if leave == "break":
            for _ in batches:
                break
            del batches
        elif leave == "error":
            with pytest.raises(ZeroDivisionError):
                for _ in batches:
                    raise ZeroDivisionError("by the user")
            batches.close()
        elif leave == "del":
            del loader, batches
        else:
            loader.close()
            with pytest.raises(RuntimeError, match="or it was closed, so this loop has lost"):
                next(batches)
        gc.collect()
        assert multiprocessing.active_children() == []

    @pytest.mark.full
    def test_a_forgotten_loader_ends_its_processes(self):
        loader = processes(Wide(6, 3), 2)
        list(loader)
        assert len(multiprocessing.active_children()) == 1
        del loader
        gc.collect()
        assert multiprocessing.active_children() == []

    @pytest.mark.full
    def test_a_worker_at_work_is_not_waited_for_long(self):
        loader = processes(Failing(10, 4, "slow"), 2)
        started = time.monotonic()
        for _ in loader:
            time.sleep(0.3)  # so that it has begun with the slow one
            if loader.batch == 2:
                break
        assert multiprocessing.active_children() == [] and time.monotonic() - started < 30

    @pytest.mark.full
    def test_batches_of_every_size_and_kind(self):
        wanted = epochs(Loader(Growing(), 2, shuffle=True, seed=1), 3)
        with processes(Growing(), 2, workers=2, prefetch=3, shuffle=True, seed=1) as loader:
            found = epochs(loader, 3)
            agree(found, wanted)
        for (batch, _), (other, _) in zip(found, wanted, strict=True):
            assert batch[0].flags.f_contiguous == other[0].flags.f_contiguous
            batch[0][...] = 0  # may be written to, and does not change another
        assert all((batch[0] == 0).all() for batch, _ in found)

    @pytest.mark.full
    def test_without_shared_memory_the_pipe_is_enough(self, monkeypatch):
        monkeypatch.setattr(processes_module, "_block", lambda size: None)
        data = Wide(8, 50_000)
        with processes(data, 2, workers=2) as loader:
            agree(epochs(loader, 2), epochs(Loader(data, 2), 2))

    @pytest.mark.full
    def test_long_lists_of_indices_do_not_block(self):
        """More than a pipe takes, in both directions at once."""
        data = Wide(400_000, 1)
        with processes(data, 50_000, workers=1, prefetch=4, shuffle=True, seed=0) as loader:
            agree(epochs(loader, 1), epochs(Loader(data, 50_000, shuffle=True, seed=0), 1))

    @pytest.mark.full
    def test_another_dataset_has_other_processes(self):
        with processes(Wide(4, 1), 2) as loader:
            list(loader)
            loader.dataset = Wide(4, 2)
            assert [x.shape for x, _ in loader] == [(2, 2), (2, 2)]
            loader.transform = jitter
            assert {x.dtype.name for x, _ in loader} == {"float32"}
            assert len(multiprocessing.active_children()) == 1

    @pytest.mark.full
    @settings(max_examples=8)
    @given(
        st.integers(0, 30),
        loaders,
        st.integers(1, 3),
        st.integers(1, 3),
        st.sampled_from([1, 10_000]),
    )
    def test_any_loader_agrees(self, size, options, workers, prefetch, width):
        wanted = epochs(Loader(Wide(size, width), **options), 2)
        more = dict(workers=workers, prefetch=prefetch)
        with processes(Wide(size, width), **options, **more) as loader:
            agree(epochs(loader, 2), wanted)


def script(body, *arguments, name="script.py", folder=None, **options):
    """Run a script of its own, as a user does.

    A shell makes what it runs in the background deaf to Ctrl-C; the script shall hear it.
    """
    path = folder / name
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    path.write_text(hear + textwrap.dedent(body))
    return subprocess.Popen(
        [sys.executable, *arguments, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


def alive(group):
    """The processes of a group that have not ended (one that nobody has waited for yet has)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended just now
            continue
        if int(number) == group and state != "Z":
            found.append((folder / "cmdline").read_text())
    return found


def gone(group):
    """Wait until no process of a group is left, multiprocessing's own helper among them."""
    deadline = time.monotonic() + 20
    while alive(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(group) == []


DATASET = """
    import sys, time
    import numpy as np
    from minigrad_nn.data import ArrayDataset, Loader

    class Slow(ArrayDataset):
        def __getitem__(self, index):
            time.sleep(0.05)
            return super().__getitem__(index)

    def main():
        loader = Loader(Slow(np.arange(1000)), 1, workers=2, worker_kind="process")
        for (x,) in loader:
            print(int(x[0]), flush=True)
            if x[0] == 3 and "stop" in sys.argv:
                raise SystemExit("stopped")
"""


@pytest.mark.full
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
class TestScripts:
    def test_ctrl_c_ends_all_at_once_without_noise(self, tmp_path):
        body = DATASET + "\n    if __name__ == '__main__':\n        main()\n"
        running = script(body, folder=tmp_path, start_new_session=True)
        assert running.stdout.readline() == "0\n"
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        _, err = running.communicate(timeout=120)
        assert running.returncode == -signal.SIGINT
        assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")
        assert "leaked" not in err
        gone(running.pid)

    @pytest.mark.parametrize("delay", [0.0, 0.2, 0.5, 1.0])
    def test_ctrl_c_while_the_workers_begin(self, tmp_path, delay):
        body = DATASET.replace("for (x,) in", "print('go', flush=True)\n        for (x,) in")
        body += "\n    if __name__ == '__main__':\n        main()\n"
        running = script(body, folder=tmp_path, start_new_session=True)
        assert running.stdout.readline() == "go\n"
        time.sleep(delay)
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=120)
        assert running.returncode == -signal.SIGINT
        assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")
        gone(running.pid)

    def test_a_killed_main_process_leaves_no_orphans(self, tmp_path):
        body = DATASET + "\n    if __name__ == '__main__':\n        main()\n"
        running = script(body, folder=tmp_path, start_new_session=True)
        assert running.stdout.readline() == "0\n"
        running.kill()
        running.communicate(timeout=120)
        gone(running.pid)

    def test_an_uncaught_error_ends_the_program(self, tmp_path):
        body = (
            DATASET
            + "\n    if __name__ == '__main__':\n        sys.argv.append('stop')\n        main()\n"
        )
        running = script(body, folder=tmp_path)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 1 and err == "stopped\n" and out == "0\n1\n2\n3\n"

    def test_a_script_without_a_main_guard_is_told(self, tmp_path):
        running = script(DATASET + "\n    main()\n", folder=tmp_path)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 1 and out == ""
        assert 'stand under `if __name__ == "__main__":`' in err
        assert "imports the main script, and the script begins to load data" in err

    def test_what_is_defined_on_the_command_line_is_told(self, tmp_path):
        code = textwrap.dedent(DATASET) + "\nmain()\n"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)  # fmt: skip
        assert done.returncode == 1
        assert re.search(
            r"WorkerError: .* put it into a module, or use worker_kind='th", done.stderr
        )
        known = code.replace("Slow(np", "ArrayDataset(np").replace("arange(1000)", "arange(3)")
        done = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)  # fmt: skip
        assert done.stdout == "0\n1\n2\n" and done.stderr == ""
