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
