"""Files that PyTorch itself wrote are read as PyTorch reads them."""

import numpy as np
import pytest
import torch
from torch import nn

from minigrad_nn import io, layers
from minigrad_nn.io import CheckpointError
from minigrad_nn.module import Sequential

FORMATS = {
    "zip": {},
    "before 1.6": {"_use_new_zipfile_serialization": False},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5, before 1.6": {"pickle_protocol": 5, "_use_new_zipfile_serialization": False},
}


@pytest.fixture(params=FORMATS)
def save(request, tmp_path):
    def function(value):
        path = tmp_path / "file.pth"
        torch.save(value, path, **FORMATS[request.param])
        return path

    return function


def tensors():
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    kinds = {
        str(kind).removeprefix("torch."): (torch.randn(3, 5) * 40).to(kind)
        for kind in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
            *(torch.int64, torch.int32, torch.int16, torch.int8),
        )
    }
    return kinds | {
        "uint8": torch.arange(7, dtype=torch.uint8),
        "whole": base,
        "transposed": base.T,
        "cut": base[1:3, ::2],
        "column": base[:, 3],
        "one row": base[2:3].T,
        "repeated": torch.tensor([2.5]).expand(3, 4),
        "number": torch.tensor(3.5),
        "count": torch.tensor(3),
        "of a row": base[1, 2],
        "empty": torch.zeros(0),
        "empty, with axes": torch.zeros(2, 0, 3),
        "parameter": nn.Parameter(base[:2].clone()),
        "frozen": nn.Parameter(base[:2].clone(), requires_grad=False),
        "of channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "not finite": torch.tensor([float("inf"), float("nan"), -0.0]),
        "half, not finite": torch.tensor([float("-inf"), float("nan")], dtype=torch.bfloat16),
        "name.with dots and ünïcode": torch.ones(1),
    }


def test_all_kinds_of_tensors(save):
    wanted = tensors()
    found = io.read_pretrained(save(wanted))
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        tensor = tensor.detach()
        # NumPy has no bfloat16; float32 holds every such number.
        tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        array = tensor.numpy()
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert (np.signbit(found[name]) == np.signbit(array)).all() or array.dtype.kind != "f"
    assert np.shares_memory(found["whole"], found["cut"])


def network(package):
    return package.Sequential(
        package.Conv2d(2, 3, 3), package.BatchNorm2d(3), package.Flatten(), package.Linear(48, 5)
    )


def test_states_and_checkpoints(save):
    theirs = network(nn)
    theirs(torch.randn(4, 2, 6, 6))
    optimizer = torch.optim.Adam(theirs.parameters())
    theirs(torch.randn(4, 2, 6, 6)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "state_dict": theirs.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": 0.75,
        "shape": torch.Size([2, 6, 6]),
        "names": ["a", ("b", None, True)],
    }
    for value in (theirs.state_dict(), checkpoint):
        ours = Sequential(
            layers.Conv2d(2, 3, 3), layers.BatchNorm2d(3), layers.Flatten(), layers.Linear(48, 5)
        )
        found = io.load_pretrained(ours, save(value))
        assert found.loaded == list(theirs.state_dict())
        for name, array in ours.state_dict().items():
            np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())
    path = save({f"module.{name}": value for name, value in theirs.state_dict().items()})
    io.load_pretrained(ours, path, rename={"module.": ""})


def test_what_is_more_than_tensors_is_refused(save):
    for value, said in (
        (network(nn), "asks for torch.nn.modules.container.Sequential,"),
        ({"a": torch.zeros(2).to_sparse()}, "asks for torch._utils._rebuild_sparse_tensor,"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "asks for torch.ComplexFloatStorage,"),
        ({"a": torch.zeros(2, dtype=torch.complex64).conj().imag}, "ComplexFloatStorage|negative"),
        ({"a": np.zeros(2)}, "asks for numpy"),
        ({"a": torch.zeros(2), "f": torch.relu}, "asks for .*builtin.*getattr,"),
        ({"a": torch.zeros(2), "d": torch.float32}, "asks for torch.float32,"),
        (torch.zeros(2), "a single tensor"),
    ):
        with pytest.raises(CheckpointError, match=said):
            io.read_pretrained(save(value))


def test_a_file_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "file.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    np.testing.assert_array_equal(io.read_pretrained(tmp_path / "file.pth")["a"], np.ones(3))


def test_a_scripted_model_is_told_for_what_it_is(tmp_path):
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match="TorchScript archive"):
        io.read_pretrained(tmp_path / "file.pt")


def test_safetensors_of_bfloat16_are_read_as_pytorch_reads_them(tmp_path):
    import safetensors.torch

    wanted = {"a": torch.randn(50).bfloat16()}
    safetensors.torch.save_file(wanted, tmp_path / "file.safetensors")
    found = io.read_pretrained(tmp_path / "file.safetensors")["a"]
    np.testing.assert_array_equal(found, wanted["a"].float().numpy())
