"""What the tests of scans share."""

import pyarrow as pa
from pyarrow import parquet

from export.scan import local_engine, plan_scan, scan
from export.scanner import ScanConfig

EMAIL = "marta.lindqvist@" + "corp-mail.net"
IP = "52.17." + "203.94"
TEXTS = [
    f"contact = '{EMAIL}'\nhost = '{IP}'\n",
    "limit = 7\n",
    "",
    f"# näme ünïcode \U0001f600 {EMAIL}\r\n",
    f"ssh root@{IP} # {IP}\n" * 3,
]
PATTERNS = ScanConfig(model="none")


def table_of(texts, **columns):
    return pa.table(
        {"hexsha": [f"{i:04x}" for i in range(len(texts))], **columns, "content": texts}
    )


def write(path, table, rows=2, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=rows, **options)
    return path


def run(inputs, output, config=PATTERNS, *, engine=None, jobs=1):
    plan = plan_scan([str(path) for path in inputs], config)
    return scan(plan, output, engine or local_engine(jobs))


def content(folder):
    """Bytes of the shards of an output, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
    }


def texts_of(path):
    return parquet.read_table(path)["content"].to_pylist()


def spans_of(path):
    return parquet.read_table(path)["pii_spans"].to_pylist()
