//! `ript tgs`: which trunk groups we may use, and for what.

use std::process::ExitCode;

use super::client_args::{CliResult, ServerArgs, explain, last_part};

/// Lists the trunk groups (TGs) that our token may use.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// As JSON, one TG a line.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs it.
    pub async fn run(self) -> CliResult<ExitCode> {
        let client = self.server.connect().await?;
        let tgs = client.tgs().await.map_err(explain)?;
        if tgs.is_empty() && !self.json {
            println!("the token may use no TG");
        }
        for entry in tgs {
            let tg = client.tg(&entry.uri).await.map_err(explain)?;
            if self.json {
                println!("{}", serde_json::to_string(&tg)?);
                continue;
            }
            let text = |value| serde_json::to_string(&value).map(|text| text.replace('"', ""));
            println!("{}  {} ({})", last_part(&entry.uri), entry.name, entry.description);
            println!("  uri      {}", entry.uri);
            println!("  numbers  {}", tg.numbers.join(", "));
            println!("  calls to {}", text(&tg.outbound.destinations)?);
            if let Some(inbound) = &tg.inbound {
                println!("  calls at {}", text(&inbound.destinations)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
