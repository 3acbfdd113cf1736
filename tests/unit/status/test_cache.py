"""The cache of rendered JSON."""

from jobs.status.cache import CacheEntry, ResponseCache, render_json


def test_the_cache_is_bounded_in_bytes_and_drops_the_oldest_first() -> None:
    answers: ResponseCache[int] = ResponseCache(limit=5_000)
    for number in range(10):
        answers.put(number, CacheEntry(number, render_json("x" * 1_000)))
        answers.find(0)
    found = [number for number in range(10) if answers.find(number)]
    assert found == [0, 8, 9]
    assert answers.size <= 5_000
    answers.put(0, CacheEntry(0, render_json("")))
    answers.put("large", CacheEntry(1, render_json("x" * 10_000)))
    assert answers.find("large") is not None, "one that is larger than the bound is kept alone"
    assert answers.find(0) is None
