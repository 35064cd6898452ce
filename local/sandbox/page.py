"""The page where a person pays: an amount and two buttons."""

import html

from aiohttp import web

from local.sandbox.sessions import Body

WORDS = {
    "open": "Nothing is charged: this is a sandbox.",
    "processing": "Your card is being checked.",
    "authorized": "Thank you. The amount is reserved; your tickets come from the shop.",
    "captured": "Paid.",
    "voided": "This payment was cancelled.",
    "refunded": "This payment was refunded.",
    "expired": "The time to pay is over.",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox payment</title>
<style>
  body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem;
         color: #1b1b1f; background: #fafafc; }}
  h1 {{ font-size: 2.4rem; margin: 0; }}
  button {{ font: inherit; padding: .7rem 1.4rem; margin: 1rem .5rem 0 0; border: 0; border-radius: .5rem;
            color: #fff; background: #14632f; cursor: pointer; }}
  button[value=decline] {{ background: #8c1d18; }}
  small {{ color: #55555e; }}
</style>
<small>Sandbox payment provider</small>
<h1>{amount} {currency}</h1>
<p>{words}</p>
{form}
<p><small>Order {order}</small></p>
"""
FORM = """<form method="post">
  <button name="card" value="approve">Approve</button><button name="card" value="decline">Decline</button>
</form>"""


def response(session: Body, state: str) -> web.Response:
    """The page of a session in this state."""
    words = WORDS[state]
    if state == "open" and session["declines"]:
        words = "The card was declined. You may try another one."
    text = PAGE.format(
        amount=f"{session['amount'] / 100:.2f}",
        currency=html.escape(session["currency"]),
        words=words,
        form=FORM if state == "open" else "",
        order=html.escape(session["order_id"]),
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})
