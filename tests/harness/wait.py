"""Waiting for a condition, with a limit. The tests never sleep for luck."""
import time


def wait_until(condition, what, limit=15.0, every=0.05):
    """Returns the first true value of condition(); fails the test after `limit` seconds. `what` is
    a text, or a function that makes one then."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {limit:g} s: {text}")
        time.sleep(every)
