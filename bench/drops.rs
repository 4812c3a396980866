//! What the system dropped before a process saw it.

/// Datagrams that a process' sockets had no room for.
pub fn overflown(pid: u32) -> u64 {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    let own: std::collections::HashSet<_> = links.filter_map(inode).collect();
    // proc_net_udp: the tenth column is the inode, the thirteenth the drops.
    let dropped = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        own.contains(*columns.get(9)?).then(|| columns.get(12)?.parse::<u64>().ok()).flatten()
    };
    let tables = ["udp", "udp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    tables.iter().flatten().flat_map(|text| text.lines()).filter_map(dropped).sum()
}
