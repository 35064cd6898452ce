"""Redis, NATS and Postgres as supervised child processes on loopback."""
