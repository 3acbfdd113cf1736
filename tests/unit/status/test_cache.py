"""The cache of rendered JSON."""

from jobs.status.cache import CacheEntry, ResponseCache, render_json


def test_the_cache_is_bounded_in_bytes_and_drops_the_oldest_first() -> None:
    answers = ResponseCache(limit=5_000)
    for number in range(10):
        answers.put(number, CacheEntry(number, render_json("x" * 1_000)))
        answers.get(0)
    found = [number for number in range(10) if answers.get(number)]
    assert found == [0, 8, 9]
    assert answers.currsize <= 5_000
    answers.put(8, CacheEntry(8, render_json("")))
    assert answers.currsize < 4_000, "what is replaced is counted no more"
    large = CacheEntry(1, render_json("x" * 10_000))
    assert answers.put(0, large) is large
    assert [answers.get(0), answers.get(8) is not None] == [None, True], "what is larger than the bound is not kept"
