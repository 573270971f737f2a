//! What the NATS server does not let the user do: it says so at once, while the request waits for a
//! reply that cannot come.

use async_nats::{Event, ServerError};
use tokio::sync::watch;

/// How the server's words begin.
const PUBLISH: &str = "Permissions Violation for Publish to ";

/// The subjects to which the user may not publish, as the server refuses them.
#[derive(Clone)]
pub(super) struct Denied(watch::Sender<String>);

impl Denied {
    /// Nothing is refused so far.
    pub fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Takes note of what happened to the connection.
    pub fn note(&self, event: &Event) {
        let Event::ServerError(ServerError::Other(words)) = event else {
            return;
        };

        if let Some(subject) = words.strip_prefix(PUBLISH) {
            self.0.send_replace(subject.trim_matches('"').to_owned());
        }
    }

    /// Returns the subjects that are refused from now on.
    pub fn subscribe(&self) -> watch::Receiver<String> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(words: &str) -> String {
        let denied = Denied::new();
        denied.note(&Event::ServerError(ServerError::Other(words.to_owned())));

        denied.0.borrow().clone()
    }

    #[test]
    fn a_refused_subject_is_read_from_the_servers_words() {
        let words = "Permissions Violation for Publish to \"fav.v1.get\"";

        assert_eq!(note(words), "fav.v1.get");
        assert_eq!(note("Permissions Violation for Subscription to \"x\""), "");
    }
}
