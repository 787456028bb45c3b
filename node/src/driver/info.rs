//! What INFO says that only the node knows.

use super::context::Inner;

/// `field:value` pairs by section.
pub fn sections(node: &Inner) -> Vec<(&'static str, Vec<(String, String)>)> {
    let peers = node
        .outbound
        .peers()
        .map(|peers| peers.status().len())
        .unwrap_or_default();
    let stats = node.storage.stats();
    let pair = |field: &str, value: String| (field.to_owned(), value);
    vec![
        (
            "Server",
            vec![
                pair("meridian_node", node.name.to_string()),
                pair("meridian_region", node.region.to_string()),
                pair("meridian_cluster", node.cluster.to_string()),
                pair("meridian_shards", node.shards.len().to_string()),
            ],
        ),
        (
            "Replication",
            vec![pair("meridian_peers", peers.to_string())],
        ),
        (
            "Persistence",
            vec![
                pair("meridian_disk_bytes", stats.disk.to_string()),
                pair("meridian_memtable_bytes", stats.memtables.to_string()),
            ],
        ),
    ]
}
