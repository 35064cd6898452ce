"""The CRD of the chart on an API server."""

import yaml

from services.kit.manifest import crd_file
from tests.cluster.plane.api import Api, Json
from tests.cluster.plane.waiting import eventually

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def apply_crd(api: Api) -> Json:
    """Apply it and wait until its resources can be made; the CRD as the server stores it."""
    crd = yaml.safe_load(crd_file().read_text())
    path = f"{PATH}/{crd['metadata']['name']}"
    api.apply(path, crd)
    return eventually(lambda: api.get(path), established)


def established(crd: Json) -> bool:
    """Whether the API server serves the resources of a CRD."""
    conditions = crd["status"]["conditions"]
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
