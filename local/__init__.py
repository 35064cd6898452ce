"""The whole system on one machine: servers, services, issuer and the `catraca` command."""
