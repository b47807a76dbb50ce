"""Makes the references importable, or leaves this folder out when torch is not installed."""

import importlib.util
import sys

# Test files here import torch at their top: without it they are not collected, and one line at the
# end says so.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]

# torch forgets operators once the library that declared them is gone.
_declared = []


def declare_torchvision_operators() -> None:
    """Let torchvision import beside a torch build that its compiled operators were not made for.

    torchvision registers shape rules for `nms` at import, and fails if its own library, which
    declares the operator, could not be loaded. The models need neither; declaring it is enough.
    """
    import torch

    try:
        import torchvision  # noqa: F401  (the import is the test)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
    declare_torchvision_operators()
