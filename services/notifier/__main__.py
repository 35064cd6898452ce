"""Starts the notifier: `python -m services.notifier`."""

import asyncio

from catraca.notifier.v1 import notifier_pb2_grpc

from services.kit import logs, server, tls
from services.kit.definitions import Definitions
from services.kit.settings import load_or_exit
from services.kit.streams import connect_nats, prepare
from services.kit.tasks import stop
from services.notifier.config import Settings
from services.notifier.rpc import NotifierServicer
from services.notifier.store import LiveNews, Snapshots, lost_holds, turn_news
from services.notifier.streams import Streams
from services.notifier.workers.live import follow
from services.notifier.workers.snapshots import SnapshotReader

NAME = "notifier"
SERVICE = "catraca.notifier.v1.NotifierService"


async def main(settings: Settings) -> None:
    """Serve until the process is told to stop."""
    nc = await connect_nats(settings, NAME, tls.to_nats(settings))
    js = nc.jetstream()
    await prepare(js, settings, NAME)
    definitions = Definitions(js)
    await definitions.start()
    streams = Streams(
        max_streams=settings.max_streams,
        max_pending=settings.max_pending_per_stream,
        max_orders=settings.max_orders_per_stream,
    )
    async with (
        LiveNews(nc, streams.forget_position) as news,
        lost_holds(nc, streams.forget_position) as lost,
        turn_news(nc, streams.forget_position) as turns,
    ):
        reader = SnapshotReader(
            Snapshots(nc), news, buyers_per_read=settings.buyers_per_read, retry_s=settings.read_retry_s
        )
        servicer = NotifierServicer(settings, streams, reader, definitions.find)
        service = (notifier_pb2_grpc.add_NotifierServiceServicer_to_server, servicer, SERVICE)
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(follow(news, streams)),
                tasks.create_task(follow(lost, streams)),
                tasks.create_task(follow(turns, streams)),
                tasks.create_task(reader.run()),
            ]
            await server.serve(NAME, settings, [service], on_drain=streams.drain)
            await stop(*workers)
    await definitions.close()
    await nc.close()


if __name__ == "__main__":
    chosen = load_or_exit(Settings)
    logs.configure(NAME, chosen.log_level)
    server.run(lambda: main(chosen))
