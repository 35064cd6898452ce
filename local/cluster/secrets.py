"""Makes the Secrets that nobody gave: `python -m local.cluster.secrets`, a hook of the chart.

A Secret that exists is never made anew: with other keys, tickets would not verify and buyers would be
strangers. So it can run at every install and upgrade, also twice at once. It is no part of the release: what
it made outlives `helm uninstall`, no release record holds it, and no template can change it.
"""

from dataclasses import dataclass

from local.cluster.contents import MAKERS, Addresses, Maker
from local.cluster.secret_store import SecretStore
from services.kit import logs
from services.kit.settings import REQUIRED, SettingError, exit_for, load_or_exit, setting, variable_of

NAME = "secrets"
LABELS = {"app.kubernetes.io/part-of": "catraca", "app.kubernetes.io/component": NAME}

_log = logs.get_logger(NAME)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is to be made, and for which servers."""

    namespace: str = setting(REQUIRED, "Kubernetes namespace of the Secrets.")
    secrets_prefix: str = setting(REQUIRED, "What each Secret's name begins with, before `-<what it holds>`.")
    secrets_made: list[str] = setting(REQUIRED, f"Which to make if missing: some of {', '.join(MAKERS)}.")
    redis_address: str = setting("", "host:port of the Redis that passwords are made for.")
    nats_address: str = setting("", "host:port of the NATS that passwords are made for.")
    postgres_address: str = setting("", "host:port of the Postgres that passwords are made for.")


def make(store: SecretStore, settings: Settings) -> None:
    """Make what is missing, and renew what follows from the rest. Raises SettingError for an unknown one."""
    at = Addresses(settings.redis_address, settings.nats_address, settings.postgres_address)
    unknown = set(settings.secrets_made) - set(MAKERS)
    if unknown:
        expected = f"some of {', '.join(MAKERS)}"
        raise SettingError(variable_of("secrets_made"), ", ".join(sorted(unknown)), expected)
    for what in settings.secrets_made:
        name, maker = f"{settings.secrets_prefix}-{what}", MAKERS[what]
        present = store.read(name)
        if present is None and store.create(name, maker.new(at), LABELS):
            _log.info("secret_made", secret=name)
        else:
            _renew(store, name, maker)


def _renew(store: SecretStore, name: str, maker: Maker) -> None:
    present = store.read(name) or {}
    changed = {key: text for key, text in maker.derived(present).items() if present.get(key) != text}
    if changed:
        store.change(name, changed)
    _log.info("secret_kept", secret=name, renewed=sorted(changed))


def main() -> None:
    """Make them and end; anything that fails ends it with an error, and Kubernetes runs it again."""
    settings = load_or_exit(Settings)
    logs.configure(NAME)
    try:
        make(SecretStore(settings.namespace), settings)
    except SettingError as error:
        exit_for(error)


if __name__ == "__main__":
    main()
