"""What an Envoy is started with."""

from __future__ import annotations

import json
from typing import Any

from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap
from peerauth.dataplane.envoy.captured import ASK_SECONDS
from peerauth.dataplane.envoy.destinations import destination_name

SOCKETS = Sockets(admin="/run/a/admin", xds="/run/a/xds", sds="/run/a/sds")


def made() -> dict[str, Any]:
    text = bootstrap("sidecar~foo.finance", cluster="foo", sockets=SOCKETS, metadata=(("NAMESPACE", "foo"),))
    found: dict[str, Any] = json.loads(text)
    return found


def test_nothing_of_it_is_reachable_over_the_network() -> None:
    assert "socket_address" not in json.dumps(made())
    assert "listeners" not in made()["static_resources"]


def test_the_node_says_who_it_is() -> None:
    node = made()["node"]
    assert (node["id"], node["cluster"], node["metadata"]) == ("sidecar~foo.finance", "foo", {"NAMESPACE": "foo"})


def test_it_waits_for_its_configuration_however_long_that_takes() -> None:
    dynamic = made()["dynamic_resources"]
    for source in (dynamic["lds_config"], dynamic["cds_config"]):
        assert source["initial_fetch_timeout"] == "0s"


def test_acknowledgements_do_not_repeat_the_node() -> None:
    assert made()["dynamic_resources"]["ads_config"]["set_node_on_first_message_only"] is True


def test_equal_arguments_give_equal_text() -> None:
    one, other = (
        bootstrap("n", cluster="c", sockets=SOCKETS, metadata=pairs)
        for pairs in ((("A", "1"), ("B", "2")), (("B", "2"), ("A", "1")))
    )
    assert one == other


def test_a_control_plane_that_comes_back_is_asked_before_a_waiting_connection_is_out_of_time() -> None:
    grpc = made()["dynamic_resources"]["ads_config"]["grpc_services"][0]["envoy_grpc"]
    assert grpc["retry_policy"]["retry_back_off"] == {"base_interval": "0.100s", "max_interval": "1s"}
    assert ASK_SECONDS > 3, "reaching it again and being answered is well within"


def test_a_destination_has_no_statistics_and_is_made_when_it_is_used() -> None:
    """Envoy keeps one for every address that was ever dialled: this is most of what each of them costs."""
    started = made()
    excluded = started["stats_config"]["stats_matcher"]["exclusion_list"]["patterns"]
    assert [f"cluster.{destination_name('10.0.0.7', 80)}".startswith(each["prefix"]) for each in excluded] == [True]
    assert started["cluster_manager"]["enable_deferred_cluster_creation"]
    assert started["deferred_stat_options"]["enable_deferred_creation_stats"]
