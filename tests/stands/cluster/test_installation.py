"""A stand is installed in one order and removed in the other; again is nothing new; what isn't ours isn't touched."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from otel_control_gym.engine.clock import rfc3339, wall_now
from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.deployment import installer_accesses, values_files
from otel_control_gym.engine.errors import StandError, StandTaken, UsageError
from otel_control_gym.stands.cluster import installation, removal
from otel_control_gym.stands.cluster.administration import Administrator, open_administrator
from otel_control_gym.stands.cluster.helm import Helm, open_helm
from otel_control_gym.stands.cluster.inspection import PartState
from otel_control_gym.stands.cluster.installation import ADOPTED, Wish, install
from otel_control_gym.stands.cluster.parts import NAMESPACE, NAMESPACES
from otel_control_gym.stands.cluster.pins import Pins, pins
from otel_control_gym.stands.cluster.reinstallation import reinstall
from otel_control_gym.stands.cluster.removal import remove
from otel_control_gym.stands.cluster.stand_images import mirrored_pins
from otel_control_gym.stands.marks import MARK
from tests.stands.cluster.paper_cluster import PaperCluster, paper_cluster

SERVICES = resolve("small-core").public.services
VALUES = values_files(SERVICES)
RELEASES = ["chaos-mesh", "coroot-operator", "coroot", "otel-demo"]
OF_DEMO = f"api/v1/namespaces/{NAMESPACE}"
CHAOS = f"apis/chaos-mesh.org/v1alpha1/namespaces/{NAMESPACE}"


def unpinned() -> Pins:
    """Return the pins without the digests of charts, which the stand-in's archives don't have."""
    found = pins()
    charts = {name: msgspec.structs.replace(chart, digest="") for name, chart in found.charts.items()}
    return msgspec.structs.replace(found, charts=charts)


def wish(**asked: Any) -> Wish:
    pinned = asked.pop("pins", unpinned())
    return Wish(
        config="small-core",
        services=tuple(SERVICES.services),
        values=asked.pop("values", VALUES),
        pins=pinned,
        installing=installer_accesses(),
        **{"patience_seconds": 0.0, **asked},
    )


class Bench:
    """A cluster on paper with what acts on it."""

    def __init__(self, cluster: PaperCluster, administrator: Administrator, helm: Helm, lines: list[str]) -> None:
        self.cluster, self.administrator, self.helm = cluster, administrator, helm
        self.lines = lines  #: of progress
        self.charts = cluster.home / "charts"
        self.charts.mkdir()
        for name, chart in pins().charts.items():
            (self.charts / f"{name}-{chart.version}.tgz").write_text("a chart")

    async def up(self, **asked: Any) -> tuple[PartState, ...]:
        """Install with charts that are here already, unless it is said otherwise."""
        asked = {"charts": self.charts, **asked}
        return await install(self.administrator, self.helm, wish(**asked), self.lines.append)

    async def down(self, **asked: Any) -> tuple[str, ...]:
        return await remove(self.administrator, self.helm, self.lines.append, **asked)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("_GENTLE_SECONDS", "_FORCED_SECONDS", "_GONE_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(removal, name, 0.05)
    monkeypatch.setattr(installation, "_LOOK_SECONDS", 0.01)
    async with paper_cluster(tmp_path, SERVICES.services) as (cluster, kubeconfig):
        lines: list[str] = []
        helm = await open_helm(pins().helm, kubeconfig=kubeconfig, tell=lines.append)
        async with open_administrator(kubeconfig, namespace=NAMESPACE) as administrator:
            yield Bench(cluster, administrator, helm, lines)


async def test_a_stand_comes_up_on_an_empty_cluster(bench: Bench) -> None:
    states = await bench.up()
    assert {state.namespace: state.reasons for state in states} == dict.fromkeys(NAMESPACES, ())
    assert all(state.complete for state in states)
    assert [release["name"] for release in bench.cluster.releases()] == RELEASES
    assert bench.cluster.labels(OF_DEMO)[MARK] == "true"
    assert "apply deployment/janitor in ocg-system" in bench.lines
    assert "apis/rbac.authorization.k8s.io/v1/namespaces/otel-demo/roles/ocg-operator" in bench.cluster.objects


async def test_helm_is_given_our_values_and_the_pinned_charts(bench: Bench) -> None:
    await bench.up(charts=None)
    pulled = {words[1]: words for words in bench.cluster.calls if words[0] == "pull"}
    assert set(pulled) == {"chaos-mesh", "coroot-operator", "coroot-ce", "opentelemetry-demo"}
    for name, words in pulled.items():
        assert words[words.index("--repo") + 1] == pins().charts[name].repository
        assert words[words.index("--version") + 1] == pins().charts[name].version
    upgraded = {words[2]: words for words in bench.cluster.calls if words[0] == "upgrade"}
    assert "--skip-schema-validation" in upgraded["otel-demo"]
    assert "--skip-schema-validation" not in upgraded["chaos-mesh"]
    assert all(word in upgraded["coroot"] for word in ("--install", "--kubeconfig", "--timeout"))
    files = [Path(word).name for word in upgraded["otel-demo"] if word.endswith(".yaml")]
    assert files == [
        "otel-demo-0-demo.yaml",
        "otel-demo-1-demo-small-core.yaml",
        "otel-demo-2-probes-small-core.yaml",
        "otel-demo-3-receiver.yaml",
    ]
    kept = bench.cluster.home / "values" / "otel-demo" / files[1]
    assert kept.read_text() == VALUES["helm/demo-small-core.yaml"]


async def test_up_again_makes_nothing_new(bench: Bench) -> None:
    await bench.up()
    before, calls = dict(bench.cluster.objects), len(bench.cluster.calls)
    assert all(state.complete for state in await bench.up())
    assert bench.cluster.objects == before
    assert "upgrade" not in {words[0] for words in bench.cluster.calls[calls:]}, "which would replace pods"
    await bench.up(values={**VALUES, "helm/demo-small-core.yaml": VALUES["helm/demo-small-core.yaml"] + "# other\n"})
    assert [words[2] for words in bench.cluster.calls[calls:] if words[0] == "upgrade"] == ["otel-demo"]


async def test_an_interrupted_installation_goes_on(bench: Bench) -> None:
    (bench.cluster.home / "broken").write_text("upgrade")
    with pytest.raises(StandError, match="upgrade didn't work"):
        await bench.up()
    (bench.cluster.home / "broken").unlink()
    assert all(state.complete for state in await bench.up())


async def test_down_leaves_a_cluster_as_it_was(bench: Bench) -> None:
    before = {path: dict(item) for path, item in bench.cluster.objects.items()}
    await bench.up()
    assert await bench.down() == ()
    assert bench.cluster.objects == before
    assert bench.cluster.releases() == []
    assert await bench.down() == (), "and again is nothing new"


async def test_down_keeps_the_order_in_which_nothing_loses_what_removes_it(bench: Bench) -> None:
    await bench.up()
    for plural in ("podchaos", "schedules", "networkchaos"):
        bench.cluster.put(f"{CHAOS}/{plural}/one", metadata={"finalizers": ["chaos-mesh/records"]})
    bench.cluster.put(f"apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/cart")
    bench.cluster.put("apis/coroot.com/v1/namespaces/coroot/coroots/coroot")
    bench.lines.clear()
    await bench.down()

    def place(words: str) -> int:
        return next(number for number, line in enumerate(bench.lines) if line.endswith(words) or line.startswith(words))

    order = [
        "deployments/janitor",
        "schedules/one",
        "networkchaos/one",
        "podchaos/one",
        "horizontalpodautoscalers/cart",
        "helm uninstall otel-demo",
        "helm uninstall coroot ",
        "coroots/coroot",
        "helm uninstall coroot-operator",
        "helm uninstall chaos-mesh",
        "validatingwebhookconfigurations/chaos-mesh-validation",
        "customresourcedefinitions/podchaos.chaos-mesh.org",
        "v1/namespaces/otel-demo",
    ]
    found = [place(words) for words in order]
    assert found == sorted(found), dict(zip(order, found, strict=True))


async def test_chaos_objects_whose_controller_is_dead_are_cut_loose(bench: Bench) -> None:
    await bench.up()
    bench.cluster.controllers = False
    bench.cluster.put(f"{CHAOS}/podchaos/stuck", metadata={"finalizers": ["chaos-mesh/records"]})
    assert await bench.down() == ()
    told = [line for line in bench.lines if "stuck doesn't go" in line]
    assert ["force" in line for line in told] == [True, False]


async def test_a_stand_is_installed_anew_unless_it_would_be_lost_or_somebody_drives_it(bench: Bench) -> None:
    async def again(**asked: Any) -> tuple[PartState, ...]:
        wanted = wish(charts=asked.pop("charts", bench.charts))
        return await reinstall(bench.administrator, bench.helm, wanted, bench.lines.append, **asked)

    bench.cluster.put(OF_DEMO)
    await bench.up(adopt=True)
    driven = "apis/coordination.k8s.io/v1/namespaces/ocg-system/leases/ocg-stand-otel-demo"
    spec = {"holderIdentity": "gym-1-1", "leaseDurationSeconds": 30, "renewTime": rfc3339(wall_now())}
    bench.cluster.put(driven, spec=spec)
    before = {path: dict(item) for path, item in bench.cluster.objects.items()}
    (bench.cluster.home / "broken").write_text("pull")
    with pytest.raises(StandError, match="pull didn't work"):
        await again(charts=None)
    (bench.cluster.home / "broken").unlink()
    with pytest.raises(StandTaken, match="namespace otel-demo is driven by gym-1-1"):
        await again()
    with pytest.raises(StandTaken):
        await bench.down()
    assert bench.cluster.objects == before

    bench.lines.clear()
    assert all(state.complete for state in await again(driven=True))
    removed, made = (
        next(number for number, line in enumerate(bench.lines) if line.startswith(words))
        for words in ("helm uninstall chaos-mesh", "helm upgrade --install chaos-mesh")
    )
    assert removed < made
    assert bench.cluster.labels(OF_DEMO)[ADOPTED] == "true"  # as before, without anybody's saying so again
    assert driven not in bench.cluster.objects


async def test_what_stays_is_named(bench: Bench) -> None:
    await bench.up()
    bench.cluster.controllers = False
    bench.cluster.objects["api/v1/namespaces/coroot"]["metadata"]["finalizers"] = ["somebody/else"]
    conditions = [{"type": "NamespaceFinalizersRemaining", "status": "True", "message": "1 finalizer remains"}]
    bench.cluster.objects["api/v1/namespaces/coroot"]["status"] = {"conditions": conditions}
    assert await bench.down() == ("namespace/coroot (1 finalizer remains)",)


async def test_a_namespace_that_nobody_has_marked_is_refused_before_anything_is_changed(bench: Bench) -> None:
    bench.cluster.put(OF_DEMO)
    before = dict(bench.cluster.objects)
    with pytest.raises(UsageError, match=r"namespace otel-demo is there already.*\n.*--mark"):
        await bench.up()
    assert bench.cluster.objects == before
    with pytest.raises(UsageError, match="isn't marked as a gym's stand, so nothing is removed"):
        await bench.down()
    assert bench.cluster.objects == before


async def test_a_namespace_that_was_adopted_outlives_the_stand(bench: Bench) -> None:
    bench.cluster.put(OF_DEMO)
    await bench.up(adopt=True)
    assert bench.cluster.labels(OF_DEMO)[ADOPTED] == "true"
    await bench.up()  # once adopted it needs no flag
    assert bench.cluster.labels(OF_DEMO)[ADOPTED] == "true"
    assert await bench.down() == ()
    assert MARK not in bench.cluster.labels(OF_DEMO)


def release(name: str, namespace: str, chart: str, status: str = "deployed") -> dict[str, str]:
    return {"name": name, "namespace": namespace, "chart": chart, "status": status}


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "other pins": (
        release("chaos-mesh", "chaos-mesh", "chaos-mesh-2.7.0"),
        r"chaos-mesh-2\.7\.0, and chaos-mesh-2\.8\.3 is pinned.*\n.*down, then",
    ),
    "a second stand": (
        release("demo", "shop", "opentelemetry-demo-0.40.10"),
        "as demo in namespace shop: one stand per cluster",
    ),
    "an upgrade under way": (
        release("chaos-mesh", "chaos-mesh", "chaos-mesh-2.8.3", "pending-upgrade"),
        "is pending-upgrade: somebody",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_installed_otherwise_is_refused(bench: Bench, what: str) -> None:
    found, sentence = REFUSED[what]
    bench.cluster.releases(found)
    before = dict(bench.cluster.objects)
    with pytest.raises(UsageError, match=sentence):
        await bench.up()
    assert bench.cluster.objects == before


async def test_custom_resources_of_somebody_else_are_refused_and_survive(bench: Bench) -> None:
    path = "apis/apiextensions.k8s.io/v1/customresourcedefinitions/podchaos.chaos-mesh.org"
    bench.cluster.put(path, spec={"group": "chaos-mesh.org"})
    with pytest.raises(UsageError, match=r"didn't bring: podchaos\.chaos-mesh\.org"):
        await bench.up()
    assert await bench.down() == ()
    assert path in bench.cluster.objects


async def test_what_hangs_is_told_with_its_reason(bench: Bench) -> None:
    bench.cluster.hanging.add("cart")
    message = "0/1 nodes are available: 1 Insufficient cpu."
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    pod = f"{OF_DEMO}/pods/cart-1"
    states: list[PartState] = []
    bench.cluster.put(OF_DEMO, metadata={"labels": {MARK: "true", "app.kubernetes.io/part-of": "otel-control-gym"}})
    bench.cluster.put(pod, spec={"containers": []}, status={"phase": "Pending", "conditions": conditions})
    states += await bench.up(patience_seconds=4.0)  # two looks at least, at our allowance of calls
    (demo,) = (state for state in states if state.namespace == NAMESPACE)
    assert (demo.complete, demo.wanted - demo.ready) == (False, 1)
    ((place, found),) = ((reason.object, reason.found) for reason in demo.reasons)
    assert (place, "Insufficient cpu" in found) == ("pod/cart-1", True)
    assert sum("Insufficient cpu" in line for line in bench.lines) == 1, "once, however often it is looked at"


async def test_charts_can_come_from_a_directory_and_images_from_a_registry(bench: Bench) -> None:
    mirror = mirrored_pins(unpinned(), "reg.example.com/m")
    await bench.up(pins=mirror, rewritten=True, pull_secret="regcred")
    assert not [words for words in bench.cluster.calls if words[0] == "pull"]
    values = yaml.safe_load((bench.cluster.home / "values" / "chaos-mesh" / "chaos-mesh-images.yaml").read_text())
    assert values["images"]["registry"] == "reg.example.com/m"
    assert values["imagePullSecrets"] == [{"name": "regcred"}]
    pod = bench.cluster.objects["apis/apps/v1/namespaces/ocg-system/deployments/janitor"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "regcred"}]
    assert pod["containers"][0]["image"] == "reg.example.com/m/otel-control-gym:0.1.0"


async def test_an_archive_that_is_not_the_pinned_chart_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="isn't the chart that is pinned: SHA-256"):
        await bench.up(pins=pins())


@pytest.mark.parametrize(
    ("said", "sentence"), [(None, "no helm is on the PATH"), ("v3.15.4+gfa9efb0", "need 3.16 or newer")]
)
async def test_without_a_helm_that_will_do_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, sentence: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with paper_cluster(tmp_path, ()) as (_, kubeconfig):
        if said is None:
            (tmp_path / "helm").unlink()
        else:
            (tmp_path / "version").write_text(said)
        with pytest.raises(UsageError, match=sentence):
            await open_helm(pins().helm, kubeconfig=kubeconfig)


@pytest.mark.parametrize("text", [None, "{", '{"apiVersion": "v1", "kind": "Config"}'])
async def test_a_kubeconfig_that_leads_nowhere_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=str(path)):
        async with open_administrator(path, namespace=NAMESPACE):
            pass


@pytest.mark.parametrize("words", [["down"], ["reset", "--level", "reinstall"]])
def test_nothing_is_removed_unless_somebody_says_so(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["stand", *words, "--json", "--kubeconfig", "none"])
    assert done.exit_code == 2
    assert "--yes says that it may be done" in json.loads(done.stdout)["error"]["message"]
