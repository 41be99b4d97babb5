"""A program that has configured its logging for years, by dictConfig. New are the two lines that say otelog."""

from __future__ import annotations

import logging.config

import otelog

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain"},
        "audit": {"class": "logging.FileHandler", "filename": "audit.log", "formatter": "plain"},
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "billing": {"level": "DEBUG"},
        "billing.audit": {"handlers": ["audit"], "propagate": False},
    },
}

log = logging.getLogger("billing")
audit = logging.getLogger("billing.audit")


def charge(customer: str, amount: float) -> None:
    """Charge a customer."""
    log.debug("charging %s", customer)
    audit.info("charged %s with %.2f", customer, amount)
    if amount > 100:
        log.warning("%s pays much", customer, extra={"amount": amount})


def main() -> None:
    """Charge two customers."""
    logging.config.dictConfig(LOGGING)
    otelog.configure(service_name="billing")
    charge("ada", 12.5)
    charge("grace", 120.0)
    logging.getLogger("reports").info("done")


if __name__ == "__main__":
    main()
