//! `gofavorites otp code --watch`: prints each new code, until a signal ends it.

use crate::cli::client::Client;
use crate::cli::failed::{CommandError, is_transient};
use crate::cli::output::{Output, output_secret, print, warn, warn_if_stale};
use crate::shutdown::shutdown_signal;
use crate::telemetry::error_chain;
use crate::wire::Operation;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

/// The longest time between two requests, in seconds, so that a change of the item is noticed
/// although its code is valid for longer.
const REFRESH_S: u64 = 30;
/// The pause after an error that passes by itself.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where the codes go: one line that is renewed on a terminal; a line for each new code elsewhere.
struct Screen<'o> {
    on_terminal: bool,
    output: &'o Output,
    /// The code that was printed last.
    printed: Zeroizing<String>,
}

/// Prints each new code of an item, until a signal ends it.
///
/// # Errors
///
/// Fails if the item's codes follow a counter, which every code would use up, and on a refusal that
/// will not pass.
pub(super) async fn watch(
    mut client: Client,
    id: &str,
    body: &Value,
    output: &Output,
) -> anyhow::Result<()> {
    let key = json!({"kind": "otp", "id": id});
    let item = client.ask(Operation::Get, &key).await?["item"].take();
    if item["data"]["type"] == "hotp" {
        return Err(follows_a_counter().into());
    }

    let stop = shutdown_signal()?;
    let mut screen = Screen {
        on_terminal: io::stdout().is_terminal() && output.is_text(),
        output,
        printed: Zeroizing::default(),
    };
    let ended = tokio::select! {
        ended = renew(&mut client, body, &mut screen) => ended,
        _ = stop => Ok(()),
    };
    screen.end()?;

    ended
}

fn follows_a_counter() -> CommandError {
    CommandError::usage(
        "--watch is for codes that follow the time: the codes of this item follow a counter, and \
         printing one uses it up",
    )
}

/// Asks for each next code once the one before has expired. Returns with an error only.
async fn renew(client: &mut Client, body: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    loop {
        client.restart_timeout();
        match client.ask(Operation::OtpCode, body).await {
            // The item was replaced by one with a counter.
            Ok(reply) if reply.get("counter").is_some() => return Err(follows_a_counter().into()),
            Ok(reply) => screen.show_until_expired(&reply).await?,
            Err(error) if is_transient(&error) => {
                screen.end()?;
                warn(&format!("{}; trying again", error_chain(&error)));
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Screen<'_> {
    /// Shows a code until it has expired, or until the item has to be asked for again.
    async fn show_until_expired(&mut self, reply: &Value) -> anyhow::Result<()> {
        let received = Instant::now();
        let valid_for_s = reply["valid_for_s"]
            .as_u64()
            .context("the reply does not say how long the code is valid")?;

        // A code that expires within a second is valid for 0 s.
        let shown_s = valid_for_s.clamp(1, REFRESH_S);
        for second in 0..shown_s {
            self.draw(reply, valid_for_s.saturating_sub(second))?;
            sleep_until(received + Duration::from_secs(second + 1)).await;
        }

        Ok(())
    }

    fn draw(&mut self, reply: &Value, left_s: u64) -> anyhow::Result<()> {
        let code = output_secret(&reply["code"]);
        if self.on_terminal {
            let stale = if reply["stale"] == true {
                "  stale"
            } else {
                ""
            };
            print(&format!("\r\x1b[K{}  {left_s} s{stale}", *code))?;
        } else if self.printed != code {
            warn_if_stale(reply);
            if self.output.is_text() {
                print(&code)?;
                print("\n")?;
            } else {
                self.output.print_next(reply, |_| String::new())?;
            }
        }

        self.printed = code;
        Ok(())
    }

    /// Ends the line of a terminal, so that further output starts on a new one.
    fn end(&mut self) -> anyhow::Result<()> {
        if self.on_terminal && !self.printed.is_empty() {
            self.printed = Zeroizing::default();
            print("\n")?;
        }

        Ok(())
    }
}
