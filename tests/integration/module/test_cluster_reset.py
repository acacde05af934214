"""A replica that is taken out of its cluster is another shard from then on."""

from __future__ import annotations

from tests.cluster import Cluster
from tests.integration.module.driving import changes, deploy, lanes, module_server, status, wait_for


def test_a_replica_that_is_reset_takes_no_lane_of_its_shard_for_its_own() -> None:
    """The shard's worker would: by the name of its source it knows lanes that a promotion has forgotten."""
    with Cluster(module_server, primaries=1, replicas=1) as cluster:
        deploy(cluster.clients[0])
        shard, other = cluster.clients
        shard.hset("person:1", "first", "Ada")
        before = status(shard)["source"]
        assert shard.execute_command("WAIT", 1, 10_000) == 1
        shard.execute_command("CLUSTER FORGET", cluster.node_id(1))
        other.execute_command("CLUSTER RESET")
        wait_for(lambda: status(other)["source"] != before, "another source")
        assert (status(other)["role"], status(other)["tag"]) == ("primary", "")
        assert other.keys("*") == []
        # As any node without a slot: it captures from its first write on.
        other.execute_command("CLUSTER ADDSLOTS", *range(16384))
        wait_for(lambda: status(other)["tag"] != "", "a slot for its own keys")
        [lane], [theirs] = lanes(other), lanes(shard)
        assert lane != theirs
        assert [each.key for each in changes(shard)] == ["person:1"]
