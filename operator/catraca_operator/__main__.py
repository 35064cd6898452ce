"""Starts the operator: `catraca operator`, or `python -m catraca_operator`."""

import asyncio
import socket

import kopf

from catraca_operator import handlers
from catraca_operator.clock import Clock
from catraca_operator.config import Settings
from catraca_operator.fleet import Body, Fleet
from catraca_operator.forecast import PerReplica
from catraca_operator.keda import Keda
from catraca_operator.keeper import Keeper
from catraca_operator.progress import Progress
from catraca_operator.reconcile import Limits
from catraca_operator.resources import Cluster
from catraca_operator.sales import Sales
from catraca_operator.scaler import Scaler
from catraca_operator.watch import Watched
from services.kit import logs, metrics, tls
from services.kit.channels import Channels
from services.kit.settings import SettingError, exit_for, load_or_exit

NAME = "operator"


def limits_of(settings: Settings) -> Limits:
    """The bounds of reconciliation, in milliseconds."""
    return Limits(
        hold_back_ahead_ms=round(settings.hold_back_ahead_s * 1000),
        hold_back_most_ms=round(settings.hold_back_most_s * 1000),
        refresh_ms=round(settings.refresh_s * 1000),
        idle_ms=round(settings.idle_s * 1000),
    )


def channels_of(settings: Settings) -> Channels:
    """Channels to the services, with the operator's token and its certificate. Raises SettingError."""
    return Channels(settings.organiser_token_file, tls.ChannelFiles(settings))


def wire(settings: Settings, channels: Channels, progress: Progress) -> Watched:
    """Puts the parts together; nothing runs yet."""
    clock = Clock()
    cluster = Cluster(settings.namespace, socket.gethostname())
    sales = Sales(channels, settings.queue_target, settings.checkout_target, clock)
    watched = Watched(Fleet(settings.part_of), progress)
    scaler = Scaler(cluster, watched.fleet, watched.wishes, clock)
    keda = Keda(cluster, watched.fleet, watched.fleet_changed, settings.keda_poll_s)
    turns = asyncio.Semaphore(settings.at_once)
    limits = limits_of(settings)
    per_replica = PerReplica(
        settings.watchers_per_replica,
        settings.holds_per_replica_s,
        settings.orders_per_replica_s,
        settings.streams_per_replica,
    )

    def keeper(body: Body) -> Keeper:
        return Keeper(
            body,
            cluster=cluster,
            sales=sales,
            scaling=scaler,
            clock=clock,
            limits=limits,
            per_replica=per_replica,
            turns=turns,
        )

    watched.wire(keeper, scaler, keda)
    return watched


async def main(settings: Settings) -> None:
    """Watches and reconciles until the process is told to stop."""
    progress = Progress(settings.stuck_s)
    channels = channels_of(settings)
    watched = wire(settings, channels, progress)
    try:
        async with metrics.listening(settings, lambda: progress.healthy):
            await kopf.operator(
                registry=handlers.registry(watched),
                settings=handlers.settings(),
                namespaces=[settings.namespace],
                # Two at once do no harm, so there is nothing to agree on: see floors.py and reconcile.py.
                standalone=True,
            )
    finally:
        await channels.close()


def start() -> None:
    """Run by the settings in the environment; a wrong one ends the process with its sentence and status 2."""
    chosen = load_or_exit(Settings)
    logs.configure(NAME, chosen.log_level)
    try:
        asyncio.run(main(chosen))
    except SettingError as error:
        exit_for(error)


if __name__ == "__main__":
    start()
