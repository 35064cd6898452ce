"""A sale as a TicketSale manifest: judged by the CRD's schema and rules, made into a SaleSpec and back."""

from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from catraca.sale.v1.sale_pb2 import SaleSpec

from services.kit.schema import Problem, Schema
from services.kit.spec import KUBERNETES_ONLY, beyond_size, message_of, values_of

__all__ = [
    "ManifestInvalid",
    "Problem",
    "check_size",
    "defaulted",
    "load_manifest",
    "manifest_of",
    "read_manifests",
    "said_to_operator",
    "spec_of",
    "validate",
]

API_VERSION = "catraca.dev/v1alpha1"
KIND = "TicketSale"
VERSION = "v1alpha1"
FILE = "ticketsales.catraca.dev.yaml"


class ManifestInvalid(Exception):
    """A manifest that is no sale; `problems` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


def crd_file() -> Path:
    """The CRD: in the chart of a checkout, beside this module in an installed wheel."""
    in_checkout = Path(__file__).parents[2] / "charts" / "catraca" / "files" / FILE
    return in_checkout if in_checkout.exists() else Path(__file__).with_name(FILE)


@cache
def crd_schema() -> Schema:
    """The schema of the CRD's version."""
    crd = yaml.safe_load(crd_file().read_text())
    (version,) = (version for version in crd["spec"]["versions"] if version["name"] == VERSION)
    return Schema(version["schema"]["openAPIV3Schema"])


def validate(manifest: dict[str, Any]) -> list[Problem]:
    """What is wrong with a manifest, defaults filled in first; empty where nothing is."""
    problems = [
        Problem(field, f"must be {expected}")
        for field, expected in (("apiVersion", API_VERSION), ("kind", KIND))
        if manifest.get(field) != expected
    ]
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") is None:
        problems.append(Problem("metadata.name", "is required"))
        metadata = {}
    # Labels, annotations and the like are the API server's own business; the status is the operator's.
    judged = {field: value for field, value in manifest.items() if field != "status"}
    judged["metadata"] = {"name": metadata["name"]} if "name" in metadata else {}
    return problems + crd_schema().problems(judged)


def load_manifest(text: str) -> tuple[str, SaleSpec]:
    """The one sale of a YAML text: its id and its definition with defaults. Raises ManifestInvalid."""
    manifests = read_manifests(text)
    if len(manifests) != 1:
        raise ManifestInvalid([Problem("", f"one manifest is expected, not {len(manifests)}")])
    return spec_of(manifests[0])


def read_manifests(text: str) -> list[dict[str, Any]]:
    """The YAML documents of a text, read as Kubernetes reads them. Raises ManifestInvalid."""
    try:
        documents = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.YAMLError as error:
        raise ManifestInvalid([Problem("", f"is not YAML: {error}")]) from error
    if not all(isinstance(document, dict) for document in documents):
        raise ManifestInvalid([Problem("", "is not a mapping")])
    return cast("list[dict[str, Any]]", documents)


def check_size(sale: str, spec: SaleSpec) -> None:
    """Raises ManifestInvalid for lists and texts that are longer than the schema takes.

    Judging a definition takes time that grows with it, so this comes first and costs a count of each list.
    """
    schema = crd_schema()
    problems = list(beyond_size(spec, schema.field("spec"), "spec"))
    if len(sale) > (most := schema.field("metadata", "name")["maxLength"]):
        problems.append(Problem("metadata.name", f"must have at most {most} characters"))
    if problems:
        raise ManifestInvalid(problems)


def spec_of(manifest: dict[str, Any]) -> tuple[str, SaleSpec]:
    """The sale's id and its definition with defaults. Raises ManifestInvalid."""
    problems = validate(manifest)
    if problems:
        raise ManifestInvalid(problems)
    spec = SaleSpec()
    message_of(defaulted(manifest), spec)
    return manifest["metadata"]["name"], spec


def said_to_operator(manifest: dict[str, Any]) -> list[str]:
    """The paths that a manifest sets and that have an effect in Kubernetes only."""
    return [f"spec.{name}" for name in sorted(KUBERNETES_ONLY & manifest["spec"].keys())]


def defaulted(manifest: dict[str, Any]) -> dict[str, Any]:
    """A valid manifest's `spec` with the schema's defaults, also what a SaleSpec does not carry."""
    return cast("dict[str, Any]", crd_schema().with_defaults(manifest)["spec"])


def spec_to_manifest(spec: SaleSpec) -> dict[str, Any]:
    """A manifest's `spec`. What a SaleSpec leaves out, and what proto cannot tell from it, is left out."""
    return values_of(spec)


def manifest_of(sale: str, spec: SaleSpec) -> dict[str, Any]:
    """The whole manifest of a sale."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": sale},
        "spec": spec_to_manifest(spec),
    }


class _Loader(yaml.SafeLoader):
    """YAML as the API server takes it: times stay text, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
