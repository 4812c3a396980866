//! This program again in another role, so that each side's CPU time can be told apart.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// It ends when its standard input does.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    out: BufReader<std::process::ChildStdout>,
}

impl Process {
    pub fn start(role: &str) -> Self {
        let own = std::env::current_exe().expect("this program");
        let mut command = Command::new(own);
        command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("another process");
        let (stdin, out) = (child.stdin.take(), child.stdout.take().expect("its output"));
        Self { child, stdin, out: BufReader::new(out) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("its input"), "{line}").expect("it listens");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it answers");
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Says where this relay is, and waits until the bench has had enough.
pub async fn serve(place: &impl serde::Serialize) {
    println!("{}", serde_json::to_string(place).expect("a place"));
    let mut nothing = String::new();
    let _ = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut nothing)).await;
}

/// CPU time of a process, all its threads, user and kernel.
pub fn cpu_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the relay lives");
    let spent = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    threads.filter_map(spent).sum()
}

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
