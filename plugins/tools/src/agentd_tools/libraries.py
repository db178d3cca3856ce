"""Results that are objects of well-known libraries: tables as records, pictures as `Blob`s. None is imported here."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from agentd.types import Blob

__all__ = ["plain_value"]


def plain_value(value: Any) -> Any:
    """Return what stands for an object of a library that is known by name, or None for any other.

    A table becomes a list of records (its index, unless that only counts, as columns), a column a list, a picture or
    figure a PNG.
    """
    for kind in type(value).__mro__:
        make = _KNOWN.get((kind.__module__.partition(".")[0], kind.__name__))
        if make is not None:
            return make(value)
    return None


def _frame_of_pandas(frame: Any) -> Any:
    if type(frame.index).__name__ != "RangeIndex":
        frame = frame.reset_index()
    frame = frame.rename(columns=str)
    return [{key: _scalar(item) for key, item in row.items()} for row in frame.to_dict("records")]


def _series_of_pandas(series: Any) -> Any:
    if type(series.index).__name__ == "RangeIndex":
        return [_scalar(item) for item in series.tolist()]
    return {str(key): _scalar(item) for key, item in series.to_dict().items()}


def _scalar(item: Any) -> Any:
    """Return a cell; what pandas has for a missing date or value is None."""
    return None if type(item).__name__ in ("NaTType", "NAType") else item


def _png(picture: Any) -> Blob:
    file = io.BytesIO()
    if picture.mode not in ("1", "L", "LA", "I", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("RGB")  # PNG has no such colours
    picture.save(file, "PNG")
    return Blob(file.getvalue(), "image/png")


def _figure(figure: Any) -> Blob:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Blob(file.getvalue(), "image/png")


_KNOWN: Final[Mapping[tuple[str, str], Callable[[Any], Any]]] = MappingProxyType(
    {
        ("pandas", "DataFrame"): _frame_of_pandas,
        ("pandas", "Series"): _series_of_pandas,
        ("pandas", "NaTType"): lambda _: None,
        ("pandas", "Timestamp"): lambda time: time.to_pydatetime(warn=False),
        ("pandas", "Timedelta"): lambda duration: duration.to_pytimedelta(),
        ("polars", "DataFrame"): lambda frame: frame.to_dicts(),
        ("polars", "Series"): lambda series: series.to_list(),
        ("pyarrow", "Table"): lambda table: table.to_pylist(),
        ("PIL", "Image"): _png,
        ("matplotlib", "Figure"): _figure,
    }
)
