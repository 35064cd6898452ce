"""A payment provider to try everything against: its own process, its own ledger, real signed webhooks."""
