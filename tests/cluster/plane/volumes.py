"""Volumes for whoever claims one. Nothing is ever written to them: no container runs."""

from pathlib import Path

from tests.cluster.plane.api import Api

STORAGE_CLASS = "played"
# A claim uses one up for good: its volume is not given to another after it.
COUNT = 50
SIZE = "100Gi"


def provide_volumes(api: Api, folder: Path) -> None:
    """A default StorageClass, and volumes of it that wait to be claimed."""
    metadata = {
        "name": STORAGE_CLASS,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata,
        "provisioner": "kubernetes.io/no-provisioner",
    }
    api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class)
    for number in range(COUNT):
        spec = {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": str(folder / "volumes" / str(number))},
        }
        volume = {"kind": "PersistentVolume", "metadata": {"name": f"volume-{number}"}, "spec": spec}
        api.create("/api/v1/persistentvolumes", {"apiVersion": "v1", **volume})
