"""Every value is read and every template renders something: what nobody uses misleads whoever sets it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.chart.charts import CHART, EXAMPLES, NotRendered, rendered_text

Json = dict[str, Any]
VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text())
# What is taken apart as a URL.
ADDRESSES = re.compile(r"(Url|\.url|\.issuer|endpoint)$")
# Values that stand beside others which count before them.
BESIDE = {"image.tag": {"image.digest": ""}}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that holds no others, with its default."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}".lstrip("."))
    else:
        yield path, value


LEAVES = dict(leaves(VALUES))


def marked(path: str, default: Any, number: int) -> Any:
    """A value of the default's type that stands nowhere else."""
    word = f"marked-{number}"
    if path.endswith(".settings"):
        return {f"marked_{number}": word}
    if isinstance(default, dict):
        return {word: word}
    if isinstance(default, list):
        numbers = bool(default) and isinstance(default[0], int)
        return [number] if numbers else [{"key": word, "name": word}] if path in OF_OBJECTS else [word]
    if isinstance(default, str):
        return f"https://{word}.example" if ADDRESSES.search(path) else word
    return number


# Lists of mappings.
OF_OBJECTS = {"gateway.parentRefs", "scheduling.tolerations"}


def nested(flat: Json) -> Json:
    """Values by path as the tree that Helm reads."""
    tree: Json = {}
    for path, value in flat.items():
        *above, last = path.split(".")
        at = tree
        for name in above:
            at = at.setdefault(name, {})
        at[last] = value
    return tree


def render(example: str, flat: Json, folder: Path) -> str:
    """An example with other values, whatever the schema says of them."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(nested(flat)))
    return rendered_text(
        *("--values", str(EXAMPLES[example]), "--values", str(file), "--skip-schema-validation")
    )


def test_every_value_is_read(tmp_path: Path) -> None:
    numbers = {path: 70_000 + at for at, path in enumerate(LEAVES)}
    unread = {path for path, default in LEAVES.items() if not isinstance(default, bool)}
    unread -= ENUMS
    # All at once first, and alone what others stood in the way of.
    for example in EXAMPLES:
        text = render(
            example, {path: marked(path, LEAVES[path], numbers[path]) for path in unread - FIRST}, tmp_path
        )
        unread -= {path for path in unread if str(numbers[path]) in text}
    for path in sorted(unread):
        for example in EXAMPLES:
            flat = {path: marked(path, LEAVES[path], numbers[path]), **BESIDE.get(path, {})}
            # Some are added up, so what counts is that it makes a difference.
            if render(example, flat, tmp_path) != render(example, BESIDE.get(path, {}), tmp_path):
                unread.discard(path)
                break
    assert unread == set()


# They decide which others are read, so they are left alone when all are marked.
FIRST = {
    *(path for path in LEAVES if path.endswith(("existingSecret", "caSecret", "Secret"))),
    *("image.digest", "fullnameOverride", "payment.sandbox.url", "identity.issuer", "identity.jwksUrl"),
}
ENUMS = {
    "autoscaling.source",
    "edge.service.type",
    "edge.service.externalTrafficPolicy",
    "image.pullPolicy",
    "logLevel",
    "tls.certManager.issuerRef.kind",
}
SWITCHES = sorted({path for path, default in LEAVES.items() if isinstance(default, bool)} | ENUMS)
OTHER = {
    "autoscaling.source": ("External", "Keda"),
    "edge.service.type": ("NodePort", "ClusterIP"),
    "edge.service.externalTrafficPolicy": ("Local", "Cluster"),
    "image.pullPolicy": ("Never", "Always"),
    "logLevel": ("debug", "error"),
    "tls.certManager.issuerRef.kind": ("Issuer", "ClusterIssuer"),
}


@pytest.mark.parametrize("path", SWITCHES)
def test_every_switch_changes_something(path: str, tmp_path: Path) -> None:
    for example in EXAMPLES:
        texts = []
        for value in OTHER.get(path, (True, False)):
            try:
                texts.append(render(example, {path: value}, tmp_path))
            except NotRendered as refused:
                # A switch that another value stands against is refused by its name: it was read.
                texts.append(str(refused))
        if texts[0] != texts[1]:
            return
    raise AssertionError(f"{path} changes nothing in any example")


def test_every_template_renders_something_in_some_example() -> None:
    said = "".join(rendered_text("--values", str(file)) for file in EXAMPLES.values())
    rendered = set(re.findall(r"^# Source: catraca/(\S+)$", said, re.MULTILINE))
    there = {str(path.relative_to(CHART)) for path in (CHART / "templates").rglob("*.yaml")}
    # It only refuses.
    assert there - rendered == {"templates/requirements.yaml"}
