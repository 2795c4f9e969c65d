"""The file formats, by name. A new one is one file here and a line below."""

from __future__ import annotations

from pipeline.formats.arrow import Arrow
from pipeline.formats.csv import Csv
from pipeline.formats.jsonl import JsonLines
from pipeline.formats.lines import Text
from pipeline.formats.parquet import Parquet
from pipeline.formats.source import Format as FileFormat
from pipeline.units import Format

FORMATS: dict[Format, FileFormat] = {
    "parquet": Parquet(),
    "arrow": Arrow(),
    "arrow-stream": Arrow(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "text": Text(),
}
