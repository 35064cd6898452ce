"""The page where somebody signs in by typing a name. It is for development, and says so."""

from collections.abc import Mapping
from html import escape

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in – Catraca, development only</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem }}
.note {{ background: #fff3cd; color: #533f03; padding: .75rem 1rem; border-radius: .5rem }}
.problem {{ color: #b00020 }}
label {{ display: block; margin-top: 1rem }}
input, button {{ font: inherit; padding: .5rem; width: 100%; box-sizing: border-box; margin-top: .25rem }}
</style>
</head>
<body>
<h1>Sign in</h1>
<p class="note">Development only: whoever types a name is that person. No password is asked for.</p>
<p>{client} wants to act for you as {roles}.</p>
{problem}
<form method="post" action="authorize">
{hidden}
<label for="name">Your name</label>
<input id="name" name="login_name" autocomplete="username" maxlength="256" required autofocus>
{secret}
<button name="decision" value="allow">Sign in</button>
<button name="decision" value="deny" formnovalidate>Cancel</button>
</form>
</body>
</html>
"""
_SECRET = """<label for="secret">The development secret (keys/issuer-secret in the data folder)</label>
<input id="secret" name="login_secret" type="password" autocomplete="current-password" required>"""


def page(
    fields: Mapping[str, str], *, client: str, roles: list[str], ask_secret: bool, problem: str = ""
) -> str:
    """The form, which carries the request's own fields along."""
    hidden = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
        if not name.startswith("login_") and name != "decision"
    )
    return _PAGE.format(
        client=escape(client),
        roles=escape(" and ".join(roles)),
        hidden=hidden,
        secret=_SECRET if ask_secret else "",
        problem=f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else "",
    )
