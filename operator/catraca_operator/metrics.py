"""What the operator counts and measures."""

from services.kit import metrics

LATENESS_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

LATENESS = metrics.histogram(
    "catraca_operator_lateness_seconds",
    "Time from opensAt or closesAt until the services said so, by their own clock.",
    "boundary",
    buckets=LATENESS_BUCKETS_S,
)
RECONCILE = metrics.histogram(
    "catraca_operator_reconcile_seconds", "Time a sale's reconciliation took, with its calls.", "outcome"
)
WAIT = metrics.histogram(
    "catraca_operator_wait_seconds",
    "Time from a change of a resource until its reconciliation was done.",
    buckets=metrics.DELAY_BUCKETS_S,
)
API_CALLS = metrics.counter(
    "catraca_operator_api_calls_total", "Calls to Kubernetes, watches left aside.", "call", "outcome"
)
SALES = metrics.gauge("catraca_operator_sales", "TicketSale resources that are looked after.")
FLOORS = metrics.gauge(
    "catraca_operator_floor_replicas", "The floor that sales ask for, by service.", "service"
)
MISSING = metrics.gauge(
    "catraca_operator_missing_replicas",
    "Replicas that sales ask for beyond what the service may have.",
    "service",
)
