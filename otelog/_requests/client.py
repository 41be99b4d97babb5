"""Who sent a request, as the proxies on its way say."""

from __future__ import annotations

from otelog._requests.access import show

MOST_ADDRESS_CHARACTERS = 64


def find_forwarded(header: str, proxies: int) -> str:
    """Returns the address that the outermost of one's own proxies has seen, or an empty text.

    Args:
        header: ``X-Forwarded-For``.
        proxies: How many proxies of one's own the request has passed.
    """
    # Each proxy adds, on the right, whom it has seen: what is left of the trusted ones' words may be a lie.
    addresses = header.rsplit(",", proxies)
    address = addresses[-proxies].strip() if len(addresses) >= proxies else ""
    return show(address[:MOST_ADDRESS_CHARACTERS])
