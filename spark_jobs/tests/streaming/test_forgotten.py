"""Messages of a forgotten customer are known by key or by name, in whatever state they are."""

from hashlib import sha256

from data_platform_core.contracts import CONTRACTS, GENERATED
from spark_jobs.streaming.forgotten import FORGOTTEN, Forgotten, blanked

THEIRS, OTHERS = "cus_00000000000000aa", "cus_00000000000000bb"
COLUMNS = "key binary, value binary, reason string, kafka_offset bigint"


def test_what_speaks_of_them_is_marked_and_blanked_and_nothing_else(spark):
    rows = [
        (THEIRS.encode(), b"{}", "missing_field:x", 0),
        (b"vis_1", f'{{"customer_id":"{THEIRS}"}}'.encode(), None, 1),
        (b"vis_2", f"half {THEIRS} of it".encode() + b"\xff", "not_utf8", 2),
        (OTHERS.encode(), f'{{"customer_id":"{OTHERS}"}}'.encode(), None, 3),
        (None, None, "empty", 4),
        (b"k", b"nobody", "not_json", 5),
        (b"vis_3", f'{{"customer_id":"\\u0063{THEIRS[1:]}"}}'.encode(), None, 6),
        (b"vis_4", f'{{"customer_id":"\\u0063{OTHERS[1:]}"}}'.encode(), None, 7),
    ]
    forgotten = Forgotten([sha256(THEIRS.encode()).hexdigest()])
    marked = forgotten.marked(spark.createDataFrame(rows, COLUMNS)).orderBy("kafka_offset")
    found = marked.collect()
    assert [row.reason == FORGOTTEN for row in found] == [True, True, True, False, False, False, True, False]
    assert [row.reason_as_read for row in found] == [row[2] for row in rows]
    kept = [(row.key, row.value) for row in blanked(marked).orderBy("kafka_offset").collect()]
    assert all((kept[place] == (None, None)) == (row[3] in (0, 1, 2, 4, 6)) for place, row in enumerate(rows))
    assert [tuple(map(bytes, kept[place])) for place in (3, 5, 7)] == [rows[place][:2] for place in (3, 5, 7)]


def test_only_messages_of_customers_are_looked_at():
    nobody, somebody = Forgotten(), Forgotten()
    somebody.add("0" * 64)
    assert not any(nobody.concerns(contract) for contract in CONTRACTS.values())
    assert [e for e in GENERATED if somebody.concerns(CONTRACTS[e])] == ["events", "orders", "profiles"]
