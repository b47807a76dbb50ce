"""How a summary is shown: as a table in a terminal, as text, and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any

from minigrad.draw.scene import shape_text

from .overview.words import amount

if TYPE_CHECKING:
    import rich.table

    from .summary import Row, Totals

__all__ = ["Table"]

_STYLE = "text-align:right;padding:1px 8px;white-space:pre"


class Table:
    """What shows the rows of a summary."""

    title: str
    batch: int | None
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    totals: Totals
    warnings: tuple[tuple[str, str], ...]

    def _columns(self) -> list[str]:
        columns = ["layer", "output", "parameters", "multiply-adds"]
        if any(row.receptive_field is not None for row in self.rows):
            columns += ["sees", "step"]
        columns.append("memory")
        if self.totals.seconds is not None:
            columns.append("forward")
        if self.totals.backward_seconds is not None:
            columns.append("backward")
        return columns

    def _cells(self, row: Row) -> Iterator[str]:
        called = f" × {row.calls}" if row.calls > 1 else ""
        name = f"{row.name} ({row.kind})" if row.name else row.kind
        yield f"{'  ' * row.depth}{name}{called}"
        outputs = ", ".join(shape_text(shape) for shape in row.outputs)
        yield outputs if row.calls else "not called"
        yield "shared" if row.shared and not row.parameters else _number(row.parameters)
        yield _number(row.multiply_adds)
        if "sees" in self._columns():
            yield _field(row)
            yield "" if row.jump is None or row.sees_all else _by_axis(row.jump)
        yield amount(row.activation_bytes, "bytes") if row.activation_bytes else ""
        for total, seconds in (
            (self.totals.seconds, row.seconds),
            (self.totals.backward_seconds, row.backward_seconds),
        ):
            if total is not None:
                yield "" if seconds is None else amount(seconds, "seconds")

    def _heading(self) -> str:
        inputs = ", ".join(shape_text(shape) for shape in self.inputs)
        return f"{self.title} on {inputs}" + (f", batch {self.batch}" if self.batch else "")

    def _closing(self) -> Iterator[str]:
        """The lines below the table."""
        totals = self.totals
        frozen = totals.parameters - totals.trainable
        yield (
            f"parameters: {totals.parameters:,} ({totals.trainable:,} trainable, {frozen:,} frozen)"
        )
        yield f"multiply-adds: {totals.multiply_adds:,}"
        memory = [
            (totals.parameter_bytes, "parameters"),
            (totals.buffer_bytes, "buffers"),
            (totals.input_bytes, "input"),
            (totals.activation_bytes, "activations"),
        ]
        parts = [f"{what} {amount(number, 'bytes')}" for number, what in memory if number]
        yield f"memory: {', '.join(parts)}"
        if totals.seconds is not None:
            text = f"time: forward {amount(totals.seconds, 'seconds')}"
            if totals.backward_seconds is not None:
                text += f", backward {amount(totals.backward_seconds, 'seconds')}"
            yield text
        for text, paths in self._gathered().items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            yield f"does not fit exactly: {', '.join(paths[:3])}{more}: {text}"

    def _gathered(self) -> dict[str, list[str]]:
        """Each warning, with the modules that it is about."""
        found: dict[str, list[str]] = {}
        for path, text in self.warnings:
            found.setdefault(text, []).append(path or self.title)
        return found

    def table(self) -> rich.table.Table:
        """The rows as a table of `rich`."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=self._heading(), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for column in self._columns():
            right = column not in ("layer", "output")
            table.add_column(column, justify="right" if right else "left", no_wrap=True)
        for row in self.rows:
            # What an inner row says again is dimmed.
            style = "" if row.leaf else "dim"
            table.add_row(*(Text(cell) for cell in self._cells(row)), style=style)
        return table

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(self.table(), *(Text(line) for line in self._closing()))

    def __str__(self) -> str:
        from rich.console import Console

        # As wide as it is, so that no column is cut off wherever it goes.
        file = StringIO()
        Console(file=file, width=1000, color_system=None).print(self.table())
        lines = [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]
        rule = next(line for line in lines if "─" in line)
        return "\n".join([*lines, rule, *self._closing()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in self._columns())
        body = []
        for row in self.rows:
            first, *rest = map(html.escape, self._cells(row))
            cells = "".join(f'<td style="{_STYLE}">{cell}</td>' for cell in rest)
            name = f'<td style="{_STYLE};text-align:left">{first}</td>'
            body.append(f"<tr>{name}{cells}</tr>")
        closing = "<br>".join(map(html.escape, self._closing()))
        return (
            f"<table><caption>{html.escape(self._heading())}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table><p>{closing}</p>"
        )


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _field(row: Row) -> str:
    if row.receptive_field is None:
        return ""
    return "all" if row.sees_all else _by_axis(row.receptive_field)


def _by_axis(numbers: tuple[Any, ...]) -> str:
    return "×".join("all" if n is None else f"{n:.4g}" for n in numbers)
