"""A program whose records go to four places, which is said in otelog.yaml and not here."""

from __future__ import annotations

import otelog


def main() -> None:
    """Take three payments, one of which fails, and say what became of the records."""
    otelog.configure(config_file="otelog.yaml")
    log, payments = otelog.get_logger("shop"), otelog.get_logger("shop.payments")
    log.info("the shop is open")
    payments.info("paid", amount=12.5)
    payments.warning("paid late", amount=99.0)
    payments.error("card refused", amount=49.5)
    otelog.flush()
    for name, exporter in otelog.stats().exporters.items():
        print(f"{name}: {exporter.exported} exported, {exporter.filtered} not for it")


if __name__ == "__main__":
    main()
