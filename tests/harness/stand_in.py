"""The platform's stand-in, which a test tells what to answer."""

import requests


def http_status(code: int, body: str = "{}", **headers: str) -> dict:
    """An answer with this status."""
    return {"status": {"status": code, "headers": headers, "body": body}}


class Platform:
    def __init__(self, url: str) -> None:
        self.url = url

    def fails_once(self) -> None:
        self.answers_once(http_status(500))

    def answers_once(self, answer: object = "order", delay_ms: int = 0) -> None:
        """After what was said before."""
        behaviour = {"answer": answer, "delay_ms": delay_ms}
        requests.post(f"{self.url}/behaviour", json=behaviour, timeout=10).raise_for_status()

    def answers(self, answer: object) -> None:
        """From now on."""
        requests.put(f"{self.url}/behaviour", json={"answer": answer}, timeout=10).raise_for_status()

    def received(self) -> list[dict]:
        return requests.get(f"{self.url}/orders", timeout=10).json()

    def orders(self) -> list[str]:
        """The request_ids that it received."""
        return [order["request_id"] for order in self.received()]
