"""What the notifier counts and measures."""

from services.kit import metrics

NEWS_DELAY = metrics.histogram(
    "catraca_notifier_news_delay_seconds",
    "Time from a state's arrival in the stream until this replica handed it to its streams.",
    buckets=metrics.DELAY_BUCKETS_S,
)
TOLD = metrics.counter("catraca_notifier_updates_total", "States of orders written to clients' streams.")
BUYERS = metrics.gauge("catraca_notifier_buyers", "Buyers whom open streams tell of.")
READS = metrics.counter(
    "catraca_notifier_reads_total",
    "Readings of buyers' last states; one that failed is tried again.",
    "outcome",
)
