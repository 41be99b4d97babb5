"""A small shop in Flask, which logs as an application does: through otelog and through standard `logging`."""

from __future__ import annotations

import itertools
import logging
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

from flask import Flask, jsonify, request

import otelog
from otelog.flask import FlaskLogging
from otelog.flask.options import ACCESS_LOGGER

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

log = otelog.get_logger("shop.web")
payment_log = otelog.get_logger("shop.payment")
ai_log = otelog.get_logger("shop.ai")
stock_log = logging.getLogger("shop.stock")

CATALOGUE = {
    "mug": ("Enamel mug", 12.5),
    "lamp": ("Reading lamp", 49.0),
    "rug": ("Wool rug", 180.0),
    "tea": ("Green tea, 100 g", 8.9),
    "café": ("Café crème set", 27.0),
    "book": ("Notebook, dotted", 6.5),
}
MODEL = "shop-assistant-1"
DECLINED_SHARE = 0.2
LOW_STOCK = 3
TIMEOUT_SHARE = 0.05


class PaymentDeclinedError(Exception):
    """The bank said no."""


class ModelTimeoutError(Exception):
    """The language model said nothing in time."""


class BankUnreachableError(Exception):
    """The bank said nothing."""


def create_shop() -> Flask:
    """Build the shop, with an access record for each request, and the request's trace in all its records.

    Returns:
        The application; `otelog.configure` is the caller's to call.
    """
    pages = _Shop()
    shop = Flask("shop")
    # Not on the console as well: whoever watches the demo sees the records.
    logging.getLogger(ACCESS_LOGGER).setLevel(logging.CRITICAL + 1)
    FlaskLogging(shop, excluded_urls="health", access_log_excluded=["/health"])
    shop.get("/health")(pages.health)
    shop.get("/search")(pages.search)
    shop.post("/checkout")(pages.checkout)
    shop.post("/pay")(pages.pay)
    shop.post("/ai/answer")(pages.answer)
    return shop


class _Shop:
    """The shop's stock and orders, and what its pages do."""

    def __init__(self) -> None:
        self._chance = random.Random()
        self._order_ids = itertools.count(1001)
        self._stock = dict.fromkeys(CATALOGUE, 40)

    def health(self) -> ResponseReturnValue:
        """Say that the shop is up."""
        log.debug("health asked")
        return jsonify(status="ok")

    def search(self) -> ResponseReturnValue:
        """Find items by a part of their titles."""
        query = request.args.get("q", "")
        self._work(0.008)
        found = [key for key, (title, _) in CATALOGUE.items() if query.lower() in title.lower()]
        log.info("search for %r found %d", query, len(found), query=query, hits=len(found))
        if not found:
            log.warning("nothing found for %r", query, query=query)
        return jsonify(items=found)

    def checkout(self) -> ResponseReturnValue:
        """Place an order, and order more of what runs out."""
        wanted = _read_body().get("items")
        items = (
            [item for item in wanted if isinstance(item, str) and item in CATALOGUE] if isinstance(wanted, list) else []
        )
        if not items:
            log.warning("checkout of an empty basket")
            return jsonify(error="the basket is empty"), 400
        order_id = next(self._order_ids)
        amount = round(sum(CATALOGUE[item][1] for item in items), 2)
        for item in items:
            self._stock[item] -= 1
            if self._stock[item] <= LOW_STOCK:
                stock_log.warning("only %d of %s left, ordering more", self._stock[item], item, extra={"item": item})
                self._stock[item] += 40
        self._work(0.015)
        stock_log.info("reserved %d items for order %d", len(items), order_id, extra={"order_id": order_id})
        log.info("order %d placed", order_id, order_id=order_id, amount=amount, basket=items)
        return jsonify(order_id=order_id, amount=amount), 201

    def pay(self) -> ResponseReturnValue:
        """Charge an order; the bank declines some."""
        order = _read_body()
        order_id, amount = order.get("order_id"), order.get("amount")
        try:
            self._charge(order_id, amount)
        except PaymentDeclinedError:
            payment_log.exception("charge failed", order_id=order_id, amount=amount)
            return jsonify(error="the payment was declined"), 402
        payment_log.event("order.paid", order_id=order_id, amount=amount, currency="EUR")
        return jsonify(paid=True)

    def answer(self) -> ResponseReturnValue:
        """Answer a question, as a language model would."""
        question = str(_read_body().get("question", ""))
        call = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "shop",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.temperature": 0.2,
        }
        started = time.perf_counter()
        try:
            text = self._ask_model(question)
        except ModelTimeoutError as error:
            # The name of the conventions' metric, in seconds, as in an access record.
            seconds = time.perf_counter() - started
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            failure = {"gen_ai.client.operation.duration": seconds, "error.type": kind}
            ai_log.exception("no answer from the model", **call, **failure)
            return jsonify(error="ask again later"), 503
        seconds = time.perf_counter() - started
        cut = self._chance.random() < 0.1
        ai_log.info(
            "answered a question in %.0f ms",
            seconds * 1000,
            **call,
            **{
                "gen_ai.client.operation.duration": seconds,
                "gen_ai.response.id": f"answer-{uuid.UUID(int=self._chance.getrandbits(128))}",
                "gen_ai.response.model": MODEL,
                "gen_ai.response.finish_reasons": ["length" if cut else "stop"],
                "gen_ai.usage.input_tokens": len(question.split()) + 20,
                "gen_ai.usage.output_tokens": 64 if cut else len(text.split()),
            },
        )
        if cut:
            ai_log.warning("answer cut at %d tokens", 64, **{"gen_ai.request.model": MODEL})
        return jsonify(answer=text)

    def _ask_model(self, question: str) -> str:
        self._work(0.04)
        if self._chance.random() < TIMEOUT_SHARE:
            raise ModelTimeoutError("no answer from the model within 3 s")
        return "We ship within two days." if "ship" in question else "Ask us about mugs, lamps and tea."

    def _charge(self, order_id: Any, amount: Any) -> None:
        self._work(0.02)
        if self._chance.random() < DECLINED_SHARE:
            try:
                raise BankUnreachableError("no answer from the bank within 3 s")
            except BankUnreachableError as error:
                raise PaymentDeclinedError(f"order {order_id}: {amount} EUR not charged") from error

    def _work(self, seconds: float) -> None:
        time.sleep(self._chance.uniform(0.5, 1.5) * seconds)


def _read_body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    return body if isinstance(body, dict) else {}
