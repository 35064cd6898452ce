"""Reads everything of a sale, in the order that makes the parts fit while the sale goes on.

What a step makes possible is read after what the step follows from: a ticket row before the unit that must be
sold for it, a row before the message it came from. The audit tolerates what may be ahead: the provider, the
ledger and the streams, each of the rows that were read before.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from redis.asyncio import Redis

from local.audit import load_postgres, load_provider, load_redis, load_streams
from local.audit.config import AuditSettings
from local.audit.facts import Facts
from local.discovery import RunningStack
from services.checkout.providers.sandbox import load_secrets
from services.kit.rights import AUDITOR
from services.kit.signing import load_signing_ring
from services.kit.streams import inbox_of

# A line of a hundred thousand buyers is one answer, which takes seconds to parse.
READ_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Sources:
    """Where the stores, the streams and the provider are."""

    redis_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    postgres_url: str = field(repr=False)
    provider_url: str
    provider_key: str = field(repr=False)
    ticket_key_file: Path | None = None
    ca_file: str | None = None
    """The CA of NATS' certificate, where its URL asks for TLS."""
    redis_ca_file: str | None = None
    """The CA of Redis' certificate, likewise."""

    @classmethod
    def of(cls, running: RunningStack) -> "Sources":
        """Those of a running stack."""
        return cls(
            redis_url=running.auditor["redis"],
            nats_url=running.auditor["nats"],
            postgres_url=running.auditor["postgres"],
            provider_url=running.sandbox_url,
            provider_key=load_provider.api_key(Path(running.keys["sandbox"])),
            ticket_key_file=Path(running.keys["ticket"]),
            ca_file=running.certificate.get("ca"),
        )

    @classmethod
    def told(cls, settings: AuditSettings) -> "Sources":
        """Those of a cluster, as its settings say. Raises SettingError for a key file that does not fit."""
        return cls(
            redis_url=settings.redis_url,
            nats_url=settings.nats_url,
            postgres_url=settings.postgres_url,
            provider_url=settings.sandbox_url,
            provider_key=load_secrets(settings.sandbox_key_file).api_key,
            ticket_key_file=settings.ticket_key_file,
            ca_file=_path(settings.nats_ca_file),
            redis_ca_file=_path(settings.redis_ca_file),
        )

    def ticket_keys(self) -> dict[str, bytes]:
        """The public keys that tickets verify with, revoked ones too: what the store holds is ours."""
        if self.ticket_key_file is None:
            return {}
        ring = load_signing_ring(self.ticket_key_file, "ticket_key_file")
        return {key.id: key.public for key in ring.keys}


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file)


async def _connect_nats(sources: Sources) -> Client:
    context = ssl.create_default_context(cafile=sources.ca_file) if sources.ca_file else None
    return await nats.connect(sources.nats_url, inbox_prefix=inbox_of(AUDITOR), tls=context)


async def load(sources: Sources, sale: str, *, settled: bool) -> Facts:
    """The sale's facts. Raises SaleUnknown."""
    nc = await _connect_nats(sources)
    # As the services speak; the later protocol would ask for what the auditor may not.
    ca: dict[str, Any] = {"ssl_ca_certs": sources.redis_ca_file} if sources.redis_ca_file else {}
    redis = Redis.from_url(sources.redis_url, socket_timeout=READ_TIMEOUT_S, protocol=2, **ca)
    try:
        js = nc.jetstream()
        definitions = await load_streams.definitions(js, sale)
        latest = definitions[max(definitions)]
        sections = [section.id for section in latest.spec.sections]
        checkout = await load_postgres.checkout(sources.postgres_url, sale)
        sessions = await load_provider.sessions(sources.provider_url, sources.provider_key, sale)
        queue_store, queue_outbox = await load_redis.queue(redis, sale)
        inventory_store, inventory_outbox = await load_redis.inventory(redis, sale, sections)
        queue_batches, queue = await load_streams.queue(js, sale)
        inventory_batches, inventory = await load_streams.inventory(js, sale)
        announced = await load_streams.announced(js, sale)
        return Facts(
            sale=sale,
            definitions=definitions,
            settled=settled,
            inventory_batches=inventory_batches,
            inventory=inventory,
            inventory_outbox=inventory_outbox,
            inventory_store=inventory_store,
            queue_batches=queue_batches,
            queue=queue,
            queue_outbox=queue_outbox,
            queue_store=queue_store,
            draw=await load_streams.draw_secrets(js, sale),
            intake=await load_streams.intake(js, sale),
            announced=announced,
            orders=checkout.orders,
            tickets=checkout.tickets,
            payments=checkout.payments,
            unpublished=checkout.unpublished,
            sessions=sessions,
            ticket_keys=sources.ticket_keys(),
        )
    finally:
        await redis.aclose()
        await nc.close()
