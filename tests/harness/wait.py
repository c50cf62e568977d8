"""Waiting for a condition, with a limit. The tests never sleep for luck."""
import time


def wait_until(condition, what, limit=15.0, every=0.05):
    """Returns the first true value of condition(); fails the test with `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}")
        time.sleep(every)
