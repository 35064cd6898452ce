"""TicketSale manifests that are right and wrong: each row breaks, or keeps, one rule of the CRD.

`catraca apply` judges them (tests/unit/kit/test_manifest.py), and so does a real API server
(tests/cluster/test_one_judgement.py): both accept and refuse the same, for the same fields.
"""

import copy
from typing import Any

DROP = object()
GOOD: dict[str, Any] = {
    "apiVersion": "catraca.dev/v1alpha1",
    "kind": "TicketSale",
    "metadata": {"name": "show"},
    "spec": {
        "title": "A show",
        "currency": "BRL",
        "sections": [
            {"id": "floor", "capacity": 100, "ticketTypes": [{"id": "full", "price": 5000}]},
            {"id": "balcony", "capacity": 50, "ticketTypes": [{"id": "full", "price": 3000}]},
        ],
        "window": {"opensAt": "2027-01-01T10:00:00Z", "closesAt": "2027-01-02T10:00:00Z"},
    },
}


def edited(path: list[Any], value: Any) -> dict[str, Any]:
    """GOOD with the value at `path` replaced, added, or dropped."""
    return edited_often([(path, value)])


def edited_often(edits: list[tuple[list[Any], Any]]) -> dict[str, Any]:
    """GOOD with several values replaced, added, or dropped."""
    manifest = copy.deepcopy(GOOD)
    for path, value in edits:
        holder: Any = manifest
        for step in path[:-1]:
            if isinstance(holder, dict):
                holder.setdefault(step, {})
            holder = holder[step]
        if value is DROP:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
    return manifest


SECTION = ["spec", "sections", 0]
TICKET = [*SECTION, "ticketTypes", 0]
WINDOW = ["spec", "window"]
QUEUE = ["spec", "scaling", "services", "queue"]
OVERRIDE = {"until": "2027-01-01T12:00:00Z", "reason": "more came", "floors": {"queue": 0}}


def seated(*, without: str = "", **changes: Any) -> dict[str, Any]:
    """The spec of a sale with a seated section, which these changes are made to, and a standing one."""
    section = {
        "id": "stalls",
        "kind": "Seated",
        "seats": {"categories": ["Stalls", "Boxes"]},
        "ticketTypes": [{"id": "full", "price": 9000, "quota": 40}],
    }
    section |= changes
    spec = GOOD["spec"] | {
        "seatingPlan": {"digest": "a" * 64},
        "sections": [section, GOOD["spec"]["sections"][1]],
    }
    for of in (section, spec):
        of.pop(without, None)
    return dict(spec)


EVERYTHING = {"categories": ["A"], "focus": "Centre", "accessible": ["1"], "companion": ["2"]}
PLANNED = {"digest": "a" * 64, "releaseAt": "2027-01-02T10:00:00Z"}
LATE = {"digest": "a" * 64, "releaseAt": "late"}
ACCEPTED = [
    (["spec", "title"], "x" * 200),
    (["metadata", "name"], "a"),
    (["metadata", "name"], "x" * 63),
    (["metadata", "labels"], {"team": "events"}),
    (["status"], {"phase": "Open"}),
    ([*SECTION, "capacity"], 1_000_000),
    ([*TICKET, "price"], 0),
    ([*TICKET, "price"], 1_000_000_000),
    ([*TICKET, "quota"], 100),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T10:00:00Z"),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T07:00:00-03:00"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00.250Z"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00.123456789+03:00"),
    ([*WINDOW, "lobbyOpensAt"], None),
    (["spec", "title"], "ç" * 200),
    ([*SECTION, "title"], None),
    ([*SECTION, "kind"], None),
    ([*TICKET, "quota"], None),
    (["spec", "seatingPlan"], None),
    ([*SECTION, "seats"], None),
    (["spec"], seated()),
    (["spec"], seated(capacity=90)),
    (["spec"], seated() | {"seatingPlan": PLANNED}),
    (["spec"], seated(seats=EVERYTHING)),
    (["spec", "limits", "perBuyer"], 4.0),
    (["spec", "delivery", "webhookUrl"], "https://organiser.example/\N{NO-BREAK SPACE}"),
    (["spec", "line"], {"kind": "None"}),
    (["spec", "line"], None),
    (["spec", "line"], {"accessCodeRequired": True, "challengeRequired": True}),
    (["spec", "line", "beacon"], f"drand:{'5' * 64}"),
    (["spec", "line", "beacon"], ""),
    (["spec", "line", "turnDuration"], "1s"),
    (["spec", "line", "turnDuration"], "24h"),
    (["spec", "line", "turnDuration"], "1h30m5s250ms"),
    (["spec", "line", "rate"], 0.5),
    (["spec", "line", "rate"], 200),
    (["spec", "holds", "duration"], "5s"),
    (["spec", "limits", "perBuyer"], 100),
    (["spec", "delivery", "webhookUrl"], "https://organiser.example/hooks?a=b"),
    (["spec", "refunds"], {"allowed": True, "until": "2027-01-03T10:00:00Z"}),
    (["spec", "openPolicy"], "WhenReady"),
    (["spec", "scaling"], {"leadTime": "1s", "cooldown": "24h", "warmUpSteps": 20, "raiseByForecast": True}),
    (["spec", "scaling", "services"], {"queue": {"floor": 0, "peak": 0, "max": 0}}),
    (["spec", "scaling", "services"], {"notifier": {"floor": 2, "peak": 2, "max": 1000}}),
    (["spec", "override"], OVERRIDE),
]


REFUSED = [
    (["apiVersion"], "catraca.dev/v2", "apiVersion", "must be catraca.dev/v1alpha1"),
    (["kind"], "Sale", "kind", "must be TicketSale"),
    (["metadata"], DROP, "metadata.name", "is required"),
    (["metadata", "name"], DROP, "metadata.name", "is required"),
    (["metadata", "name"], "Show", "metadata.name", "must be a DNS label"),
    (["metadata", "name"], "show\n", "metadata.name", "must be a DNS label"),
    (["metadata", "name"], "-show", "metadata.name", "must be a DNS label"),
    (["metadata", "name"], "x" * 64, "metadata.name", "at most 63 characters"),
    (["metadata", "name"], 7, "metadata.name", "must be text"),
    (["spec"], DROP, "spec", "is required"),
    (["spec"], [], "spec", "must be a mapping"),
    (["spec", "title"], DROP, "spec.title", "is required"),
    (["spec", "title"], "", "spec.title", "must not be empty"),
    (["spec", "title"], "x" * 201, "spec.title", "at most 200 characters"),
    (["spec", "currency"], "brl", "spec.currency", "must be an ISO 4217 code"),
    (["spec", "currency"], "BR", "spec.currency", "must be an ISO 4217 code"),
    (["spec", "sections"], DROP, "spec.sections", "is required"),
    (["spec", "sections"], [], "spec.sections", "must not be empty"),
    (["spec", "seatingPlan"], {"digest": "a" * 64}, "spec.seatingPlan", "need each other"),
    (["spec"], seated(without="seatingPlan"), "spec.seatingPlan", "need each other"),
    (["spec"], seated() | {"seatingPlan": {}}, "spec.seatingPlan.digest", "is required"),
    (["spec"], seated() | {"seatingPlan": LATE}, "spec.seatingPlan.releaseAt", "must be a time like"),
    (["spec"], seated(without="seats"), "spec.sections[0].seats", "seated sections have seats"),
    (["spec"], seated(seats={}), "spec.sections[0].seats.categories", "is required"),
    (["spec"], seated(seats={"categories": []}), "spec.sections[0].seats.categories", "must not be empty"),
    (["spec"], seated(seats={"categories": [7]}), "spec.sections[0].seats.categories[0]", "must be text"),
    (
        ["spec"],
        seated(seats=EVERYTHING | {"focus": "Back"}),
        "spec.sections[0].seats.focus",
        "must be one of Front, Centre",
    ),
    (["spec"], seated(capacity=1_000_001), "spec.sections[0].capacity", "must be at most 1000000"),
    (["spec", "price"], 5, "spec.price", "is not a field"),
    ([*SECTION, "seats"], 5, "spec.sections[0].seats", "must be a mapping"),
    ([*SECTION, "seats"], {"categories": ["A"]}, "spec.sections[0].seats", "standing ones have none"),
    ([*SECTION, "id"], "Floor A", "spec.sections[0].id", "must be a DNS label"),
    (["spec", "sections", 1, "id"], "floor", "spec.sections[1]", "'floor' is given twice"),
    ([*SECTION, "capacity"], DROP, "spec.sections[0].capacity", "is required"),
    ([*SECTION, "capacity"], 0, "spec.sections[0].capacity", "must be at least 1"),
    ([*SECTION, "capacity"], 1_000_001, "spec.sections[0].capacity", "must be at most 1000000"),
    ([*SECTION, "capacity"], "100", "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "capacity"], 1.5, "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "capacity"], True, "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "kind"], "Sitting", "spec.sections[0].kind", "must be one of Standing, Seated"),
    ([*SECTION, "ticketTypes"], [], "spec.sections[0].ticketTypes", "must not be empty"),
    ([*TICKET, "price"], DROP, "spec.sections[0].ticketTypes[0].price", "is required"),
    ([*TICKET, "price"], -1, "spec.sections[0].ticketTypes[0].price", "must be at least 0"),
    ([*TICKET, "price"], 10.5, "spec.sections[0].ticketTypes[0].price", "must be a whole number"),
    ([*TICKET, "quota"], 101, "spec.sections[0].ticketTypes", "no quota may be above"),
    (
        [*SECTION, "ticketTypes"],
        [{"id": "full", "price": 1}, {"id": "full", "price": 2}],
        "spec.sections[0].ticketTypes[1]",
        "'full' is given twice",
    ),
    ([*WINDOW, "opensAt"], DROP, "spec.window.opensAt", "is required"),
    ([*WINDOW, "opensAt"], "tomorrow", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "closesAt"], "2027-01-01T10:00:00Z", "spec.window.closesAt", "must be after opensAt"),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T10:00:01Z", "spec.window.lobbyOpensAt", "not be after opensAt"),
    (["spec", "line", "beacon"], "drand:quicknet", "spec.line.beacon", "must be drand: and the hash"),
    (["spec", "line"], {"kind": "None", "beacon": f"drand:{'5' * 64}"}, "spec.line", "need a line"),
    (["spec", "line"], {"kind": "None", "accessCodeRequired": True}, "spec.line", "need a line"),
    (["spec", "line"], {"kind": "None", "challengeRequired": True}, "spec.line", "need a line"),
    (["spec", "line", "kind"], "Lottery", "spec.line.kind", "must be one of Draw, None"),
    (["spec", "line", "turnDuration"], "5 minutes", "spec.line.turnDuration", "must be a duration like"),
    (["spec", "line", "turnDuration"], "", "spec.line.turnDuration", "must have at least 2"),
    (["spec", "line", "turnDuration"], "999ms", "spec.line.turnDuration", "must be from 1s to 24h"),
    (["spec", "line", "turnDuration"], "24h1s", "spec.line.turnDuration", "must be from 1s to 24h"),
    (["spec", "line", "rate"], -0.5, "spec.line.rate", "must be at least 0"),
    (["spec", "line", "rate"], float("nan"), "spec.line.rate", "must be at least 0"),
    (["spec", "line", "rate"], float("inf"), "spec.line.rate", "must be at most 1000000"),
    (["spec", "line", "concurrency"], -1, "spec.line.concurrency", "must be at least 0"),
    (["spec", "limits", "perBuyer"], 0, "spec.limits.perBuyer", "must be at least 1"),
    (["spec", "limits", "perBuyer"], 101, "spec.limits.perBuyer", "must be at most 100"),
    (["spec", "holds", "duration"], "4s", "spec.holds.duration", "must be from 5s to 24h"),
    (["spec", "payment", "window"], "4s", "spec.payment.window", "must be from 5s to 72h"),
    (["spec", "payment", "grace"], "2h", "spec.payment.grace", "must be from 1s to 1h"),
    (["spec", "orders", "queueMax"], "0s", "spec.orders.queueMax", "must be from 1s to 24h"),
    (["spec", "paused"], "no", "spec.paused", "must be true or false"),
    (["spec", "delivery", "webhookUrl"], "ftp://a", "spec.delivery.webhookUrl", "must be a URL"),
    (["spec", "refunds"], {"until": "2027-01-03T10:00:00Z"}, "spec.refunds.until", "needs allowed"),
    (["spec", "openPolicy"], "Never", "spec.openPolicy", "must be one of OnTime, WhenReady"),
    (["spec", "scaling"], {"leadTime": "0s"}, "spec.scaling.leadTime", "must be from 1s to 24h"),
    (["spec", "scaling"], {"cooldown": "25h"}, "spec.scaling.cooldown", "must be from 1s to 24h"),
    (["spec", "scaling"], {"warmUpSteps": 0}, "spec.scaling.warmUpSteps", "must be at least 1"),
    (["spec", "scaling"], {"warmUpSteps": 21}, "spec.scaling.warmUpSteps", "must be at most 20"),
    (["spec", "scaling", "services"], {"edge": {}}, "spec.scaling.services.edge", "is not a field"),
    (QUEUE, {"floor": 2, "peak": 1, "max": 3}, "spec.scaling.services.queue.peak", "not be below floor"),
    (QUEUE, {"floor": 1, "peak": 3, "max": 2}, "spec.scaling.services.queue.max", "not be below peak"),
    (QUEUE, {"floor": 1, "peak": 3}, "spec.scaling.services.queue.max", "is required"),
    (QUEUE, {"floor": -1, "peak": 3, "max": 3}, "spec.scaling.services.queue.floor", "at least 0"),
    (QUEUE, {"floor": 1, "peak": 3, "max": 1001}, "spec.scaling.services.queue.max", "at most 1000"),
    (["spec", "override"], {**OVERRIDE, "reason": ""}, "spec.override.reason", "must not be empty"),
    (["spec", "override"], {**OVERRIDE, "until": "soon"}, "spec.override.until", "must be a time like"),
    (["spec", "override"], {**OVERRIDE, "floors": {}}, "spec.override.floors", "must name a service"),
    (["spec", "override"], {"reason": "x", "floors": {"queue": 1}}, "spec.override.until", "is required"),
    (["metadata", "name"], None, "metadata.name", "is required"),
    (["metadata", "name"], "a.b", "metadata.name", "must be a DNS label"),
    (["spec", "title"], None, "spec.title", "is required"),
    (["spec", "title"], "ç" * 201, "spec.title", "at most 200 characters"),
    (["spec", "currency"], "ÉUR", "spec.currency", "must be an ISO 4217 code"),
    (["spec", "sections"], None, "spec.sections", "is required"),
    (["spec", "sections"], {}, "spec.sections", "must be a list"),
    (SECTION, None, "spec.sections[0]", "must be a mapping"),
    (SECTION, "floor", "spec.sections[0]", "must be a mapping"),
    ([*SECTION, "id"], None, "spec.sections[0].id", "is required"),
    # A whole number for the schema, and none for the rule that compares it with the quotas.
    ([*SECTION, "capacity"], 100.0, "spec.sections[0]", "no quota may be above"),
    ([*SECTION, "capacity"], 2**31, "spec.sections[0].capacity", "must be at most 1000000"),
    ([*WINDOW, "opensAt"], 7, "spec.window.opensAt", "must be text"),
    ([*WINDOW, "opensAt"], "", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00Z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01 10:00:00Z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01t10:00:00z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00,5Z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00+0300", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-02-30T10:00:00Z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T24:00:00Z", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "0000-01-01T10:00:00Z", "spec.window.opensAt", "must be a time like"),
    (["spec", "window"], None, "spec.window", "is required"),
    (["spec", "line"], [], "spec.line", "must be a mapping"),
    (["spec", "line", "unknown"], None, "spec.line.unknown", "is not a field"),
    (["spec", "line", "concurrency"], 10**20, "spec.line.concurrency", "must be at most 10000000"),
    (["spec", "line", "rate"], "5", "spec.line.rate", "must be a number"),
    (["spec", "limits", "perBuyer"], 4.5, "spec.limits.perBuyer", "must be a whole number"),
    (["spec", "holds", "duration"], "99999999999h", "spec.holds.duration", "must be from 5s to 24h"),
    (["spec", "delivery", "mail"], 1, "spec.delivery.mail", "must be true or false"),
    (["spec", "delivery", "webhookUrl"], "https://a b", "spec.delivery.webhookUrl", "must be a URL"),
    (["spec", "payment", "provider"], "", "spec.payment.provider", "must be a DNS label"),
    (["unknown"], 1, "unknown", "is not a field"),
]

# Manifests of which more than one thing is wrong, with the fields at fault.
REFUSED_FOR_MANY: list[tuple[list[tuple[list[Any], Any]], set[str]]] = [
    (
        [(["spec", "seatingPlan"], {"digest": "A" * 64})],
        {"spec.seatingPlan.digest", "spec.seatingPlan"},
    ),
    (
        [([*SECTION, "capacity"], 0), ([*TICKET, "quota"], 5)],
        {"spec.sections[0].capacity", "spec.sections[0].ticketTypes"},
    ),
    (
        [([*SECTION, "kind"], "Seated"), (["spec", "holds", "duration"], "1s"), ([*TICKET, "price"], -1)],
        {
            *("spec.sections[0].seats", "spec.seatingPlan", "spec.holds.duration"),
            "spec.sections[0].ticketTypes[0].price",
        },
    ),
    (
        [(["spec", "sections", 1, "id"], "floor"), ([*WINDOW, "closesAt"], "2026-01-01T10:00:00Z")],
        {"spec.sections[1]", "spec.window.closesAt"},
    ),
]
